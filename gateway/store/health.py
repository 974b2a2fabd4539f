"""Numbers of kits and of the gateway itself over time: what `diag` says, and the gateway's own counters."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.records import HealthRecord
from gateway.store import counters
from gateway.store.database import read_meta, take_revisions, transaction, write_meta

GATEWAY: Final = 0
"""Stands for the gateway itself where else the number of a kit stands."""

APART_MS: Final = 30_000
"""Records of a kit are at least so far apart: a kit that sends without end fills no table. The last is always kept."""

PAGE: Final = 2000
"""Records that go in one step: 1,000 kits with one in ten minutes make 100 a minute."""

_HORIZON: Final = "health_horizon_ms"
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, int | float]).decode
_SELECT: Final = "SELECT coalesce(kit.name, ''), time_ms, record, rev FROM health LEFT JOIN kit ON kit.id = health.kit"


def add(db: sqlite3.Connection, kit: int, time_ms: int, values: Mapping[str, int | float]) -> bool:
    """Keep numbers inside a transaction; returns whether, since what comes too often is not kept."""
    near = db.execute(
        "SELECT 1 FROM health WHERE kit = ? AND time_ms > ? AND time_ms < ?",
        (kit, time_ms - APART_MS, time_ms + APART_MS),
    ).fetchone()
    if near or not values:
        return False
    db.execute(
        "INSERT INTO health (rev, kit, time_ms, record) VALUES (?, ?, ?, ?)",
        (take_revisions(db, 1), kit, time_ms, _encode(values)),
    )
    return True


def set_last(db: sqlite3.Connection, kit: int, received_ms: int, diag: bytes) -> None:
    """Keep a kit's last `diag` as it was received, inside a transaction."""
    db.execute("UPDATE kit SET diag = ?, diag_ms = ? WHERE id = ?", (diag, received_ms, kit))


def last(db: sqlite3.Connection) -> dict[str, tuple[int, bytes]]:
    """Return when each kit's last `diag` was received [ms], and what it said."""
    found = db.execute("SELECT name, diag_ms, diag FROM kit WHERE diag IS NOT NULL ORDER BY name")
    return {name: (ms, diag) for name, ms, diag in found}


def after(db: sqlite3.Connection, cursor: int, high: int) -> Sequence[HealthRecord]:
    """Return the records with a revision above the cursor and up to `high`, in order."""
    return [_record(*row) for row in db.execute(f"{_SELECT} WHERE rev > ? AND rev <= ? ORDER BY rev", (cursor, high))]


def between(db: sqlite3.Connection, from_ms: int, to_ms: int, *, gateway: bool) -> Sequence[HealthRecord]:
    """Return the gateway's records of a span of time, or those of all kits; `to_ms` is exclusive."""
    which = "health.kit = 0" if gateway else "health.kit != 0"
    found = db.execute(f"{_SELECT} WHERE {which} AND time_ms >= ? AND time_ms < ?", (from_ms, to_ms))
    return [_record(*row) for row in found]


def counts(db: sqlite3.Connection, *, gateway: bool) -> list[tuple[int, int]]:
    """Return (hour, records of the gateway, or of all kits), rising."""
    which = "kit = 0" if gateway else "kit != 0"
    return db.execute(
        f"SELECT time_ms / 3600000 AS hour, count(*) FROM health WHERE {which} GROUP BY 1 ORDER BY 1"  # noqa: S608
    ).fetchall()


def horizon_ms(db: sqlite3.Connection) -> int:
    """Return the time below which records have gone."""
    return int(read_meta(db, _HORIZON) or -(2**62))


def prune(db: sqlite3.Connection, before_ms: int, sent_rev: int) -> tuple[int, int]:
    """Delete records made before a time, of the oldest; returns how many, and how many of them no sink was given."""
    gone = db.execute(
        "SELECT rev, time_ms FROM health WHERE time_ms < ? ORDER BY time_ms LIMIT ?", (before_ms, PAGE)
    ).fetchall()
    if not gone:
        return 0, 0
    unsent = sum(rev > sent_rev for rev, _ in gone)
    with transaction(db):
        db.executemany("DELETE FROM health WHERE rev = ?", [(rev,) for rev, _ in gone])
        write_meta(db, _HORIZON, str(max(horizon_ms(db), gone[-1][1] + 1)))
        counters.add(db, GATEWAY, {"pruned_health": len(gone), "pruned_unsent_health": unsent})
    return len(gone), unsent


def _record(kit: str, time_ms: int, record: bytes, rev: int) -> HealthRecord:
    return HealthRecord(kit=kit, time_ms=time_ms, values=_decode(record), rev=rev)
