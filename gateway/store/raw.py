"""Writing raw readings: what is new, where it stands in time, chunks, cover, dirty hours."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.clock import Placement, place
from gateway.records import TimeSource
from gateway.store import chunks
from gateway.store.chunks import NULL, Packed, Row
from gateway.store.database import take_revisions
from gateway.store.seqset import SeqSet, runs
from gateway.wire import Batch, Rows

_KNOWN_BOOTS: Final = 4096
"""Boots whose intervals stay in memory; beyond it all are forgotten and read again when needed."""


@dataclass(slots=True)
class _Boot:
    """What is known of one boot: stored rows, rows settled for receipts (stored or dead-lettered), its clock."""

    stored: SeqSet
    settled: SeqSet
    first_seq: int
    offset_s: int | None
    offset_seq: int | None


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a batch: new rows, copies of stored rows, and seqs whose stored content differs."""

    new: int
    duplicates: int
    conflicts: list[int]


@dataclass(frozen=True, slots=True)
class _ChunkKey:
    kit: int
    boot: int
    columns: tuple[str, ...]
    hour: int | None
    source: TimeSource
    error_s: int | None
    offset_s: int | None


@dataclass(slots=True)
class _Pending:
    """Rows of one commit that will make one chunk."""

    received_ms: int
    rows: list[Row] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)


