"""Raw rows of many kits as tables of wire integers: for a sink, which makes text and needs no floats; no I/O."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from gateway.records import NULL, Ints
from gateway.store import chunks
from gateway.store.chunks import Packed
from gateway.store.readings import Chunk


class RawTable(msgspec.Struct, frozen=True, eq=False):
    """Placed readings of some kits that have the same columns, sorted by (kit, time, boot, seq); n rows.

    `kit` [n] counts into `kits`. `values` [n, names] has a wire column a name, as the wire scales it, `records.NULL`
    where the kit sent null. The other arrays are those of `records.Readings`.
    """

    kits: Sequence[str]
    names: Sequence[str]
    kit: Ints
    time_ms: Ints
    boot: Ints
    time_error_s: Ints
    rev: Ints
    values: Ints

    @property
    def columns(self) -> dict[str, Ints]:
        """Each wire column by name, in the order of the names."""
        return {name: self.values[:, self.names.index(name)] for name in sorted(self.names)}

    @property
    def seq(self) -> Ints:
        """Number of each row in its boot."""
        return self.values[:, self.names.index("seq")]

    def __len__(self) -> int:
        return len(self.kit)

    def take(self, rows: Ints) -> "RawTable":
        """Return these rows."""
        return RawTable(
            self.kits, self.names, self.kit[rows], self.time_ms[rows], self.boot[rows], self.time_error_s[rows],
            self.rev[rows], self.values[rows],
        )  # fmt: skip


def tables(found: Iterable[tuple[str, Chunk]]) -> list[RawTable]:
    """Return chunks with the names of their kits as tables, one for each set of columns."""
    groups: dict[str, dict[str, list[Chunk]]] = {}
    for kit, chunk in found:
        groups.setdefault(chunk[2], {}).setdefault(kit, []).append(chunk)
    return [_table(names.split(","), by_kit) for names, by_kit in groups.items()]


def _table(names: Sequence[str], by_kit: Mapping[str, Sequence[Chunk]]) -> RawTable:
    facts = []
    parts: list[Ints] = []
    by_width: dict[int, list[tuple[bytes, tuple[int, ...]]]] = {}
    for number, same in enumerate(by_kit.values()):
        for rev, boot, _, width, rows, _, error_s, offset_s, shift_ms in same:
            packed = chunks.plain(Packed(width, rows), len(names))
            offset, count = NULL if offset_s is None else offset_s, len(packed.rows) // (packed.width * len(names))
            fact = count, number, boot, rev, error_s, offset, shift_ms
            by_width.setdefault(packed.width, []).append((packed.rows, fact))
    for width, some in by_width.items():
        parts.append(chunks.unpack(Packed(width, b"".join([rows for rows, _ in some])), len(names)))
        facts += [fact for _, fact in some]
    values = parts[0] if len(parts) == 1 else np.concatenate(parts)
    counts, *of_chunk = np.array(facts, np.int64).T
    kits, boots, revs, errors_s, offsets_s, shifts_ms = (np.repeat(fact, counts) for fact in of_chunk)
    t, up = values[:, names.index("t")], values[:, names.index("up")]
    times_ms = np.where(offsets_s == NULL, t, up + offsets_s) * 1000 + shifts_ms
    table = RawTable(list(by_kit), names, kits, times_ms, boots, errors_s, revs, values)
    if ((kits[1:] > kits[:-1]) | ((kits[1:] == kits[:-1]) & (times_ms[1:] > times_ms[:-1]))).all():
        return table  # as rows mostly come
    return table.take(np.lexsort((table.seq, boots, times_ms, kits)))
