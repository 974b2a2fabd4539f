"""Quality control of a whole table: every rule at its edge, hours apart, and the same rows one way or another."""

import csv
from datetime import datetime
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import qc
from calibration.flags import Flag, Reason
from calibration.qc import RULES, Checked
from calibration.quantities import CHANNELS, SECOND
from calibration.screen import screen

NAN = float("nan")
RNG = np.random.default_rng(7)


def table(n=60, *, step_s=60, **columns):
    """Return a good hour of a kit, a row a minute, and what is given in place of it."""
    pm = 20 + 0.1 * np.arange(n) % 3
    good = {
        "pm25_cf1": pm, "pm25_atm": pm - 1, "pm_n": np.full(n, 12.0), "pm_bad": np.zeros(n), "rh": np.full(n, 50.0),
        "temp": 20 + 0.01 * np.arange(n), "env_n": np.full(n, 12.0), "env_bad": np.zeros(n),
        "up": 90_000.0 + step_s * np.arange(n),
    }  # fmt: skip
    return good | {name: np.asarray(values, float) for name, values in columns.items()}, step_s * np.arange(n)


def checked(name, n=60, *, step_s=60, starts=(0,), times=None, **columns):
    columns, time_s = table(n, step_s=step_s, **columns)
    times = time_s if times is None else np.asarray(times)
    return screen(columns, time_s=times.astype(float), starts=np.array(starts)).checked(name)


def flagged(found, reason):
    return np.flatnonzero(found.reasons & reason).tolist()


def test_a_good_hour_is_good():
    columns, time_s = table()
    found = screen(columns, time_s=time_s.astype(float), starts=np.array([0]))
    assert (found.flags == Flag.GOOD).all()
    assert not found.reasons.any()
    assert set(found.names) == {"pm25_cf1", "pm25_atm", "temp", "rh"}


def test_a_channel_that_is_not_there_is_missing_without_a_reason():
    found = checked("no2_we")
    assert (found.flags == Flag.MISSING).all()
    assert not found.reasons.any()


@pytest.mark.parametrize(("minutes", "stuck"), [(30, False), (31, True)])
def test_a_particle_sensor_that_repeats_for_half_an_hour_is_stuck(minutes, stuck):
    """31 rows a minute apart span 30 minutes; a repeat alone is none: a peer's tolerance never had an effect."""
    pm = table()[0]["pm25_cf1"].copy()
    pm[10 : 10 + minutes] = 31.7
    found = checked("pm25_cf1", pm25_cf1=pm, pm25_atm=pm)
    assert flagged(found, Reason.STUCK) == (list(range(10, 10 + minutes)) if stuck else [])
    assert set(found.flags[found.reasons > 0].tolist()) <= {Flag.SUSPECT}
    assert not np.isnan(found.value).any()  # kept, and said


def test_a_sensor_is_stuck_only_when_all_it_gives_repeats():
    pm = np.full(60, 31.7)
    assert not flagged(checked("pm25_cf1", pm25_cf1=pm), Reason.STUCK)  # pm25_atm moves
    counts = 900.0 + np.arange(60) % 2
    assert not flagged(checked("pm25_cf1", pm25_cf1=pm, pm25_atm=pm, n03=counts), Reason.STUCK)
    assert flagged(checked("pm25_cf1_b", pm25_cf1_b=pm, pm25_atm_b=pm), Reason.STUCK)  # the other sensor moves


def test_zero_is_clean_air():
    assert not flagged(checked("pm25_cf1", pm25_cf1=np.zeros(60), pm25_atm=np.zeros(60)), Reason.STUCK)


def test_a_hygrometer_is_given_an_hour():
    still = {"temp": np.full(60, 20.0), "rh": np.full(60, 50.0)}
    assert len(flagged(checked("rh", **still), Reason.STUCK)) == 60
    still["temp"] = np.where(np.arange(60) < 55, 20.0, 20.01)
    assert not flagged(checked("rh", **still), Reason.STUCK)


def test_a_peak_alone_is_a_spike_and_a_step_is_none():
    pm = np.full(60, 20.0)
    pm[30] = 121.0
    found = checked("pm25_cf1", pm25_cf1=pm)
    assert flagged(found, Reason.SPIKE) == [30]
    assert (found.flags[30], found.value[30]) == (Flag.SUSPECT, 121.0)
    pm[30] = 120.0  # exactly the limit is none
    assert not flagged(checked("pm25_cf1", pm25_cf1=pm), Reason.SPIKE)
    assert not flagged(checked("pm25_cf1", pm25_cf1=np.where(np.arange(60) < 30, 20.0, 300.0)), Reason.SPIKE)
    assert flagged(checked("pm25_cf1", pm25_cf1=np.where(np.arange(60) == 30, 5.0, 200.0)), Reason.SPIKE) == [30]


