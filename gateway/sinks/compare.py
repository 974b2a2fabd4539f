"""Points that should be there against points that are there, a column at a time; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gateway.records import Ints
from gateway.sinks.lineprotocol import Tags, Value
from gateway.sinks.lines import Column

Fields = Mapping[str, tuple[Ints, np.ndarray[Any, np.dtype[Any]]]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """What the store holds of one series, rising by time [ns]; each point has a revision and the fields of its mask."""

    times: Ints
    rev: Ints
    fields: dict[str, tuple[np.ndarray[Any, np.dtype[Any]], Bools]]


@dataclass(slots=True)
class _Part:
    times: Ints
    rev: Ints
    fields: dict[str, tuple[np.ndarray[Any, np.dtype[Any]], Bools]]


class Expected:
    """Gathers what should be there, by series."""

    def __init__(self) -> None:
        self._parts: dict[Tags, list[_Part]] = {}

    def add_columns(self, tags: Tags, times: Ints, rev: Ints, columns: Iterable[Column], constant: str = "") -> None:
        """Add rows as the sink makes lines of them; `constant` is a `cal` that all have."""
        fields = {}
        for column in columns:
            mask = np.isfinite(column.values)
            whole = np.where(mask, column.values, 0).astype(np.int64)
            fields[column.name] = whole if column.whole else np.asarray(column.values, np.float64), mask
        if constant:
            fields["cal"] = np.full(len(times), constant, object), np.ones(len(times), bool)
        self._parts.setdefault(tags, []).append(_Part(times, rev, fields))

    def add_record(self, tags: Tags, time: int, rev: int, fields: Mapping[str, Value]) -> None:
        """Add one point."""
        kinds = {float: np.float64, int: np.int64, str: object}
        made = {n: (np.array([v], kinds[type(v)]), np.ones(1, bool)) for n, v in fields.items()}
        self._parts.setdefault(tags, []).append(_Part(np.array([time]), np.array([rev]), made))

    def series(self) -> dict[Tags, Points]:
        """Return each series."""
        return {tags: _joined(parts) for tags, parts in self._parts.items()}


def _joined(parts: list[_Part]) -> Points:
    times = np.concatenate([part.times for part in parts])
    order = np.argsort(times, kind="stable")
    fields = {}
    for name in {name for part in parts for name in part.fields}:
        kind = next(part.fields[name][0].dtype for part in parts if name in part.fields)
        blank = [(np.zeros(len(p.times), kind), np.zeros(len(p.times), bool)) for p in parts]
        columns = [part.fields.get(name, empty) for part, empty in zip(parts, blank, strict=True)]
        fields[name] = tuple(np.concatenate([column[i] for column in columns])[order] for i in (0, 1))
    return Points(times[order], np.concatenate([part.rev for part in parts])[order], fields)  # type: ignore[arg-type]


Point = tuple[Tags, int]


@dataclass(slots=True)
class Differences:
    """Points by series and time: not there, there without a reason, there with other fields."""

    missing: set[Point] = field(default_factory=set)
    foreign: set[Point] = field(default_factory=set)
    different: set[Point] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.missing or self.foreign or self.different)

    def __and__(self, other: "Differences") -> "Differences":
        return Differences(
            self.missing & other.missing, self.foreign & other.foreign, self.different & other.different
        )  # fmt: skip


def compare(expected: Mapping[Tags, Points], found: Mapping[Tags, Fields], sent_rev: int) -> Differences:
    """Return how points differ; of what has a revision above `sent_rev` nothing is said."""
    result = Differences()
    for tags in expected.keys() | found.keys():
        points, fields = expected.get(tags), found.get(tags, {})
        there = np.unique(np.concatenate([times for times, _ in fields.values()])) if fields else np.empty(0, np.int64)
        if points is None:
            result.foreign |= {(tags, at) for at in there.tolist()}
            continue
        result.foreign |= {(tags, at) for at in np.setdiff1d(there, points.times).tolist()}
        sent = points.rev <= sent_rev
        present = np.isin(points.times, there)
        result.missing |= {(tags, at) for at in points.times[sent & ~present].tolist()}
        other = sent & present & _differ(points, fields)
        result.different |= {(tags, at) for at in points.times[other].tolist()}
    return result


def _differ(points: Points, fields: Fields) -> Bools:
    """Tell which points have other fields, values or types of values."""
    differ = np.zeros(len(points.times), bool)
    none = (np.empty(0, np.int64), np.empty(0, np.float64))
    for name in points.fields.keys() | fields.keys():
        times, values = fields.get(name, none)
        at = np.searchsorted(times, points.times)
        at[at == len(times)] = 0
        has = times[at] == points.times if len(times) else np.zeros(len(points.times), bool)
        if name not in points.fields:
            differ |= has
            continue
        wanted, mask = points.fields[name]
        differ |= has != mask
        both = has & mask
        if both.any():
            same_kind = wanted.dtype.kind == values.dtype.kind
            differ[both] |= wanted[both] != values[at[both]] if same_kind else True
    return differ
