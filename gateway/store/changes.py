"""The revision stream: what a sink with a cursor has not seen, oldest first."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from gateway.records import AirHour, HealthRecord, HourRecord, IndexRecord
from gateway.store import health, tombstones
from gateway.store.air_pack import unpack_air
from gateway.store.database import last_revision
from gateway.store.derived import decode_hour, decode_index
from gateway.store.fresh import of_all
from gateway.store.rawtable import RawTable, tables
from gateway.store.readings import CHUNK_COLUMNS, Chunk
from gateway.store.standing import take_air
from gateway.store.tombstones import Tombstone

_NO_LIMIT: Final = 2**62
_COUNTED: Final = ("hour", "site_index", "tombstone", "health")
_RECORDS = "SELECT record, rev FROM {} WHERE rev > ? AND rev <= ? ORDER BY rev"


class Changes(msgspec.Struct):
    """All records with a revision above the cursor and up to `high`; a record changed twice appears once.

    `withdrawn` comes first where it is applied: what stands at such a key again has a higher revision.
    """

    high: int
    withdrawn: Sequence[Tombstone] = ()
    raw: Sequence[RawTable] = ()
    air: list[AirHour] = msgspec.field(default_factory=list)
    hours: list[HourRecord] = msgspec.field(default_factory=list)
    indices: list[IndexRecord] = msgspec.field(default_factory=list)
    health: Sequence[HealthRecord] = ()

    def __len__(self) -> int:
        """Return how many rows and records there are to write."""
        rows = sum(map(len, self.raw)) + sum(map(len, self.air))
        return rows + len(self.hours) + len(self.indices) + len(self.health)

    def __bool__(self) -> bool:
        return bool(self.withdrawn or len(self))


def changes(
    db: sqlite3.Connection, after: int, *, rows_after: int, record_limit: int = 500, row_limit: int = _NO_LIMIT
) -> Changes:
    """Return the next records after a cursor; call it inside `database.snapshot`.

    A record is one chunk of raw rows, one kit-hour of calibrated rows, one hour, index, removal or health record. Of a
    kit-hour only the rows changed after `rows_after` come: the cursor at which nothing was left to send. Rows between
    it and `after` may have been passed over, since their hour changed again and stood later in the stream. At most
    `record_limit` of each kind are returned, and of raw rows, of calibrated rows and of times withdrawn at most
    `row_limit` each beside those of one record; `high` is then the last revision that is complete in all kinds.
    Readings that wait for a time come once they are placed.
    """
    high = last_revision(db)
    rows, high = _within(_chunks(db, after, high, record_limit), row_limit, high)
    hours, high = _within(_air(db, after, high, rows_after, record_limit), row_limit, high)
    high = _last(db, after, high, record_limit)
    removals = ((stone.rev, len(stone.times_ms), stone) for stone in tombstones.between(db, after, high))
    withdrawn, high = _within(removals, row_limit, high)
    span = (after, high)
    return Changes(
        high,
        withdrawn=[stone for _, stone in withdrawn],
        raw=tables(chunk for rev, chunk in rows if rev <= high),
        air=[air for rev, air in hours if rev <= high],
        hours=[decode_hour(*row) for row in db.execute(_RECORDS.format("hour"), span)],
        indices=[decode_index(*row) for row in db.execute(_RECORDS.format("site_index"), span)],
        health=health.after(db, after, high),
    )


def _last(db: sqlite3.Connection, after: int, high: int, record_limit: int) -> int:
    """Return the last revision up to `high` up to which no kind has more than `record_limit` records."""
    for table in _COUNTED:
        last = db.execute(
            f"SELECT rev FROM {table} WHERE rev > ? AND rev <= ? ORDER BY rev LIMIT 1 OFFSET ?",  # noqa: S608 - constants
            (after, high, record_limit - 1),
        ).fetchone()
        high = last[0] if last else high
    return high


def _within(
    found: Iterable[tuple[int, int, Any]], row_limit: int, high: int
) -> tuple[list[tuple[int, Any]], int]:  # fmt: skip
    """Return records (revision, rows, content) until there are enough rows, and the last revision that is complete."""
    taken: list[tuple[int, Any]] = []
    rows = 0
    for rev, count, content in found:
        taken.append((rev, content))
        rows += count
        if rows >= row_limit:
            return taken, rev
    return taken, high


def _chunks(
    db: sqlite3.Connection, after: int, high: int, record_limit: int
) -> Iterator[tuple[int, int, tuple[str, Chunk]]]:  # fmt: skip
    found = db.execute(
        of_all(
            f"SELECT chunk.row_count, kit.name, {CHUNK_COLUMNS} JOIN kit ON kit.id = chunk.kit "
            "WHERE chunk.rev > :after AND chunk.rev <= :high AND hour IS NOT NULL"
        )
        + " ORDER BY rev",
        {"after": after, "high": high},
    )
    for number, (count, name, *chunk) in enumerate(found, 1):
        # The last one that may come ends the batch, however few rows there are.
        yield chunk[0], _NO_LIMIT if number == record_limit else count, (name, tuple(chunk))


def _air(
    db: sqlite3.Connection, after: int, high: int, rows_after: int, record_limit: int
) -> Iterator[tuple[int, int, AirHour]]:
    found = db.execute(
        "SELECT air.rev, kit.name, air.hour, record FROM air JOIN kit ON kit.id = air.kit "
        "WHERE air.rev > ? AND air.rev <= ? ORDER BY air.rev",
        (after, high),
    )
    for number, (rev, name, hour, record) in enumerate(found, 1):
        air = unpack_air(name, hour, record)
        new = air.rev > rows_after
        if not new.all():
            air = take_air(air, np.flatnonzero(new))
        yield rev, _NO_LIMIT if number == record_limit else len(air), air
