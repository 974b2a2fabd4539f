"""History indexed by the table in force then, or by today's: both named, sealed hours too, equal to a recomputation."""

import datetime as dt

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_store import MadeStore

from gateway.aqi.scheme import load, load_all
from gateway.derive import chain
from gateway.derive.dirty import Deriver
from gateway.derive.recipe import Recipe
from gateway.derive.verify import verify
from gateway.errors import LichenError
from gateway.export import index_row
from gateway.records import HourRecord
from gateway.settings import Derive
from gateway.store import derived
from gateway.store.database import RAW_HORIZON, transaction, write_meta

NAN = float("nan")
CHANGE_S = int(dt.datetime(2024, 5, 6, tzinfo=dt.UTC).timestamp())
CHANGE_H = CHANGE_S // 3600


def hour_record(hour, **values):
    return HourRecord(kit="a", site="roof", hour=hour, values=values, valid_pct={}, qc=1, reasons=0, cal="x")


def test_each_hour_has_the_table_in_force_then():
    records = [hour_record(CHANGE_H + i, pm25_ugm3=12.0) for i in range(-24, 24)]
    both = chain.derive_indices("roof", (load("us"), load("us-2024")), records, CHANGE_H - 2, CHANGE_H + 1)
    assert [(r.scheme, r.hour - CHANGE_H, r.value, r.table) for r in both] == [
        *(("us", i, 50, "us-2012@1") for i in (-2, -1)), *(("us", i, 56, "us-2024@1") for i in (0, 1)),
        *(("us-2024", i, 56, "us-2024@1") for i in (-2, -1, 0, 1)),
    ]  # fmt: skip


def test_an_unverified_date_is_said_wherever_it_decides():
    start = int(dt.datetime(2022, 1, 1, tzinfo=dt.UTC).timestamp()) // 3600
    records = [hour_record(start + i, pm25_ugm3=12.0) for i in range(24)]
    [record] = chain.derive_indices("roof", (load("tw"),), records, start + 23, start + 23)
    assert (record.scheme, record.table) == ("tw", "tw-2020@1?")
    assert index_row(record)["table"] == "tw-2020@1?"


def test_before_the_first_table_there_is_no_record():
    start = int(dt.datetime(2001, 1, 1, tzinfo=dt.UTC).timestamp()) // 3600
    records = [hour_record(start + i, pm25_ugm3=12.0) for i in range(24)]
    assert chain.derive_indices("roof", (load("us"),), records, start, start + 23) == []


hours = st.lists(
    st.one_of(st.none(), st.just(NAN), st.floats(-15, 600).map(lambda x: round(x, 1))), min_size=1, max_size=60
)
NAMES = ("us", "tw", "us-2012", "eu-2025", "who-2021", "us-daily", "who-2021-daily")


@given(hours, st.randoms(use_true_random=False))
def test_the_stream_gives_what_the_batch_gives_where_tables_change(values, random):
    schemes = load_all(NAMES, zone="America/New_York")
    start = CHANGE_H - 30
    records = [
        hour_record(start + i, **({} if np.isnan(x) else {"pm25_ugm3": x, "no2_ppb": abs(x)}))
        for i, x in enumerate(values)
        if x is not None
    ]
    batch = chain.derive_indices("roof", schemes, records, start - 30, start + 100)
    stored, seen = {}, []
    for arrived in random.sample(records, len(records)):
        seen.append(arrived)
        touched = chain.touched_hours([arrived.hour])
        near = [r for r in seen if touched[0] - 23 <= r.hour <= touched[-1] + 23]
        for key in [k for k in stored if touched[0] <= k[1] <= touched[-1]]:
            del stored[key]
        for record in chain.derive_indices("roof", schemes, near, touched[0], touched[-1]):
            stored[record.scheme, record.hour] = record
    assert {k: msgspec.json.encode(r) for k, r in stored.items()} == {
        (r.scheme, r.hour): msgspec.json.encode(r) for r in batch
    }


def test_an_index_of_days_stands_at_the_last_hour_of_standard_time():
    start = int(dt.datetime(2024, 7, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5))).timestamp()) // 3600
    records = [hour_record(start + i, pm25_ugm3=10.0 if i < 24 else 20.0, no2_ppb=float(i % 24)) for i in range(40)]
    schemes = load_all(("us-2024-daily",), zone="America/New_York")
    one, *rest = chain.derive_indices("roof", schemes, records, start, start + 60)
    assert not rest  # the second day is not over
    assert (one.scheme, one.hour, one.value, one.table) == ("us-2024-daily", start + 23, 53, "us-2024@1")
    assert (one.subs["pm25"].concentration, one.subs["pm25"].valid_pct) == (10.0, 100.0)
    assert (one.subs["no2"].concentration, one.subs["no2"].index) == (23.0, 22)
    few = chain.derive_indices("roof", schemes, records[:17] + records[23:], start, start + 60)
    assert (few[0].value, few[0].subs["pm25"].concentration) == (53, 10.0)  # 18 hours
    assert chain.derive_indices("roof", schemes, records[:16] + records[23:], start, start + 60)[0].value is None