def test_a_fast_change_is_suspect_by_the_minute():
    rh = np.where(np.arange(60) < 30, 40.0, 60.1)
    assert flagged(checked("rh", rh=rh), Reason.RATE) == [30]
    assert not flagged(checked("rh", rh=np.minimum(rh, 60.0)), Reason.RATE)
    assert not flagged(checked("rh", 30, step_s=120, rh=rh[::2]), Reason.RATE)  # the same in two minutes


def test_a_value_that_failed_is_nobodys_neighbour():
    rh = np.full(60, 50.0)
    rh[30] = 300.0
    found = checked("rh", rh=rh)
    assert flagged(found, Reason.RANGE) == [30]
    assert not flagged(found, Reason.RATE | Reason.SPIKE)


def test_rows_of_another_hour_or_after_a_gap_are_no_neighbours():
    rh = np.where(np.arange(60) < 30, 40.0, 90.0)
    assert flagged(checked("rh", rh=rh), Reason.RATE) == [30]
    assert not flagged(checked("rh", rh=rh, starts=(0, 30)), Reason.RATE)
    late = np.where(np.arange(60) < 30, 0, 601) + 60 * np.arange(60)
    assert not flagged(checked("rh", rh=rh, times=late), Reason.RATE)


@pytest.mark.parametrize(("up_s", "cold"), [(14_399, True), (14_400, False)])
def test_a_gas_cell_warms_up_for_four_hours(up_s, cold):
    found = checked("no2_we", 1, no2_we=[250_000], no2_ae=[236_000], gas_n=[6], gas_bad=[0], up=[up_s])
    assert bool(found.flags[0] == Flag.FAIL) is cold
    assert np.isnan(found.value[0]) == cold
    assert bool(found.reasons[0] == Reason.WARM_UP) is cold
    assert checked("temp_gas", 1, temp_gas=[20], gas_n=[6], gas_bad=[0], up=[up_s]).flags[0] == Flag.GOOD
    assert checked("pm25_cf1", 1, up=[up_s]).flags[0] == Flag.GOOD


def test_a_kit_that_does_not_tell_its_uptime_is_not_judged_by_it():
    columns, time_s = table(2, no2_we=[250_000, 250_100], gas_n=[6, 6], gas_bad=[0, 0])
    del columns["up"]
    found = screen(columns, time_s=time_s.astype(float), starts=np.array([0])).checked("no2_we")
    assert (found.flags == Flag.GOOD).all()


def one(value, flag=Flag.GOOD, reasons=0):
    return Checked(np.asarray(value, float), np.full(len(value), int(flag)), np.full(len(value), int(reasons)))


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        ([20.0, 20.0], [9.0, 9.6], True),  # 10.7 apart, 72 %
        ([20.0, 20.0], [10.0, 9.7], False),  # 10.2 apart, 68 %
        ([6.0, 6.0], [0.9, 1.1], False),  # 143 %, but 5.0 apart
        ([6.0, 6.1], [0.9, 1.1], True),  # 5.05 apart
        ([100.0, 0.0], [0.0, 100.0], False),  # the means agree
        ([20.0, NAN], [9.0, 900.0], True),  # of the rows in which both are valid
        ([NAN, 20.0], [20.0, NAN], False),
    ],
)
def test_two_sensors_disagree_by_more_than_both_limits_in_the_mean_of_the_hour(a, b, apart):
    assert qc.disagree(one(a), one(b), np.array([0])).tolist() == [apart] * 2


def test_hours_are_judged_apart():
    a, b = one([20.0, 20.0, 20.0]), one([9.0, 19.0, 21.0])
    assert qc.disagree(a, b, np.array([0, 1])).tolist() == [True, False, False]


def test_rows_of_an_hour_in_which_the_sensors_disagree_fail():
    pm = table()[0]["pm25_cf1"]
    columns, time_s = table(pm25_cf1_b=0.3 * pm, pm_n_b=np.full(60, 12), pm_bad_b=np.zeros(60))
    found = screen(columns, time_s=time_s.astype(float), starts=np.array([0])).pair("pm25_cf1", np.array([0]))
    assert np.isnan(found.value).all()
    assert (found.flags == Flag.FAIL).all()
    assert (found.reasons == Reason.DISAGREE).all()


def test_air_is_humid_from_95_percent():
    assert qc.humid(one([94.99, 95.0, 100.0, NAN])).tolist() == [False, True, True, False]


