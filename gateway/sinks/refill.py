"""Sending again what the store holds of a span of time, beside what is new: after a database lost data."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.records import HOUR_MS
from gateway.sinks import lineprotocol
from gateway.sinks.cursor import Refill
from gateway.store import health, standing

_GAP_HOURS: Final = 1000
"""Where nothing stands, the span is passed in steps of so many hours."""


def lines(db: sqlite3.Connection, refill: Refill) -> Iterator[tuple[int, Sequence[bytes]]]:
    """Yield lines of what stands in the rest of the span, and the time up to which all is done with them.

    Each part is to be written before the next is asked for: what the store withdraws later is then deleted later.
    """
    start = refill.at_ms
    while start < refill.to_ms:
        end = min(refill.to_ms, _next(db, start))
        for kit in standing.kits(db):
            yield start, lineprotocol.raw_lines(standing.raw(db, kit, start, end))
            yield start, [line for air in standing.air(db, kit, start, end) for line in lineprotocol.air_lines(air)]
        yield start, [x for r in standing.hours(db, None, start, end) for x in lineprotocol.hour_lines(r)]
        yield start, [x for r in standing.indices(db, None, None, start, end) for x in lineprotocol.index_lines(r)]
        some = [r for of_gateway in (False, True) for r in health.between(db, start, end, gateway=of_gateway)]
        yield end, [line for record in some for line in lineprotocol.health_lines(record)]
        start = end


def _next(db: sqlite3.Connection, start_ms: int) -> int:
    """Return where the part that begins here ends: with the hour, or where nothing stands after many."""
    hour = start_ms // HOUR_MS
    empty = not standing.has_rows(db, hour - standing.REACH_HOURS, hour + _GAP_HOURS)
    return (hour + (_GAP_HOURS if empty else 1)) * HOUR_MS
