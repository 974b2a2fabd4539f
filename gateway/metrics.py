"""The numbers of the running process, kept in one typed place: filled by the writing thread, read by any other; pure.

What outlives the process (rows, duplicates, dead letters by reason) is counted in the store, see `store.counters`.
"""

import time
from bisect import bisect_left
from typing import Final

import msgspec

COMMIT_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""A commit on an SSD takes some ms, on a slow card some seconds."""


class Histogram(msgspec.Struct):
    """How often something took how long: `counts` by the bounds [s], the last for what took longer."""

    bounds_s: tuple[float, ...] = COMMIT_BOUNDS_S
    counts: list[int] = msgspec.field(default_factory=list)
    sum_s: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds_s) + 1)

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds_s, seconds)] += 1
        self.sum_s += seconds


class Live(msgspec.Struct):
    """What the writing thread counts since its start."""

    started_ms: int = msgspec.field(default_factory=lambda: time.time_ns() // 1_000_000)
    messages: int = 0
    payload_bytes: int = 0
    commits: Histogram = msgspec.field(default_factory=Histogram)
    last_commit_ms: int | None = None
    last_commit_s: float | None = None

    def committed(self, messages: int, payload_bytes: int, seconds: float) -> None:
        """Count a commit of messages from the broker."""
        self.messages += messages
        self.payload_bytes += payload_bytes
        self.commits.add(seconds)
        self.last_commit_ms = time.time_ns() // 1_000_000
        self.last_commit_s = seconds


class SinkVitals(msgspec.Struct, frozen=True, kw_only=True):
    """The sink's process as the gateway sees it."""

    pid: int | None
    rss_mb: float | None
    restarts: int
    hangs: int


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """What only the running process knows of itself, at one moment.

    `mark` is what it leaves at the broker for its session; `status` is the line that systemd shows; `troubles` what
    fails and is tried again; `stuck` the parts that hang. `clock_error_s` is None while the clock is not trusted.
    `queue_age_s` is that of the oldest message without a commit, None where none waits. Counts of messages and commits
    are since the start.
    """

    pid: int
    version: str
    mark: str
    started_ms: int
    status: str
    receiving: bool
    troubles: tuple[str, ...]
    stuck: tuple[str, ...]
    queue_messages: int
    queue_bytes: int
    queue_age_s: float | None
    messages: int
    payload_bytes: int
    commits: int
    commits_s: float
    last_commit_ms: int | None
    last_commit_s: float | None
    clock_error_s: int | None
    clock_steps: int
    rss_mb: float | None
    sink: SinkVitals | None
