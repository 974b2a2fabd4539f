"""What goes when it is old, or when there is no room: raw hours, late and waiting rows, calibrated rows, records.

Everything here is one bounded transaction. `cover`, `settled` and `boot` are never pruned: a row sent again after its
chunk has gone is still a copy. Raw hours go together, of all kits, and `horizon_hour` follows: hours below are sealed.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from gateway.clock import Wait
from gateway.records import HOUR_MS
from gateway.store import counters
from gateway.store.database import AIR_HORIZON, RAW_HORIZON, RECORD_HORIZON, horizon_hour, transaction, write_meta

PAGE: Final = 500
"""Chunks or records that one step looks at, of those that have no order by age."""

_NONE: Final = -(2**62)
Place = tuple[int, int, int]
FIRST_LATE: Final[Place] = (_NONE, _NONE, 0)
FIRST_WAITING: Final[Place] = (int(min(Wait)), _NONE, 0)
"""Where looking through the late and the waiting chunks begins."""

_RECORD_TABLES: Final = {"hour": ("kit",), "site_index": ("site", "scheme")}


@dataclass(frozen=True, slots=True)
class Gone:
    """What a step took: records of its kind, and how many rows no sink will be given any more."""

    count: int = 0
    unsent: int = 0

    def __add__(self, other: "Gone") -> "Gone":
        return Gone(self.count + other.count, self.unsent + other.unsent)


@dataclass(frozen=True, slots=True)
class Rule:
    """How raw rows go.

    `spared_after_ms`: rows that were too old already when they were received stay until the receipt lies before it, for
    which `age_ms` is the age at which rows go; `None` spares nothing. `sent_rev` is the revision that the last sink has
    confirmed. `counter` counts the rows beside `pruned`.
    """

    age_ms: int = 0
    spared_after_ms: int | None = None
    sent_rev: int = 2**62
    counter: str | None = None


def newest_ms(db: sqlite3.Connection) -> list[int]:
    """Return the time of each kit's newest placed reading [ms], rising; kits without one are left out."""
    found = db.execute(
        "SELECT time_ms FROM (SELECT (SELECT max(time_to_ms) FROM chunk WHERE kit = kit.id AND hour = "
        "(SELECT max(hour) FROM chunk WHERE kit = kit.id)) AS time_ms FROM kit) WHERE time_ms IS NOT NULL ORDER BY 1"
    ).fetchall()
    return [time_ms for (time_ms,) in found]


def oldest_hour(db: sqlite3.Connection, *, table: str = "chunk", from_hour: int = _NONE) -> int | None:
    """Return the oldest hour, from `from_hour` on, of which any kit has something."""
    (hour,) = db.execute(
        f"SELECT min(hour) FROM (SELECT (SELECT min(hour) FROM {table} WHERE kit = kit.id AND hour >= ?) AS hour "  # noqa: S608
        "FROM kit)",
        (from_hour,),
    ).fetchone()
    return None if hour is None else int(hour)


def is_dirty(db: sqlite3.Connection, hour: int) -> bool:
    """Tell whether an hour of any kit is still to be derived."""
    return bool(
        db.execute("SELECT EXISTS (SELECT 1 FROM dirty WHERE kit IN (SELECT id FROM kit) AND hour = ?)", (hour,))
        .fetchone()[0]
    )  # fmt: skip


def prune_hour(db: sqlite3.Connection, hour: int, rule: Rule) -> Gone:
    """Delete the raw rows of an hour, of all kits, and seal it; what the rule spares stays."""
    spared = "0"
    if rule.spared_after_ms is not None:
        spared = "(clock_error_s IS NOT NULL AND received_ms >= :late_ms AND received_ms > :spared_after_ms)"
    which = f"kit IN (SELECT id FROM kit) AND hour = :hour AND NOT {spared}"  # noqa: S608 - constants
    values = {
        "hour": hour, "late_ms": (hour + 1) * HOUR_MS + rule.age_ms, "spared_after_ms": rule.spared_after_ms,
    }  # fmt: skip
    with transaction(db):
        gone = _delete_chunks(db, which, values, rule)
        db.execute(
            "DELETE FROM loose WHERE kit IN (SELECT id FROM kit) AND hour = ? AND NOT EXISTS "
            "(SELECT 1 FROM chunk WHERE chunk.kit = loose.kit AND chunk.hour = loose.hour)",
            (hour,),
        )
        for (kit,) in db.execute(
            "DELETE FROM dirty WHERE kit IN (SELECT id FROM kit) AND hour = ? RETURNING kit", (hour,)
        ).fetchall():
            counters.add(db, kit, {"pruned_underived": 1})
        if hour >= horizon_hour(db):
            write_meta(db, RAW_HORIZON, str(hour + 1))
    return gone


