"""Quality control of one channel and of two sensors of a kind, in the order of docs/qc.md; thresholds: qc.toml."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2s
from importlib import resources
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.flags import Flag, Reason

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

GOOD_SHARE: Final = 0.75
"""A row counts when at least this share of the samples due in its interval is good."""

_TEXT: Final = resources.files(__package__).joinpath("qc.toml").read_text("utf-8")

RULES: Final[dict[str, Any]] = tomllib.loads(_TEXT)
"""Thresholds and where they come from, as in qc.toml."""

LABEL: Final = f"qc@{RULES['version']}#{blake2s(_TEXT.encode(), digest_size=4).hexdigest()}"
"""Names these rules, their version and their numbers."""

HUMID_FROM_PCT: Final = float(RULES["humidity"]["suspect_from_pct"])


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """A quantity after quality control, a row a reading; all arrays have the same length n.

    `value` is float64 [n], NaN where there is no usable value; `flags` and `reasons` are int64 [n] of `Flag` and of
    summed `Reason` bits. `lo` and `hi` are the bounds of its 90 % interval [n], None where nothing is known of it.
    """

    value: Floats
    flags: Ints
    reasons: Ints
    lo: Floats | None = None
    hi: Floats | None = None

    @property
    def valid(self) -> Bools:
        """Where there is a usable value."""
        return ~np.isnan(self.value)

    def without(self, rows: Bools, reason: Reason, *, flag: bool = True) -> "Checked":
        """Return it without the values of some rows: they fail for a reason, missing ones too if `flag`."""
        failed = rows if flag else rows & self.valid
        lo, hi = (None if bound is None else np.where(rows, np.nan, bound) for bound in (self.lo, self.hi))
        return Checked(
            np.where(rows, np.nan, self.value), np.where(failed, int(Flag.FAIL), self.flags),
            self.reasons | rows * int(reason), lo, hi,
        )  # fmt: skip

    def suspected(self, rows: Bools, reason: Reason) -> "Checked":
        """Return it with the values of some rows suspect for a reason; rows without a value stay as they are."""
        rows = rows & self.valid
        flags = np.where(rows, np.maximum(self.flags, Flag.SUSPECT), self.flags)
        return Checked(self.value, flags, self.reasons | rows * int(reason), self.lo, self.hi)

    def part(self, rows: slice | Ints) -> "Checked":
        """Return some rows of it, by their numbers."""
        lo, hi = (None if bound is None else bound[rows] for bound in (self.lo, self.hi))
        return Checked(self.value[rows], self.flags[rows], self.reasons[rows], lo, hi)


def merged(parts: Sequence[Checked], places: Sequence[slice | Ints], length: int) -> Checked:
    """Put parts together whose rows belong at places, which are all places [length]."""
    value, flags, reasons = np.empty(length), np.empty(length, np.int64), np.empty(length, np.int64)
    lo, hi = np.full((2, length), np.nan)
    for part, place in zip(parts, places, strict=True):
        value[place], flags[place], reasons[place] = part.value, part.flags, part.reasons
        if part.lo is not None and part.hi is not None:
            lo[place], hi[place] = part.lo, part.hi
    if all(part.lo is None for part in parts):
        return Checked(value, flags, reasons)
    return Checked(value, flags, reasons, lo, hi)


def nothing(length: int) -> Checked:
    """Return a channel that is not there: missing without a reason, [length]."""
    return Checked(np.full(length, np.nan), np.full(length, int(Flag.MISSING)), np.zeros(length, np.int64))


def in_range(value: Floats, low: float | Floats, high: float | Floats) -> Bools:
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


def by_itself(
    values: Floats, used: Floats, rejected: Floats, sensor: Ints, low: Floats, high: Floats
) -> tuple[Ints, Ints, Bools]:
    """Judge values by themselves and by their sensors' counters: flags, reasons and which fail, [c, n] each.

    Parameters
    ----------
    values
        A row a channel [c, n] [canonical units].
    used, rejected
        Counters, a row a sensor [g, n] [1].
    sensor
        Which sensor each channel is of [c].
    low, high
        What each instrument can report [c, 1] [canonical units].
    """
    due = used + rejected
    counted = ~np.isnan(due)
    dead = counted & ~(used > 0)
    few = counted & ~(used >= GOOD_SHARE * due)
    if (
        counted.all() and not few.any() and in_range(values, low, high).all()
    ):  # as most tables are; none is dead or null
        shape = values.shape
        return np.full(shape, int(Flag.GOOD)), np.zeros(shape, np.int64), np.zeros(shape, bool)
    null = np.isnan(values)
    counted, dead, few = counted[sensor], dead[sensor], few[sensor]
    fault = dead | (counted & null)
    short = few & ~fault
    out = (values < low) | (values > high)
    bad = dead | short | out
    flags = np.where(counted, int(Flag.GOOD), int(Flag.NOT_EVALUATED))
    flags[bad] = Flag.FAIL
    flags[null] = Flag.MISSING
    reasons = fault * int(Reason.SENSOR_FAULT) + short * int(Reason.INCOMPLETE) + out * int(Reason.RANGE)
    return flags, reasons, bad


def check(value: Floats, *, low: float, high: float, used: Floats, rejected: Floats) -> Checked:
    """Flag one channel by itself: good, not evaluated (no counters), failed or missing; `screen` does it for a table.

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
    bounds = np.array([[low]]), np.array([[high]])
    flags, reasons, bad = by_itself(value[None], used[None], rejected[None], np.zeros(1, np.int64), *bounds)
    return Checked(np.where(bad[0], np.nan, value), flags[0], reasons[0])


