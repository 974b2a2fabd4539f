"""The revision stream: what a sink with a cursor has not seen, oldest first."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gateway.records import AirHour, HourRecord, IndexRecord, Readings
from gateway.store import tombstones
from gateway.store.database import last_revision
from gateway.store.derived import decode_hour, decode_index, unpack_air
from gateway.store.readings import CHUNK_COLUMNS, Chunk, assemble
from gateway.store.tombstones import Tombstone

_SOURCES = ("chunk", "air", "hour", "site_index", "tombstone")
_RECORDS = "SELECT record, rev FROM {} WHERE rev > ? AND rev <= ? ORDER BY rev"


@dataclass(slots=True)
class Changes:
    """All records with a revision above the cursor and up to `high`; a record changed twice appears once.

    `withdrawn` comes first where it is applied: what stands at such a key again has a higher revision.
    """

    high: int
    withdrawn: Sequence[Tombstone] = ()
    readings: list[Readings] = field(default_factory=list)
    air: list[AirHour] = field(default_factory=list)
    hours: list[HourRecord] = field(default_factory=list)
    indices: list[IndexRecord] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.withdrawn or self.readings or self.air or self.hours or self.indices)


def changes(db: sqlite3.Connection, after: int, *, rows_after: int, record_limit: int = 500) -> Changes:
    """Return the next records after a cursor; call it inside `database.snapshot`.

    A record is one chunk of raw rows, one kit-hour of calibrated rows, one hour or one index. Of a kit-hour only the
    rows changed after `rows_after` come: the cursor at which nothing was left to send. Rows between it and `after` may
    have been passed over, since their hour changed again and stood later in the stream. At most `record_limit` of each
    kind are returned, and `high` is then the last revision that is complete in all kinds. Readings that wait for a
    time come once they are placed.
    """
    high = last_revision(db)
    for table in _SOURCES:
        last = db.execute(
            f"SELECT rev FROM {table} WHERE rev > ? ORDER BY rev LIMIT 1 OFFSET ?",  # noqa: S608 - constants above
            (after, record_limit - 1),
        ).fetchone()
        high = min(high, last[0]) if last else high
    found = Changes(high)
    span = (after, high)
    chunk_sql = (
        f"SELECT kit.name, {CHUNK_COLUMNS} JOIN kit ON kit.id = chunk.kit "
        "WHERE chunk.rev > ? AND chunk.rev <= ? AND hour IS NOT NULL ORDER BY chunk.rev"
    )
    by_kit: dict[str, list[Chunk]] = {}
    for name, *chunk in db.execute(chunk_sql, span):
        by_kit.setdefault(name, []).append(tuple(chunk))
    found.readings = [assemble(name, parts) for name, parts in by_kit.items()]
    air_sql = (
        "SELECT kit.name, air.hour, record FROM air JOIN kit ON kit.id = air.kit "
        "WHERE air.rev > ? AND air.rev <= ? ORDER BY air.rev"
    )
    found.withdrawn = tombstones.between(db, after, high)
    found.air = [_after(unpack_air(name, hour, record), rows_after) for name, hour, record in db.execute(air_sql, span)]
    found.hours = [decode_hour(*row) for row in db.execute(_RECORDS.format("hour"), span)]
    found.indices = [decode_index(*row) for row in db.execute(_RECORDS.format("site_index"), span)]
    return found


def _after(air: AirHour, cursor: int) -> AirHour:
    new = np.flatnonzero(air.rev > cursor)
    columns = [{n: v[new] for n, v in group.items()} for group in (air.values, air.lo, air.hi)]
    return AirHour(
        kit=air.kit, site=air.site, hour=air.hour, time_ms=air.time_ms[new], values=columns[0], lo=columns[1],
        hi=columns[2], qc=air.qc[new], reasons=air.reasons[new], cal=air.cal, rev=air.rev[new],
    )  # fmt: skip