def prune_late(
    db: sqlite3.Connection, before_ms: int, hour_limit: int, rule: Rule, after: Place
) -> tuple[Gone, Place | None]:
    """Delete rows of sealed hours that were received before a time, of at most `hour_limit` hours.

    Looks at the next `PAGE` chunks after (kit, hour, id) and returns where the next call goes on; `None` at the end.
    """
    sealed = horizon_hour(db)
    seen: list[tuple[int, int, int, int, int | None]] = []
    for (kit,) in db.execute("SELECT id FROM kit WHERE id >= ? ORDER BY id", (after[0],)).fetchall():
        place = after[1:] if kit == after[0] else FIRST_LATE[1:]
        seen += db.execute(
            "SELECT kit, hour, id, received_ms, clock_error_s FROM chunk WHERE kit = ? AND (hour, id) > (?, ?) "
            "AND hour < ? ORDER BY hour, id LIMIT ?",
            (kit, *place, sealed, PAGE - len(seen)),
        ).fetchall()
        if len(seen) >= PAGE:
            break
    expired = [(hour, chunk) for _, hour, chunk, ms, error_s in seen if error_s is not None and ms <= before_ms]
    hours = sorted({hour for hour, _ in expired})[:hour_limit]
    gone = _delete_ids(db, [chunk for hour, chunk in expired if hour in hours], rule)
    return gone, seen[-1][:3] if len(seen) >= PAGE else None


def prune_waiting(
    db: sqlite3.Connection, before_ms: int, span_ms: int, rule: Rule, after: Place
) -> tuple[Gone, Place | None]:
    """Delete rows without an hour that were received before a time, of at most `span_ms` of receipts.

    Looks at the next `PAGE` chunks after (reason, time, id) and returns where the next call goes on; `None` at the end.
    A receipt by a clock that was not trusted tells no age: those rows stay as long as there is room.
    """
    reason, time_ms, chunk = after
    rest = "time_to_ms IS NULL AND id > :chunk ORDER BY id"
    if reason != Wait.NO_TIME:
        rest = "(time_to_ms, id) > (:time_ms, :chunk) ORDER BY time_to_ms, id"
    seen = db.execute(
        "SELECT received_ms, clock_error_s, time_to_ms, id FROM chunk "  # noqa: S608 - constants
        f"WHERE waits = :reason AND {rest} LIMIT :page",
        {"reason": reason, "time_ms": time_ms, "chunk": chunk, "page": PAGE},
    ).fetchall()
    expired = sorted((ms, found) for ms, error_s, _, found in seen if error_s is not None and ms <= before_ms)
    gone = _delete_ids(db, [found for ms, found in expired if ms < expired[0][0] + span_ms], rule)
    if len(seen) >= PAGE:
        return gone, (reason, seen[-1][2] or 0, seen[-1][3])
    return gone, (reason + 1, _NONE, 0) if reason < max(Wait) else None


def oldest_waiting_ms(db: sqlite3.Connection) -> int | None:
    """Return when the first stored of the waiting rows were received; reads an index of the waiting rows alone."""
    found = db.execute(
        "SELECT received_ms FROM chunk WHERE id = (SELECT min(id) FROM chunk WHERE waits IS NOT NULL)"
    ).fetchone()
    return int(found[0]) if found else None


def prune_first_waiting(db: sqlite3.Connection, rule: Rule) -> Gone:
    """Delete the first stored of the waiting rows."""
    # The unary plus keeps SQLite from walking the whole log by id.
    found = db.execute("SELECT id FROM chunk WHERE waits IS NOT NULL ORDER BY +id LIMIT ?", (PAGE,)).fetchall()
    return _delete_ids(db, [chunk for (chunk,) in found], rule)


