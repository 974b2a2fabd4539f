"""Numbers of the store for status and metrics: what came lately, what is missing, what is awaited; reads only."""

import sqlite3
from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.records import HOUR_MS, HOUR_S, NULL
from gateway.store import chunks
from gateway.store.chunks import Packed
from gateway.store.fresh import of_all

DAY_HOURS: Final = 24
_NEWEST_CHUNKS: Final = 200_000
_INTERVAL_S: Final = 60
"""Of a kit whose rows do not tell."""
_NEWEST: Final = of_all("SELECT row_count, received_ms, rev FROM chunk")
_STORED_SINCE: Final = (
    f"SELECT coalesce(sum(row_count), 0) FROM ({_NEWEST} ORDER BY rev DESC LIMIT ?) WHERE received_ms >= ?"  # noqa: S608
)


class KitNumbers(msgspec.Struct, frozen=True):
    """What is stored of one kit.

    `interval_s` is the length of its newest row. `day_rows` of `day_expected` rows stand in the 24 whole hours before
    the current one, fewer hours for a kit that began in between. `awaited_rows` lie between stored ones, and the kit
    may still send them; `lost_rows` too, and it says that it does not hold them any more. `waiting_lately` rows were
    received in these 24 hours and have no time yet.
    """

    interval_s: int
    day_rows: int
    day_expected: int
    awaited_rows: int
    gaps: int
    lost_rows: int
    late_rows: int
    duplicates: int
    dead_letters: dict[str, int]
    waiting_lately: int


def stored_since(db: sqlite3.Connection, since_ms: int) -> int:
    """Return how many rows were received since a time, looking at the newest chunks alone."""
    (count,) = db.execute(_STORED_SINCE, (_NEWEST_CHUNKS, since_ms)).fetchone()
    return int(count)


def received_after(db: sqlite3.Connection, rev: int) -> int | None:
    """Return when the oldest readings with a revision above `rev` were received [ms]."""
    select = of_all("SELECT received_ms, rev FROM chunk WHERE rev > :rev")
    found = db.execute(f"{select} ORDER BY rev LIMIT 1", {"rev": rev}).fetchone()
    return int(found[0]) if found else None


def dirty_hours(db: sqlite3.Connection) -> tuple[int, int]:
    """Return how many hours are to be derived, and how many of them have failed."""
    count, failed = db.execute(
        "SELECT count(*), coalesce(sum(failed > 0), 0) FROM (SELECT kit, hour, max(failed) AS failed FROM "
        "(SELECT kit, hour, failed FROM dirty UNION ALL SELECT kit, hour, 0 FROM fresh) GROUP BY kit, hour)"
    ).fetchone()
    return int(count), int(failed)


def newest_ms(db: sqlite3.Connection) -> dict[str, int | None]:
    """Return the time of the newest placed reading of every kit."""
    found = dict(
        db.execute(
            "SELECT name, (SELECT max(time_to_ms) FROM chunk WHERE chunk.kit = kit.id "
            "AND hour = (SELECT max(hour) FROM chunk WHERE chunk.kit = kit.id)) FROM kit ORDER BY name"
        )
    )
    for name, time_ms in db.execute("SELECT name, max(time_ms) FROM fresh JOIN kit ON kit.id = fresh.kit GROUP BY kit"):
        found[name] = max(time_ms, found[name] or time_ms)
    return found