def combine(first: Checked, second: Checked) -> Checked:
    """Return the mean of two sensors of one kind, or the valid one where only one is.

    The other being invalid makes a row suspect, `SINGLE_CHANNEL`; a second sensor that is not there (missing without a
    reason) does not. Reasons of values that are used remain; where neither is valid those of both.

    Parameters
    ----------
    first, second
        The same channel of the two sensors, [n] each [the same unit].
    """
    one, two = first.valid, second.valid
    both = one & two
    if both.all():
        flags, reasons = np.maximum(first.flags, second.flags), first.reasons | second.reasons
        return Checked(0.5 * (first.value + second.value), flags, reasons)
    neither = ~(one | two)
    value = np.where(one, first.value, second.value)
    value = np.where(both, 0.5 * (first.value + second.value), value)
    single = ~both & ((one & (second.reasons != 0)) | (two & (first.reasons != 0)))
    flags = np.where(one, first.flags, second.flags)
    flags = np.where(both, np.maximum(first.flags, second.flags), flags)
    # A failed value says more than a missing one.
    flags = np.where(neither, np.minimum(first.flags, second.flags), flags)
    flags = np.where(single, np.maximum(flags, Flag.SUSPECT), flags)
    used = np.where(one, first.reasons, 0) | np.where(two, second.reasons, 0)
    reasons = np.where(neither, first.reasons | second.reasons, used | single * int(Reason.SINGLE_CHANNEL))
    return Checked(value, flags, reasons)


def disagree(first: Checked, second: Checked, starts: Ints) -> Bools:
    """Whether two particle sensors disagree in the hour of each row: their means differ by more than 5 µg/m³ and 70 %.

    Parameters
    ----------
    first, second
        PM mass of the two sensors, [n] each [µg/m³].
    starts
        First row of each hour (or other span to average over), rising from 0.

    Returns
    -------
    Bools
        [n]. The means are those of the rows in which both are valid; without such a row there is no disagreement.

    References
    ----------
    `abs(A-B) > 5` and `2 abs(A-B)/(A+B) > 0.70`: sensortoolkit, AirSensor `AB_03`, for means of 1 h and 24 h.
    """
    rule = RULES["agreement"]
    gap = first.value - second.value
    if not (np.abs(gap) > rule["above_ugm3"]).any():  # nor can a mean of theirs
        return np.zeros(len(gap), bool)
    both = ~np.isnan(gap)
    a, b, count = (
        np.add.reduceat(np.where(both, part, 0.0), starts) for part in (first.value, second.value, np.ones(len(gap)))
    )
    apart = (np.abs(a - b) > rule["above_ugm3"] * count) & (2.0 * np.abs(a - b) > rule["above_share"] * (a + b))
    found: Bools = np.repeat(apart, np.diff([*starts, len(gap)]))
    return found


def humid(rh: Checked) -> Bools:
    """Whether a particle sensor stands in air of 95 % relative humidity or more, where droplets count as particles."""
    found: Bools = rh.value >= HUMID_FROM_PCT
    return found