def test_what_is_taken_out_fails_with_its_reason_and_a_missing_value_stays_missing():
    columns, time_s = table(3, rh=[50.0, NAN, 50.0])
    found = screen(columns, time_s=time_s.astype(float), starts=np.array([0]))
    out = found.without(["rh", "nothing"], np.array([True, True, False]), Reason.VOIDED).checked("rh")
    assert out.flags.tolist() == [Flag.FAIL, Flag.MISSING, Flag.GOOD]
    assert out.reasons.tolist() == [Reason.VOIDED, Reason.SENSOR_FAULT, 0]
    assert np.isnan(out.value).tolist() == [True, True, False]
    assert found.checked("rh").flags[0] == Flag.GOOD  # and the table itself is as it was


def test_every_rule_names_channels_that_exist_and_where_it_comes_from():
    stuck = [name for rule in RULES["stuck"] for name in rule["channels"]]
    assert len(stuck) == len(set(stuck))
    assert {*stuck, *RULES["change"], *RULES["warm_up"]} <= {name for name in CHANNELS if not name.endswith(SECOND)}
    rules = [*RULES["stuck"], *RULES["change"].values(), *RULES["warm_up"].values()]
    assert all(rule["source"] for rule in (*rules, RULES["agreement"], RULES["humidity"], RULES["neighbours"]))


names = st.sampled_from(["pm25_cf1", "pm25_cf1_b", "rh", "temp", "no2_we", "n03"])
cells = st.one_of(st.just(NAN), st.sampled_from([0.0, 20.0, 50.0, 99.0, 300.0, 9999.0]), st.floats(-5, 500))


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(names, st.lists(cells, min_size=40, max_size=40), min_size=1),
    st.lists(st.integers(1, 39), max_size=3, unique=True).map(sorted), st.randoms(use_true_random=False),
)  # fmt: skip
def test_an_hour_is_judged_by_its_own_rows_alone(columns, inner, random):
    columns = {name: np.array(values) for name, values in columns.items()}
    columns["up"] = np.array([random.choice([10.0, 14_400.0, NAN]) for _ in range(40)])
    columns["pm_n"], columns["pm_bad"] = np.full(40, 9.0), np.array([random.choice([0.0, 3.0, 4.0]) for _ in range(40)])
    time_s = np.cumsum([random.choice([1, 60, 300, 700]) for _ in range(40)]).astype(float)
    edges = [0, *inner, 40]
    together = screen(columns, time_s=time_s, starts=np.array(edges[:-1]))
    for start, end in pairwise(edges):
        part = {name: values[start:end] for name, values in columns.items()}
        alone = screen(part, time_s=time_s[start:end], starts=np.array([0]))
        assert alone.value.tobytes() == together.value[:, start:end].tobytes()
        assert alone.flags.tolist() == together.flags[:, start:end].tolist()
        assert alone.reasons.tolist() == together.reasons[:, start:end].tolist()


@settings(max_examples=50, deadline=None)
@given(st.lists(cells, min_size=1, max_size=30), st.sampled_from(sorted(CHANNELS)))
def test_a_table_says_of_a_channel_by_itself_what_the_single_rule_says(values, name):
    """Rows too far apart to be neighbours: what remains are the rules of one value."""
    column = np.array(values)
    n, channel = len(column), CHANNELS[name]
    used, rejected = np.arange(n) % 13.0, np.arange(n) % 5.0
    found = screen(
        {name: column, channel.counters[0]: used, channel.counters[1]: rejected},
        time_s=1000.0 * np.arange(n), starts=np.array([0]),
    ).checked(name)  # fmt: skip
    single = qc.check(column, low=channel.low, high=channel.high, used=used, rejected=rejected)
    assert found.value.tobytes() == single.value.tobytes()
    assert found.flags.tolist() == single.flags.tolist()
    assert found.reasons.tolist() == single.reasons.tolist()


def test_ten_days_of_real_readings_raise_no_alarm(shared):
    path = shared / "data" / "calibration" / "raw_purpleair_tukwila_2min_10days.csv"
    names = {"pm2_5_cf_1": "pm25_cf1", "pm2_5_cf_1_b": "pm25_cf1_b", "pm2_5_atm": "pm25_atm", "current_humidity": "rh"}
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    columns = {name: np.array([float(r[column] or "nan") for r in rows]) for column, name in names.items()}
    columns["temp"] = np.array([(float(r["current_temp_f"] or "nan") - 32) / 1.8 for r in rows])
    time_s = np.array([datetime.fromisoformat(r["datetime_utc"] + "+00:00").timestamp() for r in rows])
    starts = np.flatnonzero(np.diff(time_s // 3600, prepend=-1))
    found = screen(columns, time_s=time_s, starts=starts)
    assert found.value.shape == (5, len(rows))
    assert not (found.reasons & (Reason.SPIKE | Reason.RATE | Reason.STUCK | Reason.RANGE)).any()
    assert not (found.pair("pm25_cf1", starts).reasons & Reason.DISAGREE).any()
