"""Readings of one kit in one fixed order, cut into hours: what every step of the chain works on."""

from dataclasses import dataclass, field, replace

import numpy as np

from calibration.applied import Calibration
from calibration.qc import Bools, Checked
from calibration.screen import NOTHING, Screened
from gateway.clock import hour_of
from gateway.records import Floats, Ints, Readings


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Readings sorted by (hour, time, boot, seq), and what the steps so far made of them.

    `hours` int64 [h] are the hours present, rising, and `starts` int64 [h] the first row of each. `seconds` float64 [n]
    is the time each row covers [s]. `screened` holds the raw channels after quality control and `usable` says which
    rows of each passed it. `derived` holds calibrated quantities, `calibrations` what made each, `present` bool [h]
    which hours have anything of a quantity.
    """

    readings: Readings
    hours: Ints
    starts: Ints
    seconds: Floats
    screened: Screened = NOTHING
    usable: dict[str, Bools] = field(default_factory=dict)
    derived: dict[str, Checked] = field(default_factory=dict)
    calibrations: dict[str, Calibration] = field(default_factory=dict)
    present: dict[str, Bools] = field(default_factory=dict)

    @property
    def cal(self) -> str:
        """Labels of what made the calibrated quantities."""
        return "|".join(one.label for one in self.calibrations.values())

    def column(self, name: str) -> Floats:
        """One column, all NaN where the readings have none of this name."""
        found = self.readings.columns.get(name)
        return np.full(len(self.readings), np.nan) if found is None else found


def cut(readings: Readings) -> Rows:
    """Sort readings and find their hours; the same rows give the same order, whatever order they came in."""
    order, hours = _order(readings)
    if order is not None:
        readings, hours = _reordered(readings, order), hours[order]
    starts = np.flatnonzero(np.concatenate([np.ones(min(len(hours), 1), bool), hours[1:] != hours[:-1]]))
    return Rows(readings, hours[starts], starts, _seconds(readings))


def _seconds(readings: Readings) -> Floats:
    """Length of each row's interval [s]; a row that does not tell covers nothing."""
    dt_s = readings.columns.get("dt")
    if dt_s is None:
        return np.zeros(len(readings))
    return np.where(dt_s > 0, dt_s, 0.0)  # NaN is not above 0


def _order(readings: Readings) -> tuple[Ints | None, Ints]:
    """Row numbers in order, None where they are in order already, and the hour of each row as it came."""
    hours = hour_of(readings.time_ms, _seconds(readings).astype(np.int64))
    keys = (hours, readings.time_ms, readings.boot, readings.seq)
    tied, sorted_so_far = np.ones(max(len(hours) - 1, 0), bool), True
    for key in keys:
        step = np.diff(key)
        sorted_so_far = sorted_so_far and not np.any(tied & (step < 0))
        tied &= step == 0
        if not tied.any():
            break
    return (None if sorted_so_far else np.lexsort(keys[::-1])), hours


def _reordered(readings: Readings, order: Ints) -> Readings:
    facts = ("time_ms", "boot", "seq", "time_source", "time_error_s", "rev")
    columns = {name: values[order] for name, values in readings.columns.items()}
    return replace(readings, columns=columns, **{name: getattr(readings, name)[order] for name in facts})
