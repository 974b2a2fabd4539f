"""Packing rows of integers into chunks and reading them back as arrays; no I/O."""

import zlib
from collections.abc import Sequence
from itertools import accumulate, chain, pairwise
from typing import Any, Final

import msgspec
import numpy as np

from gateway.records import NULL, Ints

Row = Sequence[int | None]

_NARROW: Final = 4
_DTYPE: Final[dict[int, np.dtype[Any]]] = {_NARROW: np.dtype("<i4"), 8: np.dtype("<i8")}
_NULL: Final = {_NARROW: -(2**31), 8: NULL}
_FAST: Final = 1


class Packed(msgspec.Struct, frozen=True):
    """Rows of the same columns as bytes: `width` bytes a value, row after row.

    A negative width tells that it is column after column, each value as the step from the one before, compressed: a
    sixth of the size where rows have come a minute apart.
    """

    width: int
    rows: bytes


def table_of(rows: Sequence[Row]) -> Ints:
    """Return rows of the same columns as int64 [rows, columns]; None becomes `NULL`."""
    flat = list(chain.from_iterable(rows))
    if None in flat:
        flat = [NULL if v is None else v for v in flat]
    return np.array(flat, dtype=np.int64).reshape(len(rows), -1)


def pack(table: Ints) -> Packed:
    """Pack int64 [rows, columns] in 4 bytes a value where all fit, else in 8."""
    if _fits(table):
        return Packed(_NARROW, table.astype(_DTYPE[_NARROW]).tobytes())
    null = table == NULL
    if null.all() or _fits(table[~null]):
        return Packed(_NARROW, np.where(null, _NULL[_NARROW], table).astype(_DTYPE[_NARROW]).tobytes())
    return Packed(8, table.astype(_DTYPE[8]).tobytes())


def pack_each(tables: Sequence[Sequence[Ints]]) -> list[Packed]:
    """Pack several tables of the same columns, each in parts: at once, where one width holds them all."""
    whole = np.concatenate([part for parts in tables for part in parts])
    packed = pack(whole)
    if packed.width != _NARROW:
        return [pack(np.concatenate(parts)) for parts in tables]
    size = _NARROW * whole.shape[1]
    ends = [size * rows for rows in accumulate(sum(map(len, parts)) for parts in tables)]
    return [Packed(_NARROW, packed.rows[start:end]) for start, end in pairwise([0, *ends])]


def join(tables: Sequence[Ints], seq_at: int) -> Packed:
    """Pack rows of several tables as one, compressed, by their number, which stands in a column."""
    table = np.concatenate(tables)
    packed = pack(table[np.argsort(table[:, seq_at], kind="stable")])
    values = np.frombuffer(packed.rows, _DTYPE[packed.width]).reshape(table.shape)
    steps = np.diff(values, axis=0, prepend=np.zeros_like(values[:1]))  # beyond the type's ends they wrap, and back
    return Packed(-packed.width, zlib.compress(steps.tobytes("F"), _FAST))


def plain(packed: Packed, column_count: int) -> Packed:
    """Return the same rows, not compressed."""
    if packed.width > 0:
        return packed
    steps = np.frombuffer(zlib.decompress(packed.rows), _DTYPE[-packed.width]).reshape(column_count, -1)
    return Packed(-packed.width, np.cumsum(steps, axis=1, dtype=steps.dtype).tobytes("F"))


def _fits(values: Ints) -> bool:
    """Tell whether 4 bytes hold every value, none of them being their null."""
    return bool(values.min() > _NULL[_NARROW] and values.max() < -_NULL[_NARROW])


def unpack(packed: Packed, column_count: int) -> Ints:
    """Return int64 [rows, columns]; null is `NULL`."""
    packed = plain(packed, column_count)
    values: Ints = np.frombuffer(packed.rows, dtype=_DTYPE[packed.width]).astype(np.int64)
    if packed.width == _NARROW:
        values[values == _NULL[_NARROW]] = NULL
    return values.reshape(-1, column_count)
