"""Readings of many kits in one fixed order, cut into hours: what every step of the chain works on."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from calibration.applied import Applicable, Calibration
from calibration.qc import Bools, Checked
from calibration.screen import NOTHING, Screened
from gateway.clock import hour_of
from gateway.records import Floats, Ints, Readings, Void

_Column = TypeVar("_Column", Ints, Floats)

Where = slice | Ints
"""Rows or hours, as an array is indexed by."""


class Stretch(msgspec.Struct, frozen=True, eq=False):
    """Readings of one kit at one site, and how they are calibrated: at most one calibration a quantity.

    `voids` are what an operator has voided of the kit.
    """

    readings: Readings
    site: str
    calibrations: Sequence[Calibration] = ()
    voids: Sequence[Void] = ()

    @property
    def label(self) -> str:
        """Labels of what makes the calibrated quantities."""
        return "|".join(one.label for one in self.calibrations)


class Family(msgspec.Struct, frozen=True, eq=False):
    """Calibrations of one quantity that are applied together, to some rows [m] and hours [k] of all."""

    calibrations: Sequence[Calibration]
    rows: Where
    row_counts: Ints
    hours: Where
    hour_counts: Ints

    @property
    def first(self) -> Calibration:
        """One of them: what they take and give they have in common."""
        return self.calibrations[0]

    def of_rows(self) -> Applicable:
        """Return what calibrates the rows."""
        return self.first.joined(self.calibrations, self.row_counts)

    def of_hours(self) -> Applicable:
        """Return what knows the intervals of the hours."""
        return self.first.joined(self.calibrations, self.hour_counts)


class Rows(msgspec.Struct, frozen=True, eq=False):
    """Readings sorted by (stretch, hour, time, boot, seq), and what the steps so far made of them.

    All stretches have the same columns and quantities. `hours` int64 [h] are the hours present of each stretch, rising,
    `starts` int64 [h] the first row of each, `whose` int64 [h] the number of its stretch and `edges` int64 [s + 1] the
    first row of each stretch and the end. `seconds` float64 [n] is the time each row covers [s]. `screened` holds the
    raw channels after quality control and `usable` says which rows of each passed it. `derived` holds calibrated
    quantities, `families` what makes each, `present` bool [h] which hours have anything of a quantity.
    """

    stretches: Sequence[Stretch]
    columns: dict[str, Floats]
    time_ms: Ints
    time_error_s: Ints
    hours: Ints
    starts: Ints
    whose: Ints
    edges: Ints
    seconds: Floats
    families: dict[str, list[Family]]
    screened: Screened = NOTHING
    usable: dict[str, Bools] = msgspec.field(default_factory=dict)
    derived: dict[str, Checked] = msgspec.field(default_factory=dict)
    present: dict[str, Bools] = msgspec.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time_ms)

    @property
    def middle_ms(self) -> Floats:
        """Middle of each row's interval, by which it belongs to an hour [n] [ms since 1970]."""
        middle_ms: Floats = self.time_ms - 500.0 * self.seconds
        return middle_ms


def cut(stretches: Sequence[Stretch]) -> Rows:
    """Sort readings of at least one row each and find their hours; the same rows give the same order however they came.

    The stretches have the same columns, and calibrations of the same quantities in the same order.
    """
    parts = [one.readings for one in stretches]
    columns = {name: _joined([part.columns[name] for part in parts]) for name in parts[0].columns}
    facts = ("time_ms", "time_error_s", "boot", "seq")
    time_ms, time_error_s, boot, seq = (_joined([getattr(part, name) for part in parts]) for name in facts)
    edges = np.cumsum([0, *map(len, parts)])
    whose = np.repeat(np.arange(len(parts)), np.diff(edges))
    seconds = _seconds(columns, len(time_ms))
    hours = hour_of(time_ms, seconds.astype(np.int64))
    order = _order((whose, hours, time_ms, boot, seq))
    if order is not None:
        columns = {name: values[order] for name, values in columns.items()}
        time_ms, time_error_s, hours, seconds = time_ms[order], time_error_s[order], hours[order], seconds[order]
    first = np.ones(len(hours), bool)
    first[1:] = (hours[1:] != hours[:-1]) | (whose[1:] != whose[:-1])
    starts = np.flatnonzero(first)
    return Rows(
        stretches=stretches, columns=columns, time_ms=time_ms, time_error_s=time_error_s, hours=hours[starts],
        starts=starts, whose=whose[starts], edges=edges, seconds=seconds,
        families=_families(stretches, edges, np.searchsorted(starts, edges)),
    )  # fmt: skip


def _joined(parts: Sequence[_Column]) -> _Column:
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _seconds(columns: dict[str, Floats], length: int) -> Floats:
    """Length of each row's interval [s]; a row that does not tell covers nothing."""
    dt_s = columns.get("dt")
    if dt_s is None:
        return np.zeros(length)
    return np.where(dt_s > 0, dt_s, 0.0)  # NaN is not above 0


def _order(keys: Sequence[Ints]) -> Ints | None:
    """Row numbers in order of the keys, None where they are in order already."""
    tied, sorted_so_far = np.ones(max(len(keys[0]) - 1, 0), bool), True
    for key in keys:
        step = np.diff(key)
        sorted_so_far = sorted_so_far and not np.any(tied & (step < 0))
        tied &= step == 0
        if not tied.any():
            break
    return None if sorted_so_far else np.lexsort(keys[::-1])


def _families(stretches: Sequence[Stretch], row_edges: Ints, hour_edges: Ints) -> dict[str, list[Family]]:
    """Return the families of each quantity."""
    found: dict[str, list[Family]] = {}
    for i, one in enumerate(stretches[0].calibrations):
        members: dict[Hashable, list[int]] = {}
        for number, stretch in enumerate(stretches):
            members.setdefault(stretch.calibrations[i].family, []).append(number)
        found[one.output] = [
            Family([stretches[n].calibrations[i] for n in some], *_of(row_edges, some), *_of(hour_edges, some))
            for some in members.values()
        ]
    return found


def _of(edges: Ints, some: Sequence[int]) -> tuple[Where, Ints]:
    """Return what lies between the edges of some parts, and how much of each."""
    starts, counts = edges[:-1][some], np.diff(edges)[some]
    if some[-1] - some[0] + 1 == len(some):
        return slice(int(starts[0]), int(starts[-1] + counts[-1])), counts
    each = zip(starts.tolist(), counts.tolist(), strict=True)
    return np.concatenate([np.arange(start, start + count) for start, count in each]), counts
