"""Memory of gateway and sink through a long catch-up: messages are fed as fast as they are taken, for minutes."""

import shutil
import threading
import time

import consumers
import payloads
from broker import BenchBroker, Feeder
from machine import Others, cpu_s, memory_mb, wait_until
from project import Influxd

_KITS = 50
_SHAPE = 100
_WARM = 0.1
"""Part of the readings after which memory should grow no more."""
_LOOK_EVERY_S = 0.5
_TIMEOUT_S = 3600
_MOST_WAITING_MB = 600


def run(folder, influxd_binary, *, readings):
    """Return what was measured, as JSON may hold it."""
    readings -= readings % (_KITS * _SHAPE)
    start_s = int(time.time()) // 3600 * 3600 - readings // _KITS * 60
    plan = payloads.messages(_SHAPE, readings, _KITS, start_s, payloads.wire)
    with Influxd(influxd_binary, folder / "influxd") as server, BenchBroker(folder / "broker") as broker:
        broker.make_session(consumers.LICHEN_SESSION, version5=True)
        others = Others([broker.cpu_s, lambda: cpu_s([server.process.pid])])
        with Feeder(broker.port) as feeder:
            thread = threading.Thread(target=lambda: feeder.publish(_slowly(plan, broker)), daemon=True)
            thread.start()
            config = consumers.lichen_config(folder, broker.port, server)
            with consumers.lichen(folder, config) as gateway:
                others.ours.append(gateway.cpu_s)
                samples = _sample(gateway, server, readings)
                seconds = time.monotonic() - gateway.started_s
                growth = _growth_mb(samples, readings)
                found = {
                    "readings": readings, "seconds": round(seconds), "per_second": round(readings / seconds),
                    **growth, "peak_mb": round(gateway.peak_mb(), 1), "others_cores": round(others.cores(), 2),
                    "soak": others.soak(),
                }  # fmt: skip
                gateway.end()
    shutil.rmtree(folder)
    return found


def _slowly(messages, broker):
    """Yield messages, holding back while the broker holds very many, which this machine may not have room for."""
    for number, message in enumerate(messages):
        if number % 2000 == 0:
            wait_until(
                lambda: memory_mb([broker.process.pid]) < _MOST_WAITING_MB, "the broker has room", _TIMEOUT_S, 0.2
            )
        yield message


def _sample(gateway, server, readings):
    """Return (readings in InfluxDB, memory of the gateway, of the sink) until all are there."""
    samples = []
    deadline_s = time.monotonic() + _TIMEOUT_S
    looked_s = 0.0
    count = 0
    while count < readings:
        gateway.check()
        assert time.monotonic() < deadline_s, f"{count} of {readings} after {_TIMEOUT_S} s"
        if time.monotonic() - looked_s > 10:  # counting millions of points takes a while
            count, looked_s = server.count("raw", "pm25_cf1"), time.monotonic()
        samples.append((count, gateway.rss_mb()))
        time.sleep(_LOOK_EVERY_S)
    return samples


def _growth_mb(samples, readings):
    """Return how much more was ever held than in the first tenth of the time after `_WARM`."""
    warm = [mb for count, mb in samples if count >= _WARM * readings]
    tenth = max(1, len(warm) // 10)
    early, late = warm[:tenth], warm[-tenth:]
    return {
        "growth_mb": round(max(warm) - max(early), 1), "early_mb": round(max(early), 1),
        "late_mb": round(max(late), 1), "highest_mb": round(max(warm), 1),
    }  # fmt: skip
