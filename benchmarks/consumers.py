"""The two programs that are measured: `lichen run` (by the driver) and Telegraf."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from machine import cpu_s, memory_mb, tree, written_bytes
from payloads import BASE
from project import BUCKET, ORG, REPO, TOKEN

HERE = Path(__file__).resolve().parent
LICHEN_SESSION = "lichen-gateway"
TELEGRAF_SESSION = "telegraf-bench"
_STOP_S = 20

_TELEGRAF = """\
[agent]
  metric_batch_size = {lines}
  metric_buffer_limit = 100000
  flush_interval = "1s"
  omit_hostname = true
[[inputs.mqtt_consumer]]
  servers = ["tcp://127.0.0.1:{broker_port}"]
  topics = ["{base}/+/obs", "{base}/+/backlog"]
  qos = 1
  client_id = "{session}"
  persistent_session = true
  max_undelivered_messages = {undelivered}
  topic_tag = ""
  name_override = "raw"
{parser}
  [[inputs.mqtt_consumer.topic_parsing]]
    topic = "{base}/+/+"
    tags = "_/_/kit/_"
[[outputs.influxdb_v2]]
  urls = ["{url}"]
  token = "{token}"
  organization = "{org}"
  bucket = "{bucket}"
  content_encoding = "identity"
"""
_PARSERS = {
    "json": '  data_format = "json"\n  json_time_key = "t"\n  json_time_format = "unix"',
    "json_v2": (
        '  data_format = "json_v2"\n  [[inputs.mqtt_consumer.json_v2]]\n'
        '    [[inputs.mqtt_consumer.json_v2.object]]\n      path = "@this"\n      timestamp_key = "t"\n'
        '      timestamp_format = "unix"\n      disable_prepend_keys = true'
    ),
}


class Consumer:
    """A process and what it costs; use as a context manager, so that it always ends."""

    def __init__(self, command, log_path, env=None):
        self.started_s = time.monotonic()
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=REPO, env={**os.environ, **(env or {})}
            )
        self._log_path = log_path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            pids = self.pids()
            self.process.kill()
            for pid in pids[1:]:
                try:
                    os.kill(pid, 9)
                except OSError:
                    continue
        self.process.wait()

    def pids(self):
        return tree(self.process.pid)

    def check(self):
        """Raise where it has ended by itself."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.process.args} ended: {self._log_path.read_text()[-2000:]}")

    def cpu_s(self):
        return cpu_s(self.pids())

    def peak_mb(self):
        return memory_mb(self.pids(), "VmHWM")

    def rss_mb(self):
        return memory_mb(self.pids())

    def written_bytes(self):
        return written_bytes(self.pids())

    def end(self):
        """Stop it as an operator would."""
        self.process.terminate()
        try:
            return self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            return None


AS_INSTALLED = {
    "PYTHONPATH": str(REPO), "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(REPO / "build/bench/byte-code"),
}  # fmt: skip
"""For a gateway's process: its byte code is kept, as pip does when it installs."""


def telegraf_binary():
    for place in (os.environ.get("LICHEN_TOOLS"), REPO / ".tools"):
        if place and (binary := Path(place) / "telegraf" / "telegraf").exists():
            return str(binary)
    raise SystemExit("no telegraf here; get it with: sh tools/get_telegraf.sh")


def telegraf(folder, broker, influxd, plan):
    config = folder / "telegraf.conf"
    # Messages times rows stays below the buffer, else it overflows and readings are missing.
    config.write_text(
        _TELEGRAF.format(
            broker_port=broker.port, base=BASE, session=TELEGRAF_SESSION, parser=_PARSERS[plan.parser], url=influxd.url,
            lines=plan.telegraf_lines, undelivered=min(10_000, 50_000 // plan.shape), token=TOKEN, org=ORG,
            bucket=BUCKET,
        )
    )  # fmt: skip
    return Consumer([telegraf_binary(), "--config", str(config), "--quiet"], folder / "telegraf.log")


def lichen_config(folder, broker_port, influxd, *, store=None):
    """Write the gateway's configuration: everything at its default but where things are, and no page."""
    config = folder / "gateway.toml"
    config.write_text(
        f'[broker]\nport = {broker_port}\nclient_id = "{LICHEN_SESSION}"\n[clock]\ntrusted = true\n'
        f'[store]\ndir = "{store or folder / "store"}"\n[web]\nenabled = false\n{influxd.toml()}'
    )
    return config


def lichen(folder, config, *, derive=True, profile=None):
    """Start the gateway; without `derive` it stores and sends readings only, as Telegraf does."""
    options = {"derive": derive, "profile": str(profile) if profile else None}
    command = [sys.executable, str(HERE / "driver.py"), str(config), json.dumps(options)]
    # `lichen` itself keeps numpy to one thread; the driver has no command line.
    return Consumer(command, folder / "gateway.log", {**AS_INSTALLED, "OPENBLAS_NUM_THREADS": "1"})
