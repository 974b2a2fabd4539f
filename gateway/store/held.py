"""What an export asks of the raw store: the columns there are, the hours held, the readings that wait for a time."""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.records import Ints
from gateway.store import chunks
from gateway.store.chunks import Packed


@dataclass(frozen=True, slots=True, eq=False)
class WaitingChunk:
    """Readings that are stored but not placed in time, as wire integers [rows, columns]; null is `chunks.NULL`."""

    kit: str
    boot: int
    columns: tuple[str, ...]
    rows: Ints


def column_names(db: sqlite3.Connection) -> set[str]:
    """Return every wire column that any stored reading has."""
    return {name for (names,) in db.execute("SELECT names FROM column_set") for name in names.split(",")}


def raw_hours(
    db: sqlite3.Connection, *, kit: str | None = None, hour_from: int | None = None, hour_to: int | None = None
) -> list[tuple[str, int]]:
    """Return (kit, hour) of every hour that holds placed readings, by kit and hour; `hour_to` is exclusive."""
    return db.execute(
        "SELECT DISTINCT name, hour FROM chunk JOIN kit ON kit.id = chunk.kit WHERE hour IS NOT NULL "
        "AND coalesce(name = ?1, 1) AND coalesce(hour >= ?2, 1) AND coalesce(hour < ?3, 1) ORDER BY name, hour",
        (kit, hour_from, hour_to),
    ).fetchall()


def waiting(db: sqlite3.Connection, *, kit: str | None = None) -> Iterator[WaitingChunk]:
    """Yield the readings without a time and those held because theirs lies in the future, by kit, boot and seq."""
    found = db.execute(
        "SELECT name, boot, names, width, rows FROM chunk JOIN kit ON kit.id = chunk.kit "
        "JOIN column_set ON column_set.id = chunk.columns WHERE hour IS NULL AND coalesce(name = ?, 1) "
        "ORDER BY name, boot, seq_from",
        (kit,),
    )
    for name, boot, names, width, packed in found:
        columns = tuple(names.split(","))
        yield WaitingChunk(name, boot, columns, chunks.unpack(Packed(width, packed), len(columns)))
