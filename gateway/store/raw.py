"""Writing raw readings: what is new, where it stands in time, what of it is to be placed again."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from gateway.bulk import Run
from gateway.clock import FUTURE_LIMIT_S, Receipt, Wait
from gateway.records import NULL
from gateway.store import chunks, counters, kits
from gateway.store.boots import Boot, Boots
from gateway.store.chunks import Packed, Row
from gateway.store.database import last_revision
from gateway.store.log import ChunkLog, Taken
from gateway.store.placing import Placer
from gateway.store.seqset import runs
from gateway.wire import Batch, Rows

ROWS_A_STEP: Final = 5000
"""Rows placed again in one step: some tens of ms, so that intake never waits long."""

HEARD_MS: Final = 20_000
"""When kits were last heard is written so often: of a thousand at once it takes a tenth of the pages."""

_NOT_BY_ANCHOR: Final = """
SELECT id, row_count, rev FROM chunk WHERE kit = :kit AND boot = :boot AND open IS {} NULL
AND (waits = :no_time OR (waits = :future AND rev < :before)
    OR (offset_s IS NOT NULL AND waits IS NOT :future AND NOT (offset_s IS :offset_s AND time_source IS :source))
    OR (waits IS NULL AND offset_s IS NULL AND clock_error_s IS NOT NULL
        AND time_to_ms > received_ms + :limit_ms + 1000 * clock_error_s))
