"""The batches of one commit read together, as arrays: what most messages are, at a third of the cost of one by one.

A kit that is well sends runs of rows with a clock that was set: integers of a known layout, seq without a gap, times
that rise. Those are read here, all of a commit by the same few array operations. What is in any way different is left
to `wire.decode_batch`, which tells what is wrong; nothing here refuses a message.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from gateway import wire
from gateway.clock import hour_of
from gateway.records import NULL, Ints
from gateway.wire import Layout

_OF_NUMBERS: Final = b"0123456789-"
_SPACE: Final = b" \t\r\n"
_NULL_TEXT: Final = b"%d" % NULL
_LONG: Final = re.compile(rb"\d{19}")
"""A number that might not fit; the arrays would hold the nearest that does."""
_SEPARATORS: Final = bytes.maketrans(b"[]", b"  ")
_MOST: Final = 10**18
_SET_IN_THIS_BOOT: Final = 2


class Run(NamedTuple):
    """A checked batch: `values` [rows, columns] with `records.NULL` for null, in the order of `layout.names`."""

    boot: int
    first: int
    layout: Layout
    values: Ints
    seq_from: int
    seq_to: int
    time_from_s: int
    time_to_s: int
    interval_s: int
    hour_from: int
    hour_to: int

    def continues(self, before: "Run") -> bool:
        """Tell whether it begins where another ends, as if both had come in one message."""
        return (
            self.seq_from == before.seq_to + 1 and self.boot == before.boot and self.layout is before.layout
            and self.interval_s == before.interval_s and self.time_from_s > before.time_to_s
        )  # fmt: skip

    def hours(self) -> Iterator[tuple[int, Ints, int, int]]:
        """Yield for each UTC hour its number, the rows in it, and the times of the first and the last of them [s]."""
        if self.hour_from == self.hour_to:
            yield self.hour_from, self.values, self.time_from_s, self.time_to_s
            return
        times_s = self.values[:, self.layout.t]
        hours = hour_of(times_s * 1000, self.interval_s)
        cuts = [0, *(np.flatnonzero(hours[1:] != hours[:-1]) + 1).tolist(), len(hours)]
        for start, end in pairwise(cuts):
            yield int(hours[start]), self.values[start:end], int(times_s[start]), int(times_s[end - 1])


def joined(runs: Sequence[Run]) -> Run:
    """Return the run that several are of which each continues the one before."""
    first, last = runs[0], runs[-1]
    return first._replace(
        first=max(run.first for run in runs), values=np.concatenate([run.values for run in runs]), seq_to=last.seq_to,
        time_to_s=last.time_to_s, hour_to=last.hour_to,
    )  # fmt: skip


class _Head(msgspec.Struct, frozen=True):
    """A batch whose columns and rows are still text; msgspec has seen that they are JSON."""

    v: int
    boot: int
    first: int
    cols: msgspec.Raw
    rows: msgspec.Raw


_decode_head: Final = msgspec.json.Decoder(_Head).decode


class _Text(NamedTuple):
    """Where a message stands among the payloads, and its rows as text."""

    place: int
    head: _Head
    rows: bytes
    row_count: int
    has_null: bool


def read_runs(payloads: Sequence[bytes | None]) -> list[Run | None]:
    """Return for each payload the run that it is, or None where it is something else or nothing at all."""
    found: list[Run | None] = [None] * len(payloads)
    texts: dict[Layout, list[_Text]] = defaultdict(list)
    for place, payload in enumerate(payloads):
        if payload is None or len(payload) > wire.MAX_MESSAGE_BYTES:
            continue
        try:
            head = _decode_head(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        layout = _layout(bytes(head.cols))
        if not layout or head.v != wire.VERSION or not 0 <= head.boot <= wire.MAX_BOOT:
            continue
        if text := _text(place, head, layout):
            texts[layout].append(text)
    for layout, some in texts.items():
        for text, run in zip(some, _runs(layout, some), strict=True):
            found[text.place] = run
    return found


@lru_cache(maxsize=1024)
def _layout(text: bytes) -> Layout | None:
    """Return the layout of columns that are all known; None where they are not."""
    try:
        names = msgspec.json.decode(text, type=tuple[str, ...])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return wire.layout_of(names) if wire.are_known_columns(names) else None


def _text(place: int, head: _Head, layout: Layout) -> _Text | None:
    """Return the rows as text of integers alone; None where they are not all of the layout's width."""
    text, has_null, width = bytes(head.rows), False, len(layout.names)
    shape = text.translate(None, _OF_NUMBERS)
    count = (len(shape) - 1) // (width + 2)
    if shape != _shape(count, width):
        if not (other := shape.translate(None, b",[]")) or other.translate(None, b"nul \t\r\n"):
            return None
        text = text.translate(None, _SPACE)
        if has_null := b"n" in other:  # of a `null`: it is JSON, and of other words some letter would be left
            if _LONG.search(text):
                return None
            text = text.replace(b"null", _NULL_TEXT)
        shape = text.translate(None, _OF_NUMBERS)
        count = (len(shape) - 1) // (width + 2)
        if shape != _shape(count, width):
            return None
    return _Text(place, head, text, count, has_null) if count else None


@lru_cache(maxsize=1024)
def _shape(count: int, width: int) -> bytes:
    """Return what is left of so many rows of so many integers without their digits: they are JSON, so none is empty."""
    return b"[" + b",".join([b"[" + b"," * (width - 1) + b"]"] * min(count, wire.MAX_ROWS)) + b"]"


def _runs(layout: Layout, texts: Sequence[_Text]) -> list[Run | None]:
    """Return what each of some texts of one layout is."""
    numbers = b",".join([text.rows for text in texts]).translate(_SEPARATORS)
    flat = np.fromstring(numbers, dtype=np.int64, sep=",")
    values: Ints = flat.reshape(-1, len(layout.names))
    counts = np.array([text.row_count for text in texts])
    starts = np.cumsum(counts) - counts
    ends = starts + counts - 1
    seq, up, t, q, dt = (values[:, at] for at in (layout.seq, layout.up, layout.t, layout.q, layout.dt))
    rising = np.empty(len(t), dtype=bool)
    rising[1:] = t[1:] > t[:-1]
    rising[starts] = True
    fine = rising & (q == _SET_IN_THIS_BOOT) & (dt == np.repeat(dt[starts], counts))
    fine &= (seq >= 0) & (seq - np.arange(len(seq)) == np.repeat(seq[starts] - starts, counts))
    fine &= _within(up, wire.MAX_TIME_S) & _within(dt, wire.MAX_INTERVAL_S) & _within(t, wire.MAX_TIME_S)
    if flat.max() > _MOST or flat.min() < -_MOST:
        null = (values == NULL) & np.repeat([text.has_null for text in texts], counts)[:, None]
        fine &= ~((values > _MOST) | ((values < -_MOST) & ~null)).any(axis=1)
    whole = np.logical_and.reduceat(fine, starts)
    facts = (
        seq[starts], seq[ends], t[starts], t[ends], dt[starts],
        hour_of(t[starts] * 1000, dt[starts]), hour_of(t[ends] * 1000, dt[starts]),
    )  # fmt: skip
    return [
        Run(text.head.boot, text.head.first, layout, values[start : end + 1], *fact)
        if good and 0 <= text.head.first <= fact[0] else None
        for text, good, start, end, *fact in zip(
            texts, whole.tolist(), starts.tolist(), ends.tolist(), *(some.tolist() for some in facts), strict=True
        )
    ]  # fmt: skip


def _within(values: Ints, high: int) -> npt.NDArray[np.bool_]:
    return (values >= 0) & (values <= high)
