"""Line protocol says what the record says: types, escapes, what is left out; read back by an independent parser."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.quantities import CHANNELS
from gateway.records import AirHour, HourRecord, IndexRecord, Readings, SubIndex
from gateway.sinks.lineprotocol import air_lines, hour_lines, index_lines, raw_lines

T_MS = 1_795_217_406_000
MANY = 200  # enough rows for the column-wise short cuts


def split(text, at, *, quotes=False):
    """Split at a character that is neither escaped nor, where quotes count, within them."""
    parts, start, quoted, i = [], 0, False, 0
    while i < len(text):
        if text[i] == "\\":
            i += 1
        elif text[i] == '"' and quotes:
            quoted = not quoted
        elif text[i] == at and not quoted:
            parts.append(text[start:i])
            start = i + 1
        i += 1
    return [*parts, text[start:]]


def unescape(text, characters):
    for c in characters:
        text = text.replace("\\" + c, c)
    return text


def value(text):
    if text[0] == '"':
        return text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return int(text[:-1]) if text[-1] == "i" else float(text)


def parse(line):
    """Return measurement, tags, fields, time."""
    head, *_ = split(line.decode(), " ")
    fields, time_ms = split(line.decode()[len(head) + 1 :], " ", quotes=True)
    measurement, *tags = split(head, ",")
    tags = dict(split(tag, "=") for tag in tags)
    pairs = [field.partition("=") for field in split(fields, ",", quotes=True)]
    return (
        measurement,
        {k: unescape(v, ",= ") for k, v in tags.items()},
        {k: value(v) for k, _, v in pairs},
        int(time_ms),
    )


def readings(columns, kit="k1"):
    n = len(next(iter(columns.values())))
    row = np.arange(n)
    return Readings(
        kit=kit, time_ms=T_MS + 1000 * row, boot=np.full(n, 4_294_967_295), seq=row, time_source=np.zeros(n, int),
        time_error_s=np.full(n, 2), rev=row + 1,
        columns={name: np.asarray(v, float) for name, v in columns.items()},
    )  # fmt: skip


def test_raw_line_has_floats_for_channels_and_integers_for_counts():
    columns = {
        "pm25_cf1": [8.3], "temp": [-2.5], "pressure": [101325], "pm_n": [12], "pm_bad": [0],
        "up": [60], "t": [1], "q": [2], "dt": [60],
    }  # fmt: skip
    assert raw_lines(readings(columns)) == [
        b"raw,kit=k1 pm25_cf1=8.3,temp=-2.5,pressure=101325.0,pm_n=12i,pm_bad=0i,"  # noqa: ISC004 - one line
        b"boot=4294967295i,seq=0i,time_error_s=2i 1795217406000"
    ]


@pytest.mark.parametrize("n", [1, MANY])
def test_raw_leaves_out_what_is_null_and_keeps_every_row(n):
    columns = {"pm25_cf1": np.full(n, 1.5), "rh": np.full(n, np.nan), "gas_n": np.full(n, np.nan)}
    columns["temp"] = np.where(np.arange(n) % 3 == 0, np.nan, 20.0 + np.arange(n) / 100)
    columns["pm_n"] = np.where(np.arange(n) % 2 == 0, np.nan, 60.0)
    parsed = {time_ms: fields for _, _, fields, time_ms in map(parse, raw_lines(readings(columns)))}
    assert len(parsed) == n
    for i in range(n):
        fields = parsed[T_MS + 1000 * i]
        assert fields.pop("pm25_cf1") == 1.5
        assert fields.pop("temp", None) == (None if i % 3 == 0 else 20.0 + i / 100)
        assert fields.pop("pm_n", None) == (None if i % 2 == 0 else 60)
        assert fields == {"boot": 4_294_967_295, "seq": i, "time_error_s": 2}


@pytest.mark.parametrize("name", ["pm25_cf1", "temp", "pressure", "no2_we"])
def test_raw_values_are_exact_in_both_ways_of_formatting(name):
    per_unit = CHANNELS[name].per_unit
    rng = np.random.default_rng(7)
    for integers in (
        rng.integers(0, 65535, MANY), rng.integers(-4000, 4000, MANY), rng.integers(0, 2**62, MANY),
        np.zeros(MANY), np.full(MANY, 7), np.full(MANY, -7),
    ):  # fmt: skip
        values = integers / per_unit
        lines = raw_lines(readings({name: values}))
        assert [parse(line)[2][name] for line in lines] == values.tolist()
        assert all(b"." in line.split(name.encode() + b"=")[1].split(b",")[0] or b"e" in line for line in lines)


@given(st.lists(st.none() | st.integers(-(2**40), 2**40), min_size=1, max_size=300), st.sampled_from(["rh", "n03"]))
def test_raw_round_trip(integers, name):
    per_unit = CHANNELS[name].per_unit
    values = [math.nan if i is None else i / per_unit for i in integers]
    lines = sorted(map(parse, raw_lines(readings({name: values}))), key=lambda point: point[3])
    assert [fields.get(name) for _, _, fields, _ in lines] == [None if i is None else i / per_unit for i in integers]
    assert all(isinstance(fields.get(name, 0.0), float) for _, _, fields, _ in lines)


names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\"), min_size=1)


@given(kit=names, site=names, cal=st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_tags_and_strings_round_trip(kit, site, cal):
    record = HourRecord(
        kit=kit, site=site, hour=1, values={"pm25_ugm3": 0.1}, valid_pct={"pm25_ugm3": 75.0}, qc=1, reasons=0, cal=cal
    )
    (line,) = hour_lines(record)
    fields = {"pm25_ugm3": 0.1, "pm25_valid_pct": 75.0, "qc": 1, "cal": cal}
    assert parse(line) == ("hour", {"kit": kit, "site": site}, fields, 3_600_000)


def test_tags_that_line_protocol_cannot_hold_stay_writable_and_distinct():
    lines = [raw_lines(readings({"rh": [1.0]}, kit))[0] for kit in ("a\\", "a", "a\\,b", "a,b", "a\nb=c", "", "50 %d")]
    tags = [parse(line)[1] for line in lines]
    assert tags == [
        {"kit": "a/"}, {"kit": "a"}, {"kit": "a/,b"}, {"kit": "a,b"}, {"kit": "a b=c"}, {}, {"kit": "50 %d"},
    ]  # fmt: skip


def test_air_line_has_interval_where_there_is_one():
    nan = math.nan
    air = AirHour(
        kit="k1", site="s", hour=1, time_ms=np.array([1, 2]), values={"pm25_ugm3": np.array([7.25, nan])},
        lo={"pm25_ugm3": np.array([5.0, nan])}, hi={"pm25_ugm3": np.array([9.5, math.inf])}, qc=np.array([1, 9]),
        reasons=np.array([0, 2]), cal='c"100%', rev=np.array([1, 2]),
    )  # fmt: skip
    assert sorted(air_lines(air), key=lambda line: line[-1]) == [
        b'air,kit=k1,site=s cal="c\\"100%",pm25_ugm3=7.25,pm25_ugm3_lo=5.0,pm25_ugm3_hi=9.5,qc=1i 1',
        b'air,kit=k1,site=s cal="c\\"100%",qc=9i 2',
    ]


def test_hour_names_completeness_after_the_pollutant_and_writes_integers_as_floats():
    record = HourRecord(
        kit="k1", site="s", hour=498_671, values={"pm25_cf1": 12, "pm25_ugm3": 7.5, "no2_ppb": math.nan},
        valid_pct={"pm25_cf1": 100, "pm25_ugm3": 98.3, "no2_ppb": 0.0}, qc=1, reasons=0, cal="barkjohn2021",
        lo={"pm25_ugm3": 6}, hi={"pm25_ugm3": 9.0},
    )  # fmt: skip
    assert hour_lines(record) == [
        b"hour,kit=k1,site=s pm25_cf1=12.0,pm25_ugm3=7.5,pm25_ugm3_lo=6.0,pm25_ugm3_hi=9.0,"  # noqa: ISC004 - one line
        b'pm25_cf1_valid_pct=100.0,pm25_valid_pct=98.3,no2_valid_pct=0.0,qc=1i,cal="barkjohn2021" 1795215600000'
    ]


def test_index_line_keeps_table_and_completeness_where_there_is_no_value():
    record = IndexRecord(
        site="s", scheme="us-2024", hour=1, value=None, category=None, pollutant=None, table="us-2024.1",
        subs={"pm25": SubIndex(valid_pct=40.0)},
    )  # fmt: skip
    (line,) = index_lines(record)
    assert line == (
        b"index,scheme=us-2024,site=s pm25_valid_pct=40.0,pm25_24h_valid_pct=0.0,"
        b'table="us-2024.1",equivalent="PM2.5 equivalent" 3600000'
    )


def test_index_line_has_each_pollutant_with_the_concentration_used():
    record = IndexRecord(
        site="s", scheme="us-2024", hour=1, value=42, category="Good", pollutant="pm25", table="t",
        subs={
            "pm25": SubIndex(
                concentration=7.5, index=42, valid_pct=100.0, mean_24h=6.0, index_24h=33, valid_24h_pct=95.8
            ),
            "no2": SubIndex(concentration=20, index=19, valid_pct=100.0),
        },
    )  # fmt: skip
    _, tags, fields, _ = parse(index_lines(record)[0])
    assert tags == {"scheme": "us-2024", "site": "s"}
    assert fields == {
        "value": 42, "category": "Good", "pollutant": "pm25", "table": "t",
        "equivalent": "PM2.5/NO2 equivalent", "pm25_index": 42, "pm25_ugm3": 7.5, "pm25_valid_pct": 100.0,
        "pm25_24h_ugm3": 6.0, "pm25_24h_index": 33, "pm25_24h_valid_pct": 95.8,
        "no2_index": 19, "no2_ppb": 20.0, "no2_valid_pct": 100.0, "no2_24h_valid_pct": 0.0,
    }  # fmt: skip
    assert {type(fields[name]) for name in ("value", "pm25_index", "no2_index", "pm25_24h_index")} == {int}
    assert type(fields["no2_ppb"]) is float
