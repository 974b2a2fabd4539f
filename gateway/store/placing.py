"""Putting rows into hours of the log: their time, and a millisecond of its own for each row of a kit.

Two rows of a kit can claim the same second: a clock was set back, or two starts overlap. In the order of (boot, seq)
the first has the second itself, the next ones a millisecond more each, whatever order they arrived in; a row that
comes late can so move one that is stored.
"""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from operator import lt
from typing import Final

import msgspec
import numpy as np

from gateway.bulk import Run
from gateway.clock import ERROR_SET_S, SHIFTS, Anchor, Receipt, Wait, hour_of, place
from gateway.records import HOUR_MS, TimeSource
from gateway.store import chunks
from gateway.store.chunks import Packed, Row
from gateway.store.log import ChunkKey, ChunkLog, Taken
from gateway.wire import Layout

_NEVER: Final = -(2**62)
_REACH_HOURS: Final = 13
"""A row's hour is that of the middle of an interval of at most a day: up to 12 h before its time."""


class _Candidate(msgspec.Struct, frozen=True):
    """A row that has a time, and where it would stand: `base_ms` before any shift."""

    base_ms: int
    boot: int
    seq: int
    key: ChunkKey
    row: Row
    received_ms: int


class _Standing(msgspec.Struct, frozen=True):
    """A row of the log; `shift_ms` is None where it waits for a free millisecond."""

    chunk: int
    base_ms: int
    boot: int
    seq: int
    shift_ms: int | None