def per_kit(db: sqlite3.Connection, now_ms: int) -> dict[str, KitNumbers]:
    """Return the numbers of every kit; `now_ms` is now, or the time of the newest reading where that counts as now."""
    counted = _counted(db)
    letters = _letters(db)
    holes = _holes(db)
    waiting = _waiting(db, now_ms - DAY_HOURS * HOUR_MS)
    to_gather = dict(
        db.execute("SELECT kit, count(*) FROM fresh WHERE hour < ? GROUP BY kit", (now_ms // HOUR_MS,)).fetchall()
    )
    found = {}
    for kit, name in db.execute("SELECT id, name FROM kit ORDER BY name").fetchall():
        interval_s = _interval_s(db, kit)
        rows, expected = _day(db, kit, now_ms, interval_s)
        awaited, gaps, lost = holes.get(kit, (0, 0, 0))
        counts = counted.get(kit, {})
        found[name] = KitNumbers(
            interval_s, rows + to_gather.get(kit, 0), expected, awaited, gaps, lost, counts.get("late_rows", 0),
            counts.get("duplicates", 0), letters.get(name, {}), waiting.get(kit, 0),
        )  # fmt: skip
    return found


def _counted(db: sqlite3.Connection) -> dict[int, dict[str, int]]:
    found: dict[int, dict[str, int]] = {}
    for kit, name, value in db.execute(
        "SELECT kit, name, value FROM counter WHERE name IN ('late_rows', 'duplicates')"
    ):
        found.setdefault(kit, {})[name] = value
    return found


def _waiting(db: sqlite3.Connection, since_ms: int) -> dict[int, int]:
    return dict(
        # The unary plus keeps SQLite from walking the whole log by kit.
        db.execute(
            "SELECT kit, sum(row_count) FROM chunk WHERE waits IS NOT NULL AND received_ms >= ? GROUP BY +kit",
            (since_ms,),
        )
    )


def _letters(db: sqlite3.Connection) -> dict[str | None, dict[str, int]]:
    found: dict[str | None, dict[str, int]] = {}
    for kit, reason, count in db.execute("SELECT kit, reason, count(*) FROM dead_letter GROUP BY kit, reason"):
        found.setdefault(kit, {})[reason] = count
    return found


def _interval_s(db: sqlite3.Connection, kit: int) -> int:
    """Return the length of the kit's newest row: what it samples now."""
    newest = db.execute(
        "SELECT names, width, rows FROM chunk JOIN column_set ON column_set.id = chunk.columns WHERE chunk.kit = ?1 "
        "AND hour = (SELECT max(hour) FROM chunk WHERE kit = ?1) ORDER BY time_to_ms DESC LIMIT 1",
        (kit,),
    ).fetchone()
    if newest is None:
        return _INTERVAL_S
    names, width, rows = newest
    columns = names.split(",")
    length = int(chunks.unpack(Packed(width, rows), len(columns))[-1, columns.index("dt")])
    return length if length not in (0, NULL) else _INTERVAL_S


def _day(db: sqlite3.Connection, kit: int, now_ms: int, interval_s: int) -> tuple[int, int]:
    """Return the rows of the 24 whole hours before the current one, and how many there would be without a gap."""
    current = now_ms // HOUR_MS
    (first_hour,) = db.execute("SELECT min(hour) FROM chunk WHERE kit = ? AND hour IS NOT NULL", (kit,)).fetchone()
    if first_hour is None:
        return 0, 0
    from_hour = max(current - DAY_HOURS, first_hour + (first_hour > current - DAY_HOURS))  # its first one is no whole
    if from_hour >= current:
        return 0, 0
    (rows,) = db.execute(
        "SELECT coalesce(sum(row_count), 0) FROM chunk WHERE kit = ? AND hour >= ? AND hour < ?",
        (kit, from_hour, current),
    ).fetchone()
    return int(rows), (current - from_hour) * HOUR_S // interval_s


def _holes(db: sqlite3.Connection) -> dict[int, tuple[int, int, int]]:
    """Return, by kit, (rows that may still come, runs of them, rows that the kit has lost) between stored ones."""
    found: dict[int, tuple[int, int, int]] = {}
    holes = db.execute(
        "SELECT hole.kit, hole.boot, hole.low, hole.high, boot.first_seq FROM (SELECT kit, boot, "
        "lag(seq_to) OVER (PARTITION BY kit, boot ORDER BY seq_from) + 1 AS low, seq_from - 1 AS high FROM cover) "
        "AS hole JOIN boot ON boot.kit = hole.kit AND boot.boot = hole.boot WHERE low <= high"
    ).fetchall()
    for kit, boot, low, high, first_seq in holes:
        settled = db.execute(
            "SELECT seq_from, seq_to FROM settled WHERE kit = ? AND boot = ? AND seq_from <= ? AND seq_to >= ?",
            (kit, boot, high, low),
        ).fetchall()
        lost = _uncovered(low, min(high, first_seq - 1), settled)
        awaited = _uncovered(max(low, first_seq), high, settled)
        before = found.get(kit, (0, 0, 0))
        found[kit] = before[0] + awaited, before[1] + (awaited > 0), before[2] + lost
    return found


def _uncovered(low: int, high: int, intervals: Iterable[tuple[int, int]]) -> int:
    """Return how many numbers from `low` to `high` lie in none of the intervals, which do not overlap."""
    covered = sum(max(0, min(to, high) - max(from_, low) + 1) for from_, to in intervals)
    return max(0, high - low + 1) - covered if high >= low else 0
