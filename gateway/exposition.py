"""The page /metrics for Prometheus: the same numbers as `lichen status`, labelled by kit and reason alone.

Imported at the first request: prometheus-client takes some memory, and not every gateway is asked.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import drift
from gateway.drift import DriftWatch
from gateway.metrics import Histogram, Live, Vitals
from gateway.own_numbers import Numbers, read_numbers
from gateway.settings import Settings
from gateway.store.database import open_reader, snapshot

MOST_KITS: Final = 500
"""Kits with a line of their own; of more, those that have been silent for longest, and how many are left out."""

_MB: Final = 1_000_000


def exposition(settings: Settings, live: Live, vitals: Vitals, now_ms: int) -> bytes:
    """Return the page."""
    db = open_reader(settings.store_dir)
    try:
        with snapshot(db):
            numbers = read_numbers(db, settings, now_ms, clock_trusted=vitals.clock_error_s is not None)
            watched = _watched(settings, drift.newest_hour(db))
    finally:
        db.close()
    registry = CollectorRegistry()
    parts = (_process(live, vitals), _store(numbers), _kits(numbers), _drift(watched), _sink(numbers, vitals))
    registry.register(_Page([metric for part in parts for metric in part]))
    return generate_latest(registry)


@lru_cache(maxsize=1)
def _watched(settings: Settings, _hour: int) -> DriftWatch:
    """Compare kits once an hour: it reads eight days of all of them."""
    db = open_reader(settings.store_dir)
    try:
        with snapshot(db):
            return drift.read(db, settings)
    finally:
        db.close()


class _Page(Collector):
    """Metrics that were gathered for one request."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _gauge(name: str, text: str, value: float | None) -> Iterator[Metric]:
    """Yield a gauge; nothing where the value is not known."""
    if value is not None:
        yield GaugeMetricFamily(f"lichen_{name}", text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"lichen_{name}", text, value)


def _process(live: Live, vitals: Vitals) -> Iterator[Metric]:
    yield _counter("messages_received", "Messages committed since the start.", vitals.messages)
    yield _counter("payload_received_bytes", "Their payload.", vitals.payload_bytes)
    yield from _gauge("start_time_seconds", "When the gateway started.", vitals.started_ms / 1000)
    yield from _gauge("receiving", "Whether the broker delivers.", vitals.receiving)
    yield from _gauge("queue_messages", "Messages that wait for their commit.", vitals.queue_messages)
    yield from _gauge("queue_bytes", "Their payload.", vitals.queue_bytes)
    yield from _gauge("queue_age_seconds", "Age of the oldest of them.", vitals.queue_age_s or 0.0)
    yield from _gauge("stuck_parts", "Parts that hang.", len(vitals.stuck))
    yield from _gauge("troubles", "Kinds of work that fail now and are tried again.", len(vitals.troubles))
    yield from _gauge("clock_trusted", "Whether the gateway believes its clock.", vitals.clock_error_s is not None)
    yield _counter("clock_steps", "How often the clock was moved.", vitals.clock_steps)
    yield _histogram("commit_seconds", "Time of a commit, decoding included.", live.commits)
    yield from _gauge("resident_memory_bytes", "Memory of the gateway.", vitals.rss_mb and vitals.rss_mb * _MB)


def _histogram(name: str, text: str, found: Histogram) -> Metric:
    counts = list(found.counts)
    buckets = [(str(bound), float(sum(counts[: i + 1]))) for i, bound in enumerate(found.bounds_s)]
    buckets.append(("+Inf", float(sum(counts))))
    return HistogramMetricFamily(f"lichen_{name}", text, buckets=buckets, sum_value=found.sum_s)


def _store(found: Numbers) -> Iterator[Metric]:
    counted = found.counters
    yield _counter("rows_stored", "Rows stored since the store was made.", counted.get("rows", 0))
    yield _counter("duplicates", "Copies of rows that changed nothing.", counted.get("duplicates", 0))
    yield _counter("late_rows", "Rows of hours that are sealed.", counted.get("late_rows", 0))
    yield _counter("errors", "Mistakes of this program that were met.", counted.get("errors", 0))
    letters = CounterMetricFamily("lichen_dead_letters", "Messages that could not become rows.", labels=["reason"])
    for name, count in sorted(counted.items()):
        if name.startswith("dead."):
            letters.add_metric([name.removeprefix("dead.")], count)
    yield letters
    yield from _gauge("dead_letters_held", "Dead letters that are kept.", found.letters_held)
    yield from _gauge("dirty_hours", "Hours to derive.", found.dirty_hours)
    yield from _gauge("failed_hours", "Hours whose derivation fails.", found.failed_hours)
    yield from _gauge("store_bytes", "Room that the store takes.", found.store_mb * _MB)
    yield from _gauge("store_budget_bytes", "Room that it may take.", found.budget_mb * _MB)
    yield from _gauge("disk_free_bytes", "Free space of its file system.", found.disk_free_mb * _MB)
    yield from _gauge("kits", "Kits that are known.", found.kits)


def _kits(found: Numbers) -> Iterator[Metric]:
    age = GaugeMetricFamily("lichen_kit_newest_reading_age_seconds", "Age of the newest reading.", labels=["kit"])
    if found.clock_trusted:  # else no age can be told
        placed = sorted((ms, name) for name, ms in found.newest_ms.items() if ms is not None)
        for newest_ms, name in placed[:MOST_KITS]:
            age.add_metric([name], max(0.0, (found.now_ms - newest_ms) / 1000))
        yield from _gauge("kits_left_out", "Kits beyond those with a line.", max(0, len(placed) - MOST_KITS))
    yield age


def _drift(found: DriftWatch) -> Iterator[Metric]:
    labels = ["kit", "quantity", "against"]
    alarm = GaugeMetricFamily("lichen_drift_alarm", "Whether it has moved away from it for days.", labels=labels)
    gain = GaugeMetricFamily("lichen_drift_gain", "Spread of the proxy over that of the kit, in 72 h.", labels=labels)
    for one in found.pairs[: 3 * MOST_KITS]:
        names = [one.kit, one.quantity, one.against]
        alarm.add_metric(names, bool(one.alarms))
        if one.gain is not None:
            gain.add_metric(names, one.gain)
    yield from (alarm, gain)
    yield from _gauge("drift_stations_unreadable", "Files of stations that cannot be used.", len(found.unreadable))


def _sink(found: Numbers, vitals: Vitals) -> Iterator[Metric]:
    if sink := found.sink:
        yield from _gauge("sink_lag_revisions", "Changes that InfluxDB does not have.", sink.lag_revisions)
        yield from _gauge("sink_lag_seconds", "Since when the oldest of their readings is here.", sink.lag_s)
        yield _counter("sink_lines_written", "Lines that InfluxDB took.", sink.written)
        yield _counter("sink_lines_refused", "Lines that InfluxDB will never take.", sink.refused)
        yield _counter("sink_lines_expired", "Lines older than its bucket keeps.", sink.expired)
        yield from _gauge("sink_behind", "Whether it has more to send than its budget.", bool(sink.behind))
        yield from _gauge("sink_missed", "Records that the store let go before it had them.", sink.missed)
        yield from _gauge("sink_failing", "Whether the last attempt failed.", bool(sink.last_error))
    if vitals.sink:
        yield _counter("sink_restarts", "How often its process was started again.", vitals.sink.restarts)
