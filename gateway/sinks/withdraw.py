"""What to delete so that points that hold no longer go, fast: whole ranges, and what the store holds in them again.

InfluxDB deletes by series and range of time; a deletion costs some ms, as much as writing some hundred points. So
neighbouring points go together, and what stands between them and was sent before is written again. Where the store has
let go older data, which InfluxDB may still hold, exactly the withdrawn points go. What is to be sent anyway, now or
later, is not sent here: a point that stands at a withdrawn place has a higher revision than its removal.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from gateway.records import HOUR_MS, Ints
from gateway.sinks import lineprotocol
from gateway.sinks.lineprotocol import Tags
from gateway.store import standing
from gateway.store.database import AIR_HORIZON, RAW_HORIZON, RECORD_HORIZON, horizon_hour
from gateway.store.tombstones import Kind, Tombstone

DELETION_LINES: Final = 400
"""A deletion costs about as much as writing so many points: below, points between two withdrawn ones are sent again."""

_SEALING_HOURS: Final = 48
"""Near the hours that the store has let go exactly the withdrawn points go: others may be pruned at this moment."""

_DAY_MS: Final = 24 * HOUR_MS
_REACH_MS: Final = {
    Kind.RAW: (6 * HOUR_MS, _DAY_MS), Kind.AIR: (6 * HOUR_MS, _DAY_MS),
    Kind.HOUR: (30 * _DAY_MS, 400 * _DAY_MS), Kind.INDEX: (30 * _DAY_MS, 400 * _DAY_MS),
}  # fmt: skip
"""A range ends at a gap longer than the first, and is not longer than the second: so much of the store is looked at."""

_HORIZONS: Final = {
    Kind.RAW: RAW_HORIZON, Kind.AIR: AIR_HORIZON, Kind.HOUR: RECORD_HORIZON, Kind.INDEX: RECORD_HORIZON,
}  # fmt: skip


class Removal(msgspec.Struct, frozen=True):
    """Ranges [ms], both ends included, in which all points of a series go; then `lines` are written again."""

    measurement: str
    tags: Tags
    ranges: Sequence[tuple[int, int]]
    lines: Sequence[bytes]
    points: int

    @property
    def predicate(self) -> str:
        """What a deletion names the series by."""
        return lineprotocol.predicate(self.measurement, self.tags)


_Named = tuple[str, str]


def removals(db: sqlite3.Connection, withdrawn: Sequence[Tombstone], sent_rev: int) -> Iterator[Removal]:
    """Yield what is to be done for removals, in any order; `sent_rev`: up to it everything was sent before."""
    series: dict[tuple[Kind, Tags], list[Tombstone]] = defaultdict(list)
    for stone in withdrawn:
        series[stone.kind, tags_of(stone.kind, stone.name, stone.tag)].append(stone)
    for (kind, tags), stones in series.items():
        times = np.unique(np.concatenate([stone.times_ms for stone in stones])).astype(np.int64)
        named = sorted({(stone.name, stone.tag) for stone in stones})
        near_ms = (horizon_hour(db, _HORIZONS[kind]) + _SEALING_HOURS) * HOUR_MS
        old = [(at, at) for at in times[times < near_ms].tolist()]
        if old:
            yield Removal(kind.value, tags, old, (), len(old))
        for piece in _pieces(times[times >= near_ms], *_REACH_MS[kind]):
            parts = list(_held(db, kind, named, tags, int(piece[0]), int(piece[-1]) + 1, sent_rev))
            held = np.concatenate([part.times_ms for part in parts]) if parts else np.empty(0, np.int64)
            ranges = _ranges(piece, held)
            lines = [line for part in parts for line in part.lines_within(ranges)]
            yield Removal(kind.value, tags, ranges, lines, len(piece))


def tags_of(kind: Kind, name: str, tag: str) -> Tags:
    """Return the tags of a series as the database holds them."""
    match kind:
        case Kind.RAW:
            return lineprotocol.raw_tags(name)
        case Kind.INDEX:
            return lineprotocol.index_tags(name, tag)
        case _:
            return lineprotocol.air_tags(name, tag)


def _pieces(times: Ints, gap_ms: int, span_ms: int) -> Iterator[Ints]:
    """Yield runs of rising times without a long gap, none of them too long."""
    start = 0
    for i in range(1, len(times) + 1):
        if i == len(times) or times[i] - times[i - 1] > gap_ms or times[i] - times[start] >= span_ms:
            yield times[start:i]
            start = i


def _ranges(withdrawn: Ints, held: Ints) -> list[tuple[int, int]]:
    """Return the ranges that hold all withdrawn times; cut where more points stand in between than a cut costs."""
    between = np.diff(np.searchsorted(np.sort(held), withdrawn))
    cuts = np.flatnonzero(between > DELETION_LINES)
    first, last = np.append(0, cuts + 1), np.append(cuts, len(withdrawn) - 1)
    return list(zip(withdrawn[first].tolist(), withdrawn[last].tolist(), strict=True))


class _Held(msgspec.Struct, frozen=True, eq=False):
    """Points of the series that stand in the store and were sent, with a line each, rising."""

    times_ms: Ints
    lines: Sequence[bytes]

    def lines_within(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        bounds = np.array(ranges)
        at = np.searchsorted(bounds[:, 0], self.times_ms, side="right") - 1
        inside = (at >= 0) & (self.times_ms <= bounds[at, 1])
        return [self.lines[i] for i in np.flatnonzero(inside).tolist()]


def _held(
    db: sqlite3.Connection, kind: Kind, named: Sequence[_Named], tags: Tags, from_ms: int, to_ms: int, sent_rev: int
) -> Iterator[_Held]:
    """Yield what the store holds of a series in a span with a revision up to `sent_rev`."""
    for name, tag in named:
        if kind == Kind.RAW:
            rows = standing.raw(db, name, from_ms, to_ms)
            rows = standing.take_raw(rows, np.flatnonzero(rows.rev <= sent_rev))
            yield _each(rows.time_ms, lineprotocol.raw_lines(rows))
        elif kind == Kind.AIR:
            for air in standing.air(db, name, from_ms, to_ms):
                if lineprotocol.air_tags(air.kit, air.site) == tags:
                    sent = standing.take_air(air, np.flatnonzero(air.rev <= sent_rev))
                    yield _each(sent.time_ms, lineprotocol.air_lines(sent))
        else:
            yield from _held_records(db, kind, name, tag, tags, from_ms, to_ms, sent_rev)


def _held_records(
    db: sqlite3.Connection, kind: Kind, name: str, tag: str, tags: Tags, from_ms: int, to_ms: int, sent_rev: int
) -> Iterator[_Held]:
    if kind == Kind.HOUR:
        for hour in standing.hours(db, name, from_ms, to_ms):
            if hour.rev <= sent_rev and lineprotocol.air_tags(hour.kit, hour.site) == tags:
                yield _each(np.array([hour.hour * HOUR_MS]), lineprotocol.hour_lines(hour))
    else:
        for index in standing.indices(db, name, tag, from_ms, to_ms):
            if index.rev <= sent_rev:
                yield _each(np.array([index.hour * HOUR_MS]), lineprotocol.index_lines(index))


def _each(times_ms: Ints, lines: Sequence[bytes]) -> _Held:
    """Put lines, which stand by the columns that they have, into the order of their times."""
    by_time = {int(line.rpartition(b" ")[2]): line for line in lines}
    return _Held(times_ms, [by_time[at] for at in times_ms.tolist()])
