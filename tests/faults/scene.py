"""What the faults happen to, joined: broker, networks, disk, clock, gateway, kits; nothing of it is left behind."""

import http.server
import random
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from faults.poison import ODD_USERS, POISONERS, Poisoner
from faults.processes import Broker, Fleet, Gateway
from faults.proxy import Proxy
from faults.rows import FOLLOWS, NONE, ONE_SENSOR, OWN, STUCK, TWO_SENSORS

_CLOCKS = (OWN, FOLLOWS, OWN, NONE, OWN, FOLLOWS, OWN, OWN, STUCK, FOLLOWS)
_PAST_ENDS_S = 3 * 86_400  # before now, so that no step of the gateway's clock makes the past a future
_PAST_BOOT_ROWS = 20_000
_SMALL_RING_ROWS = 2  # so that an outage of seconds makes a kit drop rows
_LIBRARY = "*/faketime/libfaketimeMT.so.1"


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    seed: int
    kits: int
    past_rows: int
    events: int
    long_stops: int
    pause_s: tuple[float, float]
    disk_mb: int
    poison_at_once: int
    stop_s: float = 3.0  # the longest of the short stops
    live_every_s: float = 1.0
    broker_saves_s: int = 5
    drain_s: float = 600.0


def plan_kits(plan, passwords):
    """What each kit is, and what it has kept of past boots."""
    rng = random.Random(f"{plan.seed} kits")
    now_s = int(time.time())
    kits = []
    for i, name in enumerate(kit_names(plan)):
        clock, cols = _CLOCKS[i % len(_CLOCKS)], TWO_SENSORS if i % 3 == 0 else ONE_SENSOR
        rows, past = plan.past_rows // plan.kits, []
        small = i in (1, 6)
        rows = 0 if small or i == 2 else rows  # the last one is to lose its ring, once that is empty
        until_s = now_s - _PAST_ENDS_S
        while rows > 0:
            count = min(rows, rng.randint(_PAST_BOOT_ROWS // 2, _PAST_BOOT_ROWS))
            until_s -= 60 * count + rng.randrange(300)
            past.append({"boot": rng.getrandbits(32), "count": count, "start_s": until_s, "clock": clock, "cols": cols})
            rows -= count
        kits.append(
            {
                "name": name, "password": passwords[name], "clock": clock, "cols": cols, "past": past[::-1],
                "live_every_s": plan.live_every_s, "ring_rows": _SMALL_RING_ROWS if small else None,
            }
        )  # fmt: skip
    return kits


def kit_names(plan):
    return [f"kit-{i}" for i in range(plan.kits)]


class _Taker(http.server.BaseHTTPRequestHandler):
    """An InfluxDB that takes everything and keeps nothing: the sink has to be busy here, no more."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Disk:
    """A small file system for the store, where this process may mount one; `full` takes all that is left of it."""

    def __init__(self, path, size_mb):
        path.mkdir()
        self.path = path
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_mb << 20}", "lichen-faults", path],
            capture_output=True,
            check=False,
        )
        self.mounted = done.returncode == 0

    def full(self):
        """Leave no byte: a file takes them, again and again, since what is written meanwhile may give some back."""
        with (self.path / "stuffing").open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    def roomy(self):
        (self.path / "stuffing").unlink()

    def close(self):
        if self.mounted:
            subprocess.run(["umount", "-l", self.path], check=True)


class Clock:
    """The gateway's clock, where libfaketime is installed: off by an offset that a file holds."""

    def __init__(self, folder):
        self._file = folder / "clock"
        self.offset_s = 0
        self.set(0)
        self.library = next((str(path) for path in sorted(Path("/usr/lib").glob(_LIBRARY))), None)

    def set(self, offset_s):
        self.offset_s = offset_s
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset_s:+d}s\n")
        new.replace(self._file)

    def environment(self):
        if not self.library:
            return {}
        return {
            "LD_PRELOAD": self.library, "FAKETIME_TIMESTAMP_FILE": str(self._file), "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(Path(__file__).parent / "preload"),
        }  # fmt: skip


class Scene:
    """Use as a context manager: whatever happens, its processes end and its file system goes."""

    def __init__(self, plan, folder):
        self.plan = plan
        self.folder = folder
        self._stack = ExitStack()

    def __enter__(self):
        with self._stack:
            self._build()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    def _build(self):
        plan, folder, close = self.plan, self.folder, self._stack.callback
        folder.mkdir(parents=True, exist_ok=True)
        self.disk = Disk(folder / "disk", plan.disk_mb)
        close(self.disk.close)
        self.clock = Clock(folder)
        self.kits = kit_names(plan)
        self.broker = Broker(folder / "broker", [*self.kits, *POISONERS, *ODD_USERS], autosave_s=plan.broker_saves_s)
        close(self.broker.stop)
        self.broker.start()
        self.net_gateway, self.net_kits = Proxy(self.broker.port), Proxy(self.broker.port)
        close(self.net_gateway.close)
        close(self.net_kits.close)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Taker)
        close(server.server_close)
        close(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.config = self._configure(server.server_port)
        self.store = folder / "disk" / "store"
        self.gateway = Gateway(self.config, log_path=folder / "gateway.log", environment=self.clock.environment())
        close(self.gateway.end)
        kits = plan_kits(plan, self.broker.passwords)
        self.fleet = Fleet({"seed": plan.seed, "port": self.net_kits.port, "kits": kits}, folder)
        close(self.fleet.end)
        self.poisoner = Poisoner(self.broker.passwords, self.net_kits.port, random.Random(f"{plan.seed} poison"))
        close(self.poisoner.end)

    def _configure(self, influx_port):
        folder = self.folder
        (folder / "token").write_text("none\n")
        config = folder / "gateway.toml"
        config.write_text(
            f'[broker]\nport = {self.net_gateway.port}\npassword_file = "broker/gateway.password"\n'
            f'[clock]\ntrusted = true\n[store]\ndir = "disk/store"\n[web]\nport = 0\n'
            f'[influx]\nurl = "http://127.0.0.1:{influx_port}"\norg = "o"\nbucket = "b"\ntoken_file = "token"\n'
        )
        return config
