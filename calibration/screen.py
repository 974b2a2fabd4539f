"""Quality control of all channels of a table at once: what the gateway runs, on a live hour and on years alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np

from calibration.flags import Flag, Reason
from calibration.qc import RULES, Bools, Checked, Floats, Ints, by_itself, combine, disagree, nothing
from calibration.quantities import CHANNELS, SECOND


@dataclass(frozen=True, slots=True, eq=False)
class Screened:
    """All channels of a table after quality control: [c, n] arrays, a row of them a channel, by `names`."""

    names: tuple[str, ...]
    value: Floats
    flags: Ints
    reasons: Ints
    place: Mapping[str, int] = field(default_factory=dict)

    def checked(self, name: str) -> Checked:
        """Return one channel; one that the table has not is missing without a reason."""
        if name not in self.place:
            return nothing(self.value.shape[1])
        i = self.place[name]
        return Checked(self.value[i], self.flags[i], self.reasons[i])

    def pair(self, name: str, starts: Ints) -> Checked:
        """Return one channel joined with that of a second sensor, where there is one; see `combine` and `disagree`."""
        first = self.checked(name)
        if name + SECOND not in self.place:
            return first
        second = self.checked(name + SECOND)
        both = combine(first, second)
        if CHANNELS[name].unit != "ug/m**3":
            return both
        apart = disagree(first, second, starts)
        return both.without(apart & both.valid, Reason.DISAGREE) if apart.any() else both

    def without(self, names: Sequence[str], rows: Bools, reason: Reason) -> "Screened":
        """Return it without the values of some rows of some channels: they fail for a reason."""
        value, flags, reasons = self.value.copy(), self.flags.copy(), self.reasons.copy()
        for i in (self.place[name] for name in names if name in self.place):
            there = rows & (flags[i] != Flag.MISSING)
            value[i, rows] = np.nan
            flags[i, there] = Flag.FAIL
            reasons[i, there] |= int(reason)
        return Screened(self.names, value, flags, reasons, self.place)


_NO_LIMIT: Final = 1e30
"""Above every difference, and finite: times no gap it is still a number."""

NOTHING: Final = Screened((), np.empty((0, 0)), np.empty((0, 0), np.int64), np.empty((0, 0), np.int64))
"""A table without channels and rows."""


@dataclass(frozen=True, slots=True, eq=False)
class _Stuck:
    """Channels of one sensor, as a slice of the plan, that may not all repeat for `for_s`."""

    part: slice
    for_s: float
    zero_is_clean: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """What is known of the channels of a table before its values, [c, 1] each; made once for a set of names."""

    names: tuple[str, ...]
    place: Mapping[str, int]
    low: Floats
    high: Floats
    counters: tuple[tuple[str, str], ...]
    sensor: Ints
    warm_up_s: Floats
    rate_per_s: Floats
    spike: Floats
    stuck: tuple[_Stuck, ...]
    group_starts: Ints
    tolerance: Floats


@lru_cache(maxsize=256)
def _plan(names: tuple[str, ...]) -> _Plan:
    groups = []
    for rule in RULES["stuck"]:
        for suffix in ("", SECOND):
            part = [name + suffix for name in rule["channels"] if name + suffix in names]
            groups += [(part, rule)] if part else []
    grouped = [name for part, _ in groups for name in part]
    order = (*grouped, *(name for name in names if name not in grouped))
    ends = np.cumsum([len(part) for part, _ in groups], dtype=np.int64)
    stuck = tuple(
        _Stuck(slice(int(end) - len(part), int(end)), float(rule["for_s"]), bool(rule["zero_is_clean"]))
        for (part, rule), end in zip(groups, ends, strict=True)
    )  # fmt: skip
    known = [CHANNELS[name] for name in order]
    counters = tuple(dict.fromkeys(channel.counters for channel in known))

    def column(values: Sequence[float]) -> Floats:
        return np.array(values, float).reshape(-1, 1)

    change = [RULES["change"].get(name.removesuffix(SECOND), {}) for name in order]
    return _Plan(
        names=order, place={name: i for i, name in enumerate(order)},
        low=column([channel.low for channel in known]), high=column([channel.high for channel in known]),
        counters=counters, sensor=np.array([counters.index(channel.counters) for channel in known], np.int64),
        warm_up_s=column([RULES["warm_up"].get(name.removesuffix(SECOND), {}).get("up_s", 0.0) for name in order]),
        rate_per_s=column([rule.get("rate_per_min", _NO_LIMIT) / 60.0 for rule in change]),
        spike=column([rule.get("spike", _NO_LIMIT) for rule in change]),
        stuck=stuck, group_starts=ends - np.array([len(part) for part, _ in groups], np.int64),
        tolerance=column([rule["tolerance"] for part, rule in groups for _ in part]),
    )  # fmt: skip


def screen(columns: Mapping[str, Floats], *, time_s: Floats, starts: Ints) -> Screened:
    """Check all channels of a table: faults, completeness, gross range, warm-up, stuck, rate, spike.

    Parameters
    ----------
    columns
        Channels by name [n] [canonical units], NaN for null; with them the counters of their sensors [1] and `up`,
        the kit's uptime at the end of each row [s], where the kit tells them. Others are ignored.
    time_s
        End of each row, rising within an hour [n] [s].
    starts
        First row of each hour of each kit, rising from 0. Rows of different hours are no neighbours: an hour is judged
        by its own rows alone, so that one can be computed again without the others.

    Returns
    -------
    Screened
        All channels of the table, [c, n].

    Notes
    -----
    A value fails for a sensor fault, for under 75 % of its samples, beyond what the instrument can report, and while
    the sensor warms up. It is suspect while all channels of its sensor repeat (`stuck`), where it differs by too much
    from the row before (`rate`), and where it stands alone above or below both its neighbours (`spike`). A value that
    failed is nobody's neighbour.

    References
    ----------
    U.S. IOOS, Manual for Real-Time Quality Control, QARTOD, 2020, doi:10.25923/w8y6-d298: gross range, flat line, rate
    of change, spike. Thresholds and their sources: qc.toml.
    """
    plan = _plan(tuple(sorted(CHANNELS.keys() & columns.keys())))
    n = len(time_s)
    if not plan.names:
        return Screened((), np.empty((0, n)), np.empty((0, n), np.int64), np.empty((0, n), np.int64))
    values = np.array([columns[name] for name in plan.names])
    absent = np.full(n, np.nan)
    used, rejected = (np.array([columns.get(pair[i], absent) for pair in plan.counters]) for i in (0, 1))
    flags, reasons, bad = by_itself(values, used, rejected, plan.sensor, plan.low, plan.high)
    up = columns.get("up", absent)
    if (up < plan.warm_up_s.max()).any():
        cold = (up < plan.warm_up_s) & ~np.isnan(values)
        reasons += cold * int(Reason.WARM_UP)
        bad |= cold
        flags[cold] = Flag.FAIL
    clean = values
    if bad.any():
        clean = np.where(bad, np.nan, values)
    if n > 1:
        _beside_neighbours(plan, clean, time_s, starts, flags, reasons)
    return Screened(plan.names, clean, flags, reasons, plan.place)


def _beside_neighbours(plan: _Plan, clean: Floats, time_s: Floats, starts: Ints, flags: Ints, reasons: Ints) -> None:
    """Judge values [c, n] by their neighbours; adds to flags and reasons."""
    gap_s = np.diff(time_s)
    gap_s[starts[1:] - 1] = np.inf
    near = gap_s <= RULES["neighbours"]["most_s"]
    step = np.diff(clean, axis=1)
    size = np.abs(step)
    if not near.all():
        size[:, ~near] = 0.0
    most = np.maximum.reduce(size, axis=1, keepdims=True)  # NaN where a value is, which says nothing
    if not (most <= plan.rate_per_s * gap_s.min()).all():
        fast = (size > plan.rate_per_s * gap_s) & near
        _suspect(flags[:, 1:], reasons[:, 1:], fast, Reason.RATE)
    if not (most <= plan.spike).all():
        tall = size > plan.spike
        back = step[:, :-1] * step[:, 1:] < 0
        _suspect(flags[:, 1:-1], reasons[:, 1:-1], tall[:, :-1] & tall[:, 1:] & back, Reason.SPIKE)
    if not plan.stuck:
        return
    moved = size[: len(plan.tolerance)] > plan.tolerance
    still = ~np.logical_or.reduceat(moved, plan.group_starts, axis=0) & near
    for rule, same in zip(plan.stuck, still, strict=True):
        if gap_s.sum(where=same) > rule.for_s - 1.0:  # all runs together, roughly: most hours are done here
            _flag_stuck(rule, clean[rule.part], same, time_s, flags[rule.part], reasons[rule.part])


def _flag_stuck(rule: _Stuck, clean: Floats, same: Bools, time_s: Floats, flags: Ints, reasons: Ints) -> None:
    """Flag runs of rows that all repeat the one before for long enough; views of one group's channels [c, n]."""
    there = ~np.isnan(clean)
    same = same & (there[:, 1:] & there[:, :-1]).any(axis=0)
    if rule.zero_is_clean:
        same &= (np.where(there, clean, 0.0) != 0).any(axis=0)[1:]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    runs = edges.reshape(-1, 2)
    for start, end in runs[time_s[runs[:, 1]] - time_s[runs[:, 0]] >= rule.for_s]:
        rows = slice(start, end + 1)
        _suspect(flags[:, rows], reasons[:, rows], there[:, rows], Reason.STUCK)


def _suspect(flags: Ints, reasons: Ints, where: Bools, reason: Reason) -> None:
    flags[where] = np.maximum(flags[where], Flag.SUSPECT)
    reasons[where] |= int(reason)
