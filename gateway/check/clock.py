"""The gateway's clock: whether somebody keeps it right, and whether its time can be true."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway import system_clock
from gateway.check.finding import Finding, Findings, Subject
from gateway.clock import FUTURE_LIMIT_S
from gateway.export import iso_time
from gateway.settings import Settings
from gateway.store import numbers
from gateway.store.hand_set import hand_set

_PROGRAM: Final = Path(__file__)


def check_clock(
    settings: Settings,
    db: sqlite3.Connection | None,
    *,
    now_ms: Callable[[], int] = system_clock.now_ms,
    synchronised: Callable[[], bool] = system_clock.synchronised,
) -> Findings:
    """Compare what the kernel, the settings, the program's files and the newest reading say."""
    subject = Subject("clock")
    yield _trust(subject, settings, db, kept_right=synchronised())
    wall_ms = now_ms()
    built_ms = _PROGRAM.stat().st_mtime_ns // 1_000_000
    newest = [ms for ms in numbers.newest_ms(db).values() if ms is not None] if db else []
    if wall_ms < built_ms:
        yield subject.error(
            f"it says {iso_time(wall_ms)}, and this program was installed at {iso_time(built_ms)}",
            "connect to NTP, or: sudo lichen clock set TIME --error SECONDS",
        )
    elif newest and settings.clock.trusted is not False and max(newest) > wall_ms + FUTURE_LIMIT_S * 1000:
        yield subject.error(
            f"it says {iso_time(wall_ms)}, and the newest reading is of {iso_time(max(newest))}",
            "one of the two is wrong: set the clock; a store of replayed times needs [clock] trusted = false",
        )
    else:
        yield subject.ok(f"{iso_time(wall_ms)} can be true")


def _trust(subject: Subject, settings: Settings, db: sqlite3.Connection | None, *, kept_right: bool) -> Finding:
    setting = settings.clock.trusted
    if setting is False:
        return subject.ok("[clock] trusted = false: times are taken from kits alone")
    if kept_right:
        return subject.ok("the system keeps it right (NTP)")
    if setting is True:
        return subject.warning(
            "[clock] trusted = true, and nobody keeps it right: a wrong time would be believed",
            'run chrony or systemd-timesyncd, and set [clock] trusted = "auto"',
        )
    record = hand_set(db) if db else None
    if record and record.boot_id == system_clock.boot_id():
        return subject.ok(f"declared right within {record.error_s} s by {record.who}, until the next start")
    return subject.warning(
        "nobody keeps it right: kits without a clock get no time from this gateway",
        "run chrony or systemd-timesyncd; without a network: sudo lichen clock set TIME --error SECONDS",
    )
