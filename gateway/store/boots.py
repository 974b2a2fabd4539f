"""What is known of each start of each kit: which rows are stored or settled, what the kit still holds, its clock."""

import sqlite3
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from gateway.clock import BootClock
from gateway.store.seqset import SeqSet

_KNOWN_BOOTS: Final = 4096
"""Boots whose intervals stay in memory; beyond it all are forgotten and read again when needed."""

HEARD_MS: Final = 600_000
"""When a boot was last heard is kept no finer."""

_Key = tuple[int, int]


class _Written(msgspec.Struct, frozen=True):
    """What stands in the store of a boot."""

    first_seq: int
    heard_ms: int
    others: tuple[int | None, ...]


class Boot(msgspec.Struct):
    """One boot: stored rows, rows of dead letters, both together (settled for receipts), its clock."""

    stored: SeqSet
    lettered: SeqSet
    settled: SeqSet
    first_seq: int
    heard_ms: int
    clock: BootClock = msgspec.field(default_factory=BootClock)
    moved: int = 0
    """Where set, the anchor has changed: rows of lower revisions that it concerns are to be placed again."""
    written: "_Written | None" = None
    """What of it stands in the store."""
    grown: set[int] = msgspec.field(default_factory=set)
    swallowed: set[int] = msgspec.field(default_factory=set)
    """Starts of stored intervals that are longer, and of those that are part of another, and are not written yet."""
    writes_covers: bool = False
    """Whether they are to be written at the next flush: not for rows that came alone, which tell it themselves."""

    def receipt(self) -> int:
        """Return the seq up to which every row is settled or was never held by the kit; first_seq - 1 for none."""
        return self.settled.end_of_run(self.first_seq)

    def others(self) -> tuple[int | None, ...]:
        """Return what is kept of it but `first_seq`, `heard_ms` and intervals: what its rows tell of its clock."""
        clock = self.clock
        return (
            self.moved, clock.offset_s, clock.offset_seq, clock.live_from_ms, clock.live_to_ms, clock.live_offset_ms
        )  # fmt: skip

    def is_due(self, *, by_time: bool) -> bool:
        """Tell whether what stands in the store is too old; `by_time`: when it was last heard counts too.

        `first_seq` changes with each live row, and says something only at a gap: a page less to write for each.
        """
        if (old := self.written) is None or old.others != self.others():
            return True
        if by_time and self.heard_ms > old.heard_ms + HEARD_MS:
            return True
        return self.settled.end_of_run(old.first_seq) != self.receipt()

    def cover(self, low: int, high: int, *, is_single: bool = False) -> None:
        """Note that these rows are stored; what is told by fresh rows is written when they are gathered."""
        self.writes_covers |= not is_single
        self.settled.add(low, high)
        (start, _), parts = self.stored.add(low, high)
        self.grown.add(start)
        if parts:
            self.swallowed.update(parts)
            self.swallowed.discard(start)

    def hear(self, first_seq: int, heard_ms: int) -> None:
        """Keep that the kit no longer holds what lies below `first_seq`, and that it was heard."""
        self.first_seq = max(self.first_seq, first_seq)
        self.heard_ms = max(self.heard_ms, heard_ms)


class Boots:
    """The boots that a writing thread works with; `flush` before a commit, `forget` after a rollback."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[_Key, Boot] = {}
        self._changed: set[_Key] = set()

    def forget(self) -> None:
        """Drop what is held in memory."""
        self._known.clear()
        self._changed.clear()

    def find(self, kit: int, number: int) -> Boot | None:
        """Return a boot that was heard before."""
        if (known := self._known.get((kit, number))) is not None:
            return known
        found = self._db.execute(
            "SELECT first_seq, heard_ms, moved, offset_s, offset_seq, live_from_ms, live_to_ms, live_offset_ms "
            "FROM boot WHERE kit = ? AND boot = ?",
            (kit, number),
        ).fetchone()
        if found is None:
            return None
        first_seq, heard_ms, moved, *clock = found
        stored, settled = self._intervals("cover", kit, number), self._intervals("settled", kit, number)
        sets = (SeqSet(stored), SeqSet(settled), SeqSet([*stored, *settled]))
        boot = Boot(*sets, first_seq, heard_ms, BootClock(*clock), moved)
        boot.written = _Written(first_seq, heard_ms, boot.others())
        return self._keep(kit, number, boot)

    def get(self, kit: int, number: int, heard_ms: int, *, first_seq: int) -> Boot:
        """Return a boot, new where it is heard for the first time; its change will be written."""
        boot = self.find(kit, number) or self._keep(
            kit, number, Boot(SeqSet(), SeqSet(), SeqSet(), first_seq, heard_ms)
        )
        self._changed.add((kit, number))
        return boot

    def settle(self, kit: int, number: int, low: int, high: int) -> None:
        """Note that receipts pass these rows, stored or not."""
        boot = self._known[kit, number]
        boot.settled.add(low, high)
        (start, _), parts = boot.lettered.add(low, high)
        self._write("settled", kit, number, boot.lettered, {start}, set(parts) - {start})

    def flush(self) -> None:
        """Write the boots that have changed."""
        rows = []
        for kit, number in sorted(self._changed):
            boot = self._known[kit, number]
            if told := boot.writes_covers:
                self._write_covers(kit, number, boot)
            if boot.is_due(by_time=told):
                boot.written = _Written(boot.first_seq, boot.heard_ms, boot.others())
                rows.append((kit, number, boot.first_seq, boot.heard_ms, *boot.others()))
        self._db.executemany(
            "REPLACE INTO boot (kit, boot, first_seq, heard_ms, moved, offset_s, offset_seq, "
            "live_from_ms, live_to_ms, live_offset_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        self._changed.clear()
        if len(self._known) > _KNOWN_BOOTS:
            for (kit, number), boot in self._known.items():
                self._write_covers(kit, number, boot)
            self._known.clear()

    def _keep(self, kit: int, number: int, boot: Boot) -> Boot:
        self._known[kit, number] = boot
        return boot

    def _intervals(self, table: str, kit: int, number: int) -> list[tuple[int, int]]:
        return self._db.execute(
            f"SELECT seq_from, seq_to FROM {table} WHERE kit = ? AND boot = ?",  # noqa: S608 - cover or settled
            (kit, number),
        ).fetchall()

    def _write_covers(self, kit: int, number: int, boot: Boot) -> None:
        self._write("cover", kit, number, boot.stored, boot.grown, boot.swallowed)
        boot.grown.clear()
        boot.swallowed.clear()
        boot.writes_covers = False

    def _write(
        self, table: str, kit: int, number: int, intervals: SeqSet, grown: AbstractSet[int], gone: AbstractSet[int]
    ) -> None:
        if gone:
            self._db.executemany(
                f"DELETE FROM {table} WHERE kit = ? AND boot = ? AND seq_from = ?",  # noqa: S608 - cover or settled
                [(kit, number, start) for start in gone],
            )
        self._db.executemany(
            f"REPLACE INTO {table} (kit, boot, seq_from, seq_to) VALUES (?, ?, ?, ?)",  # noqa: S608
            [(kit, number, start, intervals.end_of_run(start)) for start in grown - gone],
        )
