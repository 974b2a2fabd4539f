"""Quality control of raw channels: range, completeness of samples, sensor fault, and two sensors of one kind."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.flags import Flag, Reason

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

GOOD_SHARE: Final = 0.75
"""A row counts when at least this share of the samples due in its interval is good."""


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A quantity after quality control, a row a reading; all arrays have the same length n.

    `value` is float64 [n], NaN where there is no usable value; `flags` and `reasons` are int64 [n] of `Flag` and of
    summed `Reason` bits.
    """

    value: Floats
    flags: Ints
    reasons: Ints

    @property
    def valid(self) -> Bools:
        """Where there is a usable value."""
        return ~np.isnan(self.value)


def in_range(value: Floats, low: float, high: float) -> Bools:
    """Whether each value is one the instrument can report, both bounds included; NaN is not.

    Parameters
    ----------
    value
        Values of one channel, any shape [the channel's unit].
    low, high
        What the instrument can physically report [the channel's unit].
    """
    return (value >= low) & (value <= high)


def enough_samples(used: Floats, rejected: Floats) -> Bools:
    """Whether each row holds at least 75 % of the samples due.

    Parameters
    ----------
    used
        Samples used, any shape [1]; NaN where the kit does not count.
    rejected
        Samples rejected or missing, the same shape [1]: `used + rejected` is what was due.

    Returns
    -------
    Bools
        True also where the kit does not count: completeness is then not evaluated, which `check` says in its flag.
    """
    due = used + rejected
    return np.isnan(due) | ((used > 0) & (used >= GOOD_SHARE * due))


def check(value: Floats, *, low: float, high: float, used: Floats, rejected: Floats) -> Checked:
    """Flag one channel: good, not evaluated (no counters), failed or missing.

    A value fails beyond `low` and `high` (`RANGE`), when under 75 % of its samples are good (`INCOMPLETE`), or when
    none is (`SENSOR_FAULT`). It is missing where it is null: with `SENSOR_FAULT` if the sensor counts its samples,
    without a reason if it counts none, which is how a sensor that is not there looks.

    Parameters
    ----------
    value
        Values [n] [the channel's unit], NaN for null.
    low, high
        What the instrument can physically report [the channel's unit].
    used, rejected
        The sensor's own counters [n] [1], NaN where the kit does not count.

    References
    ----------
    QARTOD flags: U.S. IOOS, Manual for the Use of Real-Time Oceanographic Data Quality Control Flags, v1.2, 2020,
    doi:10.25923/w8y6-d298.
    """
    null = np.isnan(value)
    counted = ~np.isnan(used + rejected)
    dead = counted & (used <= 0)
    fault = dead | (counted & null)
    short = ~enough_samples(used, rejected) & ~fault
    out = ~null & ~in_range(value, low, high)
    bad = dead | short | out
    flags = np.where(counted, int(Flag.GOOD), int(Flag.NOT_EVALUATED))
    flags[bad] = Flag.FAIL
    flags[null] = Flag.MISSING
    reasons = fault * int(Reason.SENSOR_FAULT) + short * int(Reason.INCOMPLETE) + out * int(Reason.RANGE)
    return Checked(np.where(bad | null, np.nan, value), flags, reasons)


def combine(first: Checked, second: Checked) -> Checked:
    """Return the mean of two sensors of one kind, or the valid one where only one is.

    The other being invalid makes a row suspect, `SINGLE_CHANNEL`; a second sensor that is not there (missing without a
    reason) does not. Where neither is valid the reasons of both remain.

    Parameters
    ----------
    first, second
        The same channel of the two sensors, [n] each [the same unit].
    """
    one, two = first.valid, second.valid
    both, neither = one & two, ~(one | two)
    value = np.where(one, first.value, second.value)
    value = np.where(both, 0.5 * (first.value + second.value), value)
    single = ~both & ((one & (second.reasons != 0)) | (two & (first.reasons != 0)))
    flags = np.where(one, first.flags, second.flags)
    flags = np.where(both, np.maximum(first.flags, second.flags), flags)
    # A failed value says more than a missing one.
    flags = np.where(neither, np.minimum(first.flags, second.flags), flags)
    flags = np.where(single, np.maximum(flags, Flag.SUSPECT), flags)
    reasons = np.where(neither, first.reasons | second.reasons, single * int(Reason.SINGLE_CHANNEL))
    return Checked(value, flags, reasons)