class Placer:
    """Places rows inside a transaction; the caller flushes the log."""

    def __init__(self, db: sqlite3.Connection, log: ChunkLog) -> None:
        self._db = db
        self._log = log
        self._newest: dict[int, int] = {}

    def forget(self) -> None:
        """Drop what is held in memory, after a rollback."""
        self._newest.clear()

    def place(
        self, kit: int, boot: int, layout: Layout, rows: Sequence[Row], receipt: Receipt, anchor: Anchor | None,
        now_ms: int | None = None,
    ) -> int:  # fmt: skip
        """Put rows of one boot, rising by seq, into the log; returns how many fell into sealed hours."""
        candidates: list[_Candidate] = []
        for row in rows:
            where = place(
                up=_integer(row[layout.up]), t=row[layout.t], q=_integer(row[layout.q]), dt=_integer(row[layout.dt]),
                anchor=anchor, receipt=receipt, now_ms=now_ms,
            )  # fmt: skip
            key = ChunkKey(
                kit, boot, layout, where.hour, where.source, where.error_s, where.offset_s, receipt.clock_error_s,
                waits=where.waits, received_ms=receipt.received_ms if where.waits else None,
            )  # fmt: skip
            if where.hour is None or where.time_ms is None:
                self._log.append(key, row, where.time_ms, receipt.received_ms)
            else:
                seq = _integer(row[layout.seq])
                candidates.append(_Candidate(where.time_ms, boot, seq, key, row, receipt.received_ms))
        return self._settle(kit, candidates) if candidates else 0

    def place_run(self, kit: int, run: Run, receipt: Receipt, *, is_single: bool) -> int | None:
        """Put a run into the log as it is, hour by hour; returns how many rows fell into sealed hours.

        `is_single`: it is a row that was sent when it was made, which does not become a chunk at once.

        None, with nothing done, where a row might meet another of the kit, or claims a time after its receipt.
        """
        bound_ms = receipt.bound_ms
        if self._log.has_taken or run.time_from_s * 1000 <= self._newest_ms(kit):
            return None
        if bound_ms is not None and run.time_to_s * 1000 > bound_ms:
            return None
        error_s = ERROR_SET_S + (receipt.clock_error_s or 0)
        late = 0
        for hour, table, from_s, to_s in run.hours():
            key = ChunkKey(kit, run.boot, run.layout, hour, TimeSource.KIT, error_s, None, receipt.clock_error_s)
            if is_single:
                self._log.add_single(key, table, to_s * 1000, receipt.received_ms)
            else:
                self._log.extend(key, table, from_s * 1000, to_s * 1000, receipt.received_ms)
            late += len(table) * (hour < self._log.horizon_hour)
        self._newest[kit] = run.time_to_s * 1000
        return late

    def resettle(self, kit: int, bases_ms: Iterable[int]) -> None:
        """Close the gaps that rows left which stood at these times."""
        self._log.flush()
        self._resolve(kit, set(bases_ms), [])

    def _settle(self, kit: int, candidates: Sequence[_Candidate]) -> int:
        bases = [candidate.base_ms for candidate in candidates]
        newest = self._newest_ms(kit)
        if not all(map(lt, [newest, *bases], bases)) and (taken := self._taken(kit, bases)):
            self._resolve(kit, taken, [c for c in candidates if c.base_ms in taken])
            candidates = [c for c in candidates if c.base_ms not in taken]
        for candidate in candidates:
            self._log.append(candidate.key, candidate.row, candidate.base_ms, candidate.received_ms)
        self._newest[kit] = max(newest, *bases)
        return sum(_integer(c.key.hour) < self._log.horizon_hour for c in candidates)

    def _taken(self, kit: int, bases: Sequence[int]) -> set[int]:
        """Return those times at which another row stands, or several of these would."""
        several = {base for base, count in Counter(bases).items() if count > 1}
        return several | {row.base_ms for row in self._standing(kit, set(bases))}

    def _newest_ms(self, kit: int) -> int:
        """Return the latest time of the kit's rows: what is later cannot meet another."""
        if (known := self._newest.get(kit)) is None:
            (found,) = self._db.execute(
                "SELECT max(time_to_ms) FROM chunk WHERE kit = ?1 AND hour >= "
                "(SELECT max(hour) FROM chunk WHERE kit = ?1) - ?2",
                (kit, _REACH_HOURS),
            ).fetchone()
            pending = self._log.newest_ms(kit)
            known = self._newest[kit] = max(t for t in (found, pending, _NEVER) if t is not None)
        return known

    def _standing(self, kit: int, bases_ms: set[int]) -> list[_Standing]:
        """Return the kit's rows in the store at these times."""
        low, high = min(bases_ms), max(bases_ms) + SHIFTS
        self._log.make_searchable(kit, high)
        select = (
            "SELECT chunk.id, boot, names, width, rows, offset_s, shift_ms, waits FROM chunk "
            "JOIN column_set ON column_set.id = chunk.columns WHERE time_to_ms >= :low AND time_from_ms <= :high "
        )
        span = {"kit": kit, "low": low, "high": high, "from": low // HOUR_MS - _REACH_HOURS, "to": high // HOUR_MS}
        placed = self._db.execute(f"{select} AND kit = :kit AND hour BETWEEN :from AND :to", span)
        crowded = self._db.execute(f"{select} AND kit = :kit AND waits = {int(Wait.CROWDED)}", span)
        wanted = np.array(sorted(bases_ms))
        found = []
        for chunk, boot, names, width, packed, offset_s, shift_ms, waits in [*placed, *crowded]:
            columns = names.split(",")
            values = chunks.unpack(Packed(width, packed), len(columns))
            time_at = columns.index("t" if offset_s is None else "up")
            bases = (values[:, time_at] + (offset_s or 0)) * 1000
            for i in np.flatnonzero(np.isin(bases, wanted)).tolist():
                seq = int(values[i, columns.index("seq")])
                found.append(_Standing(chunk, int(bases[i]), boot, seq, None if waits else shift_ms))
        return found

    def _resolve(self, kit: int, bases_ms: set[int], new: Sequence[_Candidate]) -> None:
        """Give the stored and the new rows at these times their milliseconds, by (boot, seq)."""
        standing = self._standing(kit, bases_ms) if bases_ms else []
        shares = _shares(standing, new)
        moved = {row.chunk for row in standing if shares[row.base_ms, row.boot, row.seq] != row.shift_ms}
        for taken in self._log.take_out(sorted(moved)):
            self._append_again(taken, shares)
        for c in new:
            self._append(c.key, c.row, c.base_ms, c.received_ms, shares[c.base_ms, c.boot, c.seq])

    def _append_again(self, taken: Taken, shares: dict[tuple[int, int, int], int | None]) -> None:
        key = taken.key
        for row in taken.rows:
            base_ms, own = taken.base_ms(row), None if key.waits else key.shift_ms
            if base_ms is None:
                continue
            share = shares.get((base_ms, key.boot, _integer(row[key.layout.seq])), own)
            hour = hour_of(base_ms, _integer(row[key.layout.dt]))
            self._append(key._replace(hour=hour, waits=None, received_ms=None), row, base_ms, taken.received_ms, share)

    def _append(self, key: ChunkKey, row: Row, base_ms: int, received_ms: int, share: int | None) -> None:
        if share is None:
            crowded = key._replace(hour=None, shift_ms=0, waits=Wait.CROWDED, received_ms=received_ms)
            self._log.append(crowded, row, base_ms, received_ms)
        else:
            self._log.append(key._replace(shift_ms=share), row, base_ms + share, received_ms)


def _shares(standing: Iterable[_Standing], new: Iterable[_Candidate]) -> dict[tuple[int, int, int], int | None]:
    """Return the shift [ms] of each row by (time, boot, seq); None where no millisecond is left."""
    at: dict[int, set[tuple[int, int]]] = defaultdict(set)
    names = [(row.base_ms, row.boot, row.seq) for row in standing] + [(c.base_ms, c.boot, c.seq) for c in new]
    for base_ms, boot, seq in names:
        at[base_ms].add((boot, seq))
    return {
        (base_ms, *name): rank if rank < SHIFTS else None
        for base_ms, rows in at.items()
        for rank, name in enumerate(sorted(rows))
    }


def _integer(value: int | None) -> int:
    """Narrow a value of a column that the wire has checked to be no null."""
    assert value is not None  # noqa: S101 - for the type checker; wire.decode_batch refuses null here
    return value
