"""Runs the main job as a user does, and reads what it left: ledger, exports, summary."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime

from components import REPO

LICHEN = [sys.executable, "-m", "gateway.cli"]


def lichen(*arguments, timeout_s=120):
    """Run a command and return its standard output; its exit status must be 0."""
    done = subprocess.run(
        [*LICHEN, *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s, cwd=REPO, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def export(folder, kind):
    """Rows of an export as dicts of text."""
    return list(csv.DictReader(io.StringIO(lichen("export", kind, "--dir", folder, "--format", "csv"))))


def points(influx, measurement):
    """Points of a measurement as dicts of tags, fields and `time_ms`."""
    found = influx.points(measurement).items()
    return [{**dict(tags), "time_ms": time_ms, **fields} for (tags, time_ms), fields in found]


def hour_number(text):
    """Hours since 1970 of an ISO time."""
    return int(datetime.fromisoformat(text).timestamp()) // 3600


def demo_command(recording, folder, *, hours, speed, influx=None):
    """The command line of the main job."""
    command = [*LICHEN, "demo", "--replay", recording, "--hours", hours, "--once", "--dir", folder, "--speed", speed]
    if influx:
        target = influx.settings()
        command += ["--influx-url", target.url, "--influx-token-file", target.token_file]
        command += ["--influx-org", target.org, "--influx-bucket", target.bucket]
    return [str(part) for part in command]


def run(recording, folder, *, hours, speed, influx=None, kills=0, timeout_s=240):
    """Run the main job, killing the gateway on the way as often as asked; returns its summary."""
    with subprocess.Popen(
        demo_command(recording, folder, hours=hours, speed=speed, influx=influx),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPO,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    ) as process:
        try:
            kill_gateway(process, folder, kills, expected_rows=hours * 60)
            said, _ = process.communicate(timeout=timeout_s)
        except BaseException:
            process.kill()
            raise
    log = folder / "gateway.log"
    assert process.returncode == 0, said + (log.read_text()[-3000:] if log.exists() else "")
    return json.loads((folder / "summary.json").read_text())


def kill_gateway(process, folder, kills, expected_rows):
    """Send SIGKILL to the gateway when a quarter, half, three quarters … of the rows are made."""
    ledger, killed = folder / "ledger.csv", set()
    deadline_s = time.monotonic() + 240
    for number in range(kills):
        due = expected_rows * (number + 1) / (kills + 1)
        while True:
            assert process.poll() is None, "the demonstration ended before the gateway was killed"
            assert time.monotonic() < deadline_s, "the kit makes no rows"
            made = ledger.read_bytes().count(b"\n") if ledger.exists() else 0
            pid = _pid(folder)
            if made >= due and pid and pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
                break
            time.sleep(0.02)


def _pid(folder):
    try:
        return int((folder / "gateway.pid").read_text())
    except (FileNotFoundError, ValueError):
        return None
