"""Spans of a kit's readings that an operator voided: who, when, why, and who took it back; nothing is deleted."""

import json
import sqlite3
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

import msgspec

from gateway.records import HOUR_MS, Void
from gateway.store.database import horizon_hour


class VoidLine(msgspec.Struct, frozen=True):
    """A voided span and its story; `undone_ms` is None while it holds. Times [ms since 1970]."""

    id: int
    kit: str
    what: str
    from_ms: int
    to_ms: int
    reason: str
    made_by: str
    made_ms: int
    undo_reason: str | None
    undone_by: str | None
    undone_ms: int | None


class Touched(msgspec.Struct, frozen=True):
    """How many hours a change derives again, and how many it would have but are sealed and keep what they have."""

    hours: int
    sealed: int


_LINES = (
    "SELECT void.id, kit.name, what, from_ms, to_ms, reason, made_by, made_ms, undo_reason, undone_by, undone_ms "
    "FROM void JOIN kit ON kit.id = void.kit"
)


def add(db: sqlite3.Connection, kit: str, void: Void, *, reason: str, who: str, now_ms: int) -> tuple[int, Touched]:
    """Void a span of a kit, inside a transaction; returns its number and what it touches."""
    (number,) = db.execute(
        "INSERT INTO void (kit, what, from_ms, to_ms, reason, made_by, made_ms) "
        "SELECT id, ?, ?, ?, ?, ?, ? FROM kit WHERE name = ? RETURNING id",
        (void.what, void.from_ms, void.to_ms, reason, who, now_ms, kit),
    ).fetchone()
    return int(number), _mark(db, kit, void.from_ms, void.to_ms)


def undo(db: sqlite3.Connection, number: int, *, reason: str, who: str, now_ms: int) -> Touched:
    """Take a void back that holds, inside a transaction; the line stays. Returns what it touches."""
    found = db.execute(
        "UPDATE void SET undo_reason = ?, undone_by = ?, undone_ms = ? WHERE id = ? AND undone_ms IS NULL "
        "RETURNING (SELECT name FROM kit WHERE kit.id = kit), from_ms, to_ms",
        (reason, who, now_ms, number),
    ).fetchone()
    return Touched(0, 0) if found is None else _mark(db, *found)


def find(db: sqlite3.Connection, number: int) -> VoidLine | None:
    """Return one line, undone or not."""
    found = db.execute(f"{_LINES} WHERE void.id = ?", (number,)).fetchone()
    return None if found is None else VoidLine(*found)


def lines(db: sqlite3.Connection, *, kit: str | None = None) -> list[VoidLine]:
    """Return every line, of one kit or of all, undone ones too, in the order in which they were made."""
    found = db.execute(f"{_LINES} WHERE coalesce(kit.name = ?, 1) ORDER BY void.id", (kit,))
    return [VoidLine(*line) for line in found]


def in_force(db: sqlite3.Connection, kits: Sequence[str]) -> dict[str, tuple[Void, ...]]:
    """Return what is voided of kits of which anything is, in one order whatever the order in which it was."""
    found = db.execute(
        "SELECT DISTINCT kit.name, what, from_ms, to_ms FROM void JOIN kit ON kit.id = void.kit "
        "WHERE kit.name IN (SELECT value FROM json_each(?)) AND undone_ms IS NULL "
        "ORDER BY kit.name, what, from_ms, to_ms",
        (json.dumps(kits),),
    )
    return {kit: tuple(Void(*line) for _, *line in some) for kit, some in groupby(found, key=itemgetter(0))}


def _mark(db: sqlite3.Connection, kit: str, from_ms: int, to_ms: int) -> Touched:
    """Mark the hours of a span: a reading belongs to the hour of its interval's middle, as voids go by it too."""
    first, last, horizon = from_ms // HOUR_MS, (to_ms - 1) // HOUR_MS, horizon_hour(db)
    marked = db.execute(
        "INSERT INTO dirty (kit, hour) SELECT DISTINCT kit.id, hour FROM chunk JOIN kit ON kit.id = chunk.kit "
        "WHERE kit.name = ? AND hour >= ? AND hour <= ? ON CONFLICT (kit, hour) DO UPDATE SET failed = 0",
        (kit, max(first, horizon), last),
    )
    (sealed,) = db.execute(
        "SELECT count(*) FROM hour JOIN kit ON kit.id = hour.kit WHERE kit.name = ? AND hour >= ? AND hour <= ? "
        "AND hour < ?",
        (kit, first, last, horizon),
    ).fetchone()
    return Touched(marked.rowcount, int(sealed))
