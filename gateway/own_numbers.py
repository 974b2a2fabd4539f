"""The gateway's own numbers at one moment: those that are cheap to read, for metrics, `gateway` and `lichen status`."""

import sqlite3
from typing import Final

import msgspec

from gateway.metrics import Vitals
from gateway.settings import Settings
from gateway.sinks.cursor import SinkFiles
from gateway.store import counters, deadletters, numbers, room
from gateway.store.database import FILE_NAME, last_revision, read_meta

_SINK: Final = "influx"
_MB: Final = 1_000_000


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
