"""Joining the chunks of an hour once it is quiet: live rows come one a chunk, which costs most of their room."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from gateway.clock import FUTURE_LIMIT_S, Receipt
from gateway.records import NULL, Ints
from gateway.store import chunks
from gateway.store.chunks import Packed
from gateway.store.database import transaction
from gateway.store.log import LOOSE_MS

QUIET_MS: Final = 3_600_000
"""An hour is joined when nothing of it has arrived for so long [ms]."""

HOURS_A_STEP: Final = 50
ROWS_A_STEP: Final = 20_000
"""Bounds of one step: some tens of ms, so that intake does not wait long."""

MOST_ROWS: Final = 10_000
"""Rows of a joined chunk: an hour at 1 Hz is 3,600; a reader holds a chunk in memory whatever a kit sends."""

_SAME: Final = "boot, columns, time_source, time_error_s, offset_s, clock_error_s, shift_ms, waits"
"""What rows of one chunk have in common beside kit and hour."""


@dataclass(frozen=True, slots=True)
class Merged:
    """What a step did: hours that are done, and chunks before and after in those it touched."""

    hours: int = 0
    before: int = 0
    after: int = 0


def merge_quiet(db: sqlite3.Connection, now_ms: int) -> Merged:
    """Join the chunks of some hours that are quiet, and close them, in one transaction.

    The joined chunk has the highest revision of its parts: a sink whose cursor is below gets all of its rows again,
    which changes nothing, and one whose cursor is beyond has seen them all. A mark from the future is of a clock that
    has been set back since, and counts as quiet. A kit of which rows are to be placed again waits for that, since
    those are found by their revision.
    """
    quiet = db.execute(
        "SELECT kit, hour FROM loose WHERE (heard_ms <= ? OR heard_ms > ?) "
        "AND kit NOT IN (SELECT kit FROM boot WHERE moved) LIMIT ?",
        (now_ms - QUIET_MS - LOOSE_MS, now_ms + QUIET_MS, HOURS_A_STEP),
    ).fetchall()
    if not quiet:
        return Merged()
    hours = before = after = 0
    room = ROWS_A_STEP
    with transaction(db):
        for kit, hour in quiet:
            for run in _runs(db, kit, hour):
                if room <= 0:
                    return Merged(hours, before, after)  # the mark stays: the next step goes on here
                room -= sum(part.row_count for part in run)
                if parts := _join(db, run):
                    before, after = before + parts, after + 1
            db.execute("UPDATE chunk SET open = NULL WHERE kit = ? AND hour = ? AND open IS NOT NULL", (kit, hour))
            db.execute("DELETE FROM loose WHERE kit = ? AND hour = ?", (kit, hour))
            hours += 1
    return Merged(hours, before, after)


@dataclass(frozen=True, slots=True)
class _Part:
    chunk: int
    row_count: int
    same: tuple[int | None, ...]


def _runs(db: sqlite3.Connection, kit: int, hour: int) -> Iterator[list[_Part]]:
    """Yield the chunks that make one: neighbours by seq that have all in common, two at least.

    Chunks with a row after what its receipt allowed are left out: the receipt of each is needed to place it again.
    """
    found = db.execute(
        f"SELECT id, row_count, {_SAME} FROM chunk WHERE kit = ? AND hour = ? "  # noqa: S608 - a constant
        "AND (clock_error_s IS NULL OR time_to_ms <= received_ms + 1000 * (? + clock_error_s)) "
        f"ORDER BY {_SAME}, seq_from",
        (kit, hour, FUTURE_LIMIT_S),
    ).fetchall()
    parts = [_Part(chunk, row_count, tuple(same)) for chunk, row_count, *same in found]
    for _, alike in groupby(parts, key=lambda part: part.same):
        run: list[_Part] = []
        rows = 0
        for part in alike:
            if rows + part.row_count > MOST_ROWS:
                yield from [run] if len(run) > 1 else []
                run, rows = [], 0
            run.append(part)
            rows += part.row_count
        yield from [run] if len(run) > 1 else []


def _join(db: sqlite3.Connection, run: Sequence[_Part]) -> int:
    """Make one chunk of several; the one with the highest revision becomes it. Returns how many they were, 0 for none.

    A part in which a kit's own time was not believed, since it lay after the receipt, stays as it is.
    """
    found = db.execute(
        "SELECT chunk.id, names, width, rows, received_ms, clock_error_s FROM chunk "  # noqa: S608 - numbers
        f"JOIN column_set ON column_set.id = chunk.columns WHERE chunk.id IN ({_numbers(p.chunk for p in run)}) "
        "ORDER BY rev"
    ).fetchall()
    columns = found[0][1].split(",")
    ids, tables = [], []
    for chunk, _, width, rows, received_ms, error_s in found:
        table = chunks.unpack(Packed(width, rows), len(columns))
        if not _doubted(table, columns, Receipt(received_ms, error_s).bound_ms):
            ids.append(chunk)
            tables.append(table)
    if len(ids) < 2:
        return 0
    joined = chunks.join(tables, columns.index("seq"))
    facts = db.execute(
        "SELECT min(seq_from), max(seq_to), sum(row_count), min(time_from_ms), max(time_to_ms), max(received_ms) "  # noqa: S608
        f"FROM chunk WHERE id IN ({_numbers(ids)})"
    ).fetchone()
    db.execute(
        "UPDATE chunk SET seq_from = ?, seq_to = ?, row_count = ?, time_from_ms = ?, time_to_ms = ?, received_ms = ?, "
        "width = ?, rows = ? WHERE id = ?",
        (*facts, joined.width, joined.rows, ids[-1]),
    )
    db.executemany("DELETE FROM chunk WHERE id = ?", [(chunk,) for chunk in ids[:-1]])
    return len(ids)


def _numbers(ids: Iterable[int]) -> str:
    return ", ".join(str(int(number)) for number in ids)


def _doubted(table: Ints, columns: Sequence[str], bound_ms: int | None) -> bool:
    if bound_ms is None:
        return False
    t, q = table[:, columns.index("t")], table[:, columns.index("q")]
    return bool(((q > 0) & (t != NULL) & (t * 1000 > bound_ms)).any())
