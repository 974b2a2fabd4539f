"""Reading raw readings back as arrays in canonical units, and what is known of the kits."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.quantities import CHANNELS
from gateway.records import NULL, Floats, Ints, Readings
from gateway.store import chunks
from gateway.store.chunks import Packed
from gateway.store.fresh import of_all

CHUNK_COLUMNS = (
    "chunk.rev, chunk.boot, names, width, rows, time_source, time_error_s, offset_s, shift_ms "
    "FROM chunk JOIN column_set ON column_set.id = chunk.columns"
)

Chunk = tuple[int, int, str, int, bytes, int, int, int | None, int]
"""A row of `CHUNK_COLUMNS`."""


@dataclass(frozen=True, slots=True)
class KitState:
    """What the store knows of a kit, for pages and status."""

    name: str
    up: bool | None
    heard_ms: int
    about: bytes | None
    first_hour: int | None
    last_hour: int | None
    last_time_ms: int | None
    row_count: int
    waiting_count: int


_KITS = """
WITH lately AS (
    SELECT kit, min(hour) AS first_hour, max(hour) AS last_hour, max(time_ms) AS time_ms,
        max(received_ms) AS heard_ms, sum(NOT EXISTS (
            SELECT 1 FROM cover WHERE cover.kit = fresh.kit AND cover.boot = fresh.boot
            AND seq_from <= seq AND seq_to >= seq)) AS rows
    FROM fresh GROUP BY kit
), gathered AS (
    SELECT id, (SELECT min(hour) FROM chunk WHERE chunk.kit = kit.id AND hour IS NOT NULL) AS first_hour,
        (SELECT max(hour) FROM chunk WHERE chunk.kit = kit.id) AS last_hour FROM kit
), newest AS (
    SELECT id, (SELECT max(time_to_ms) FROM chunk WHERE chunk.kit = gathered.id AND hour = last_hour) AS time_ms
    FROM gathered
)
SELECT name, up, max(kit.heard_ms, coalesce(lately.heard_ms, 0)), about,
    coalesce(min(gathered.first_hour, lately.first_hour), gathered.first_hour, lately.first_hour),
    coalesce(max(gathered.last_hour, lately.last_hour), gathered.last_hour, lately.last_hour),
    coalesce(max(newest.time_ms, lately.time_ms), newest.time_ms, lately.time_ms),
    coalesce((SELECT sum(seq_to - seq_from + 1) FROM cover WHERE cover.kit = kit.id), 0) + coalesce(lately.rows, 0),
    coalesce((SELECT sum(row_count) FROM chunk WHERE chunk.kit = kit.id AND hour IS NULL), 0)
