"""How long `lichen run` with a year of data takes from the start of its process to READY=1, and how much CPU."""

import contextlib
import os
import shutil
import socket
import sys
import time

import consumers
import stores
from broker import BenchBroker
from machine import Others, cpu_s, memory_mb, thread_cpu_s
from project import Influxd

from gateway.store.database import FILE_NAME, SCHEMA_VERSION

_STARTS = 5
_READY_S = 60


def run(folder, influxd_binary, *, kits, days):
    """Return what was measured, as JSON may hold it; the store is made once and kept."""
    minutes = days * 24 * 60
    store = folder / f"year-{kits}x{days}-schema{SCHEMA_VERSION}"
    done = store / "complete"
    made_s = 0.0
    if not done.exists():
        started_s = time.monotonic()
        stores.fill(store, kits, minutes, int(time.time()) - minutes * 60)
        done.touch()
        made_s = time.monotonic() - started_s
    work = folder / "start"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    with Influxd(influxd_binary, work / "influxd") as server, BenchBroker(work / "broker") as broker:
        others = Others([broker.cpu_s, lambda: cpu_s([server.process.pid])])
        config = consumers.lichen_config(work, broker.port, server, store=store)
        config.write_text(config.read_text().replace("enabled = false", "port = 0"))  # the page takes part
        _start(work, config, store)  # writes the byte code
        cold = [_start(work, config, store, cold=True) for _ in range(2)]
        warm = [_start(work, config, store) for _ in range(_STARTS)]
        cores = others.cores()
    cold_s, warm_s = [found[0] for found in cold], [found[0] for found in warm]
    return {
        "kits": kits, "days": days, "rows": kits * minutes, "store_mb": round((store / FILE_NAME).stat().st_size / 1e6),
        "made_in_s": round(made_s), "cold_s": cold_s, "warm_s": warm_s, "slowest_s": max(cold_s + warm_s),
        "cpu_s": [found[1] for found in cold + warm], "rss_mb": [found[2] for found in cold + warm],
        "others_cores": round(cores, 2), "soak": others.soak(),
    }  # fmt: skip


def _start(work, config, store, *, cold=False):
    """Return the seconds until READY=1, and the gateway's own CPU time [s] and memory [MB] then, without the sink's."""
    shutil.rmtree(store / "sinks", ignore_errors=True)
    if cold:
        _forget(store / FILE_NAME)
    name = f"lichen-bench-{os.getpid()}"
    environment = {**consumers.AS_INSTALLED, "NOTIFY_SOCKET": f"@{name}"}
    command = [sys.executable, "-m", "gateway.cli", "run", "-c", str(config)]
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as notices:
        notices.bind(f"\0{name}")
        notices.settimeout(_READY_S)
        with consumers.Consumer(command, work / "gateway.log", environment) as gateway:
            while b"READY=1" not in notices.recv(8192).split(b"\n"):
                gateway.check()
            seconds, pid = time.monotonic() - gateway.started_s, gateway.process.pid
            found = round(seconds, 2), round(sum(thread_cpu_s(pid).values()), 2), round(memory_mb([pid]))
            gateway.end()
    return found


def _forget(path):
    """Take a file out of the page cache, as after the power was off."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
