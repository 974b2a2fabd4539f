"""What sinks were given and does not hold any more: removals in the revision stream; used inside a transaction."""

import sqlite3
import time
from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec
import numpy as np

from gateway.records import Ints
from gateway.store.database import take_revisions


class Kind(StrEnum):
    """Of what records are removed."""

    RAW = "raw"
    AIR = "air"
    HOUR = "hour"
    INDEX = "index"


class Tombstone(msgspec.Struct, frozen=True, eq=False):
    """Points that are withdrawn: of the kit (of an index, the site) `name`, at `times_ms`.

    `tag` is the site of calibrated rows and hours, the scheme of an index, empty for raw readings.
    """

    rev: int
    kind: Kind
    name: str
    tag: str
    times_ms: Ints


def leave(db: sqlite3.Connection, kind: Kind, name: str, tag: str, times_ms: Iterable[int]) -> None:
    """Withdraw points; what stands at the same key afterwards must be written after this, with a higher revision."""
    times = np.array(sorted(times_ms), dtype="<i8")
    if len(times):
        db.execute(
            "INSERT INTO tombstone (rev, kind, name, tag, times, made_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (take_revisions(db, 1), kind, name, tag, times.tobytes(), time.time_ns() // 1_000_000),
        )


def between(db: sqlite3.Connection, after: int, high: int) -> Sequence[Tombstone]:
    """Return the removals with a revision above `after` and up to `high`, in order."""
    found = db.execute(
        "SELECT rev, kind, name, tag, times FROM tombstone WHERE rev > ? AND rev <= ? ORDER BY rev", (after, high)
    )
    return [Tombstone(rev, Kind(kind), name, tag, np.frombuffer(t, "<i8")) for rev, kind, name, tag, t in found]
