"""What the store holds at times of one series or span: for sinks that have deleted a range, and for comparisons.

A row's hour is that of the middle of its interval, which is at most a day long: its time lies up to 12 h behind it.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final

import numpy as np

from gateway.records import HOUR_MS, AirHour, HourRecord, IndexRecord, Ints, Readings
from gateway.store import derived
from gateway.store.fresh import of_all
from gateway.store.readings import CHUNK_COLUMNS, assemble

REACH_HOURS: Final = 13
_SAMPLE_CHUNKS: Final = 10_000
_WHICH: Final = "hour >= :hour_from AND hour <= :hour_to AND time_to_ms >= :from_ms AND time_from_ms < :to_ms"


def raw(db: sqlite3.Connection, kit: str, from_ms: int, to_ms: int) -> Readings:
    """Return the placed readings of a kit whose times lie in a span; `to_ms` is exclusive, as everywhere here."""
    found = db.execute(
        of_all(f"SELECT {CHUNK_COLUMNS} JOIN kit ON kit.id = chunk.kit WHERE kit.name = :kit AND {_WHICH}"),
        {"kit": kit, **_span(from_ms, to_ms)},
    )
    all_of_them = assemble(kit, found)
    inside = np.flatnonzero((all_of_them.time_ms >= from_ms) & (all_of_them.time_ms < to_ms))
    return all_of_them if len(inside) == len(all_of_them) else take_raw(all_of_them, inside)


def air(db: sqlite3.Connection, kit: str, from_ms: int, to_ms: int) -> Iterator[AirHour]:
    """Yield the calibrated rows of a kit whose times lie in a span, an hour at a time."""
    span = _span(from_ms, to_ms)
    for found in derived.read_air(db, kit=kit, hour_from=span["hour_from"], hour_to=span["hour_to"] + 1):
        inside = np.flatnonzero((found.time_ms >= from_ms) & (found.time_ms < to_ms))
        if len(inside):
            yield found if len(inside) == len(found) else take_air(found, inside)


def hours(db: sqlite3.Connection, kit: str | None, from_ms: int, to_ms: int) -> Iterator[HourRecord]:
    """Yield the hours of a kit, or of all, whose starts lie in a span."""
    return derived.read_hours(db, kit=kit, hour_from=-(-from_ms // HOUR_MS), hour_to=-(-to_ms // HOUR_MS))


def indices(
    db: sqlite3.Connection, site: str | None, scheme: str | None, from_ms: int, to_ms: int
) -> Iterator[IndexRecord]:  # fmt: skip
    """Yield the indices of a site, or of all, that are labelled by a time in a span."""
    span = -(-from_ms // HOUR_MS), -(-to_ms // HOUR_MS)
    return derived.read_indices(db, site=site, scheme=scheme, hour_from=span[0], hour_to=span[1])


def take_raw(some: Readings, rows: Ints) -> Readings:
    """Return these rows of readings."""
    return Readings(
        kit=some.kit, time_ms=some.time_ms[rows], boot=some.boot[rows], seq=some.seq[rows],
        time_source=some.time_source[rows], time_error_s=some.time_error_s[rows], rev=some.rev[rows],
        columns={name: values[rows] for name, values in some.columns.items()},
    )  # fmt: skip


def take_air(some: AirHour, rows: Ints) -> AirHour:
    """Return these rows of a calibrated hour."""
    values, lo, hi = ({n: v[rows] for n, v in group.items()} for group in (some.values, some.lo, some.hi))
    return AirHour(
        kit=some.kit, site=some.site, hour=some.hour, time_ms=some.time_ms[rows], values=values, lo=lo, hi=hi,
        qc=some.qc[rows], reasons=some.reasons[rows], cal=some.cal, rev=some.rev[rows],
    )  # fmt: skip


def kits(db: sqlite3.Connection) -> list[str]:
    """Return the names of all kits."""
    return [name for (name,) in db.execute("SELECT name FROM kit ORDER BY name")]


def row_counts(db: sqlite3.Connection) -> list[tuple[int, int]]:
    """Return (hour, placed rows of all kits), rising; also hours of which calibrated rows alone are left, with 0."""
    return db.execute(
        f"SELECT hour, sum(rows) FROM ({of_all('SELECT hour, row_count AS rows FROM chunk WHERE hour IS NOT NULL')} "  # noqa: S608
        "UNION ALL SELECT DISTINCT hour, 0 FROM air) GROUP BY hour ORDER BY hour"
    ).fetchall()


def record_counts(db: sqlite3.Connection, table: str) -> list[tuple[int, int]]:
    """Return (hour, records) of the hours or the indices (`hour`, `site_index`), rising."""
    assert table in {"hour", "site_index"}  # noqa: S101 - names stand in the statement
    return db.execute(f"SELECT hour, count(*) FROM {table} GROUP BY hour ORDER BY hour").fetchall()  # noqa: S608


def has_rows(db: sqlite3.Connection, hour_from: int, hour_to: int) -> bool:
    """Tell whether any kit has readings in the hours from the first to the last."""
    found = db.execute(
        "SELECT EXISTS (SELECT 1 FROM kit WHERE EXISTS (SELECT 1 FROM chunk WHERE chunk.kit = kit.id "
        "AND hour BETWEEN ?1 AND ?2)) OR EXISTS (SELECT 1 FROM fresh WHERE hour BETWEEN ?1 AND ?2)",
        (hour_from, hour_to),
    )
    return bool(found.fetchone()[0])


def rows_after(db: sqlite3.Connection, rev: int) -> int:
    """Return how many rows have a revision above `rev`; about, where there are many chunks of them."""
    chunks, fresh = db.execute(
        "SELECT (SELECT count(*) FROM chunk WHERE rev > ?1), (SELECT count(*) FROM fresh WHERE rev > ?1)", (rev,)
    ).fetchone()
    looked_at, rows = db.execute(
        "SELECT count(*), coalesce(sum(row_count), 0) FROM (SELECT row_count FROM chunk WHERE rev > ? ORDER BY rev "
        "LIMIT ?)",
        (rev, _SAMPLE_CHUNKS),
    ).fetchone()
    return int(fresh) + (int(rows) if chunks == looked_at else rows * chunks // looked_at)


def _span(from_ms: int, to_ms: int) -> dict[str, int]:
    return {
        "from_ms": from_ms, "to_ms": to_ms, "hour_from": from_ms // HOUR_MS - REACH_HOURS, "hour_to": to_ms // HOUR_MS,
    }  # fmt: skip
