"""What InfluxDB holds is what the store holds: compared by measurement and span of time, beside a gateway that goes on.

What the sink has not confirmed yet is pending, what the bucket keeps no longer has expired, and what the store has let
go while InfluxDB keeps it is the archive: these are counted. A span that differs is looked at again, against the store
before and after the query, since both change meanwhile.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np

from gateway.records import HOUR_MS
from gateway.sinks import lineprotocol
from gateway.sinks.compare import Differences, Expected, Point, Points, compare
from gateway.sinks.cursor import Cursor
from gateway.sinks.influx_read import END_MS, NS_PER_MS, InfluxReader
from gateway.sinks.lineprotocol import Tags
from gateway.sinks.withdraw import tags_of
from gateway.store import health, standing, tombstones
from gateway.store.database import AIR_HORIZON, RAW_HORIZON, RECORD_HORIZON, horizon_hour, last_revision, snapshot

Progress = Callable[[str, float, float], None]

MEASUREMENTS: Final = ("raw", "air", "hour", "index", "kit_health", "gateway")
_HORIZONS: Final = {"raw": RAW_HORIZON, "air": AIR_HORIZON, "hour": RECORD_HORIZON, "index": RECORD_HORIZON}
_POINTS_A_SPAN: Final = 20_000
"""Points compared at once, about: some tens of MB."""

_LONGEST_SPAN_MS: Final = 31 * 24 * HOUR_MS
_REACH_MS: Final = standing.REACH_HOURS * HOUR_MS
_MARGIN_MS: Final = HOUR_MS
"""Beside the edge of what the bucket keeps: comparing takes its time."""

_LOOKS: Final = 3
_AGAIN_S: Final = 2.0
"""Between a deletion and what is written again in its place the sink may take some seconds."""

_MOST_EXAMPLES: Final = 20
_PATIENCE: Final = 5
"""Spans that are looked at again in vain: then it is no matter of time."""


@dataclass(slots=True)
class Counts:
    """Points of one measurement."""

    compared: int = 0
    missing: int = 0
    foreign: int = 0
    different: int = 0
    pending: int = 0
    archive: int = 0
    expired: int = 0


@dataclass(slots=True)
class Verdict:
    """What was found, by measurement, and the first of the points that differ, in words."""

    measurements: dict[str, Counts] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not any(c.missing or c.foreign or c.different for c in self.measurements.values())


class Verifier:
    """Compares the store with one bucket; `cursor` tells how far the sink has come."""

    def __init__(
        self,
        db: sqlite3.Connection,
        reader: InfluxReader,
        cursor: Callable[[], Cursor],
        on_progress: Progress = lambda *_: None,
        wait_s: float = _AGAIN_S,
    ) -> None:
        self._db = db
        self._reader = reader
        self._cursor = cursor
        self._on_progress = on_progress
        self._wait_s = wait_s
        self._patience = _PATIENCE
        self._verdict = Verdict()

    def run(self, now_ms: int) -> Verdict:
        """Compare everything that the bucket still keeps."""
        keeps_s = self._reader.keeps_s()
        from_ms = max(0, now_ms - keeps_s * 1000 + _MARGIN_MS) if keeps_s else 0
        plan = []
        for measurement in MEASUREMENTS:
            weights = _weights(self._db, measurement)
            counts = self._verdict.measurements[measurement] = Counts()
            counts.expired = sum(points for hour, points in weights if (hour + 1) * HOUR_MS <= from_ms)
            plan += [(measurement, start, end) for start, end in spans(weights, from_ms)]
        for done, (measurement, start, end) in enumerate(plan, 1):
            self._compare(measurement, start, end)
            self._on_progress("compared", done, len(plan))
        return self._verdict

    def _compare(self, measurement: str, start: int, end: int) -> None:
        for look in range(_LOOKS):
            found, total, pending = self._look(measurement, start, end)
            if not found or look == _LOOKS - 1 or not self._patience:
                break
            time.sleep(self._wait_s)
        self._patience -= bool(found and self._patience)
        counts = self._verdict.measurements[measurement]
        horizon_ns = self._horizon_ms(measurement) * NS_PER_MS
        archive = {point for point in found.foreign if point[1] <= horizon_ns}
        counts.compared += total - pending
        counts.pending += pending
        counts.archive += len(archive)
        counts.missing += len(found.missing)
        counts.different += len(found.different)
        counts.foreign += len(found.foreign - archive)
        self._note(measurement, "missing", found.missing)
        self._note(measurement, "different", found.different)
        self._note(measurement, "foreign", found.foreign - archive)

    def _look(self, measurement: str, start: int, end: int) -> tuple[Differences, int, int]:
        """Return what differs from the store before the query and also after it, how many points, how many pending."""
        cursor = self._cursor()
        expected, leaving = self._expected(measurement, start, end, cursor)
        there = self._reader.read(measurement, start, end)
        found = compare(expected, there, cursor.rev)
        if found:
            after, leaving_after = self._expected(measurement, start, end, cursor)
            found &= compare(after, there, cursor.rev)
            found.foreign -= leaving | leaving_after
        total = sum(len(points.times) for points in expected.values())
        return found, total, sum(int((points.rev > cursor.rev).sum()) for points in expected.values())

    def _expected(
        self, measurement: str, start: int, end: int, cursor: Cursor
    ) -> tuple[dict[Tags, Points], set[Point]]:
        """Return what the store holds in a span, and points that it has withdrawn and the sink still has to delete."""
        with snapshot(self._db):
            held = Expected()
            _gather(self._db, measurement, start, end, cursor, held)
            stones = tombstones.between(self._db, cursor.rev, last_revision(self._db))
        leaving = {
            (tags_of(stone.kind, stone.name, stone.tag), at * NS_PER_MS)
            for stone in stones
            if stone.kind.value == measurement
            for at in stone.times_ms.tolist()
            if start <= at < end
        }
        return held.series(), leaving

    def _horizon_ms(self, measurement: str) -> int:
        """Return up to which time the store may have let go what InfluxDB still holds."""
        if measurement in _HORIZONS:
            return horizon_hour(self._db, _HORIZONS[measurement]) * HOUR_MS + _REACH_MS
        return health.horizon_ms(self._db)

    def _note(self, measurement: str, what: str, points: set[Point]) -> None:
        room = max(0, _MOST_EXAMPLES - len(self._verdict.examples))
        for tags, at in sorted(points)[:room]:
            series = ",".join([measurement, *(f"{name}={value}" for name, value in tags)])
            iso = np.datetime_as_string(np.datetime64(at, "ns"))
            self._verdict.examples.append(f"{what}: {series} at {iso}Z")


def spans(weights: Sequence[tuple[int, int]], from_ms: int, most: int = _POINTS_A_SPAN) -> Iterator[tuple[int, int]]:
    """Yield spans [ms] that cover all time from `from_ms` on, each with at most about so many points.

    `weights` holds hours, rising, and how many points each has.
    """
    start, points = from_ms, 0
    for hour, count in weights:
        begin, end = hour * HOUR_MS, (hour + 1) * HOUR_MS
        if end <= from_ms:
            continue
        if begin > start and (points + count > most or end - start > _LONGEST_SPAN_MS):
            yield start, begin
            start, points = begin, 0
        points += count
        parts = min(-(-points // most), end - start)  # a ms is no shorter
        if parts > 1:  # one hour alone has more
            edges = np.linspace(start, end, parts + 1).astype(int).tolist()
            yield from pairwise(edges)
            start, points = end, 0
    yield start, END_MS


def _weights(db: sqlite3.Connection, measurement: str) -> list[tuple[int, int]]:
    match measurement:
        case "raw" | "air":
            return standing.row_counts(db)
        case "hour" | "index":
            return standing.record_counts(db, "hour" if measurement == "hour" else "site_index")
        case _:
            return health.counts(db, gateway=measurement == "gateway")


def _gather(db: sqlite3.Connection, measurement: str, start: int, end: int, cursor: Cursor, held: Expected) -> None:
    """Add what the store holds of a measurement in a span."""
    match measurement:
        case "raw":
            for kit in standing.kits(db):
                rows = standing.raw(db, kit, start, end)
                if len(rows):
                    columns = lineprotocol.raw_columns(rows)
                    held.add_columns(lineprotocol.raw_tags(kit), rows.time_ms * NS_PER_MS, rows.rev, columns)
        case "air":
            for kit in standing.kits(db):
                for air in standing.air(db, kit, start, end):
                    # Rows newer than `complete` go with their hour, which may stand later in the stream.
                    rev = np.where(air.rev > cursor.complete, air.rev.max(), air.rev)
                    tags, columns = lineprotocol.air_tags(air.kit, air.site), lineprotocol.air_columns(air)
                    held.add_columns(tags, air.time_ms * NS_PER_MS, rev, columns, lineprotocol.string_text(air.cal))
        case _:
            for tags, time_ms, number, fields in _records(db, measurement, start, end):
                held.add_record(tags, time_ms * NS_PER_MS, number, fields)


_Record = tuple[Tags, int, int, dict[str, lineprotocol.Value]]


def _records(db: sqlite3.Connection, measurement: str, start: int, end: int) -> Iterator[_Record]:
    match measurement:
        case "hour":
            for hour in standing.hours(db, None, start, end):
                tags = lineprotocol.air_tags(hour.kit, hour.site)
                yield tags, hour.hour * HOUR_MS, hour.rev, lineprotocol.hour_fields(hour)
        case "index":
            for index in standing.indices(db, None, None, start, end):
                tags = lineprotocol.index_tags(index.site, index.scheme)
                yield tags, index.hour * HOUR_MS, index.rev, lineprotocol.index_fields(index)
        case _:
            for record in health.between(db, start, end, gateway=measurement == "gateway"):
                yield lineprotocol.raw_tags(record.kit), record.time_ms, record.rev, dict(record.values)