class RawWriter:
    """Adds readings to the store; belongs to the one writing thread.

    What writes is called inside a transaction, `flush` before it commits, and `forget` after a rollback.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._kits: dict[str, int] = {}
        self._boots: dict[tuple[int, int], _Boot] = {}
        self._column_sets: dict[tuple[str, ...], int] = {}
        self._pending: dict[_ChunkKey, _Pending] = {}

    def forget(self) -> None:
        """Drop what is held in memory, after a rollback."""
        self._kits.clear()
        self._boots.clear()
        self._column_sets.clear()
        self._pending.clear()

    def kit_id(self, name: str, heard_ms: int) -> int:
        """Return the number of a kit, making one for a new name."""
        if (known := self._kits.get(name)) is None:
            self._db.execute("INSERT INTO kit (name, heard_ms) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, heard_ms))
            (known,) = self._db.execute("SELECT id FROM kit WHERE name = ?", (name,)).fetchone()
            self._kits[name] = known
        return known

    def heard(self, name: str, heard_ms: int) -> None:
        """Note when a kit was last heard."""
        kit = self.kit_id(name, heard_ms)
        self._db.execute("UPDATE kit SET heard_ms = max(heard_ms, ?) WHERE id = ?", (heard_ms, kit))

    def set_status(self, name: str, heard_ms: int, *, up: int) -> None:
        """Keep a kit's last status."""
        self._db.execute("UPDATE kit SET up = ? WHERE id = ?", (up, self.kit_id(name, heard_ms)))

    def set_about(self, name: str, heard_ms: int, about: bytes) -> None:
        """Keep a kit's last birth certificate as it was received."""
        self._db.execute("UPDATE kit SET about = ? WHERE id = ?", (about, self.kit_id(name, heard_ms)))

    def recent_boots(self, name: str, since_ms: int, limit: int) -> list[int]:
        """Return the boots of a kit heard since then, newest first."""
        rows = self._db.execute(
            "SELECT boot FROM boot JOIN kit ON kit.id = boot.kit WHERE kit.name = ? AND boot.heard_ms >= ? "
            "ORDER BY boot.heard_ms DESC LIMIT ?",
            (name, since_ms, limit),
        )
        return [boot for (boot,) in rows]

    def receipt(self, name: str, boot: int) -> int:
        """Return the seq up to which every row of the boot is settled or was never held by the kit; -1 for none."""
        found = self._db.execute("SELECT id FROM kit WHERE name = ?", (name,)).fetchone()
        state = self._known_boot(found[0], boot) if found else None
        return state.settled.end_of_run(state.first_seq) if state else -1

    def settle(self, name: str, rows: Rows, heard_ms: int) -> None:
        """Count dead-lettered rows, a run without gaps, as held, so that receipts pass them."""
        kit = self.kit_id(name, heard_ms)
        boot = self._boot(kit, rows.boot, heard_ms, first_seq=rows.first)
        boot.settled.add(rows.seqs[0], rows.seqs[-1])
        self._pass_dropped(kit, rows.boot, boot, rows.first, heard_ms)

    def add(self, name: str, batch: Batch, received_ms: int, horizon_ms: int | None) -> Added:
        """Store the rows of a batch that are new, and tell what the others are."""
        kit = self.kit_id(name, received_ms)
        boot = self._boot(kit, batch.boot, received_ms, first_seq=batch.first)
        at = {column: i for i, column in enumerate(batch.cols)}
        seq_at = at["seq"]
        low, high = _integer(batch.rows[0][seq_at]), _integer(batch.rows[-1][seq_at])
        if boot.stored.overlaps(low, high):
            new = [row for row in batch.rows if _integer(row[seq_at]) not in boot.stored]
            copies = [row for row in batch.rows if _integer(row[seq_at]) in boot.stored]
            conflicts = self._conflicts(kit, batch, copies)
        else:
            new, copies, conflicts = batch.rows, [], []
        if new:
            self._learn_clock(kit, batch, new, at)
            self._queue(kit, batch.boot, batch.cols, new, received_ms, boot.offset_s, horizon_ms)
            self._cover(kit, batch.boot, boot, [_integer(row[seq_at]) for row in new])
        self._pass_dropped(kit, batch.boot, boot, batch.first, received_ms)
        return Added(len(new), len(copies) - len(conflicts), conflicts)

    def release_waiting(self, horizon_ms: int | None) -> int:
        """Place again the rows that wait for a time, and those held in a future that has come; returns how many."""
        waiting = self._db.execute(
            "SELECT chunk.id, chunk.kit, chunk.boot, names, width, rows, received_ms FROM chunk "
            "JOIN column_set ON column_set.id = chunk.columns JOIN boot USING (kit, boot) "
            "WHERE hour IS NULL "
            "AND CASE WHEN time_to_ms IS NULL THEN boot.offset_s IS NOT NULL ELSE time_to_ms <= ? END",
            (horizon_ms if horizon_ms is not None else 2**62,),
        ).fetchall()
        count = 0
        for chunk, kit, boot_number, names, width, packed, received_ms in waiting:
            columns = tuple(names.split(","))
            rows = [
                [None if v == NULL else v for v in row]
                for row in chunks.unpack(Packed(width, packed), len(columns)).tolist()
            ]
            boot = self._boot(kit, boot_number, received_ms, first_seq=0)
            self._db.execute("DELETE FROM chunk WHERE id = ?", (chunk,))
            self._queue(kit, boot_number, columns, rows, received_ms, boot.offset_s, horizon_ms)
            count += len(rows)
        return count

    def flush(self) -> None:
        """Write the chunks of this transaction and mark their hours dirty."""
        if not self._pending:
            return
        revision = take_revisions(self._db, len(self._pending))
        for offset, (key, pending) in enumerate(self._pending.items()):
            self._db.execute(
                "INSERT INTO chunk (rev, kit, boot, hour, seq_from, seq_to, row_count, time_from_ms, time_to_ms, "
                "time_source, time_error_s, offset_s, received_ms, columns, width, rows) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (revision + offset, *self._chunk_values(key, pending)),
            )
        dirty = {(key.kit, key.hour) for key in self._pending if key.hour is not None}
        self._db.executemany("INSERT INTO dirty (kit, hour) VALUES (?, ?) ON CONFLICT DO NOTHING", dirty)
        self._pending.clear()

    def _chunk_values(self, key: _ChunkKey, pending: _Pending) -> tuple[object, ...]:
        at = key.columns.index("seq")
        packed = chunks.pack(pending.rows)
        seqs = [_integer(row[at]) for row in pending.rows]
        times = pending.times_ms
        return (
            key.kit, key.boot, key.hour, min(seqs), max(seqs), len(seqs),
            min(times) if times else None, max(times) if times else None,
            key.source, key.error_s, key.offset_s, pending.received_ms,
            self._column_set(key.columns), packed.width, packed.rows,
        )  # fmt: skip

    def _boot(self, kit: int, boot: int, heard_ms: int, *, first_seq: int) -> _Boot:
        if (known := self._known_boot(kit, boot)) is not None:
            return known
        self._db.execute(
            "INSERT INTO boot (kit, boot, first_seq, heard_ms) VALUES (?, ?, ?, ?)", (kit, boot, first_seq, heard_ms)
        )
        state = self._boots[kit, boot] = _Boot(SeqSet(), SeqSet(), first_seq, None, None)
        return state

    def _known_boot(self, kit: int, boot: int) -> _Boot | None:
        if (known := self._boots.get((kit, boot))) is not None:
            return known
        found = self._db.execute(
            "SELECT first_seq, offset_s, offset_seq FROM boot WHERE kit = ? AND boot = ?", (kit, boot)
        ).fetchone()
        if found is None:
            return None
        if len(self._boots) >= _KNOWN_BOOTS:
            self._boots.clear()
        cover = self._db.execute(
            "SELECT seq_from, seq_to FROM cover WHERE kit = ? AND boot = ?", (kit, boot)
        ).fetchall()
        dead = self._db.execute(
            "SELECT seq_from, seq_to FROM dead_letter JOIN kit ON kit.name = dead_letter.kit "
            "WHERE kit.id = ? AND boot = ? AND seq_from IS NOT NULL",
            (kit, boot),
        ).fetchall()
        state = self._boots[kit, boot] = _Boot(SeqSet(cover), SeqSet([*cover, *dead]), *found)
        return state

    def _pass_dropped(self, kit: int, boot_number: int, boot: _Boot, first_seq: int, heard_ms: int) -> None:
        """Keep that the kit no longer holds what lies below `first_seq`."""
        boot.first_seq = max(boot.first_seq, first_seq)
        self._db.execute(
            "UPDATE boot SET first_seq = ?, heard_ms = max(heard_ms, ?) WHERE kit = ? AND boot = ?",
            (boot.first_seq, heard_ms, kit, boot_number),
        )

    def _cover(self, kit: int, boot_number: int, boot: _Boot, seqs: Sequence[int]) -> None:
        for low, high in runs(seqs):
            (merged_low, merged_high), swallowed = boot.stored.add(low, high)
            boot.settled.add(low, high)
            for start in swallowed:
                if start != merged_low:
                    self._db.execute(
                        "DELETE FROM cover WHERE kit = ? AND boot = ? AND seq_from = ?", (kit, boot_number, start)
                    )
            self._db.execute(
                "REPLACE INTO cover (kit, boot, seq_from, seq_to) VALUES (?, ?, ?, ?)",
                (kit, boot_number, merged_low, merged_high),
            )

    def _conflicts(self, kit: int, batch: Batch, copies: Sequence[Row]) -> list[int]:
        """Return the seqs whose stored row differs; rows already pruned cannot be compared and count as equal."""
        self.flush()
        seq_at = batch.cols.index("seq")
        sent = {_integer(row[seq_at]): dict(zip(batch.cols, row, strict=True)) for row in copies}
        found = self._db.execute(
            "SELECT names, width, rows FROM chunk JOIN column_set ON column_set.id = chunk.columns "
            "WHERE kit = ? AND boot = ? AND seq_from <= ? AND seq_to >= ?",
            (kit, batch.boot, max(sent), min(sent)),
        )
        conflicts: list[int] = []
        for names, width, packed in found:
            columns = names.split(",")
            for values in chunks.unpack(Packed(width, packed), len(columns)).tolist():
                stored = {c: None if v == NULL else v for c, v in zip(columns, values, strict=True)}
                seq = _integer(stored["seq"])
                if (copy := sent.get(seq)) is not None and copy != stored:
                    conflicts.append(seq)
        return sorted(conflicts)

    def _learn_clock(self, kit: int, batch: Batch, rows: Sequence[Row], at: dict[str, int]) -> None:
        """Keep the offset of the lowest row whose clock was set in its boot: it places rows that had none."""
        boot = self._boots[kit, batch.boot]
        for row in rows:
            seq, up, t, q = (row[at[c]] for c in ("seq", "up", "t", "q"))
            if q == 2 and t is not None:
                if boot.offset_seq is None or _integer(seq) < boot.offset_seq:
                    boot.offset_s, boot.offset_seq = t - _integer(up), _integer(seq)
                    self._db.execute(
                        "UPDATE boot SET offset_s = ?, offset_seq = ? WHERE kit = ? AND boot = ?",
                        (boot.offset_s, boot.offset_seq, kit, batch.boot),
                    )
                return

    def _queue(
        self,
        kit: int,
        boot: int,
        columns: tuple[str, ...],
        rows: Sequence[Row],
        received_ms: int,
        offset_s: int | None,
        horizon_ms: int | None,
    ) -> None:
        up_at, t_at, q_at, dt_at = (columns.index(c) for c in ("up", "t", "q", "dt"))
        for row in rows:
            where = place(
                up=_integer(row[up_at]), t=row[t_at], q=_integer(row[q_at]), dt=_integer(row[dt_at]),
                offset_s=offset_s, horizon_ms=horizon_ms,
            )  # fmt: skip
            self._append(kit, boot, columns, where, row, received_ms)

    def _append(
        self, kit: int, boot: int, columns: tuple[str, ...], where: Placement, row: Row, received_ms: int
    ) -> None:
        key = _ChunkKey(kit, boot, columns, where.hour, where.source, where.error_s, where.offset_s)
        if (pending := self._pending.get(key)) is None:
            pending = self._pending[key] = _Pending(received_ms)
        pending.rows.append(row)
        if where.time_ms is not None:
            pending.times_ms.append(where.time_ms)

    def _column_set(self, columns: tuple[str, ...]) -> int:
        if (known := self._column_sets.get(columns)) is None:
            names = ",".join(columns)
            self._db.execute("INSERT INTO column_set (names) VALUES (?) ON CONFLICT DO NOTHING", (names,))
            (known,) = self._db.execute("SELECT id FROM column_set WHERE names = ?", (names,)).fetchone()
            self._column_sets[columns] = known
        return known


def _integer(value: int | None) -> int:
    """Narrow a value of a column that the wire has checked to be no null."""
    assert value is not None  # noqa: S101 - for the type checker; wire.decode_batch refuses null here
    return value