FROM kit JOIN gathered USING (id) JOIN newest USING (id) LEFT JOIN lately ON lately.kit = kit.id ORDER BY name
"""


def kits(db: sqlite3.Connection) -> list[KitState]:
    """Return every kit by name; reads little, however much is stored. `row_count` is of all rows ever stored."""
    return [KitState(n, None if up is None else bool(up), *rest) for n, up, *rest in db.execute(_KITS)]


def read(db: sqlite3.Connection, kit: str, hour_from: int, hour_to: int) -> Readings:
    """Return the placed readings of a kit in the hours from `hour_from` up to, not including, `hour_to`."""
    found = db.execute(
        of_all(
            f"SELECT {CHUNK_COLUMNS} JOIN kit ON kit.id = chunk.kit "
            "WHERE kit.name = :kit AND hour >= :hour_from AND hour < :hour_to"
        ),
        {"kit": kit, "hour_from": hour_from, "hour_to": hour_to},
    )
    return assemble(kit, found)


_PLACED = of_all(
    "SELECT DISTINCT name, hour FROM chunk JOIN kit ON kit.id = chunk.kit WHERE hour IS NOT NULL "
    "AND coalesce(name = :kit, 1) AND coalesce(hour >= :hour_from, 1) AND coalesce(hour < :hour_to, 1)"
)


def hours(
    db: sqlite3.Connection, *, kit: str | None = None, hour_from: int | None = None, hour_to: int | None = None
) -> list[tuple[str, int]]:
    """Return (kit, hour) of every hour that holds placed readings, by kit and hour; `hour_to` is exclusive."""
    return db.execute(
        f"SELECT DISTINCT name, hour FROM ({_PLACED}) ORDER BY name, hour",  # noqa: S608 - a constant
        {"kit": kit, "hour_from": hour_from, "hour_to": hour_to},
    ).fetchall()


def each_hour(
    db: sqlite3.Connection, *, kit: str | None = None, hour_from: int | None = None, hour_to: int | None = None
) -> Iterator[Readings]:
    """Yield the placed readings of every kit (or of one), an hour at a time, by kit and hour."""
    for name, hour in hours(db, kit=kit, hour_from=hour_from, hour_to=hour_to):
        yield read(db, name, hour, hour + 1)


def column_names(db: sqlite3.Connection) -> set[str]:
    """Return every wire column that any stored reading has."""
    return {name for (names,) in db.execute("SELECT names FROM column_set") for name in names.split(",")}


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """Readings of one boot that are stored but not placed in time; `columns` as in `Readings`."""

    kit: str
    boot: int
    seq: Ints
    columns: dict[str, Floats]


def waiting(db: sqlite3.Connection, *, kit: str | None = None) -> Iterator[Waiting]:
    """Yield the readings without a time and those held because theirs lies in the future, by kit, boot and seq."""
    found = db.execute(
        "SELECT name, boot, names, width, rows FROM chunk JOIN kit ON kit.id = chunk.kit "
        "JOIN column_set ON column_set.id = chunk.columns WHERE hour IS NULL AND coalesce(name = ?, 1) "
        "ORDER BY name, boot, seq_from",
        (kit,),
    )
    for name, boot, names, width, packed in found:
        raw = _table(names, Packed(width, packed))
        yield Waiting(name, boot, raw["seq"], {n: _canonical(n, v) for n, v in raw.items() if n != "seq"})


def assemble(kit: str, found: Iterable[Chunk]) -> Readings:
    """Join chunks of one kit into arrays sorted by (time, boot, seq), in canonical units."""
    groups: dict[tuple[Any, ...], list[tuple[int, bytes]]] = {}
    for revision, number, columns_of, width, rows, *known in found:
        packed = chunks.plain(Packed(width, rows), columns_of.count(",") + 1)
        groups.setdefault((number, columns_of, packed.width, *known), []).append((revision, packed.rows))
    parts = [_Part.of(key, same) for key, same in groups.items()]
    names = sorted({name for part in parts for name in part.columns})
    columns = {name: _concatenate([part.column(name) for part in parts]) for name in names}
    time_ms, boot, seq, source, error, rev = (
        _concatenate([part.facts[i] for part in parts]).astype(np.int64) for i in range(6)
    )
    order = np.lexsort((seq, boot, time_ms))
    return Readings(
        kit=kit, time_ms=time_ms[order], boot=boot[order], seq=seq[order], time_source=source[order],
        time_error_s=error[order], rev=rev[order], columns={n: v[order] for n, v in columns.items()},
    )  # fmt: skip


def _concatenate(parts: Sequence[Ints] | Sequence[Floats]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.empty(0)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Chunks that differ in their rows alone, as arrays: live rows come one a chunk, and unpacking each would cost."""

    columns: dict[str, Floats]
    facts: tuple[Ints, ...]  # time_ms, boot, seq, time_source, time_error_s, rev
    length: int

    @classmethod
    def of(cls, key: tuple[Any, ...], same: Sequence[tuple[int, bytes]]) -> "_Part":
        boot, names, width, source, error_s, offset_s, shift_ms = key
        raw = _table(names, Packed(width, b"".join(rows for _, rows in same)))
        n = len(raw["seq"])
        row_bytes = width * len(raw)
        rev = np.repeat([rev for rev, _ in same], [len(rows) // row_bytes for _, rows in same])
        time_ms = (raw["up"] + offset_s if offset_s is not None else raw["t"]) * 1000 + shift_ms
        facts = (time_ms, np.full(n, boot), raw["seq"], np.full(n, source), np.full(n, error_s), rev)
        return cls({name: _canonical(name, v) for name, v in raw.items() if name != "seq"}, facts, n)

    def column(self, name: str) -> Floats:
        return self.columns[name] if name in self.columns else np.full(self.length, np.nan)


def _table(names: str, packed: Packed) -> dict[str, Ints]:
    columns = names.split(",")
    values = chunks.unpack(packed, len(columns))
    return {name: values[:, i] for i, name in enumerate(columns)}


def _canonical(name: str, raw: Ints) -> Floats:
    """Wire integers to float64 in canonical units, null to NaN; division keeps the shortest decimal exact."""
    channel = CHANNELS.get(name)
    values: Floats = raw / float(channel.per_unit if channel else 1)
    values[raw == NULL] = np.nan
    return values
