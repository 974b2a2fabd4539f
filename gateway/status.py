"""How it stands with the gateway and its kits: read from one state of the store, and judged; writes nothing.

`Numbers` are the cheap ones, which metrics and the measurement `gateway` take too; `Status` is what `lichen status`
shows. What needs attention stands in `status_problems`.
"""

import sqlite3
from collections.abc import Callable
from typing import Final

import msgspec

from gateway import drift
from gateway.drift import DriftWatch
from gateway.metrics import Vitals
from gateway.records import HOUR_MS
from gateway.settings import Settings
from gateway.sinks.cursor import SinkFiles
from gateway.store import counters, deadletters, numbers, readings, room
from gateway.store.database import FILE_NAME, RAW_HORIZON, last_revision, read_meta, snapshot
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

_SINK: Final = "influx"
_MB: Final = 1_000_000
_HOUR_MS: Final = 3_600_000


class SinkNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """How far the InfluxDB sink is; `lag_s` is how long ago the oldest readings were received that it has not sent.

    `behind` says why it is beyond its budget, empty where it is not; `missed` counts what it was never given, and
    `refilled_to_ms` is how far a span that is sent again has been sent, None where none is.
    """

    cursor: int
    lag_revisions: int
    lag_s: float
    written: int
    refused: int
    expired: int
    last_success_ms: int | None
    last_error: str
    behind: str
    missed: int
    refilled_to_ms: int | None


class Numbers(msgspec.Struct, frozen=True, kw_only=True):
    """What the store, its disk and the sink's files tell at one moment; `counters` are since the store was made."""

    now_ms: int
    clock_trusted: bool
    kits: int
    revision: int
    counters: dict[str, int]
    letters_held: int
    dirty_hours: int
    failed_hours: int
    store_mb: float
    budget_mb: int
    disk_free_mb: float
    reserve_mb: int
    newest_ms: dict[str, int | None]
    sink: SinkNumbers | None


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


def read_numbers(db: sqlite3.Connection, settings: Settings, now_ms: int, *, clock_trusted: bool) -> Numbers:
    """Read the cheap numbers, inside a snapshot or the writing thread."""
    measured = room.measure(db, settings.store_dir / FILE_NAME)
    newest = numbers.newest_ms(db)
    dirty, failed = numbers.dirty_hours(db)
    counted = counters.totals(db)
    return Numbers(
        now_ms=now_ms, clock_trusted=clock_trusted, kits=len(newest), revision=last_revision(db),
        counters=counted, letters_held=counted.get(deadletters.HELD, 0), dirty_hours=dirty, failed_hours=failed,
        store_mb=round(measured.held / _MB, 1), budget_mb=settings.store.budget_mb,
        disk_free_mb=round(measured.disk_free / _MB, 1), reserve_mb=settings.store.reserve_mb, newest_ms=newest,
        sink=_sink(db, settings, now_ms) if settings.influx else None,
    )  # fmt: skip


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


def _sink(db: sqlite3.Connection, settings: Settings, now_ms: int) -> SinkNumbers:
    files = SinkFiles(settings.store_dir, _SINK)
    cursor, state = files.cursor_of(read_meta(db, "store_id") or "").rev, files.load_state()
    lag = max(0, last_revision(db) - cursor)
    oldest_ms = numbers.received_after(db, cursor) if lag else None
    return SinkNumbers(
        cursor=cursor, lag_revisions=lag, lag_s=max(0.0, (now_ms - oldest_ms) / 1000) if oldest_ms else 0.0,
        written=state.lines_written, refused=state.lines_refused, expired=state.lines_expired,
        last_success_ms=state.last_success_ms, last_error=state.last_error,
        behind=state.behind, missed=sum(state.missed.values()), refilled_to_ms=state.refilled_to_ms,
    )  # fmt: skip


def flat(found: Numbers, vitals: Vitals) -> dict[str, int | float]:
    """Return the numbers of the measurement `gateway`: each a field; what is not known is absent."""
    counted = found.counters
    fields: dict[str, int | float | None] = {
        "messages": vitals.messages, "payload_bytes": vitals.payload_bytes, "rows": counted.get("rows", 0),
        "duplicates": counted.get("duplicates", 0), "late_rows": counted.get("late_rows", 0),
        "dead_letters": counted.get("dead_letters", 0), "dead_letters_held": found.letters_held,
        "errors": counted.get("errors", 0), "kits": found.kits, "queue_messages": vitals.queue_messages,
        "queue_bytes": vitals.queue_bytes, "queue_age_s": float(vitals.queue_age_s or 0.0),
        "commits": vitals.commits, "commits_s": float(vitals.commits_s), "last_commit_s": vitals.last_commit_s,
        "dirty_hours": found.dirty_hours, "failed_hours": found.failed_hours, "store_mb": float(found.store_mb),
        "disk_free_mb": float(found.disk_free_mb), "clock_trusted": int(found.clock_trusted),
        "clock_steps": vitals.clock_steps, "receiving": int(vitals.receiving), "stuck": len(vitals.stuck),
        "troubles": len(vitals.troubles), "rss_mb": vitals.rss_mb,
    }  # fmt: skip
    if found.sink:
        fields |= {
            "sink_lag_revisions": found.sink.lag_revisions, "sink_lag_s": float(found.sink.lag_s),
            "sink_written": found.sink.written, "sink_refused": found.sink.refused, "sink_expired": found.sink.expired,
            "sink_missed": found.sink.missed,
        }  # fmt: skip
    if vitals.sink:
        fields |= {"sink_restarts": vitals.sink.restarts, "sink_rss_mb": vitals.sink.rss_mb}
    return {name: value for name, value in fields.items() if value is not None}
