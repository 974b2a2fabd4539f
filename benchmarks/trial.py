"""One trial: a fresh broker with the backlog queued, a fresh InfluxDB, one consumer, the time until all is there."""

import re
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import asdict, dataclass

import consumers
import payloads
from broker import BenchBroker, feed
from machine import Others, cpu_s
from project import Influxd

_POLL_S = 0.1
_LAST_POLL_S = 0.02
_LAST_SHARE = 0.1
"""Of the points: once no more are missing it is looked more often, so that a tenth of a second is not rounded up."""
_COUNTED = (("raw", "pm25_cf1"), ("air", "qc"), ("hour", "qc"), ("index", "table"))
_POINTS = re.compile(rb"^storage_writer_ok_points_sum\S* ([0-9.e+]+)$", re.MULTILINE)


@dataclass
class Result:
    """What one trial gave; CPU in µs a reading, memory in MB."""

    who: str
    shape: int
    readings: int
    seconds: float
    cpu_us: float
    peak_mb: float
    disk_bytes: float
    broker_us: float
    influxd_us: float
    others_cores: float
    soak: bool

    @property
    def rate(self):
        return self.readings / self.seconds

    def line(self):
        mark = " SOAK RUNNING: VOID" if self.soak else ""
        return (
            f"{self.who:13} {self.shape:4} rows a message {self.rate:8,.0f}/s {self.seconds:6.2f} s  CPU "
            f"{self.cpu_us:5.1f} µs (broker {self.broker_us:4.1f}, InfluxDB {self.influxd_us:5.1f})  peak "
            f"{self.peak_mb:4.0f} MB  disk {self.disk_bytes:5.0f} B  others {self.others_cores:4.2f} cores{mark}"
        )

    def row(self):
        return asdict(self) | {"rate": self.rate}


@dataclass(frozen=True)
class Plan:
    """What is sent."""

    shape: int
    readings: int
    kits: int
    start_s: int
    parser: str = "json"
    telegraf_lines: int = 5000

    def messages(self, payload):
        return payloads.messages(self.shape, self.readings, self.kits, self.start_s, payload)


def run(who, plan, folder, influxd_binary, *, profile=None, timeout_s=300):
    """Run one of `telegraf`, `lichen raw` and `lichen all` on a backlog."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    is_lichen = who != "telegraf"
    session = consumers.LICHEN_SESSION if is_lichen else consumers.TELEGRAF_SESSION
    with Influxd(influxd_binary, folder / "influxd") as server, BenchBroker(folder / "broker") as broker:
        broker.make_session(session, version5=is_lichen)
        feed(broker, plan.messages(payloads.wire if is_lichen else payloads.objects))

        def influxd_s():
            return cpu_s([server.process.pid])

        before = broker.cpu_s(), influxd_s()
        others = Others([broker.cpu_s, influxd_s])
        with _start(who, plan, folder, broker, server, profile) as consumer:
            others.ours.append(consumer.cpu_s)
            done = _Derived(folder / "store") if who == "lichen all" else None
            seconds = _all_there_s(server, plan.readings, consumer, done, timeout_s) - consumer.started_s
            us = 1e6 / plan.readings
            result = Result(
                who, plan.shape, plan.readings, seconds, consumer.cpu_s() * us, consumer.peak_mb(),
                consumer.written_bytes() / plan.readings, (broker.cpu_s() - before[0]) * us,
                (influxd_s() - before[1]) * us, others.cores(), others.soak(),
            )  # fmt: skip
            consumer.end()
    return result


def _start(who, plan, folder, broker, server, profile):
    if who == "telegraf":
        return consumers.telegraf(folder, broker, server, plan)
    config = consumers.lichen_config(folder, broker.port, server)
    return consumers.lichen(folder, config, derive=who == "lichen all", profile=profile)


def _all_there_s(server, readings, consumer, done, timeout_s):
    """Wait until InfluxDB has all, and return when that was.

    Its own count of points that are written is asked, which costs it little, and believed once a query has found them.
    """
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        consumer.check()
        expected = done.expected(readings) if done else (readings,)
        found = _POINTS.search(server.request("GET", "/metrics"))
        now_s, share = time.monotonic(), float(found[1]) / sum(expected) if found and expected else 0.0
        if share >= 1 and tuple(server.count(*field) for field in _COUNTED[: len(expected)]) == expected:
            return now_s
        time.sleep(_LAST_POLL_S if share >= 1 - _LAST_SHARE else _POLL_S)
    raise TimeoutError(f"InfluxDB does not have all readings within {timeout_s} s")


class _Derived:
    """What a gateway has derived, read beside it."""

    def __init__(self, store):
        self._path = store / "lichen.sqlite"

    def expected(self, readings):
        """Return how many points InfluxDB is to hold of each measurement; None while not all is stored and derived."""
        with suppress(sqlite3.Error), closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True)) as db:
            rows, waits, hours, indices = db.execute(
                "SELECT (SELECT coalesce(sum(row_count), 0) FROM chunk) + (SELECT count(*) FROM fresh), "
                "(SELECT count(*) FROM dirty) + (SELECT count(*) FROM fresh), "
                "(SELECT count(*) FROM hour), (SELECT count(*) FROM site_index)"
            ).fetchone()
            if rows == readings and not waits:
                return readings, readings, hours, indices
        return None
