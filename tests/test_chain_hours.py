"""Readings to hours of a kit: worked values, every rule at its edge, and independence of order and batch."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.corrections import UnknownCorrectionError
from gateway.derive.chain import Stretch, derive_hours
from gateway.records import Flag, Readings, Reason

NAN = float("nan")
HOUR = 472_222
START_MS = HOUR * 3_600_000


def readings(rows, kit="kit-1"):
    """Rows as dictionaries; `end_s` is the end of the interval in seconds after the start of HOUR."""
    n = len(rows)
    names = sorted({name for row in rows for name in row} - {"end_s", "boot", "seq"})

    def ints(values):
        return np.array(values, np.int64)

    return Readings(
        kit=kit, time_ms=ints([START_MS + round(1000 * row["end_s"]) for row in rows]),
        boot=ints([row.get("boot", 1) for row in rows]), seq=ints([row.get("seq", i) for i, row in enumerate(rows)]),
        time_source=ints([0] * n), time_error_s=ints([2] * n), rev=ints(range(n)),
        columns={name: np.array([row.get(name, NAN) for row in rows], float) for name in names},
    )  # fmt: skip


def row(end_s, **change):
    """Return a good row of a kit with two particle sensors."""
    good = {
        "end_s": end_s, "dt": 60, "pm_n": 12, "pm_bad": 0, "pm25_cf1": 10.0, "pm_n_b": 12, "pm_bad_b": 0,
        "pm25_cf1_b": 12.0, "env_n": 12, "env_bad": 0, "rh": 50.0, "temp": 21.0,
    }  # fmt: skip
    return good | change


def minutes(count=60, **change):
    """Rows that are not all alike, which would be stuck; the mean of both sensors and what is corrected stay."""
    rows = [row(60 * (i + 1), seq=i, **change) for i in range(count)]
    for i, one in enumerate(rows):
        wiggle = 0.1 * (-1) ** i
        one["temp"] += wiggle
        if one["pm25_cf1"]:  # zeros are clean air
            one |= {"pm25_cf1": one["pm25_cf1"] + wiggle, "pm25_cf1_b": one["pm25_cf1_b"] - wiggle}
    return rows


def derive(rows):
    (found,) = derive_hours([Stretch(readings(rows), "roof")])
    return found


def plain(pairs):
    """Everything in them as bytes and builtins, so that equality is to the bit, NaN included."""
    return [
        (
            air.kit, air.site, air.hour, air.time_ms.tobytes(), {n: v.tobytes() for n, v in air.values.items()},
            air.lo, air.hi, air.qc.tobytes(), air.reasons.tobytes(), air.cal, msgspec.json.encode(hour),
        )
        for air, hour in pairs
    ]  # fmt: skip


def test_an_hour_of_good_rows():
    [(air, hour)] = derive(minutes())
    # A and B: (10 + 12) / 2 = 11; 0.524 * 11 - 0.0862 * 50 + 5.75 = 7.204
    assert air.values["pm25_ugm3"] == pytest.approx([7.204] * 60)
    assert (air.kit, air.site, air.hour, air.cal) == ("kit-1", "roof", HOUR, "barkjohn2021@1")
    assert (air.lo, air.hi) == ({}, {})
    assert set(air.qc.tolist()) == {Flag.GOOD}
    assert set(air.reasons.tolist()) == {0}
    assert air.rev.tolist() == [0] * 60
    assert hour.values == pytest.approx(
        {"pm25_cf1": 10.0, "pm25_cf1_b": 12.0, "rh": 50.0, "temp": 21.0, "pm25_ugm3": 7.204}
    )
    assert hour.valid_pct == dict.fromkeys(hour.values, 100.0)
    assert (hour.kit, hour.site, hour.hour, hour.cal) == ("kit-1", "roof", HOUR, "barkjohn2021@1")
    assert (hour.qc, hour.reasons) == (Flag.GOOD, 0)


def test_nothing_gives_nothing():
    assert derive([]) == []
    assert derive_hours([]) == []


def test_an_unknown_correction_is_refused_even_for_nothing():
    with pytest.raises(UnknownCorrectionError, match="barkjohn2021"):
        derive_hours([], correction="barkjon2021")


@pytest.mark.parametrize(
    ("end_s", "dt", "hour"),
    [
        (0, 60, HOUR - 1),
        (30, 60, HOUR),  # the middle is the very start of the hour
        (29, 60, HOUR - 1),
        (3600, 60, HOUR),
        (3629, 60, HOUR),
        (3630, 60, HOUR + 1),
        (3600, NAN, HOUR + 1),  # no length: the end itself
        (5400, 3600, HOUR + 1),
        (5399, 3600, HOUR),
    ],
)
def test_a_row_belongs_to_the_hour_of_the_middle_of_its_interval(end_s, dt, hour):
    [(air, record)] = derive([row(end_s, dt=dt)])
    assert air.hour == record.hour == hour


def test_an_hour_is_valid_from_2700_seconds_on():
    [(_, enough)] = derive(minutes(45))
    assert enough.valid_pct["pm25_ugm3"] == 75.0
    assert enough.values["pm25_ugm3"] == pytest.approx(7.204)
    [(air, short)] = derive([*minutes(44), row(45 * 60, dt=59)])
    assert short.valid_pct["pm25_ugm3"] == pytest.approx(100 * 2699 / 3600)
    assert short.values == {}
    assert set(short.valid_pct) == {"pm25_cf1", "pm25_cf1_b", "rh", "temp", "pm25_ugm3"}
    assert (short.qc, short.reasons) == (Flag.MISSING, Reason.INCOMPLETE)
    assert len(air) == 45  # the rows themselves stay


def test_coverage_counts_good_rows_only():
    rows = minutes(46)
    rows[5] |= {"pm_n": 8, "pm_bad": 4, "pm_n_b": 8, "pm_bad_b": 4}  # 67 %
    [(air, hour)] = derive(rows)
    assert np.flatnonzero(np.isnan(air.values["pm25_ugm3"])).tolist() == [5]
    assert (air.qc[5], air.reasons[5]) == (Flag.FAIL, Reason.INCOMPLETE)
    assert hour.valid_pct == pytest.approx(
        dict.fromkeys(("pm25_cf1", "pm25_cf1_b", "pm25_ugm3"), 75.0) | dict.fromkeys(("rh", "temp"), 100 * 46 / 60)
    )
    assert (hour.qc, hour.reasons) == (Flag.GOOD, 0)  # of the rows used


def test_coverage_is_never_above_the_hour():
    [(_, hour)] = derive([row(60 * (i + 1), dt=90) for i in range(59)])
    assert hour.valid_pct["pm25_ugm3"] == 100.0


def test_means_are_weighted_by_time():
    rows = [row(1800, dt=1800, temp=10.0, pm25_cf1=0.0, pm25_cf1_b=0.0), row(2700, dt=900, temp=40.0)]
    [(_, hour)] = derive(rows)
    assert hour.values["temp"] == (10.0 * 1800 + 40.0 * 900) / 2700
    assert hour.values["pm25_ugm3"] == pytest.approx((1.44 * 1800 + 7.204 * 900) / 2700)


@pytest.mark.parametrize("bad", [{"pm_n_b": 0, "pm_bad_b": 12, "pm25_cf1_b": NAN}, {"pm25_cf1_b": 6000.0}])
def test_one_invalid_channel_leaves_the_other_suspect(bad):
    rows = minutes()
    rows[7] |= {"pm25_cf1": 10.0} | bad
    [(air, hour)] = derive(rows)
    assert air.values["pm25_ugm3"][7] == pytest.approx(0.524 * 10 - 4.31 + 5.75)
    assert (air.qc[7], air.reasons[7]) == (Flag.SUSPECT, Reason.SINGLE_CHANNEL)
    assert (hour.qc, hour.reasons) == (Flag.SUSPECT, Reason.SINGLE_CHANNEL)
    assert hour.valid_pct["pm25_cf1_b"] == pytest.approx(100 * 59 / 60)
    assert hour.valid_pct["pm25_cf1"] == 100.0


def test_a_kit_with_one_sensor_is_good():
    rows = [{k: v for k, v in r.items() if not k.endswith("_b")} for r in minutes()]
    [(_, hour)] = derive(rows)
    assert hour.values["pm25_ugm3"] == pytest.approx(6.68)
    assert (hour.qc, hour.reasons) == (Flag.GOOD, 0)


def test_each_channel_counts_by_its_own_sensor():
    [(air, hour)] = derive(minutes(env_n=2, env_bad=10))
    assert set(hour.values) == {"pm25_cf1", "pm25_cf1_b"}
    assert (hour.valid_pct["rh"], hour.valid_pct["temp"], hour.valid_pct["pm25_ugm3"]) == (0.0, 0.0, 0.0)
    assert np.isnan(air.values["pm25_ugm3"]).all()
    assert set(air.reasons.tolist()) == {Reason.NO_HUMIDITY}
    assert (hour.qc, hour.reasons) == (Flag.MISSING, Reason.INCOMPLETE | Reason.NO_HUMIDITY)


def test_beyond_the_range_of_the_correction_the_value_stays_suspect():
    [(air, hour)] = derive(minutes(pm25_cf1=400.0, pm25_cf1_b=400.0))
    assert air.values["pm25_ugm3"] == pytest.approx([211.04] * 60)
    assert (hour.qc, hour.reasons) == (Flag.SUSPECT, Reason.EXTRAPOLATED)


def test_negative_values_are_not_clamped():
    [(_, hour)] = derive(minutes(pm25_cf1=0.0, pm25_cf1_b=0.0, rh=100.0))
    assert hour.values["pm25_ugm3"] == pytest.approx(-2.87)


def test_a_row_without_length_covers_nothing():
    [(_, hour)] = derive([*minutes(45), row(45 * 60 + 30, dt=NAN, temp=99.0)])
    assert hour.values["temp"] == pytest.approx(21.0 + 0.1 / 45)
    assert hour.valid_pct["temp"] == 75.0


def test_a_channel_the_hour_never_had_is_not_listed():
    pairs = derive([*minutes(), row(7000, no2_we=100.0, gas_n=5, gas_bad=0)])
    assert "no2_we" not in pairs[0][1].valid_pct
    assert "no2_we" in pairs[1][1].valid_pct


def test_neighbours_in_the_batch_touch_no_bit():
    rows = [row(60 * (i + 1), seq=i, pm25_cf1=0.1 * (i * 7919 % 997), temp=i / 7) for i in range(300)]
    together = derive(rows)
    for k, pair in enumerate(together):
        assert plain([pair]) == plain(derive(rows[60 * k : 60 * k + 60]))


values = st.one_of(st.just(NAN), st.floats(-10, 6000, allow_subnormal=False))
counters = st.one_of(st.just(NAN), st.integers(0, 12).map(float))
any_row = st.fixed_dictionaries(
    {
        "end_s": st.integers(0, 4 * 3600).map(float), "dt": st.sampled_from([NAN, 60.0, 120.0, 900.0, 3600.0]),
        "pm25_cf1": values, "pm25_cf1_b": values, "rh": st.one_of(st.just(NAN), st.floats(-5, 110)),
        "pm_n": counters, "pm_bad": counters, "pm_n_b": counters, "env_n": counters, "env_bad": counters,
        "boot": st.integers(1, 3),
    }
)  # fmt: skip
long_rows = st.lists(any_row, min_size=1, max_size=12).flatmap(
    lambda some: st.sampled_from([0, 0, 40, 250]).map(
        # many rows, so that sums of more than one block are compared: the same few with other values and times
        lambda extra: (
            some
            + [
                row(60.0 * i, pm25_cf1=0.1 * (i * 7919 % 997), rh=20 + i * 31 % 60 / 7, dt=60.0, boot=9)
                for i in range(extra)
            ]
        )
    )
)


def numbered(rows):
    return [r | {"seq": i} for i, r in enumerate(rows)]


@settings(max_examples=60, deadline=None)
@given(long_rows, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows, random):
    rows = numbered(rows)
    shuffled = random.sample(rows, len(rows))
    assert plain(derive(rows)) == plain(derive(shuffled))


@settings(max_examples=60, deadline=None)
@given(long_rows)
def test_an_hour_depends_on_its_own_rows_alone(rows):
    rows = numbered(rows)
    together = derive(rows)
    hour_of = {r["seq"]: HOUR + int((r["end_s"] - np.nan_to_num(r["dt"]) / 2) // 3600) for r in rows}
    assert [air.hour for air, _ in together] == sorted(set(hour_of.values()))
    for pair in together:
        alone = derive([r for r in rows if hour_of[r["seq"]] == pair[0].hour])
        assert plain(alone) == plain([pair])


@settings(max_examples=50, deadline=None)
@given(st.lists(any_row, min_size=1, max_size=12))
def test_columns_of_nothing_change_nothing(rows):
    rows = numbered(rows)
    wider = [r | {"no2_we": NAN, "gas_n": NAN, "pm25_atm": NAN} for r in rows]
    assert plain(derive(rows)) == plain(derive(wider))
