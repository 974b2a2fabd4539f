"""Local days: midnight to midnight in standard time, whatever summer time does; completeness; zones that cannot be."""

import datetime as dt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.aqi.days import MAX_1H_DAY, MAX_8H_DAY, PM_DAY, LocalDay, ZoneError, standard_offset_h
from gateway.aqi.scheme import load

NAN = float("nan")


def hour(text):
    return int(dt.datetime.fromisoformat(text).timestamp()) // 3600


@pytest.mark.parametrize(
    ("zone", "offset_h"),
    [
        ("UTC", 0), ("+08:00", 8), ("-5", -5), ("UTC+9", 9), ("Asia/Taipei", 8), ("America/New_York", -5),
        ("America/Los_Angeles", -8), ("Europe/Berlin", 1), ("Europe/Dublin", 0), ("America/Sao_Paulo", -3),
        ("Pacific/Auckland", 12), ("Asia/Ho_Chi_Minh", 7), ("Australia/Sydney", 10),
    ],
)  # fmt: skip
def test_standard_time_has_no_summer(zone, offset_h):
    assert standard_offset_h(zone) == offset_h


def test_a_zone_may_have_changed_its_standard_time():
    assert (standard_offset_h("Europe/Istanbul", 2010), standard_offset_h("Europe/Istanbul", 2024)) == (2, 3)


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("Asia/Kolkata", "+05:30"), ("+05:45", "+05:45"), ("-03:30", "-03:30"), ("Australia/Adelaide", "+09:30"),
    ],
)  # fmt: skip
def test_zones_of_half_hours_are_refused_with_the_reason(zone, said):
    with pytest.raises(ZoneError, match="its midnight lies within a UTC hour") as caught:
        standard_offset_h(zone)
    assert said in str(caught.value)
    assert zone in str(caught.value)


@pytest.mark.parametrize("zone", ["Asia/Taipe", "", "+25:00", "../etc/passwd"])
def test_unknown_zones_are_refused(zone):
    with pytest.raises(ZoneError):
        standard_offset_h(zone)


def test_a_day_runs_from_midnight_to_midnight_of_standard_time():
    start = hour("2024-03-10T00:00:00-05:00")  # summer time begins in New York on this day
    hours = np.concatenate([np.full(24, 10.0), np.full(24, 20.0)])
    found = PM_DAY.of(hours, start, -5)
    assert found.values.tolist() == [10.0, 20.0]
    assert [str(dt.date(1970, 1, 1) + dt.timedelta(days=int(d))) for d in found.days] == ["2024-03-10", "2024-03-11"]
    shifted = PM_DAY.of(hours, start + 1, -5)
    assert shifted.values[:2].tolist() == [10.0, (10.0 + 23 * 20.0) / 24]
    assert np.isnan(shifted.values[2])
    assert shifted.present.tolist() == [23, 24, 1]


def test_a_leap_day_is_a_day():
    start = hour("2024-02-28T00:00:00+08:00")
    found = PM_DAY.of(np.repeat([1.0, 2.0, 3.0], 24), start, 8)
    days = [str(dt.date(1970, 1, 1) + dt.timedelta(days=int(d))) for d in found.days]
    assert (days, found.values.tolist()) == (["2024-02-28", "2024-02-29", "2024-03-01"], [1.0, 2.0, 3.0])


@pytest.mark.parametrize(("valid", "is_valid"), [(24, True), (18, True), (17, False), (0, False)])
def test_a_day_needs_eighteen_hours(valid, is_valid):
    hours = np.array([5.0] * valid + [NAN] * (24 - valid))
    for day in (PM_DAY, MAX_1H_DAY):
        assert (day.of(hours, 0, 0).values[0] == 5.0) == is_valid


def test_ozone_is_the_largest_of_seventeen_means_that_begin_at_seven_to_twenty_three():
    hours = np.zeros(48)
    hours[0:8] = 90.0  # begins at midnight: before the first window at 07:00, which holds one hour of it
    assert MAX_8H_DAY.of(hours, 0, 0).values[0] == 90.0 / 8
    hours = np.zeros(48)
    hours[23:31] = 80.0  # the window that begins at 23:00 ends in the next day
    assert MAX_8H_DAY.of(hours, 0, 0).values.tolist()[0] == 80.0
    assert MAX_8H_DAY.of(hours, 0, 0).present[0] == 17


def test_ozone_needs_thirteen_windows_of_six_hours():
    def value(missing_from, missing_to):
        hours = np.full(31, 40.0)
        hours[missing_from:missing_to] = NAN
        return MAX_8H_DAY.of(hours, 0, 0)

    assert value(0, 0).values[0] == 40.0
    assert value(7, 13).present[0] == 13  # those that begin at 07:00 to 10:00 have less than six hours
    assert value(7, 13).values[0] == 40.0
    assert value(7, 14).present[0] == 12
    assert np.isnan(value(7, 14).values[0])


def test_carbon_monoxide_belongs_to_the_day_in_which_its_eight_hours_end():
    co = load("us-2024").table("co").day
    hours = np.zeros(48)
    hours[17:25] = 8.0  # ends in the first hour of the second day
    assert co.of(hours, 0, 0).values.tolist() == [7.0, 8.0]


@given(
    st.lists(st.one_of(st.just(NAN), st.floats(-15, 900)), min_size=1, max_size=100),
    st.integers(-12, 14),
    st.integers(0, 10_000),
)
def test_a_day_depends_on_its_own_hours_alone(hours, offset_h, first):
    values = np.array(hours)
    for day in (PM_DAY, MAX_1H_DAY, LocalDay("max", 8, 6, 0, 23, "start", 1)):
        whole = day.of(values, first, offset_h)
        for at, value in zip(whole.days.tolist(), whole.values, strict=True):
            start = at * 24 - offset_h - first
            mine = np.full(24 + day.hours - 1, NAN)
            there = range(max(start, 0), min(start + len(mine), len(values)))
            for i in there:
                mine[i - start] = values[i]
            alone = day.of(mine, at * 24 - offset_h, offset_h)
            np.testing.assert_array_equal(alone.values[0], value)


@pytest.mark.parametrize("scheme", ["us-2012", "us-2024"])
def test_every_table_of_the_us_has_a_day(scheme):
    assert all(table.day for table in load(scheme).tables)
