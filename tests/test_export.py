"""The CSV exports: exact values, hostile names, readings that wait, one state of the store, documented columns."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_store import COLS, HOUR_S, START_S, MadeStore, day_of_air

from calibration.flags import Reason
from calibration.quantities import CHANNELS, COUNTERS, DERIVED
from gateway.export import INDEX_COLUMNS, csv_line, iso_time, kinds, write_csv
from gateway.records import AirHour, IndexRecord, SubIndex
from gateway.store import derived, readings
from gateway.store.database import open_reader, transaction
from gateway.wire import Batch

HOUR = START_S // HOUR_S


@pytest.fixture
def made(tmp_path):
    store = MadeStore(tmp_path)
    yield store
    store.db.close()


def export(store, kind, **limits):
    out = io.StringIO(newline="")
    count = write_csv(open_reader(store.dir), kind, out, **limits)
    rows = list(csv.DictReader(io.StringIO(out.getvalue(), newline=""), strict=True))
    assert count == len(rows)
    return rows


def header(store, kind):
    out = io.StringIO()
    write_csv(open_reader(store.dir), kind, out)
    return out.getvalue().splitlines()[0].split(",")


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.text(min_size=1).filter(lambda t: "\0" not in t),
            st.floats(allow_nan=False),
            st.integers(-(2**63), 2**63),
        ),
        min_size=2,
    )
)
def test_every_cell_reads_back_exactly(cells):
    line = csv_line(cells)
    ((*found,),) = csv.reader(io.StringIO(line, newline=""), strict=True)
    assert len(found) == len(cells)
    for cell, text in zip(cells, found, strict=True):
        if cell is None:
            assert text == ""
        elif isinstance(cell, float):
            assert float(text).hex() == cell.hex()
        else:
            assert type(cell)(text) == cell
    assert line.endswith("\n")
    assert not line.endswith("\r\n")


def test_a_nan_is_an_empty_cell():
    assert csv_line([float("nan"), 1, 0.1]) == ",1,0.1\n"


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (1_693_526_460_000, "2023-09-01T00:01:00Z"),
        (1_693_526_460_007, "2023-09-01T00:01:00.007Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
    ],
)
def test_times_are_iso_utc_with_ms_only_where_there_are_any(time_ms, text):
    assert iso_time(time_ms) == text


def test_raw_gives_back_what_the_kits_sent(made):
    rows = [
        [0, 120, START_S + 120, 2, 120, 12, 0, 83, 79, 12, 0, 2130, 4710],
        [1, 240, START_S + 240, 2, 120, 9, 3, None, 1, 12, 0, -5, 10000],
    ]
    made.add("kit-a", COLS, rows)
    assert ",".join(header(made, "raw")) == (
        "time,kit,boot,seq,up,t,q,dt,time_source,time_error_s,pm25_cf1,pm25_atm,temp,rh,pm_n,pm_bad,env_n,env_bad"
    )
    first, second = export(made, "raw")
    assert first == {
        "time": "2023-09-01T00:02:00Z", "kit": "kit-a", "boot": "7", "seq": "0", "up": "120", "t": str(START_S + 120),
        "q": "2", "dt": "120", "time_source": "kit", "time_error_s": "2", "pm25_cf1": "8.3", "pm25_atm": "7.9",
        "temp": "21.3", "rh": "47.1", "pm_n": "12", "pm_bad": "0", "env_n": "12", "env_bad": "0",
    }  # fmt: skip
    assert (second["pm25_cf1"], second["pm25_atm"], second["temp"], second["rh"]) == ("", "0.1", "-0.05", "100.0")


CHANNEL_COLS = ("seq", "up", "t", "q", "dt", "pm25_cf1", "n03", "no2_we", "no2_dgs", "temp", "pm_n", "pm_bad_b")


@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.integers(-(2**31), 2**31)), min_size=7, max_size=7), min_size=1, max_size=30
    )
)
def test_every_integer_sent_comes_back_times_its_scale(tmp_path_factory, values):
    made = MadeStore(tmp_path_factory.mktemp("store"))
    sent = [[i, 60 * i, START_S + 60 * i, 2, 60, *row] for i, row in enumerate(values)]
    made.add("k", CHANNEL_COLS, sent)
    found = export(made, "raw")
    made.db.close()
    assert len(found) == len(sent)
    for row, text in zip(sent, found, strict=True):
        for name, integer in zip(CHANNEL_COLS[5:], row[5:], strict=True):
            scale = CHANNELS[name].per_unit if name in CHANNELS else 1
            assert (text[name] == "") if integer is None else (round(float(text[name]) * scale) == integer)
            assert "." not in text[name] or scale > 1


def test_a_later_kit_with_other_channels_adds_columns_and_leaves_cells_empty(made):
    made.add("a", ("seq", "up", "t", "q", "dt", "pm25_cf1"), [[0, 60, START_S + 60, 2, 60, 10]])
    made.add("b", ("seq", "up", "t", "q", "dt", "n03"), [[0, 60, START_S + 60, 2, 60, 500]])
    a, b = export(made, "raw")
    assert (a["pm25_cf1"], a["n03"], b["pm25_cf1"], b["n03"]) == ("1.0", "", "", "500")


def test_readings_that_wait_come_without_a_time(made):
    made.add("clockless", COLS, [[0, 120, None, 0, 120, 12, 0, 83, 80, 12, 0, 2130, 4710]])
    (row,) = export(made, "raw")
    assert (row["time"], row["time_source"], row["time_error_s"]) == ("", "", "")
    assert (row["kit"], row["seq"], row["t"], row["up"], row["pm25_cf1"]) == ("clockless", "0", "", "120", "8.3")
    assert export(made, "raw", hour_from=0) == []
    assert export(made, "raw", kit="other") == []


def test_a_reading_from_the_future_is_held_and_still_exported(made):
    batch = Batch(v=1, boot=7, first=0, cols=COLS, rows=[[0, 1, START_S, 2, 60, 1, 0, 10, 10, 1, 0, 1, 1]])
    with transaction(made.db):
        made.writer.add("early", batch, (START_S - HOUR_S) * 1000, 0, live=True)
        made.writer.flush()
    (row,) = export(made, "raw")
    assert (row["time"], row["t"]) == ("", str(START_S))


HOSTILE = 'a,"b"\r\n=1+1;\r<script>é\N{RIGHT-TO-LEFT OVERRIDE}'


@pytest.mark.parametrize("kind", ["raw", "air", "hour", "index"])
def test_a_hostile_kit_name_stays_one_cell(made, kind):
    made.add_span(HOSTILE, START_S, START_S + 2 * HOUR_S, lambda _: 10.0)
    made.derive()
    rows = export(made, kind)
    assert rows
    assert {row["site" if kind == "index" else "kit"] for row in rows} == {HOSTILE}


def test_the_range_is_of_hours_with_an_open_end(made):
    made.add_span("k", START_S, START_S + 6 * HOUR_S, day_of_air)
    made.add_span("other", START_S, START_S + 6 * HOUR_S, day_of_air)
    made.derive()
    limits = {"kit": "k", "hour_from": HOUR + 2, "hour_to": HOUR + 4}
    assert [row["hour_start"] for row in export(made, "hour", **limits)] == [
        "2023-09-01T02:00:00Z", "2023-09-01T03:00:00Z",
    ]  # fmt: skip
    for kind in ("raw", "air"):
        times = [row["time"] for row in export(made, kind, **limits)]
        assert len(times) == 2 * 30
        assert (times[0], times[-1]) == ("2023-09-01T02:02:00Z", "2023-09-01T04:00:00Z")
    assert {row["site"] for row in export(made, "index", **limits)} == {"k"}


def test_air_and_hour_equal_the_stored_records_bit_for_bit(made):
    made.add_span("k", START_S, START_S + 5 * HOUR_S, day_of_air)
    made.derive()
    values = [v for hour in derived.read_air(made.db) for v in hour.values["pm25_ugm3"].tolist()]
    assert [float(row["pm25_ugm3"]) for row in export(made, "air")] == values
    for row, record in zip(export(made, "hour"), derived.read_hours(made.db), strict=True):
        assert row["hour_start"] == iso_time(record.hour * 3_600_000)
        assert {n: float(row[n]) for n in record.values} == record.values
        assert float(row["pm25_valid_pct"]) == record.valid_pct["pm25_ugm3"] == 100.0
        assert float(row["rh_valid_pct"]) == 100.0
        assert (row["qc"], row["qc_reason"], row["cal"]) == ("1", "", record.cal)


def test_intervals_have_columns_only_where_there_are_any(made):
    made.add_span("k", START_S, START_S + HOUR_S, day_of_air)
    made.derive()
    assert header(made, "air") == ["time", "kit", "site", *DERIVED, "qc", "qc_reason", "cal"]
    air = AirHour(
        kit="k", site="roof", hour=HOUR + 1, time_ms=np.array([(START_S + HOUR_S + 60) * 1000]),
        values={"pm25_ugm3": np.array([12.25])},
        lo={"pm25_ugm3": np.array([9.5])}, hi={"pm25_ugm3": np.array([np.nan])},
        qc=np.array([3]), reasons=np.array([int(Reason.SINGLE_CHANNEL | Reason.EXTRAPOLATED)]), cal="fit@2",
        rev=np.array([0]),
    )  # fmt: skip
    with transaction(made.db):
        derived.write_air(made.db, made.writer.kit_id("k", 0), [air])
    *_, row = export(made, "air")
    assert list(row.values())[2:] == ["roof", "12.25", "9.5", "", "", "3", "single_channel|extrapolated", "fit@2"]


def test_an_hour_without_enough_data_is_empty_and_says_how_much_there_was(made):
    made.add_span("k", START_S, START_S + 40 * 60, day_of_air)
    made.derive()
    (row,) = export(made, "hour")
    assert (row["pm25_ugm3"], row["pm25_cf1"], row["qc"]) == ("", "", "9")
    assert float(row["pm25_valid_pct"]) == pytest.approx(100 * 40 / 60)
    assert "incomplete" in row["qc_reason"]


def test_an_index_has_each_pollutant_and_says_that_it_is_an_equivalent(made):
    record = IndexRecord(
        site="roof", scheme="tw-2025", hour=HOUR, value=63, category="moderate", pollutant="pm25", table="tw-2025@1",
        subs={
            "pm25": SubIndex(
                concentration=16.8, index=63, valid_pct=100.0, mean_24h=15.1, index_24h=57, valid_24h_pct=75.0
            ),
            "no2": SubIndex(concentration=20.0, index=48, valid_pct=100.0),
        },
    )  # fmt: skip
    none = IndexRecord(
        site="roof", scheme="tw-2025", hour=HOUR + 1, value=None, category=None, pollutant=None, table="tw-2025@1",
        subs={"pm25": SubIndex(valid_pct=25.0, valid_24h_pct=12.5)},
    )  # fmt: skip
    with transaction(made.db):
        derived.write_indices(made.db, record.site, record.hour, none.hour, [record, none])
    assert tuple(header(made, "index")) == INDEX_COLUMNS == (
        "hour_start", "site", "scheme", "value", "category", "pollutant",
        "pm25_index", "pm25_ugm3", "pm25_valid_pct", "pm25_24h_ugm3", "pm25_24h_index", "pm25_24h_valid_pct",
        "no2_index", "no2_ppb", "no2_valid_pct", "no2_24h_ppb", "no2_24h_index", "no2_24h_valid_pct",
        "table", "equivalent",
    )  # fmt: skip
    first, second = export(made, "index")
    assert list(first.values()) == [
        "2023-09-01T00:00:00Z", "roof", "tw-2025", "63", "moderate", "pm25", "63", "16.8", "100.0", "15.1", "57",
        "75.0", "48", "20.0", "100.0", "", "", "0.0", "tw-2025@1", "PM2.5/NO2 equivalent",
    ]  # fmt: skip
    assert (second["value"], second["category"], second["pm25_valid_pct"], second["no2_valid_pct"]) == (
        "",
        "",
        "25.0",
        "",
    )
    assert second["equivalent"] == "PM2.5 equivalent"


class _Interrupting(io.StringIO):
    """Writes to the store while it is being exported."""

    def __init__(self, made):
        super().__init__(newline="")
        self._made = made
        self.added = 0

    def write(self, text):
        if self.getvalue().count("\n") == 3 and not self.added:
            self.added = 1
            self._made.add_span("early", START_S + HOUR_S, START_S + 2 * HOUR_S, day_of_air, boot=9)
        return super().write(text)


def test_an_export_is_of_one_state_of_the_store(made):
    made.add_span("early", START_S, START_S + 2 * HOUR_S, day_of_air)
    reader, out = open_reader(made.dir), _Interrupting(made)
    assert write_csv(reader, "raw", out) == 60
    assert out.added
    assert "early,9," not in out.getvalue()
    assert not reader.in_transaction
    assert write_csv(reader, "raw", io.StringIO()) == 90


def test_an_export_holds_about_an_hour_in_memory(made, monkeypatch):
    made.add_span("k", START_S, START_S + 12 * HOUR_S, day_of_air)
    read = readings.read
    spans = []

    def watched(db, kit, hour_from, hour_to):
        spans.append(hour_to - hour_from)
        return read(db, kit, hour_from, hour_to)

    monkeypatch.setattr(readings, "read", watched)
    assert len(export(made, "raw")) == 12 * 30
    assert spans == [1] * 12


@pytest.mark.parametrize("kind", ["raw", "air", "hour", "index"])
def test_every_column_is_documented_in_its_order(made, kind):
    every = ("seq", "up", "t", "q", "dt", *CHANNELS, *COUNTERS)
    made.add("k", every, [[0, 60, START_S + 60, 2, 60, *([1] * (len(every) - 5))]])
    made.derive()
    documented = [column.name for column in kinds[kind].columns]
    found = header(made, kind)
    assert [name for name in documented if name in found] == found
    assert {name for name in documented if not name.endswith(("_lo", "_hi"))} == set(found)
    assert all(column.meaning for column in kinds[kind].columns)
    for column in kinds[kind].columns:
        if column.name in CHANNELS:
            assert column.unit == CHANNELS[column.name].text
