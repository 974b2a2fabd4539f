"""When a sink is *behind*: it has more to send than its budget, or missed what the store had to let go; no writing."""

import sqlite3
from typing import Final

from gateway.settings import Influx
from gateway.sinks.cursor import Cursor, SinkState
from gateway.store import counters, numbers, standing

UNSENT: Final = {
    "pruned_unsent": "raw readings",
    "pruned_unsent_air_hours": "calibrated hours",
    "pruned_unsent_tombstones": "removals",
    "pruned_unsent_health": "health records",
}
"""Counters of what the store let go before every sink had it."""

_DAY_S: Final = 86_400


def let_go(db: sqlite3.Connection) -> dict[str, int]:
    """Return how much of each kind the store let go unsent, since it was made."""
    counted = counters.totals(db)
    return {name: counted[name] for name in UNSENT if counted.get(name)}


def look(db: sqlite3.Connection, cursor: Cursor, budget: Influx, now_ms: int, state: SinkState) -> None:
    """Write into the state how far behind the sink is, and whether that is more than its budget."""
    oldest_ms = numbers.received_after(db, cursor.rev)
    state.unsent_s = max(0.0, (now_ms - oldest_ms) / 1000) if oldest_ms is not None else 0.0
    state.unsent_rows = standing.rows_after(db, cursor.rev)
    state.missed = {
        name: count - cursor.settled.get(name, 0)
        for name, count in let_go(db).items()
        if count > cursor.settled.get(name, 0)
    }
    reasons = []
    if state.missed:
        kinds = ", ".join(f"{count} {UNSENT[name]}" for name, count in state.missed.items())
        reasons.append(f"the store had to let go {kinds} that InfluxDB was never given")
    if state.unsent_s > budget.lag_days * _DAY_S:
        reasons.append(f"readings received {state.unsent_s / _DAY_S:.1f} days ago are still to be sent")
    if state.unsent_rows > budget.lag_rows:
        reasons.append(f"{state.unsent_rows} readings are still to be sent")
    state.behind = "; ".join(reasons)
