"""The log of raw readings: rows gathered into chunks, chunks taken out to be placed again, what that withdraws."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.clock import Receipt, Wait
from gateway.records import NULL, Ints, TimeSource
from gateway.store import chunks, database, fresh, tombstones
from gateway.store.chunks import Packed, Row
from gateway.store.database import last_revision, take_revisions
from gateway.store.fresh import FreshRow, Gathered
from gateway.wire import Layout, layout_of

_FOR_EVER_MS: Final = 2**62
LOOSE_MS: Final = 300_000
"""When an hour was last heard of is kept no finer: a page less to write for each live row."""


class ChunkKey(NamedTuple):
    """What the rows of one chunk have in common."""

    kit: int
    boot: int
    layout: Layout
    hour: int | None
    source: TimeSource
    error_s: int | None
    offset_s: int | None
    clock_error_s: int | None
    shift_ms: int = 0
    waits: Wait | None = None
    received_ms: int | None = None
    """Of rows that wait: what becomes of them depends on it, so those of several messages do not share a chunk."""


@dataclass(slots=True)
class _Pending:
    """Rows of one commit that will make one chunk; the times are None while they are not known."""

    received_ms: int
    time_from_ms: int | None
    time_to_ms: int | None
    seq_from: int
    seq_to: int
    tables: list[Ints] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    """Those that came one by one; the others are tables already."""

    def all_tables(self) -> list[Ints]:
        """Return all rows as tables."""
        return [*self.tables, chunks.table_of(self.rows)] if self.rows else self.tables


class _Single(NamedTuple):
    """A row [1, columns] that came alone, and the time that it has."""

    key: ChunkKey
    table: Ints
    time_ms: int
    received_ms: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A chunk that was taken out of the log, to be placed again."""

    key: ChunkKey
    received_ms: int
    rows: list[Row]

    @property
    def receipt(self) -> Receipt:
        """When its rows were received."""
        return Receipt(self.received_ms, self.key.clock_error_s)

    def base_ms(self, row: Row) -> int | None:
        """Return the time of one of its rows before any shift; None where it is not known."""
        value = row[self.key.layout.t if self.key.offset_s is None else self.key.layout.up]
        return None if value is None or self.key.waits == Wait.NO_TIME else (value + (self.key.offset_s or 0)) * 1000


