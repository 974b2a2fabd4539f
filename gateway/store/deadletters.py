"""Messages that could not become rows: kept with reason and payload, within bounds; used inside a transaction.

How many letters of a kit are held, and how large they are, stands in its counters beside what was counted for ever, so
that a letter costs the same however many there are.
"""

import hashlib
import sqlite3
from collections.abc import Iterator
from typing import Final

import msgspec

from gateway.settings import DeadLetters as Limits
from gateway.store import counters
from gateway.wire import MAX_MESSAGE_BYTES, Reason, Rows

MAX_LETTERS: Final = 10_000
"""Letters of one kit, whatever their size."""

HELD: Final = "dead_letters_held"
HELD_BYTES: Final = "dead_letters_held_bytes"
EVICTED: Final = "dead_letters_evicted"
EXPIRED: Final = "dead_letters_expired"

_MB: Final = 1_000_000
_SIZE: Final = "(length(payload) + length(topic) + length(detail) + 128)"  # the last: the row around them
_COLUMNS: Final = "id, received_ms, topic, kit, boot, seq_from, seq_to, reason, detail, payload, copies"


class Letter(msgspec.Struct, frozen=True):
    """A message as it was received, and why it is no reading."""

    id: int
    received_ms: int
    topic: str
    kit: str | None
    boot: int | None
    seq_from: int | None
    seq_to: int | None
    reason: str
    detail: str
    payload: bytes
    copies: int

    @property
    def is_truncated(self) -> bool:
        """Whether only the beginning was kept."""
        return self.reason == Reason.TOO_LARGE and len(self.payload) >= MAX_MESSAGE_BYTES


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant: all that every given property fits."""

    ids: tuple[int, ...] = ()
    kit: str | None = None
    reason: str | None = None
    since_ms: int | None = None
    before_ms: int | None = None

    def condition(self) -> tuple[str, list[object]]:
        """Return it as SQL."""
        parts, values = ["TRUE"], list[object]()
        if self.ids:
            parts.append(f"id IN ({', '.join('?' * len(self.ids))})")
            values += self.ids
        for text, value in (
            ("kit = ?", self.kit), ("reason = ?", self.reason),
            ("received_ms >= ?", self.since_ms), ("received_ms < ?", self.before_ms),
        ):  # fmt: skip
            if value is not None:
                parts.append(text)
                values.append(value)
        return " AND ".join(parts), values


class Group(msgspec.Struct, frozen=True):
    """The letters of one kit with one reason; `first_ms` and `last_ms` are when the first and last came."""

    kit: str | None
    reason: str
    letters: int
    copies: int
    first_ms: int
    last_ms: int


def keep(
    db: sqlite3.Connection,
    *,
    received_ms: int,
    topic: str,
    kit: str | None,
    reason: str,
    detail: str,
    payload: bytes,
    rows: Rows | None = None,
) -> bool:
    """Keep a message, or count one more copy of it; returns whether it is new.

    Of a message larger than any that could be replayed the beginning is kept, and the digest of the whole. `kit` is
    `None` or known in the store. Call `bound` for what then goes beyond the limits.
    """
    boot, seq_from, seq_to = (rows.boot, rows.seqs[0], rows.seqs[-1]) if rows else (None, None, None)
    copies, size = db.execute(
        "INSERT INTO dead_letter (digest, received_ms, topic, kit, boot, seq_from, seq_to, reason, detail, payload) "  # noqa: S608
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET copies = copies + 1 "
        f"RETURNING copies, {_SIZE}",
        (
            _digest(topic, reason, payload), received_ms, topic, kit, boot, seq_from, seq_to, reason, detail,
            payload[:MAX_MESSAGE_BYTES],
        ),
    ).fetchone()  # fmt: skip
    if copies == 1:
        _add_held(db, kit, letters=1, size=size)
    return bool(copies == 1)


def _digest(topic: str, reason: str, payload: bytes) -> bytes:
    return hashlib.sha256(f"{topic}\0{reason}\0".encode() + payload).digest()


def bound(db: sqlite3.Connection, kit: str | None, limits: Limits) -> int:
    """Let the oldest letters of a kit go, until the others are within its limits; returns how many."""
    evicted = 0
    letters, size = _held(db, kit)
    while letters > MAX_LETTERS or size > limits.kit_mb * _MB:
        if (gone := _remove_oldest(db, kit)) is None:
            break
        evicted, letters, size = evicted + 1, letters - 1, size - gone
    _count(db, kit, EVICTED, evicted)
    return evicted


def bound_all(db: sqlite3.Connection, limits: Limits) -> int:
    """Let the oldest letters of the kits with most of them go, until all are within their limit; returns how many."""
    (total,) = db.execute("SELECT coalesce(sum(value), 0) FROM counter WHERE name = ?", (HELD_BYTES,)).fetchone()
    if total <= limits.total_mb * _MB:
        return 0
    evicted, goal = 0, limits.total_mb * _MB * 15 // 16  # somewhat below, so that the next letter finds room
    while total > goal:
        most, size = db.execute(
            "SELECT kit, value FROM counter WHERE name = ? ORDER BY value DESC LIMIT 1", (HELD_BYTES,)
        ).fetchone()
        found = db.execute("SELECT name FROM kit WHERE id = ?", (most,)).fetchone()
        kit = found[0] if found else None
        count, until = 0, min(size * 15 // 16, size - 1)
        while size > until and (gone := _remove_oldest(db, kit)) is not None:
            count, size, total = count + 1, size - gone, total - gone
        if not count:
            break
        _count(db, kit, EVICTED, count)
        evicted += count
    return evicted


def _remove_oldest(db: sqlite3.Connection, kit: str | None) -> int | None:
    """Remove a letter of a kit; returns its size."""
    gone = db.execute(
        f"DELETE FROM dead_letter WHERE id = (SELECT min(id) FROM dead_letter WHERE kit IS ?) RETURNING {_SIZE}",  # noqa: S608
        (kit,),
    ).fetchone()
    if gone is None:
        return None
    _add_held(db, kit, letters=-1, size=-gone[0])
    return int(gone[0])


def remove(db: sqlite3.Connection, number: int) -> None:
    """Remove a letter that has been replayed."""
    gone = db.execute(f"DELETE FROM dead_letter WHERE id = ? RETURNING kit, {_SIZE}", (number,)).fetchone()  # noqa: S608
    if gone:
        _add_held(db, gone[0], letters=-1, size=-gone[1])


def change_reason(db: sqlite3.Connection, letter: Letter, reason: str, detail: str) -> None:
    """Keep that a letter fails for another reason now; one with that reason already counts it as copies."""
    digest = _digest(letter.topic, reason, letter.payload)
    same = db.execute("SELECT id FROM dead_letter WHERE digest = ? AND id <> ?", (digest, letter.id)).fetchone()
    if same:
        db.execute("UPDATE dead_letter SET copies = copies + ? WHERE id = ?", (letter.copies, same[0]))
        remove(db, letter.id)
        return
    db.execute(
        "UPDATE dead_letter SET digest = ?, reason = ?, detail = ? WHERE id = ?", (digest, reason, detail, letter.id)
    )
    _add_held(db, letter.kit, letters=0, size=len(detail) - len(letter.detail))


def expire(db: sqlite3.Connection, choice: Choice, limit: int) -> int:
    """Remove chosen letters, the oldest first, at most `limit`; returns how many."""
    condition, values = choice.condition()
    gone = db.execute(
        "DELETE FROM dead_letter WHERE id IN "  # noqa: S608 - the condition holds no values
        f"(SELECT id FROM dead_letter WHERE {condition} ORDER BY id LIMIT ?) RETURNING kit, {_SIZE}",
        (*values, limit),
    ).fetchall()
    for kit in {kit for kit, _ in gone}:
        sizes = [size for owner, size in gone if owner == kit]
        _add_held(db, kit, letters=-len(sizes), size=-sum(sizes))
        _count(db, kit, EXPIRED, len(sizes))
    return len(gone)


def expire_older(db: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Remove letters received before a time, at most `limit`; returns how many."""
    return expire(db, Choice(before_ms=before_ms), limit)


