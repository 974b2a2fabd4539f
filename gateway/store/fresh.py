"""Rows that came one by one: kept in the order of their receipt, and gathered into the open chunks of their hours.

A chunk for each live row would change a page of its own in every index. Many fresh rows share one; gathered, those of
a kit are added to one chunk, which no index notices until its hour is quiet and the chunk is closed (`merge.py`).
"""

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from gateway.records import Ints
from gateway.store import chunks
from gateway.store.chunks import Packed

MOST_ROWS: Final = 10_000
"""When there are so many they are to be gathered whatever the time: readers look through all of them."""

OPEN_ROWS: Final = 120
"""A chunk with so many rows is added to no more: all of it is written again each time."""

_SAME: Final = "kit, hour, boot, columns, time_error_s, clock_error_s"
_SAME_COUNT: Final = _SAME.count(",") + 1


class FreshRow(NamedTuple):
    """A row whose time is the kit's own; in the order of the columns of the table."""

    rev: int
    kit: int
    boot: int
    hour: int
    seq: int
    time_ms: int
    time_error_s: int | None
    received_ms: int
    clock_error_s: int | None
    columns: int
    width: int
    rows: bytes


class Gathered(NamedTuple):
    """Rows of one boot and hour that were gathered together, and when the last of them was received."""

    kit: int
    hour: int
    boot: int
    seqs: Sequence[int]
    received_ms: int


def of_all(select: str) -> str:
    """Return a statement that reads `FROM chunk` as one that reads fresh rows too; its parameters have names."""
    return f"{select} UNION ALL {select.replace('FROM chunk', 'FROM fresh_chunk AS chunk')}"


def insert(db: sqlite3.Connection, rows: Iterable[FreshRow]) -> None:
    """Keep rows, inside a transaction; their revisions are above all others."""
    db.executemany("INSERT INTO fresh VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def count(db: sqlite3.Connection) -> int:
    """Return how many rows there are."""
    return int(db.execute("SELECT count(*) FROM fresh").fetchone()[0])


def gather(db: sqlite3.Connection) -> list[Gathered]:
    """Make the rows part of chunks, inside a transaction; returns what they were.

    A chunk gets the revision of its newest row: a sink whose cursor is beyond has seen them all, any other is given
    all of the chunk again, which changes nothing.
    """
    found = db.execute(
        f"SELECT {_SAME}, width, rows, seq, time_ms, received_ms, rev FROM fresh ORDER BY {_SAME}, seq"  # noqa: S608
    ).fetchall()
    if not found:
        return []
    seq_at = {number: names.split(",").index("seq") for number, names in db.execute("SELECT id, names FROM column_set")}
    gathered = []
    for same, group in groupby(found, key=lambda row: row[:_SAME_COUNT]):
        widths, rows, seqs, times_ms, received_ms, revisions = zip(*(row[_SAME_COUNT:] for row in group), strict=True)
        kit, hour, boot, columns, *_ = same
        tables = [chunks.unpack(Packed(*one), _column_count(*one)) for one in zip(widths, rows, strict=True)]
        facts = min(seqs), max(seqs), len(seqs), min(times_ms), max(times_ms), max(received_ms), max(revisions)
        _add(db, same, tables, seq_at[columns], facts)
        gathered.append(Gathered(kit, hour, boot, seqs, max(received_ms)))
    db.execute("UPDATE revision SET value = max(value, (SELECT max(rev) FROM fresh))")
    db.execute("DELETE FROM fresh")
    return gathered


def _column_count(width: int, rows: bytes) -> int:
    """Of one row."""
    return len(rows) // width


def _add(
    db: sqlite3.Connection, same: tuple[int | None, ...], tables: list[Ints], seq_at: int, facts: tuple[int, ...]
) -> None:
    """Add rows to the chunk that is open for what they have in common, or open one."""
    found = db.execute(
        "SELECT id, width, rows FROM chunk WHERE kit = ? AND hour = ? AND boot = ? AND columns = ? "
        "AND time_error_s IS ? AND clock_error_s IS ? AND open IS NOT NULL AND row_count < ?",
        (*same, OPEN_ROWS),
    ).fetchone()
    if found:
        chunk, *packed = found
        joined = chunks.join([chunks.unpack(Packed(*packed), tables[0].shape[1]), *tables], seq_at)
        db.execute(
            "UPDATE chunk SET seq_from = min(seq_from, ?), seq_to = max(seq_to, ?), row_count = row_count + ?, "
            "time_from_ms = min(time_from_ms, ?), time_to_ms = max(time_to_ms, ?), "
            "received_ms = max(received_ms, ?), rev = ?, width = ?, rows = ? WHERE id = ?",
            (*facts, joined.width, joined.rows, chunk),
        )
    else:
        joined = chunks.join(tables, seq_at)
        db.execute(
            f"INSERT INTO chunk ({_SAME}, seq_from, seq_to, row_count, time_from_ms, time_to_ms, received_ms, rev, "  # noqa: S608
            "width, rows, time_source, open) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 1)",
            (*same, *facts, joined.width, joined.rows),
        )
