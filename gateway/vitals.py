"""Gathers what only the running process knows of itself; any thread may do it, and it asks nobody who could hang."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from gateway.attempts import Attempts
from gateway.broker import Broker, Message
from gateway.metrics import Live, SinkVitals, Vitals
from gateway.sinks.process import SinkProcess
from gateway.system_clock import OwnClock
from gateway.watch import Watch

_MB: Final = 1_000_000
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def take(
    live: Live,
    *,
    broker: Broker,
    unstored: Sequence[Message],
    attempts: Attempts,
    watch: Watch,
    clock: OwnClock,
    sink: SinkProcess | None,
) -> Vitals:
    """Return how the process is now; `unstored` are messages that the writing thread has taken out of the inbox."""
    waiting = list(unstored)
    oldest_ms = [waiting[0].received_ms] if waiting else []
    if (inbox_ms := broker.inbox.oldest_ms) is not None:
        oldest_ms.append(inbox_ms)
    age_s = max(0.0, time.time() - min(oldest_ms) / 1000) if oldest_ms else None
    stuck = watch.stuck
    return Vitals(
        pid=os.getpid(), version=program_version(), mark=broker.mark, started_ms=live.started_ms,
        status="; ".join(stuck) or attempts.status or broker.status, receiving=broker.receiving,
        troubles=attempts.troubles, stuck=stuck,
        queue_messages=len(broker.inbox) + len(waiting),
        queue_bytes=broker.inbox.payload_bytes + sum(len(m.payload) for m in waiting), queue_age_s=age_s,
        messages=live.messages, payload_bytes=live.payload_bytes, commits=sum(live.commits.counts),
        commits_s=live.commits.sum_s, last_commit_ms=live.last_commit_ms, last_commit_s=live.last_commit_s,
        clock_error_s=clock.error_s(), clock_steps=clock.steps, rss_mb=_rss_mb("self"),
        sink=_sink(sink) if sink else None,
    )  # fmt: skip


def _sink(sink: SinkProcess) -> SinkVitals:
    pid = sink.pid
    return SinkVitals(pid=pid, rss_mb=_rss_mb(pid), restarts=sink.restarts, hangs=sink.hangs)


@cache
def program_version() -> str:
    """Return the version of this program, as of the process: after an upgrade the files tell another."""
    try:
        return version("lichen-air")
    except PackageNotFoundError:
        return "unknown"


def _rss_mb(pid: int | str | None) -> float | None:
    """Return the memory that a process holds [MB]."""
    if pid is not None:
        with suppress(OSError, ValueError, IndexError):
            pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
            return round(pages * _PAGE / _MB, 1)
    return None