def recount(db: sqlite3.Connection) -> None:
    """Put the counters of what is held right, where they are not; writes nothing where they are."""
    found = db.execute(
        "SELECT coalesce(kit.id, 0), count(*), "  # noqa: S608
        f"sum({_SIZE}) FROM dead_letter LEFT JOIN kit ON kit.name = dead_letter.kit GROUP BY 1"
    )
    due = {(kit, name): n for kit, *both in found for name, n in zip((HELD, HELD_BYTES), both, strict=True)}
    stands = {
        (kit, name): n
        for kit, name, n in db.execute(
            "SELECT kit, name, value FROM counter WHERE name IN (?, ?) AND value <> 0", (HELD, HELD_BYTES)
        )
    }
    for kit, name in {key for key in due.keys() | stands.keys() if due.get(key, 0) != stands.get(key, 0)}:
        counters.add(db, kit, {name: due.get((kit, name), 0) - stands.get((kit, name), 0)})


def choose(db: sqlite3.Connection, choice: Choice, *, after: int = 0, limit: int) -> list[Letter]:
    """Return chosen letters with a number above `after`, by number."""
    condition, values = choice.condition()
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM dead_letter WHERE id > ? AND {condition} ORDER BY id LIMIT ?",  # noqa: S608
        (after, *values, limit),
    )
    return [Letter(*row) for row in rows]


