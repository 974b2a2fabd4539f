"""Kits that send a row a minute each: how late a reading is in InfluxDB, and what gateway and sink cost meanwhile."""

import json
import math
import shutil
import threading
import time
from pathlib import Path

import consumers
import payloads
import profile_table
import stores
import wal_pages
from broker import BenchBroker, Feeder
from machine import Others, cpu_s, memory_mb, wait_until, written_bytes
from project import BUCKET, Influxd

_LOOK_EVERY_S = 0.1
_LOOK_BACK_S = 20
_SETTLE_S = 5
_CATCH_UP_S = 600


class _Kits(threading.Thread):
    """Publishes the row of each kit when its minute ends; notes when."""

    def __init__(self, port, kits, first, start_s, *, unseen_s, seconds):
        super().__init__(daemon=True)
        self._counted_from_s = time.time() + unseen_s
        self.sent_s = {}
        self.late_s = 0.0
        self._feeder = Feeder(port)
        self._first, self._start_s, self._until_s = first, start_s, time.time() + unseen_s + seconds
        self._kits = kits

    def run(self):
        seq = self._first
        with self._feeder:
            while True:
                for kit in range(self._kits):
                    ends_s = self._start_s + (seq + 1) * payloads.STEP_S + payloads.STEP_S * kit / self._kits
                    if ends_s > self._until_s:
                        return
                    time.sleep(max(0.0, ends_s - time.time()))
                    self._publish(kit, seq, ends_s)
                seq += 1

    def _publish(self, kit, seq, ends_s):
        (row,) = stores.wire_rows(kit, self._kits, seq, 1, self._start_s)
        now_s = time.time()
        if now_s >= self._counted_from_s:
            self.sent_s[payloads.kit_name(kit), seq] = now_s
            self.late_s = max(self.late_s, now_s - ends_s)
        values = (row[0], row[1], row[2], *row[7:])
        self._feeder.publish([(f"{payloads.BASE}/{payloads.kit_name(kit)}/obs", payloads.wire(kit, [values]))])


def run(folder, influxd_binary, *, kits, minutes, hours, warm_minutes, profile=False):
    """Return what was measured, as JSON may hold it.

    Kits send for `warm_minutes` before: a gateway that has just begun derives often, and then less and less.
    """
    past = hours * 60
    start_s = int(time.time()) - past * payloads.STEP_S
    stores.fill(folder / "store", kits, past, start_s, live_minutes=min(70, past))
    with Influxd(influxd_binary, folder / "influxd") as server, BenchBroker(folder / "broker") as broker:
        config = consumers.lichen_config(folder, broker.port, server)
        clocks = folder / "profile.json" if profile else None
        with consumers.lichen(folder, config, profile=clocks) as gateway:
            _wait_for_sink(folder / "store", gateway)
            # Kits have gone on meanwhile; what they measured before now is left out.
            first = max(past, math.ceil((time.time() + _SETTLE_S - start_s) / payloads.STEP_S) - 1)
            time.sleep(start_s + (first + 1) * payloads.STEP_S - time.time())
            sender = _Kits(broker.port, kits, first, start_s, unseen_s=warm_minutes * 60, seconds=minutes * 60)
            sender.start()
            time.sleep(warm_minutes * 60)
            others = Others([broker.cpu_s, lambda: cpu_s([server.process.pid]), gateway.cpu_s])
            before = gateway.cpu_s(), gateway.written_bytes(), cpu_s([server.process.pid]), time.monotonic()
            sink_before = _sink_use(gateway)
            watch = _Watch(server, gateway, sender)
            watch.run()
            seconds = time.monotonic() - before[3]
            found = watch.result()
            sent = len(sender.sent_s)
            found |= {
                "kits": kits, "hours_before": hours, "warm_minutes": warm_minutes,
                "minutes": round(seconds / 60, 2), "readings": sent,
                "cpu_pct": round(100 * (gateway.cpu_s() - before[0]) / seconds, 2),
                "disk_bytes_per_reading": round((gateway.written_bytes() - before[1]) / sent),
                "influxd_cpu_pct": round(100 * (cpu_s([server.process.pid]) - before[2]) / seconds, 1),
                "sink_alone": _since(sink_before, _sink_use(gateway), seconds, sent),
                "sender_late_s": round(sender.late_s, 2), "others_cores": round(others.cores(), 2),
                "soak": others.soak(), "store_mb": round(_size_mb(folder / "store"), 1),
            }  # fmt: skip
            found["log_pages"] = wal_pages.by_table(folder / "store")
            gateway.end()
            if clocks:
                print(f"what it costs from its start to its end, the past included, a live reading\n"
                      f"{profile_table.text(clocks, sent)}")  # fmt: skip
    shutil.rmtree(folder)
    return found


class _Watch:
    """Looks what has become visible in InfluxDB, and how much memory is held, until every reading sent is there."""

    def __init__(self, server, gateway, sender):
        self._server, self._gateway, self._sender = server, gateway, sender
        self._seen_s = {}
        self._rss_mb = []

    def run(self):
        while self._sender.is_alive() or not self._complete():
            self._gateway.check()
            started_s = time.monotonic()
            self._look()
            self._rss_mb.append(self._gateway.rss_mb())
            time.sleep(max(0.0, _LOOK_EVERY_S - (time.monotonic() - started_s)))

    def result(self):
        late = sorted(self._seen_s[name] - sent_s for name, sent_s in self._sender.sent_s.items())
        return {
            "p50_s": round(late[len(late) // 2], 2), "p99_s": round(late[int(len(late) * 0.99)], 2),
            "max_s": round(late[-1], 2), "rss_mb": round(max(self._rss_mb), 1),
        }  # fmt: skip

    def _complete(self):
        sent = self._sender.sent_s
        if all(name in self._seen_s for name in sent):
            return True
        if time.time() - max(sent.values()) > _LOOK_BACK_S:
            missing = [name for name in sent if name not in self._seen_s]
            raise RuntimeError(f"{len(missing)} of {len(sent)} readings were not seen within {_LOOK_BACK_S} s: "
                               f"{missing[:3]}")  # fmt: skip
        return False

    def _look(self):
        rows = self._server.query(
            f'from(bucket: "{BUCKET}") |> range(start: -{_LOOK_BACK_S}s, stop: 1m) '
            '|> filter(fn: (r) => r._measurement == "raw" and r._field == "seq") |> keep(columns: ["kit", "_value"]) '
            "|> group()"
        )
        now_s = time.time()
        for row in rows:
            self._seen_s.setdefault((row["kit"], int(row["_value"])), now_s)


def _wait_for_sink(store, gateway):
    """Wait until InfluxDB holds what the store holds."""

    def ready():
        gateway.check()
        path = Path(store) / "sinks" / "influx.state.json"
        if not path.exists():
            return False
        state = json.loads(path.read_text())
        return state["cursor"] == state["last_revision"] > 0

    wait_until(ready, "the sink has sent the past", _CATCH_UP_S, 0.5)


def _sink_use(gateway):
    sink = gateway.pids()[1:]
    return cpu_s(sink), written_bytes(sink), memory_mb(sink)


def _since(before, now, seconds, sent):
    return {
        "cpu_pct": round(100 * (now[0] - before[0]) / seconds, 2),
        "disk_bytes_per_reading": round((now[1] - before[1]) / sent), "rss_mb": round(now[2], 1),
    }  # fmt: skip


def _size_mb(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