"""
_ALL_NOT_BY_ANCHOR: Final = f"{_NOT_BY_ANCHOR.format('')} UNION ALL {_NOT_BY_ANCHOR.format('NOT')} ORDER BY rev"
"""Chunks of a boot that its anchor may place otherwise; `before` keeps rows that stay held from coming again."""

_WITH_SEQS: Final = """
SELECT names, width, rows FROM {} JOIN column_set ON column_set.id = chunk.columns
WHERE kit = :kit AND boot = :boot AND seq_from <= :high AND seq_to >= :low {}
"""
_ALL_WITH_SEQS: Final = " UNION ALL ".join(
    _WITH_SEQS.format(*one)
    for one in (("chunk", "AND open IS NULL"), ("chunk", "AND open IS NOT NULL"), ("fresh_chunk AS chunk", ""))
)
"""Where rows of a boot stand; each part has an index, or is short."""


class Added(NamedTuple):
    """What became of a batch: new rows, how many of them in sealed hours, copies, and seqs whose content differs.

    `is_counted`: batch and row are counted when they are gathered.
    """

    new: int
    late: int
    duplicates: int
    conflicts: list[int]
    is_counted: bool = False


class RawWriter:
    """Adds readings to the store; belongs to the one writing thread.

    What writes is called inside a transaction, `flush` before it commits, and `forget` after a rollback.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._kits: dict[str, int] = {}
        self._heard: dict[int, int] = {}
        self._heard_written_ms = 0
        self._boots = Boots(connection)
        self._log = ChunkLog(connection)
        self._placer = Placer(connection, self._log)
        self._has_all_seqs = False  # which rows are stored is known in memory, or written with the boots

    def forget(self) -> None:
        """Drop what is held in memory, after a rollback."""
        self._kits.clear()
        self._heard.clear()
        self._boots.forget()
        self._log.forget()
        self._placer.forget()
        self._has_all_seqs = False

    @property
    def fresh_count(self) -> int:
        """How many rows are to be gathered, of which is known."""
        return self._log.fresh_count

    @property
    def is_to_gather(self) -> bool:
        """Whether there may be rows to gather."""
        return self._log.fresh_count > 0 or not self._has_all_seqs

    def gather(self) -> None:
        """Make chunks of the rows that came one by one, which can be derived then."""
        self._log.gather()
        self._account_for_gathered()
        self._has_all_seqs = True

    def _begin(self) -> None:
        """After a start or a rollback: take in which rows are stored that no boot knows of."""
        if not self._has_all_seqs:
            self.gather()

    def _account_for_gathered(self) -> None:
        """Write what was put off for each row that came alone: that its boot has it, counts, its kit's last sign."""
        counts: dict[int, int] = defaultdict(int)
        for kit, _, number, seqs, received_ms in self._log.take_gathered():
            boot = self._boots.get(kit, number, received_ms, first_seq=0)
            for low, high in runs(seqs):
                boot.cover(low, high)
            counts[kit] += len(seqs)
            self._heard[kit] = max(received_ms, self._heard.get(kit, 0))
        for kit, count in counts.items():
            counters.add(self._db, kit, {"batches": count, "rows": count})

    def kit_id(self, name: str, heard_ms: int) -> int:
        """Return the number of a kit, making one for a new name."""
        if (known := self._kits.get(name)) is None:
            self._db.execute("INSERT INTO kit (name, heard_ms) VALUES (?, ?) ON CONFLICT DO NOTHING", (name, heard_ms))
            (known,) = self._db.execute("SELECT id FROM kit WHERE name = ?", (name,)).fetchone()
            self._kits[name] = known
        return known

    def knows(self, name: str) -> bool:
        """Tell whether anything of a kit was ever received."""
        return name in self._kits or kits.is_known(self._db, name)

    def heard(self, name: str, heard_ms: int) -> None:
        """Note when a kit was last heard."""
        kit = self.kit_id(name, heard_ms)
        self._heard[kit] = max(heard_ms, self._heard.get(kit, 0))

    def set_status(self, name: str, heard_ms: int, *, up: int) -> None:
        """Keep a kit's last status."""
        self._db.execute("UPDATE kit SET up = ? WHERE id = ?", (up, self.kit_id(name, heard_ms)))

    def set_about(self, name: str, heard_ms: int, about: bytes) -> None:
        """Keep a kit's last birth certificate as it was received."""
        self._db.execute("UPDATE kit SET about = ? WHERE id = ?", (about, self.kit_id(name, heard_ms)))

    def recent_boots(self, name: str, since_ms: int, limit: int) -> list[int]:
        """Return the boots of a kit heard since then, newest first."""
        self._boots.flush()
        rows = self._db.execute(
            "SELECT boot FROM boot JOIN kit ON kit.id = boot.kit WHERE kit.name = ? AND boot.heard_ms >= ? "
            "ORDER BY boot.heard_ms DESC LIMIT ?",
            (name, since_ms, limit),
        )
        return [boot for (boot,) in rows]

    def receipt(self, name: str, boot: int) -> int:
        """Return the seq up to which every row of the boot is settled or was never held by the kit; -1 for none."""
        found = self._db.execute("SELECT id FROM kit WHERE name = ?", (name,)).fetchone()
        state = self._boots.find(found[0], boot) if found else None
        return state.receipt() if state else -1

    def settle(self, name: str, rows: Rows, heard_ms: int) -> None:
        """Count dead-lettered rows, a run without gaps, as held, so that receipts pass them."""
        self._begin()
        kit = self.kit_id(name, heard_ms)
        boot = self._boots.get(kit, rows.boot, heard_ms, first_seq=rows.first)
        self._boots.settle(kit, rows.boot, rows.seqs[0], rows.seqs[-1])
        boot.hear(rows.first, heard_ms)

    def add_run(
        self, name: str, run: Run, received_ms: int, clock_error_s: int | None, *, live: bool
    ) -> Added | None:  # fmt: skip
        """Store a run of which all is new, and which begins its boot or tells nothing new of its clock.

        None, with nothing stored, where it is any other.
        """
        self._begin()
        kit = self.kit_id(name, received_ms)
        boot = self._boots.get(kit, run.boot, received_ms, first_seq=run.first)
        known_from, is_single = boot.clock.offset_seq, live and len(run.values) == 1
        tells = not boot.stored and not is_single
        if not tells and (known_from is None or run.seq_from <= known_from):
            return None
        if boot.stored.overlaps(run.seq_from, run.seq_to):
            return None
        late = self._placer.place_run(kit, run, Receipt(received_ms, clock_error_s), is_single=is_single)
        if late is None:
            return None
        if tells:
            boot.clock.learn_row(run.seq_from, int(run.values[0, run.layout.up]), run.time_from_s)
        boot.cover(run.seq_from, run.seq_to, is_single=is_single)
        boot.hear(run.first, received_ms)
        if is_single:
            self._heard.pop(kit, None)
        return Added(len(run.values), late, 0, [], is_counted=is_single)

    def add(self, name: str, batch: Batch, received_ms: int, clock_error_s: int | None, *, live: bool) -> Added:
        """Store the rows of a batch that are new, and tell what the others are.

        Parameters
        ----------
        received_ms, clock_error_s
            When it was received by the gateway's clock, and how well that is known; None where it is not trusted.
        live
            Whether the rows were sent when they were made, so that their receipt tells of their time.
        """
        self._begin()
        kit = self.kit_id(name, received_ms)
        boot = self._boots.get(kit, batch.boot, received_ms, first_seq=batch.first)
        at = batch.layout.seq
        rows = new = batch.rows
        duplicates, late, conflicts = 0, 0, []
        if boot.stored.overlaps(_integer(rows[0][at]), _integer(rows[-1][at])):
            new = [row for row in rows if _integer(row[at]) not in boot.stored]
            if copies := [row for row in rows if _integer(row[at]) in boot.stored]:
                conflicts = self._conflicts(kit, batch, copies)
                duplicates = len(copies) - len(conflicts)
        if new:
            receipt = Receipt(received_ms, clock_error_s)
            self._learn(boot, batch, new, receipt, live=live)
            late = self._placer.place(kit, batch.boot, batch.layout, new, receipt, boot.clock.anchor())
            for low, high in _runs(new, at):
                boot.cover(low, high)
        boot.hear(batch.first, received_ms)
        return Added(len(new), late, duplicates, conflicts)

    def release_waiting(self, now_ms: int, clock_error_s: int | None) -> int:
        """Place again what its boot's anchor has changed for, and held rows whose time has come; returns how many.

        At most about `ROWS_A_STEP`; what is left comes with the next call. While the gateway's clock is not trusted
        nothing held is released by it.
        """
        self._begin()
        trusted = clock_error_s is not None
        count = 0
        for kit, number in self._db.execute("SELECT kit, boot FROM boot WHERE moved").fetchall():
            count += self._place_again(kit, number, ROWS_A_STEP - count)
            if count >= ROWS_A_STEP:
                return count
        if trusted:
            due = self._db.execute(
                "SELECT id FROM chunk WHERE waits = ? AND time_to_ms <= ? LIMIT ?",
                (Wait.FUTURE, now_ms + FUTURE_LIMIT_S * 1000, max(1, (ROWS_A_STEP - count) // 16)),
            ).fetchall()
            for taken in list(self._log.take_out(chunk for (chunk,) in due)):
                count += self._put_back(taken, now_ms)
        return count

    def flush(self) -> None:
        """Write what the transaction has gathered."""
        self._log.flush()
        self._account_for_gathered()
        self._boots.flush()
        newest_ms = max(self._heard.values(), default=self._heard_written_ms)
        if abs(newest_ms - self._heard_written_ms) >= HEARD_MS:
            self._heard_written_ms = newest_ms
            self._db.executemany(
                "UPDATE kit SET heard_ms = max(heard_ms, ?) WHERE id = ?",
                [(ms, kit) for kit, ms in self._heard.items()],
            )
            self._heard.clear()

    def _learn(self, boot: Boot, batch: Batch, rows: Sequence[Row], receipt: Receipt, *, live: bool) -> None:
        """Take in what new rows tell of their boot's clock; rows placed by what was known before are placed again."""
        clock, at = boot.clock, batch.layout
        if clock.offset_seq is not None and _integer(rows[0][at.seq]) > clock.offset_seq:
            return
        before = clock.anchor()
        bound_ms = receipt.bound_ms
        for row in rows:
            t = row[at.t]
            if row[at.q] == 2 and t is not None and (bound_ms is None or t * 1000 <= bound_ms):
                clock.learn_row(_integer(row[at.seq]), _integer(row[at.up]), t)
                break  # the others stand higher
        if live and bound_ms is not None and clock.offset_s is None:
            clock.learn_receipt(_integer(rows[-1][at.up]), receipt.received_ms)
        if clock.anchor() != before and boot.stored:
            self._log.flush()
            boot.moved = last_revision(self._db) + 1

    def _place_again(self, kit: int, number: int, row_limit: int) -> int:
        """Place again rows of a boot that wait for a time, are held, or were placed by another anchor."""
        self._log.flush()  # what another boot has moved is still to be found
        self._log.make_searchable(kit)
        boot = self._boots.get(kit, number, 0, first_seq=0)
        anchor = boot.clock.anchor()
        found = self._db.execute(
            _ALL_NOT_BY_ANCHOR,
            {
                "kit": kit, "boot": number, "before": boot.moved, "limit_ms": FUTURE_LIMIT_S * 1000,
                "offset_s": anchor and anchor.offset_s, "source": anchor and anchor.source,
                "no_time": Wait.NO_TIME, "future": Wait.FUTURE,
            },
        ).fetchall()  # fmt: skip
        count, chosen = 0, []
        for chunk, rows, _ in found:
            if count >= row_limit:
                break
            chosen.append(chunk)
            count += rows
        vacated: set[int] = set()
        # All of them before the first is put back: that can move others, which then have another number.
        for taken in list(self._log.take_out(chosen)):
            if taken.key.hour is not None:
                vacated |= {base for row in taken.rows if (base := taken.base_ms(row)) is not None}
            self._put_back(taken, None)
        if vacated:
            self._placer.resettle(kit, vacated)
        if len(chosen) == len(found):
            boot.moved = 0
        return count

    def _put_back(self, taken: Taken, now_ms: int | None) -> int:
        boot = self._boots.get(taken.key.kit, taken.key.boot, 0, first_seq=0)
        self._placer.place(
            taken.key.kit, taken.key.boot, taken.key.layout, taken.rows, taken.receipt, boot.clock.anchor(), now_ms
        )
        return len(taken.rows)

    def _conflicts(self, kit: int, batch: Batch, copies: Sequence[Row]) -> list[int]:
        """Return the seqs whose stored row differs; rows already pruned cannot be compared and count as equal."""
        self._log.flush()
        seq_at = batch.layout.seq
        sent = {_integer(row[seq_at]): dict(zip(batch.cols, row, strict=True)) for row in copies}
        span = {"kit": kit, "boot": batch.boot, "low": min(sent), "high": max(sent)}
        found = self._db.execute(_ALL_WITH_SEQS, span)
        conflicts: list[int] = []
        for names, width, packed in found:
            columns = names.split(",")
            for values in chunks.unpack(Packed(width, packed), len(columns)).tolist():
                stored = {c: None if v == NULL else v for c, v in zip(columns, values, strict=True)}
                seq = _integer(stored["seq"])
                if (copy := sent.get(seq)) is not None and copy != stored:
                    conflicts.append(seq)
        return sorted(conflicts)


def _runs(rows: Sequence[Row], at: int) -> Iterable[tuple[int, int]]:
    """Return the first and last seq of each run of rows without a gap."""
    low, high = _integer(rows[0][at]), _integer(rows[-1][at])
    return [(low, high)] if high - low == len(rows) - 1 else runs(_integer(row[at]) for row in rows)


def _integer(value: int | None) -> int:
    """Narrow a value of a column that the wire has checked to be no null."""
    assert value is not None  # noqa: S101 - for the type checker; wire.decode_batch refuses null here
    return value
