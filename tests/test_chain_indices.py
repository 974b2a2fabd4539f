"""Hours to indices of a site: medians, worked indices, which hours have a record, and stream = batch."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.aqi.scheme import load
from gateway.derive import chain
from gateway.records import HourRecord

NAN = float("nan")
HOUR = 472_222
US, TW = load("us-2024"), load("tw-2025")


def hour_record(hour, *, kit="kit-1", site="roof", **values):
    return HourRecord(
        kit=kit, site=site, hour=hour, values=values, valid_pct=dict.fromkeys(values, 100.0), qc=1, reasons=0, cal="x"
    )


def indices(scheme, present=None, want=None, **concentrations):
    arrays = {name: np.array(values, float) for name, values in concentrations.items()}
    n = len(next(iter(arrays.values())))
    here = np.ones(n, bool) if present is None else np.array(present, bool)
    wanted = np.arange(HOUR, HOUR + n) if want is None else np.array(want)
    return chain.derive_index("roof", scheme, HOUR, arrays, here, wanted)


def test_a_site_has_the_median_of_its_valid_kits():
    records = [
        hour_record(HOUR, kit="a", pm25_ugm3=10.0), hour_record(HOUR, kit="b", pm25_ugm3=12.0, no2_ppb=7.0),
        hour_record(HOUR, kit="c", pm25_ugm3=90.0, temp=20.0), hour_record(HOUR + 2, kit="a", pm25_ugm3=4.0),
        hour_record(HOUR + 2, kit="b", pm25_ugm3=5.0), hour_record(HOUR + 3, kit="c"),
        hour_record(HOUR, kit="d", site="yard", pm25_ugm3=1.0),
    ]  # fmt: skip
    for given_order in (records, records[::-1]):
        sites = chain.site_hours(given_order)
        assert list(sites) == ["roof", "yard"]
        roof = sites["roof"]
        assert (roof.site, roof.first_hour, roof.present.tolist()) == ("roof", HOUR, [True, False, True, True])
        np.testing.assert_array_equal(roof.concentrations["pm25"], [12.0, NAN, 4.5, NAN])
        np.testing.assert_array_equal(roof.concentrations["no2"], [7.0, NAN, NAN, NAN])
        assert set(roof.concentrations) == {"pm25", "no2"}


def test_a_us_index_by_hand():
    record = indices(US, pm25=[35.95] * 24, no2=[22.4] * 24)[-1]
    assert (record.site, record.scheme, record.hour, record.table) == ("roof", "us-2024", HOUR + 23, "us-2024@1")
    assert (record.value, record.category, record.pollutant) == (102, "sensitive", "pm25")
    pm25, no2 = record.subs["pm25"], record.subs["no2"]
    assert (pm25.concentration, pm25.index, pm25.valid_pct) == (35.9, 102, 100.0)
    assert (pm25.mean_24h, pm25.index_24h, pm25.valid_24h_pct) == (35.9, 102, 100.0)
    assert (no2.concentration, no2.index, no2.mean_24h) == (22.0, 21, 22.0)
    assert no2.index_24h is None  # the table of NO2 is made for hours


def test_a_taiwan_index_by_hand():
    record = indices(TW, pm25=[float(x) for x in range(1, 13)], no2=[13.0] * 12)[-1]
    # 0.5 * 6.5 + 0.5 * 10.5 = 8.5; 50 / 12.4 * 8.5 = 34.27; NO2: 50 / 21 * 13 = 30.95
    assert (record.subs["pm25"].concentration, record.subs["pm25"].index) == (8.5, 34)
    assert record.subs["no2"].index == 31
    assert (record.value, record.category, record.pollutant) == (34, "good", None)  # up to 50 none is named
    assert indices(TW, pm25=[20.0] * 12, no2=[13.0] * 12)[-1].pollutant == "pm25"
    assert record.subs["pm25"].mean_24h is None
    assert record.subs["pm25"].valid_24h_pct == 50.0


def test_the_first_pollutant_of_the_scheme_leads_among_equals():
    record = indices(US, pm25=[0.0] * 3, no2=[0.0] * 3)[-1]
    assert (record.value, record.pollutant) == (0, "pm25")
    assert indices(US, pm25=[0.0] * 3, no2=[5.0] * 3)[-1].pollutant == "no2"


def test_completeness_is_that_of_the_window():
    record = indices(US, pm25=[NAN] * 15 + [5.0] * 9)[-1]
    assert (record.subs["pm25"].valid_pct, record.subs["pm25"].valid_24h_pct) == (75.0, 37.5)


def test_an_hour_with_a_record_but_no_value_says_so():
    [record] = indices(US, pm25=[NAN, NAN, 5.0], want=[HOUR + 2])
    assert (record.value, record.category, record.pollutant) == (None, None, None)
    assert record.subs["pm25"].concentration is None
    assert record.subs["pm25"].valid_pct == pytest.approx(100 / 12)
    [nothing] = indices(US, pm25=[NAN], want=[HOUR])
    assert nothing.subs == {}


def test_a_gap_has_an_index_where_the_value_is_valid_and_an_hour_follows():
    pm25, present = [5.0, 5.0, 5.0, NAN, NAN, 5.0], [1, 1, 1, 0, 0, 1]
    found = {r.hour - HOUR: r.value for r in indices(US, pm25=pm25, present=present)}
    assert found == {0: None, 1: 28, 2: 28, 3: 28, 5: None}
    pm25, present = [5.0] * 8 + [NAN] * 3 + [5.0], [1] * 8 + [0] * 3 + [1]
    assert [r.hour - HOUR for r in indices(TW, pm25=pm25, present=present)] == [*range(10), 11]


def test_no_index_runs_ahead_of_the_data():
    pm25, present = [5.0, 5.0, 5.0, NAN, NAN], [1, 1, 1, 0, 0]
    assert [r.hour - HOUR for r in indices(US, pm25=pm25, present=present)] == [0, 1, 2]
    assert indices(US, pm25=pm25, present=present, want=[HOUR - 1, HOUR + 3, HOUR + 99]) == []


def test_a_gap_longer_than_the_look_back_is_not_bridged():
    def has_gap_hour(length):
        pm25 = [5.0] * 3 + [NAN] * length + [5.0]
        return len(indices(US, pm25=pm25, present=~np.isnan(pm25), want=[HOUR + 3])) == 1

    assert has_gap_hour(23)
    assert not has_gap_hour(24)


def test_several_schemes_at_once_and_only_the_site_asked_for():
    records = [hour_record(HOUR + i, pm25_ugm3=12.45) for i in range(24)]
    other = [hour_record(HOUR + i, site="yard", pm25_ugm3=500.0) for i in range(24)]
    found = chain.derive_indices("roof", (US, TW), [*records, *other], HOUR + 23, HOUR + 23)
    assert [(r.scheme, r.value) for r in found] == [("us-2024", 57), ("tw-2025", 50)]
    assert chain.derive_indices("attic", (US, TW), records, HOUR, HOUR + 23) == []


def test_touched_hours_reach_the_look_back_to_both_sides():
    touched = chain.touched_hours([HOUR, HOUR + 1])
    assert touched == list(range(HOUR - 23, HOUR + 25))
    assert US.lookback_hours == TW.lookback_hours == chain.LOOKBACK_HOURS == 24


def test_schemes_by_name(tmp_path):
    assert [s.label for s in chain.load_schemes(["tw-2025", "us-2024"])] == ["tw-2025@1", "us-2024@1"]
    assert chain.load_schemes([], tmp_path) == ()


gaps = st.lists(
    st.one_of(st.none(), st.just(NAN), st.floats(-15, 600).map(lambda x: round(x, 1))), min_size=1, max_size=70
)  # none: no hour record at all; NaN: a record without a value


def records_of(hours):
    return [
        hour_record(HOUR + i, **({} if np.isnan(x) else {"pm25_ugm3": x, "no2_ppb": abs(x)}))
        for i, x in enumerate(hours)
        if x is not None
    ]


@settings(max_examples=60, deadline=None)
@given(gaps)
def test_the_stream_gives_what_the_batch_gives(hours):
    records = records_of(hours)
    span = (HOUR - 30, HOUR + 100)
    batch = chain.derive_indices("roof", (US, TW), records, *span)
    stored = {}
    for i, arrived in enumerate(records):
        touched = chain.touched_hours([arrived.hour])
        seen = [r for r in records[: i + 1] if touched[0] - 23 <= r.hour <= touched[-1] + 23]
        for key in [k for k in stored if touched[0] <= k[1] <= touched[-1]]:
            del stored[key]
        for record in chain.derive_indices("roof", (US, TW), seen, touched[0], touched[-1]):
            stored[record.scheme, record.hour] = record
    assert {k: msgspec.json.encode(r) for k, r in stored.items()} == {
        (r.scheme, r.hour): msgspec.json.encode(r) for r in batch
    }


@settings(max_examples=50, deadline=None)
@given(gaps, st.randoms(use_true_random=False))
def test_the_order_in_which_hours_arrive_changes_nothing(hours, random):
    records = records_of(hours)
    shuffled = random.sample(records, len(records))
    one, two = (chain.derive_indices("roof", (US, TW), r, HOUR, HOUR + 70) for r in (records, shuffled))
    assert one == two
