"""How it stands with the gateway and its kits: read from one state of the store, and judged; writes nothing.

`Status` is what `lichen status` shows. What needs attention stands in `status_problems`.
"""

import sqlite3
from collections.abc import Callable
from typing import Final

import msgspec

from gateway import drift
from gateway.drift import DriftWatch
from gateway.metrics import Vitals
from gateway.own_numbers import Numbers, read_numbers
from gateway.records import HOUR_MS
from gateway.settings import Settings
from gateway.store import deadletters, numbers, readings
from gateway.store.database import RAW_HORIZON, read_meta, snapshot
from gateway.store.deadletters import Choice
from gateway.store.hand_set import hand_set
from gateway.store.numbers import KitNumbers
from gateway.store.readings import KitState
from gateway.system_clock import OwnClock

SILENT_AFTER_S: Final = 900
"""A kit sends each minute; as on the page, a quarter of an hour without it is silence."""

SILENT_INTERVALS: Final = 3
GONE_AFTER_MS: Final = 14 * 86_400_000
"""Nothing for two weeks: it was taken away, or somebody knows; it is shown, and asks for no attention any more."""

_HOUR_MS: Final = 3_600_000


class Kit(msgspec.Struct, frozen=True, kw_only=True):
    """One kit: how it is in a word, and the numbers behind it, which `store.numbers` explains."""

    name: str
    state: str
    heard_ms: int
    newest_ms: int | None
    interval_s: int
    rows: int
    day_rows: int
    day_expected: int
    waiting_rows: int
    awaited_rows: int
    gaps: int
    lost_rows: int
    late_rows: int
    duplicates: int
    dead_letters: dict[str, int]

    @property
    def missing_pct(self) -> float:
        """Share of the day's rows that is not stored [%]."""
        return max(0.0, 100.0 * (1 - self.day_rows / self.day_expected)) if self.day_expected else 0.0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `lichen status` shows; by reason, `letters` are kept and `new_letters` of the last 24 hours."""

    store: str
    running: bool
    owner_pid: int | None
    vitals: Vitals | None
    clock_setting: bool | str
    clock_error_s: int | None
    numbers: Numbers
    rows_last_hour: int
    letters: dict[str, int]
    new_letters: dict[str, int]
    horizon_ms: int | None
    drift: DriftWatch
    kits: tuple[Kit, ...]


def read_status(
    db: sqlite3.Connection, settings: Settings, vitals: Vitals | None, owner_pid: int | None, wall_ms: Callable[[], int]
) -> Status:
    """Read everything from one state of the store; `vitals` are None where no gateway answers."""
    if vitals:
        error_s = vitals.clock_error_s
    else:
        clock = OwnClock(settings.clock.trusted, lambda: hand_set(db))
        clock.look()
        error_s = clock.error_s()
    trusted = error_s is not None
    with snapshot(db):
        states = readings.kits(db)
        now_ms = wall_ms()
        data_now_ms = now_ms if trusted else max((s.last_time_ms or 0 for s in states), default=0)
        per_kit = numbers.per_kit(db, data_now_ms)
        horizon = read_meta(db, RAW_HORIZON)
        return Status(
            store=str(settings.store_dir), running=vitals is not None, owner_pid=owner_pid, vitals=vitals,
            clock_setting=settings.clock.trusted, clock_error_s=error_s,
            numbers=read_numbers(db, settings, now_ms, clock_trusted=trusted),
            rows_last_hour=numbers.stored_since(db, now_ms - _HOUR_MS),
            letters=deadletters.count(db),
            new_letters=deadletters.count(db, Choice(since_ms=now_ms - 24 * _HOUR_MS)),
            horizon_ms=int(horizon) * HOUR_MS if horizon else None,
            drift=drift.read(db, settings),
            kits=tuple(_kit(s, per_kit[s.name], now_ms if trusted else None, data_now_ms) for s in states),
        )  # fmt: skip


def _kit(state: KitState, found: KitNumbers, now_ms: int | None, data_now_ms: int) -> Kit:
    limit_ms = max(SILENT_AFTER_S, SILENT_INTERVALS * found.interval_s) * 1000
    # Where the clock is not trusted the receive times tell nothing; the newest readings of the others then do.
    silent = now_ms is not None and now_ms - state.heard_ms > limit_ms
    behind = state.last_time_ms is None or data_now_ms - state.last_time_ms > limit_ms
    if now_ms is not None and now_ms - state.heard_ms > GONE_AFTER_MS:
        word = "gone"
    elif silent:
        word = "silent"
    elif behind:
        word = "behind"
    elif found.waiting_lately:
        word = "waits"
    else:
        word = "ok"
    return Kit(
        name=state.name, state=word, heard_ms=state.heard_ms, newest_ms=state.last_time_ms, rows=state.row_count,
        waiting_rows=state.waiting_count, interval_s=found.interval_s, day_rows=found.day_rows,
        day_expected=found.day_expected, awaited_rows=found.awaited_rows, gaps=found.gaps, lost_rows=found.lost_rows,
        late_rows=found.late_rows, duplicates=found.duplicates, dead_letters=found.dead_letters,
    )  # fmt: skip
