"""Lines of line protocol that are made when they are asked for: from columns, many at once, or ready ones; pure.

A field never changes its type: physical values are floats, counts and flags integers. A value that is absent or not
finite is left out.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.records import NULL, Floats, Ints
from gateway.sinks import texts
from gateway.sinks.texts import Texts

_TAG_TEXT: Final = str.maketrans({"\\": "/", "\n": " ", "\r": " ", "\t": " ", "\0": " "})
_TAG_ESCAPES: Final = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})


class Column(msgspec.Struct, frozen=True):
    """One field of many rows.

    Integers that are not `whole` are a value times `per_unit`, and `records.NULL` is none. Of floats NaN and infinite
    ones are none; `per_unit` is 0, or such that the values mostly are an integer divided by it.
    """

    name: str
    values: Floats | Ints
    whole: bool = False
    per_unit: int = 0

    def part(self, start: int, stop: int) -> "Column":
        """Return the rows from `start` up to, not including, `stop`."""
        return Column(self.name, self.values[start:stop], self.whole, self.per_unit)


class Lines(Protocol):
    """Some lines of the same measurement."""

    def __len__(self) -> int:
        """Return how many there are."""

    def text(self, start: int, stop: int) -> bytes:
        """Return the lines from `start` up to, not including, `stop`, with a line feed between them."""


class Ready(tuple[bytes, ...]):
    """Lines that have been made already."""

    __slots__ = ()

    def text(self, start: int, stop: int) -> bytes:
        """Return some of them, as `Lines` says."""
        return b"\n".join(self[start:stop])


class Rows(msgspec.Struct, frozen=True, eq=False):
    """Lines of rows with the same columns.

    `heads` [k] are what lines begin with up to their first column, `head` [n] says which of them a row has; in the last
    column each row has a value.
    """

    heads: Sequence[bytes]
    head: Ints
    columns: Sequence[Column]
    time_ms: Ints

    def __len__(self) -> int:
        return len(self.time_ms)

    def text(self, start: int, stop: int) -> bytes:
        """Return the lines of some rows, as `Lines` says."""
        count = min(stop, len(self)) - start
        if count <= 0:
            return b""
        parts = self._heads(start, stop)
        for column in self.columns:
            end = b" " if column is self.columns[-1] else b","
            parts += _field(column.part(start, stop), end)
        parts += [*texts.integers(self.time_ms[start:stop]), b"\n"]
        return texts.text_of(texts.beside(parts, count))[:-1]

    def _heads(self, start: int, stop: int) -> list[bytes | Texts]:
        head = self.head[start:stop]
        first = int(head[0])
        if (head == first).all():
            return [self.heads[first]]
        low = int(head.min())
        return [texts.array_of(self.heads[low : int(head.max()) + 1])[head - low]]


Piece = tuple[Lines, int, int]
"""Some of the lines: from where, up to where."""


def requests(parts: Sequence[Lines], size: int) -> Iterator[tuple[int, list[Piece]]]:
    """Yield how many lines a request has, about the same each and at most `size`, and which they are."""
    total = sum(len(part) for part in parts)
    size = -(-total // -(-total // size)) if total else size
    waiting: list[Piece] = []
    count = 0
    for part in parts:
        start = 0
        while start < len(part):
            stop = min(len(part), start + size - count)
            waiting.append((part, start, stop))
            count += stop - start
            start = stop
            if count == size:
                yield count, waiting
                waiting, count = [], 0
    if count:
        yield count, waiting


def name_of(field: str) -> str:
    """Return a field's name as line protocol writes it."""
    return escape(tag_text(field))


def tag_text(text: str) -> str:
    """Return a tag as the database will hold it.

    A backslash cannot be written before a comma or at the end. No topic level holds a slash: kits stay distinct.
    """
    return text.translate(_TAG_TEXT)


def escape(text: str) -> str:
    """Return a tag's text as line protocol writes it."""
    return text.translate(_TAG_ESCAPES)


def _field(column: Column, end: bytes) -> list[bytes | Texts]:
    """Return what a column adds to its rows: nothing in rows that have no value."""
    values = column.values
    present = values != NULL if values.dtype.kind == "i" else np.isfinite(values)
    before, after = _around(column.name, column.whole, end)
    if present.all():
        if (values == values[0]).all() and (values.dtype.kind == "i" or values[0] != 0):  # 0.0 == -0.0
            return [before + texts.text_of(texts.beside(_texts(column.part(0, 1)), 1)) + after]
        return [before, *_texts(column), after]
    if not present.any():
        return []
    filled = Column(column.name, np.where(present, values, 0), column.whole, column.per_unit)
    items = texts.beside([before, *_texts(filled), after], len(values))
    items[~present] = np.zeros(1, items.dtype)
    return [items.view(np.uint8).reshape(len(items), -1)]


@cache
def _around(name: str, whole: bool, end: bytes) -> tuple[bytes, bytes]:
    return f"{name_of(name)}=".encode("utf-8", "replace"), (b"i" if whole else b"") + end


def _texts(column: Column) -> Sequence[Texts]:
    values: NDArray[Any] = column.values
    if column.whole:
        return texts.integers(values.astype(np.int64, copy=False))
    if values.dtype.kind == "i":
        return texts.decimals(values, column.per_unit)
    if column.per_unit and (integers := texts.scaled(values, column.per_unit)) is not None:
        return texts.decimals(integers, column.per_unit)
    return [texts.floats(values)]
