"""Whether the readings of a kit stand where what is known of their boots puts them; reads only."""

import sqlite3
from collections.abc import Iterator
from typing import Final

import numpy as np

from gateway.clock import BootClock, Receipt, Wait, hour_of
from gateway.records import NULL, Ints, TimeSource
from gateway.store import chunks
from gateway.store.chunks import Packed
from gateway.store.fresh import of_all

_CHUNKS: Final = of_all("""
SELECT boot, hour, names, width, rows, time_source, offset_s, shift_ms, waits, received_ms, clock_error_s
FROM chunk JOIN column_set ON column_set.id = chunk.columns JOIN kit ON kit.id = chunk.kit WHERE kit.name = :kit
""")
_CLOCKS: Final = """
SELECT boot, moved, offset_s, offset_seq, live_from_ms, live_to_ms, live_offset_ms
FROM boot JOIN kit ON kit.id = boot.kit WHERE kit.name = ?
"""


def problems(db: sqlite3.Connection, kit: str) -> Iterator[tuple[int, str]]:
    """Yield (boot, what is wrong) of a kit; boots of which rows are still to be placed again are left out."""
    clocks = {boot: BootClock(*clock) for boot, moved, *clock in db.execute(_CLOCKS, (kit,)) if not moved}
    times: list[Ints] = []
    for boot, hour, names, width, packed, source, offset_s, shift_ms, waits, received_ms, error_s in db.execute(
        _CHUNKS, {"kit": kit}
    ):
        columns = names.split(",")
        table = chunks.unpack(Packed(width, packed), len(columns))
        seq, up, t, q, dt = (table[:, columns.index(name)] for name in ("seq", "up", "t", "q", "dt"))
        own = (up if offset_s is not None else t) + (offset_s or 0)
        if hour is not None:
            times.append(own * 1000 + shift_ms)
            if (hour_of(own * 1000, dt) != hour).any():
                yield boot, f"rows from seq {seq.min()} stand in hour {hour}, which is not theirs"
        if (clock := clocks.get(boot)) is None:
            continue
        anchor = clock.anchor()
        if waits == Wait.NO_TIME and anchor is not None:
            yield boot, f"rows from seq {seq.min()} wait though the boot's clock is known"
        by_anchor = source != TimeSource.KIT and hour is not None
        if by_anchor and (anchor is None or (anchor.offset_s, anchor.source) != (offset_s, source)):
            yield boot, f"rows from seq {seq.min()} are placed by another anchor than their boot's"
        believed = (q == 2) & (t != NULL) & _before(t, Receipt(received_ms, error_s).bound_ms)
        if believed.any() and (clock.offset_seq is None or seq[believed].min() < clock.offset_seq):
            yield boot, f"seq {seq[believed].min()} tells the boot's clock and was passed over"
    if times:
        _, counts = np.unique(np.concatenate(times), return_counts=True)
        if (shared := int((counts - 1).sum())) > 0:
            yield 0, f"{shared} rows share a millisecond with another"


def _before(t: Ints, bound_ms: int | None) -> np.ndarray:
    return np.ones(len(t), bool) if bound_ms is None else t * 1000 <= bound_ms