def prune_air(db: sqlite3.Connection, hour: int, sent_rev: int) -> Gone:
    """Delete the calibrated rows of an hour, of all kits."""
    with transaction(db):
        gone = Gone()
        for kit, rev in db.execute(
            "DELETE FROM air WHERE kit IN (SELECT id FROM kit) AND hour = ? RETURNING kit, rev", (hour,)
        ).fetchall():
            one = Gone(1, int(rev > sent_rev))
            counters.add(db, kit, {"pruned_air_hours": 1, "pruned_unsent_air_hours": one.unsent})
            gone += one
        if hour >= horizon_hour(db, AIR_HORIZON):
            write_meta(db, AIR_HORIZON, str(hour + 1))
    return gone


def prune_records(db: sqlite3.Connection, before_hour: int, hour_limit: int) -> int:
    """Delete hour and index records older than an hour, of the oldest `hour_limit` hours; returns how many."""
    count = 0
    for table, names in _RECORD_TABLES.items():
        keys = list(_groups(db, table, names))
        hours = sorted({hour for _, hour in keys if hour < before_hour})[:hour_limit]
        if not hours:
            continue
        same = " AND ".join(f"{name} = ?" for name in names)
        with transaction(db):
            removed: int = sum(
                db.execute(f"DELETE FROM {table} WHERE {same} AND hour <= ?", (*key, hours[-1])).rowcount  # noqa: S608
                for key, hour in keys
                if hour <= hours[-1]
            )
            counters.add(db, 0, {f"pruned_{table}_records": removed})
            write_meta(db, RECORD_HORIZON, str(max(horizon_hour(db, RECORD_HORIZON), hours[-1] + 1)))
        count += removed
    return count


def prune_tombstones(db: sqlite3.Connection, before_ms: int, span_ms: int, sent_rev: int) -> Gone:
    """Delete removals made before a time, of at most `span_ms` at once."""
    (first_ms,) = db.execute("SELECT min(made_ms) FROM tombstone").fetchone()
    if first_ms is None or first_ms > before_ms:
        return Gone()
    with transaction(db):
        revisions = db.execute(
            "DELETE FROM tombstone WHERE rev IN (SELECT rev FROM tombstone WHERE made_ms <= ? LIMIT ?) RETURNING rev",
            (min(before_ms, first_ms + span_ms), PAGE),
        ).fetchall()
        gone = Gone(len(revisions), sum(rev > sent_rev for (rev,) in revisions))
        counters.add(db, 0, {"pruned_tombstones": gone.count, "pruned_unsent_tombstones": gone.unsent})
    return gone


def _groups(db: sqlite3.Connection, table: str, names: Iterable[str]) -> Iterator[tuple[tuple[int | str, ...], int]]:
    """Yield each key of a table of records with its oldest hour, by jumping from key to key in the index."""
    key = ", ".join(names)
    row = db.execute(f"SELECT {key}, hour FROM {table} ORDER BY {key}, hour LIMIT 1").fetchone()  # noqa: S608
    while row is not None:
        yield row[:-1], int(row[-1])
        marks = ", ".join("?" * (len(row) - 1))
        row = db.execute(
            f"SELECT {key}, hour FROM {table} WHERE ({key}) > ({marks}) ORDER BY {key}, hour LIMIT 1",  # noqa: S608
            row[:-1],
        ).fetchone()


def _delete_ids(db: sqlite3.Connection, ids: list[int], rule: Rule) -> Gone:
    if not ids:
        return Gone()
    marks = ", ".join(str(int(number)) for number in ids)
    with transaction(db):
        return _delete_chunks(db, f"id IN ({marks})", {}, rule)


def _delete_chunks(db: sqlite3.Connection, which: str, values: dict[str, int | None], rule: Rule) -> Gone:
    """Delete chunks inside a transaction and count their rows for each kit."""
    gone = Gone()
    for kit, rows, unsent in db.execute(
        "SELECT kit, sum(row_count), sum(CASE WHEN rev > :sent_rev AND hour IS NOT NULL THEN row_count ELSE 0 END) "  # noqa: S608
        f"FROM chunk WHERE {which} GROUP BY kit",
        {**values, "sent_rev": rule.sent_rev},
    ).fetchall():
        counts = {"pruned": rows, "pruned_unsent": unsent}
        counters.add(db, kit, counts | ({rule.counter: rows} if rule.counter else {}))
        gone += Gone(rows, unsent)
    db.execute(f"DELETE FROM chunk WHERE {which}", values)  # noqa: S608
    return gone