class ChunkLog:
    """Adds chunks inside a transaction; `flush` before it commits, `forget` after a rollback."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._column_sets: dict[tuple[str, ...], int] = {}
        self._pending: dict[ChunkKey, _Pending] = {}
        self._withdrawn: dict[tuple[int, int, int], int] = {}  # (kit, boot, seq) -> the time it stood at
        self._dirty: set[tuple[int, int]] = set()
        self._horizon: int | None = None
        self._kits: set[int] = set()  # of which something is pending
        self._singles: list[_Single] = []
        self._fresh_from_ms: dict[int, int] = {}  # by kit, the earliest time of those that are not gathered
        self._gathered: list[Gathered] = []
        self.fresh_count = 0

    def forget(self) -> None:
        """Drop what is held in memory."""
        self._column_sets.clear()
        self._pending.clear()
        self._withdrawn.clear()
        self._dirty.clear()
        self._kits.clear()
        self._singles.clear()
        self._fresh_from_ms.clear()
        self.fresh_count = 0
        self._gathered.clear()
        self._horizon = None

    @property
    def horizon_hour(self) -> int:
        """Hours below are sealed."""
        if self._horizon is None:
            self._horizon = database.horizon_hour(self._db)
        return self._horizon

    @property
    def has_taken(self) -> bool:
        """Whether rows were taken out that are not appended again yet."""
        return bool(self._withdrawn)

    def append(self, key: ChunkKey, row: Row, time_ms: int | None, received_ms: int) -> None:
        """Add a row, at `time_ms` with its shift."""
        seq = _integer(row[key.layout.seq])
        self._pend(key, seq, seq, time_ms, time_ms, received_ms).rows.append(row)
        if self._withdrawn and key.hour is not None:
            name = (key.kit, key.boot, seq)
            if self._withdrawn.get(name) == time_ms:
                del self._withdrawn[name]

    def extend(self, key: ChunkKey, table: Ints, time_from_ms: int, time_to_ms: int, received_ms: int) -> None:
        """Add rows [rows, columns] of which none was taken out before, rising by seq and by time, between two times."""
        first, last = table.item(0, key.layout.seq), table.item(-1, key.layout.seq)
        self._pend(key, first, last, time_from_ms, time_to_ms, received_ms).tables.append(table)

    def add_single(self, key: ChunkKey, table: Ints, time_ms: int, received_ms: int) -> None:
        """Add a row [1, columns] that came alone, has the kit's own time, and stands after all others of the kit."""
        self._singles.append(_Single(key, table, time_ms, received_ms))
        self._fresh_from_ms.setdefault(key.kit, time_ms)
        self.fresh_count += 1

    def _pend(
        self, key: ChunkKey, seq_from: int, seq_to: int, time_from_ms: int | None, time_to_ms: int | None,
        received_ms: int,
    ) -> _Pending:  # fmt: skip
        if (pending := self._pending.get(key)) is None:
            pending = self._pending[key] = _Pending(received_ms, time_from_ms, time_to_ms, seq_from, seq_to)
            self._kits.add(key.kit)
            return pending
        if pending.time_from_ms is not None and pending.time_to_ms is not None:
            pending.time_from_ms = min(pending.time_from_ms, _integer(time_from_ms))
            pending.time_to_ms = max(pending.time_to_ms, _integer(time_to_ms))
        pending.seq_from, pending.seq_to = min(pending.seq_from, seq_from), max(pending.seq_to, seq_to)
        pending.received_ms = max(pending.received_ms, received_ms)
        return pending

    def make_searchable(self, kit: int, until_ms: int = _FOR_EVER_MS) -> None:
        """Write what is pending of a kit, and make chunks of its rows up to a time: others cannot be searched."""
        if kit in self._kits:
            self.flush()
        fresh_from_ms = self._fresh_from_ms.get(kit)
        if fresh_from_ms is not None and fresh_from_ms <= until_ms:
            self.gather()

    def newest_ms(self, kit: int) -> int | None:
        """Return the latest time of what is pending of a kit [ms]."""
        times = [p.time_to_ms for key, p in self._pending.items() if key.kit == kit and p.time_to_ms is not None]
        return max(times, default=None)

    def take_out(self, ids: Iterable[int]) -> Iterator[Taken]:
        """Delete chunks from the log and yield what they held; all of it has to be appended again before `flush`."""
        for number in ids:
            taken = self._read(number)
            self._db.execute("DELETE FROM chunk WHERE id = ?", (number,))
            key = taken.key
            if key.hour is not None:
                self._dirty.add((key.kit, key.hour))
                for row in taken.rows:
                    self._withdrawn[key.kit, key.boot, _integer(row[key.layout.seq])] = (
                        taken.base_ms(row) or 0
                    ) + key.shift_ms
            yield taken

    def gather(self) -> None:
        """Make chunks of the rows that came one by one, without which no chunk can be searched or taken out."""
        self.flush()
        self._fresh_from_ms.clear()
        self.fresh_count = 0
        if gathered := fresh.gather(self._db):
            self._gathered += gathered
            self._mark({(one.kit, one.hour): one.received_ms for one in gathered})

    def take_gathered(self) -> list[Gathered]:
        """Return what was gathered since the last call."""
        gathered, self._gathered = self._gathered, []
        return gathered

    def flush(self) -> None:
        """Write the chunks of this transaction, mark their hours dirty, and leave tombstones of what has moved."""
        self._horizon = None
        if self._pending or self._dirty:
            self._flush_chunks()
        if self._singles:
            first = last_revision(self._db) + 1
            fresh.insert(self._db, [self._fresh_row(rev, one) for rev, one in enumerate(self._singles, first)])
            self._singles.clear()

    def _flush_chunks(self) -> None:
        self._leave_tombstones()
        revision = take_revisions(self._db, len(self._pending))
        self._db.executemany(
            "INSERT INTO chunk (rev, kit, boot, hour, seq_from, seq_to, row_count, time_from_ms, time_to_ms, "
            "time_source, time_error_s, offset_s, received_ms, clock_error_s, shift_ms, waits, columns, width, "
            "rows) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [(rev, *values) for rev, values in enumerate(self._chunks(), revision)],
        )
        self._mark({(k.kit, k.hour): p.received_ms for k, p in self._pending.items() if k.hour is not None})
        self._pending.clear()
        self._dirty.clear()
        self._kits.clear()

    def _mark(self, heard: Mapping[tuple[int, int], int]) -> None:
        """Mark hours as grown, by when that was, and as dirty, also those that have lost rows."""
        self._db.executemany(
            "INSERT INTO loose (kit, hour, heard_ms) VALUES (?, ?, ?) ON CONFLICT (kit, hour) "
            "DO UPDATE SET heard_ms = excluded.heard_ms WHERE excluded.heard_ms > heard_ms + ?",
            [(*name, received_ms, LOOSE_MS) for name, received_ms in heard.items()],
        )
        dirty = [name for name in heard.keys() | self._dirty if name[1] >= self.horizon_hour]
        self._db.executemany(
            "INSERT INTO dirty (kit, hour) VALUES (?, ?) ON CONFLICT (kit, hour) DO UPDATE SET failed = 0 WHERE failed",
            dirty,
        )

    def _leave_tombstones(self) -> None:
        gone: dict[int, list[int]] = defaultdict(list)
        for (kit, _, _), time_ms in self._withdrawn.items():
            gone[kit].append(time_ms)
        for kit, times_ms in gone.items():
            (name,) = self._db.execute("SELECT name FROM kit WHERE id = ?", (kit,)).fetchone()
            tombstones.leave(self._db, tombstones.Kind.RAW, name, "", times_ms)
        self._withdrawn.clear()

    def _chunks(self) -> Iterator[tuple[object, ...]]:
        """Yield what is written of each chunk; those of the same columns are packed together."""
        alike: dict[Layout, list[tuple[ChunkKey, _Pending]]] = defaultdict(list)
        for key, pending in self._pending.items():
            alike[key.layout].append((key, pending))
        for layout, some in alike.items():
            columns, tables = self._column_set(layout.names), [pending.all_tables() for _, pending in some]
            for (key, pending), parts, packed in zip(some, tables, chunks.pack_each(tables), strict=True):
                yield (
                    key.kit, key.boot, key.hour, pending.seq_from, pending.seq_to, sum(map(len, parts)),
                    pending.time_from_ms, pending.time_to_ms, key.source, key.error_s, key.offset_s,
                    pending.received_ms, key.clock_error_s, key.shift_ms, key.waits, columns, packed.width, packed.rows,
                )  # fmt: skip

    def _fresh_row(self, rev: int, one: _Single) -> FreshRow:
        key, packed = one.key, chunks.pack(one.table)
        assert key.hour is not None  # noqa: S101 - for the type checker: what has a time has an hour
        return FreshRow(
            rev, key.kit, key.boot, key.hour, int(one.table[0, key.layout.seq]), one.time_ms, key.error_s,
            one.received_ms, key.clock_error_s, self._column_set(key.layout.names), packed.width, packed.rows,
        )  # fmt: skip

    def _read(self, number: int) -> Taken:
        kit, boot, hour, source, error_s, offset_s, received_ms, clock_s, shift_ms, waits, names, *packed = (
            self._db.execute(
                "SELECT kit, boot, hour, time_source, time_error_s, offset_s, received_ms, clock_error_s, shift_ms, "
                "waits, names, width, rows FROM chunk JOIN column_set ON column_set.id = chunk.columns "
                "WHERE chunk.id = ?",
                (number,),
            ).fetchone()
        )
        columns = tuple(names.split(","))
        key = ChunkKey(
            kit, boot, layout_of(columns), hour, TimeSource(source), error_s, offset_s, clock_s, shift_ms,
            None if waits is None else Wait(waits),
        )  # fmt: skip
        rows = chunks.unpack(Packed(*packed), len(columns)).tolist()
        return Taken(key, received_ms, [[None if v == NULL else v for v in row] for row in rows])

    def _column_set(self, columns: tuple[str, ...]) -> int:
        if (known := self._column_sets.get(columns)) is None:
            names = ",".join(columns)
            self._db.execute("INSERT INTO column_set (names) VALUES (?) ON CONFLICT DO NOTHING", (names,))
            (known,) = self._db.execute("SELECT id FROM column_set WHERE names = ?", (names,)).fetchone()
            self._column_sets[columns] = known
        return known


def _integer(value: int | None) -> int:
    """Narrow a value that is known here to be no null."""
    assert value is not None  # noqa: S101 - for the type checker
    return value
