"""A real gateway process beside a real broker for tests: what it tells systemd, what it logs, and kits that send."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import paho.mqtt.client as mqtt
from components import REPO
from influxd import wait_until
from main_job import LICHEN

from gateway.store import counters
from gateway.store.database import open_reader

DRIVER = Path(__file__).parent / "gateway_driver.py"
T0_S = 1_693_526_400  # long ago: a gateway that trusts its clock holds what is yet to come


class LiveGateway:
    """`lichen run`, or the driver where limits or faults are given; as a context manager, so that it always ends."""

    def __init__(self, config, *, limits=None, faults=(), env=None, watchdog_s=None):
        self.folder = config.parent
        self.log_path = config.with_suffix(".log")
        self._command = [*LICHEN, "run", "-c", str(config)]
        if limits is not None or faults:
            self._command = [sys.executable, str(DRIVER), str(config), json.dumps(limits or {}), *faults]
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0lichen-test-{os.getpid()}-{id(self)}")
        self._env = {**os.environ, **(env or {}), "NOTIFY_SOCKET": f"@lichen-test-{os.getpid()}-{id(self)}"}
        self._env["PYTHONPATH"] = str(REPO)
        if watchdog_s is not None:
            self._env["WATCHDOG_USEC"] = str(round(watchdog_s * 1e6))
        self.notices = []
        self.process = None
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self):
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, env=self._env, cwd=REPO)
        self._reader.start()
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()

    @property
    def log(self):
        return self.log_path.read_text("utf-8", "replace")

    @property
    def status(self):
        return next((text[7:] for _, text in reversed(self.notices) if text.startswith("STATUS=")), "")

    def feeds(self, since_s=0.0):
        """When the watchdog was fed."""
        return [at_s for at_s, text in self.notices if text == "WATCHDOG=1" and at_s >= since_s]

    def wait_for_status(self, words, timeout_s=30):
        return wait_until(lambda: words in self.status and self.status, f"the status {words!r}", timeout_s)

    def wait_for_log(self, words, timeout_s=30):
        return wait_until(lambda: words in self.log, f"{words!r} in the log", timeout_s)

    def receives(self):
        self.wait_for_status("receiving")
        return self

    def terminate(self, timeout_s=20):
        """Send SIGTERM; returns the exit status and how long it took."""
        started_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout_s)
        return code, time.monotonic() - started_s

    def totals(self):
        return read_store(self.folder, counters.totals)

    def _read(self):
        while text := self._socket.recv(8192):
            self.notices.append((time.monotonic(), text.decode()))


def read_store(folder, query):
    db = open_reader(folder / "store")
    try:
        return query(db)
    finally:
        db.close()


def write_config(folder, broker, *, more="", web="[web]\nenabled = false\n", trusted="true", name="lichen-gateway"):
    """Write a configuration for a broker; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "gateway.toml"
    config.write_text(
        f'[broker]\nport = {broker.port}\npassword_file = "{broker.gateway_password_file}"\n'
        f'client_id = "{name}"\n[clock]\ntrusted = {trusted}\n{web}{more}'
    )
    return config


def batch(boot, seqs, *, t0_s=T0_S):
    """A message of rows, a minute apart."""
    rows = [[s, 10 + 60 * s, t0_s + 60 * s, 2, 60, 12, 0, 80 + s % 7, 82] for s in seqs]
    cols = ["seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "pm25_atm"]
    return json.dumps({"v": 1, "boot": boot, "first": 0, "cols": cols, "rows": rows}).encode()


class Kit:
    """A client that sends as a kit; use as a context manager."""

    def __init__(self, broker, name="kit-1"):
        self.name = name
        self.heard = []
        self._port = broker.port
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.username_pw_set(name, broker.passwords[name])
        self._client.on_message = lambda _c, _d, m: self.heard.append((m.topic, json.loads(m.payload)))

    def __enter__(self):
        self._client.connect("127.0.0.1", self._port)
        self._client.subscribe([("lichen/v1/gateway/time", 0), (f"lichen/v1/{self.name}/stored", 1)])
        self._client.loop_start()
        return self

    def __exit__(self, *_):
        self._client.disconnect()
        self._client.loop_stop()

    def send(self, payload, kind="backlog", *, wait=True):
        info = self._client.publish(f"lichen/v1/{self.name}/{kind}", payload, 1)
        if wait:
            info.wait_for_publish(20)

    def heard_on(self, end):
        return [content for topic, content in list(self.heard) if topic.endswith(end)]