def window(db: sqlite3.Connection, reason: str, *, after: int, width: int) -> tuple[list[Letter], int | None]:
    """Return the letters of a reason among the next `width` letters, and the last number looked at."""
    (last,) = db.execute(
        "SELECT max(id) FROM (SELECT id FROM dead_letter WHERE id > ? ORDER BY id LIMIT ?)", (after, width)
    ).fetchone()
    if last is None:
        return [], None
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM dead_letter WHERE id > ? AND id <= ? AND reason = ? ORDER BY id",  # noqa: S608
        (after, last, reason),
    )
    return [Letter(*row) for row in rows], int(last)


def groups(db: sqlite3.Connection, choice: Choice) -> Iterator[Group]:
    """Yield what the chosen letters are, a group for each kit and reason."""
    condition, values = choice.condition()
    for row in db.execute(
        "SELECT kit, reason, count(*), sum(copies), min(received_ms), max(received_ms) "  # noqa: S608
        f"FROM dead_letter WHERE {condition} GROUP BY kit, reason ORDER BY kit, reason",
        values,
    ):
        yield Group(*row)


def count(db: sqlite3.Connection, choice: Choice | None = None) -> dict[str, int]:
    """Return how many distinct dead letters there are by reason."""
    condition, values = (choice or Choice()).condition()
    return dict(
        db.execute(f"SELECT reason, count(*) FROM dead_letter WHERE {condition} GROUP BY reason", values)  # noqa: S608
    )


def newest(db: sqlite3.Connection) -> int:
    """Return the highest number of a letter, 0 where there is none."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM dead_letter").fetchone()[0])


def _kit_number(db: sqlite3.Connection, kit: str | None) -> int:
    found = db.execute("SELECT id FROM kit WHERE name = ?", (kit,)).fetchone() if kit else None
    return found[0] if found else 0


def _held(db: sqlite3.Connection, kit: str | None) -> tuple[int, int]:
    found = dict(
        db.execute(
            "SELECT name, value FROM counter WHERE kit = ? AND name IN (?, ?)",
            (_kit_number(db, kit), HELD, HELD_BYTES),
        )
    )
    return found.get(HELD, 0), found.get(HELD_BYTES, 0)


def _add_held(db: sqlite3.Connection, kit: str | None, *, letters: int, size: int) -> None:
    counters.add(db, _kit_number(db, kit), {HELD: letters, HELD_BYTES: size})


def _count(db: sqlite3.Connection, kit: str | None, name: str, number: int) -> None:
    counters.add(db, _kit_number(db, kit), {name: number})