def test_days_need_a_zone_of_whole_hours():
    for zone, said in (
        (None, "needs the site's zone"),
        ("Asia/Kolkata", "midnight lies within a UTC hour"),
        ("Asia/Taipe", "unknown"),
    ):
        with pytest.raises(LichenError, match=said):
            Recipe.of(Derive(schemes=("us-2024-daily",), zone=zone))
    with pytest.raises(LichenError, match="has no rule for days"):
        Recipe.of(Derive(schemes=("tw-daily",), zone="Asia/Taipei"))
    with pytest.raises(LichenError, match="did you mean"):
        Recipe.of(Derive(schemes=("us-2042-daily",), zone="Asia/Taipei"))
    here, there = (Recipe.of(Derive(schemes=("us-daily",), zone=zone)).label for zone in ("-05:00", "-06:00"))
    assert here != there


def test_concentrations_are_in_the_canonical_unit_whatever_the_schemes():
    values = {"no2": np.full(24, 31.4), "pm25": np.full(24, 10.04), "o3": np.full(24, 101.7), "co": np.full(24, 1234.0)}

    def subs(name):
        [record] = chain.derive_index("roof", load(name), 0, values, np.ones(24, bool), np.array([23]))
        return {p: (s.concentration, s.index) for p, s in record.subs.items() if s.index is not None}

    assert subs("us-2024") == {"pm25": (10.0, 53), "no2": (31.0, 29), "co": (1200.0, 14)}
    assert subs("tw-2025") == {"pm25": (10.0, 40), "no2": (31.0, 57), "co": (1200.0, 14), "o3": (101.0, 190)}
    assert subs("eu-2025") == {"pm25": (10.04, 2), "no2": (31.4, 4), "o3": (101.7, 6)}  # 60.05 and 202.9 µg/m³


@pytest.fixture
def made(tmp_path):
    made = MadeStore(tmp_path / "store")
    made.add_span("kit", CHANGE_S - 60 * 3600, CHANGE_S + 40 * 3600, lambda t: 20 + t // 3600 % 7, dt_s=600)
    made.derive()
    yield made
    made.db.close()


def index_all(db, recipe):
    deriver = Deriver(db, recipe)
    while deriver.step():
        pass


def seal(db, hour):
    """Let the raw readings before an hour go, as retention does."""
    with transaction(db):
        write_meta(db, RAW_HORIZON, str(hour))
        db.execute("DELETE FROM chunk WHERE hour < ?", (hour,))


def test_sealed_hours_are_indexed_again_from_their_means(made):
    seal(made.db, CHANGE_H + 10)
    hours_before = list(derived.read_hours(made.db))
    then = Recipe.of(Derive(schemes=("us", "us-2024")))
    index_all(made.db, then)
    found = {(r.scheme, r.hour): r for r in derived.read_indices(made.db)}
    assert {scheme for scheme, _ in found} == {"us", "us-2024"}
    assert {r.table for (scheme, hour), r in found.items() if scheme == "us" and hour < CHANGE_H} == {"us-2012@1"}
    assert {r.table for (scheme, hour), r in found.items() if scheme == "us" and hour >= CHANGE_H} == {"us-2024@1"}
    assert {r.table for (scheme, _), r in found.items() if scheme == "us-2024"} == {"us-2024@1"}
    assert list(derived.read_hours(made.db)) == hours_before  # means of sealed hours are never rebuilt
    verdict = verify(made.db, then)
    assert not verdict.different
    assert verdict.compared > 200


def test_indexing_sealed_hours_goes_on_where_it_was_stopped(made, monkeypatch):
    monkeypatch.setattr("gateway.derive.dirty.SEALED_A_STEP", 7)
    seal(made.db, CHANGE_H + 10)
    then = Recipe.of(Derive(schemes=("us",)))
    for _ in range(4):  # each a gateway that ends after some steps
        deriver = Deriver(made.db, then)
        for _ in range(3):
            deriver.step()
    index_all(made.db, then)
    assert not verify(made.db, then).different
    before = made.db.total_changes
    index_all(made.db, then)
    assert made.db.total_changes == before  # done once


def test_a_scheme_whose_numbers_change_is_a_new_recipe(tmp_path):
    from importlib import resources

    text = (resources.files("gateway.aqi") / "schemes" / "eu-2025.toml").read_text("utf-8")
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, edge in ((one, 5), (two, 6)):
        folder.mkdir()
        (folder / "mine.toml").write_text(
            text.replace("[0, 5, 1, 1]", f"[0, {edge}, 1, 1]").replace("[5, 15", f"[{edge}, 15")
        )
    labels = {Recipe.of(Derive(schemes=("mine",)), folder).label for folder in (one, two)}
    assert len(labels) == 2
    with pytest.raises(LichenError, match="'mine'"):
        Recipe.of(Derive(schemes=("mine",)))
    with pytest.raises(LichenError, match="did you mean 'us-2024'"):
        Recipe.of(Derive(schemes=("us-2023",)))
