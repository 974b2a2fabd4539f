"""Quality control of raw channels: every rule at its edge."""

import numpy as np
import pytest

from calibration import qc
from calibration.flags import Flag, Reason, reason_names
from calibration.qc import Checked
from calibration.quantities import CHANNELS, COUNTERS

NAN = float("nan")


def check(value, used=12.0, rejected=0.0, low=0.0, high=5000.0):
    one = [np.array([x]) for x in (value, used, rejected)]
    return qc.check(one[0], low=low, high=high, used=one[1], rejected=one[2])


def checked(value, flag=Flag.GOOD, reasons=0):
    return Checked(np.array([value]), np.array([int(flag)]), np.array([int(reasons)]))


@pytest.mark.parametrize(
    ("value", "used", "rejected", "flag", "reasons"),
    [
        (8.3, 12, 0, Flag.GOOD, 0),
        (0.0, 12, 0, Flag.GOOD, 0),
        (5000.0, 12, 0, Flag.GOOD, 0),
        (5000.1, 12, 0, Flag.FAIL, Reason.RANGE),
        (-0.1, 12, 0, Flag.FAIL, Reason.RANGE),
        (8.3, 9, 3, Flag.GOOD, 0),  # 9 of 12 are 75 %
        (8.3, 8, 4, Flag.FAIL, Reason.INCOMPLETE),
        (8.3, 3, 1, Flag.GOOD, 0),
        (8.3, 2, 1, Flag.FAIL, Reason.INCOMPLETE),
        (9999.0, 2, 1, Flag.FAIL, Reason.INCOMPLETE | Reason.RANGE),
        (8.3, 0, 12, Flag.FAIL, Reason.SENSOR_FAULT),
        (NAN, 0, 12, Flag.MISSING, Reason.SENSOR_FAULT),
        (NAN, 12, 0, Flag.MISSING, Reason.SENSOR_FAULT),
        (8.3, NAN, NAN, Flag.NOT_EVALUATED, 0),
        (9999.0, NAN, NAN, Flag.FAIL, Reason.RANGE),
        (NAN, NAN, NAN, Flag.MISSING, 0),
    ],
)
def test_channel_flag_and_reasons(value, used, rejected, flag, reasons):
    found = check(value, float(used), float(rejected))
    assert (found.flags[0], found.reasons[0]) == (flag, reasons)
    usable = flag in (Flag.GOOD, Flag.NOT_EVALUATED)
    assert found.valid[0] == usable
    assert not usable or found.value[0] == value


def test_two_valid_sensors_give_their_mean():
    found = qc.combine(checked(10.0), checked(11.0))
    assert (found.value[0], found.flags[0], found.reasons[0]) == (10.5, Flag.GOOD, 0)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("bad_reason", [Reason.RANGE, Reason.INCOMPLETE, Reason.SENSOR_FAULT])
def test_one_invalid_sensor_leaves_the_other_suspect(swapped, bad_reason):
    pair = [checked(10.0), checked(NAN, Flag.FAIL, bad_reason)]
    found = qc.combine(*(pair[::-1] if swapped else pair))
    assert (found.value[0], found.flags[0], found.reasons[0]) == (10.0, Flag.SUSPECT, Reason.SINGLE_CHANNEL)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_sensor_that_is_not_there_does_not_make_the_other_suspect(swapped):
    pair = [checked(10.0), checked(NAN, Flag.MISSING)]
    found = qc.combine(*(pair[::-1] if swapped else pair))
    assert (found.value[0], found.flags[0], found.reasons[0]) == (10.0, Flag.GOOD, 0)


def test_two_invalid_sensors_keep_both_reasons_and_a_failure_outranks_a_missing_value():
    found = qc.combine(checked(NAN, Flag.FAIL, Reason.RANGE), checked(NAN, Flag.MISSING, Reason.SENSOR_FAULT))
    assert np.isnan(found.value[0])
    assert found.flags[0] == Flag.FAIL
    assert reason_names(int(found.reasons[0])) == "range|sensor_fault"


def test_the_worse_flag_of_two_valid_sensors_stays():
    assert qc.combine(checked(1.0), checked(1.0, Flag.NOT_EVALUATED)).flags[0] == Flag.NOT_EVALUATED


@pytest.mark.parametrize(
    ("channel", "counters"),
    [
        ("pm25_cf1", ("pm_n", "pm_bad")),
        ("n03_b", ("pm_n_b", "pm_bad_b")),
        ("rh", ("env_n", "env_bad")),
        ("temp_b", ("env_n_b", "env_bad_b")),
        ("pressure", ("env_n", "env_bad")),
        ("temp_amb", ("env_n", "env_bad")),
        ("no2_we", ("gas_n", "gas_bad")),
        ("temp_gas", ("gas_n", "gas_bad")),
    ],
)
def test_a_channel_counts_by_its_own_sensor(channel, counters):
    assert CHANNELS[channel].counters == counters


def test_what_is_said_of_a_value_that_is_used_stays():
    found = qc.combine(checked(10.0, Flag.SUSPECT, Reason.STUCK), checked(11.0, Flag.SUSPECT, Reason.SPIKE))
    assert (found.flags[0], found.reasons[0]) == (Flag.SUSPECT, Reason.STUCK | Reason.SPIKE)
    found = qc.combine(checked(10.0, Flag.SUSPECT, Reason.STUCK), checked(NAN, Flag.FAIL, Reason.RANGE))
    assert (found.flags[0], found.reasons[0]) == (Flag.SUSPECT, Reason.STUCK | Reason.SINGLE_CHANNEL)
    found = qc.combine(checked(10.0, Flag.SUSPECT, Reason.STUCK), checked(NAN, Flag.MISSING))
    assert (found.flags[0], found.reasons[0]) == (Flag.SUSPECT, Reason.STUCK)


def test_every_channel_has_counters_that_exist():
    assert all(set(channel.counters) <= COUNTERS.keys() for channel in CHANNELS.values())
