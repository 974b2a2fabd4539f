"""The processes of the fault suite: each can be stopped, killed, started again, and none outlives the suite."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from components import REPO

from gateway.errors import PartFailedError
from gateway.programs import MOSQUITTO, find
from gateway.simulate import child
from gateway.simulate.mosquitto import DemoBroker, probe

RESTART_S = 0.5  # after which systemd would start the gateway again
_LOOK_S = 0.1
_PATIENCE_S = 10


def memory_mb(pid):
    """The highest resident memory of a process so far [MB]; 0 where it has gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


class Broker(DemoBroker):
    """Real mosquitto that can lose power: what it had not saved is gone."""

    def __init__(self, folder, kits, *, autosave_s):
        super().__init__(folder, "lichen/v1", kits)
        self._autosave_s = autosave_s

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        super().start()
        conf = self._folder / "mosquitto.conf"
        conf.write_text(conf.read_text().replace("autosave_interval 60", f"autosave_interval {self._autosave_s}"))
        self.stop()
        self.start_again()

    def kill(self):
        self._process.kill()
        self._process.wait()

    def start_again(self):
        with (self._folder / "mosquitto.log").open("ab") as log:
            command = [find(MOSQUITTO), "-c", str(self._folder / "mosquitto.conf")]
            self._process = child.start(command, stdout=log, stderr=log)
        deadline_s = time.monotonic() + _PATIENCE_S
        while True:
            with contextlib.suppress(PartFailedError):
                return probe("127.0.0.1", self.port)
            assert self._process.poll() is None, (self._folder / "mosquitto.log").read_text()[-2000:]
            assert time.monotonic() < deadline_s, "mosquitto does not start"
            time.sleep(0.02)


class Gateway:
    """`lichen run`, started again whenever it ends, with the highest memory of all its lives."""

    def __init__(self, config, *, log_path, environment):
        self.peak_mb = 0.0
        self.sink_peak_mb = 0.0
        self.lives = 0
        self.surprises = []  # ends that nobody asked for
        self._command = [sys.executable, "-m", "gateway.cli", "run", "-c", str(config)]
        self._environment = {**os.environ, **environment}
        self.log_path = log_path
        self.log_path.touch()
        self._log_from = 0
        self._killed = set()
        self._pids = set()
        self._held = self._ending = False
        self._lock = threading.Lock()
        self._process = None
        self._thread = threading.Thread(target=self._keep_running, name="gateway", daemon=True)
        self._thread.start()

    @property
    def pid(self):
        """Its number, once it runs."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline_s:
            with self._lock:
                if self._process and self._process.poll() is None:
                    return self._process.pid
            time.sleep(0.02)
        raise AssertionError(f"the gateway is not kept running: {self.surprises}")

    def wait_until_connected(self):
        """Wait until it has said so, in its present life."""
        deadline_s = time.monotonic() + 2 * _PATIENCE_S
        while "connected to the broker" not in self.log_path.read_text()[self._log_from :] or not self.pid:
            assert time.monotonic() < deadline_s, self.log_path.read_text()[-2000:]
            time.sleep(0.05)

    def sink_pid(self):
        """The number of its child that writes to InfluxDB, or None while there is none."""
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            return int(children[0]) if children else None

    def kill(self, *, hold=False):
        """End it as a power cut would; with `hold` it stays down until `release`."""
        pid = self.pid
        self._held = hold
        self._log_from = self.log_path.stat().st_size
        self._note(pid)
        self._killed.add(pid)
        os.kill(pid, signal.SIGKILL)

    def release(self):
        self._held = False

    def terminate(self):
        """Ask it to end; returns how long that took [s]. It is started again as after a fault."""
        with self._lock:
            process = self._process
        self._note(process.pid)
        self._killed.add(process.pid)
        asked_s = time.monotonic()
        process.terminate()
        process.wait(2 * _PATIENCE_S)
        took_s = time.monotonic() - asked_s
        if process.returncode:
            self.surprises.append((process.returncode, self.log_path.read_text()[-1500:]))
        return took_s

    def end(self):
        """Make sure that it has gone."""
        self._ending = True
        self._held = False
        while self._thread.is_alive():
            with self._lock:
                if self._process:
                    self._killed.add(self._process.pid)
                    self._process.kill()
            self._thread.join(0.1)
        for pid in self._pids:  # what libfaketime leaves of a process that was killed
            for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
                (Path("/dev/shm") / name).unlink(missing_ok=True)  # noqa: S108 - where it keeps them

    def _note(self, pid):
        self.peak_mb = max(self.peak_mb, memory_mb(pid))
        self._pids.add(pid)
        with contextlib.suppress(OSError):
            for sink in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
                self.sink_peak_mb = max(self.sink_peak_mb, memory_mb(sink))
                self._pids.add(sink)

    def _keep_running(self):
        while not self._ending:
            with self.log_path.open("ab") as log, self._lock:
                self._log_from = log.tell()
                self._process = process = child.start(
                    self._command, stdout=log, stderr=log, env=self._environment, cwd=REPO
                )
            self.lives += 1
            while process.poll() is None:
                self._note(process.pid)
                time.sleep(_LOOK_S)
            if process.pid not in self._killed:
                self.surprises.append((process.returncode, self.log_path.read_text()[-1500:]))
            until_s = time.monotonic() + RESTART_S
            while not self._ending and (self._held or time.monotonic() < until_s):
                time.sleep(0.02)


class Fleet:
    """The process of all simulated kits; `state` is what it told last."""

    def __init__(self, plan, folder):
        self.state = {}
        self._written = threading.Event()
        self._folder = folder
        (folder / "fleet.json").write_text(json.dumps(plan))
        log = (folder / "fleet.log").open("ab")
        self._process = child.start(
            [sys.executable, str(Path(__file__).parent / "fleet.py"), str(folder / "fleet.json")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        log.close()
        self._thread = threading.Thread(target=self._listen, name="fleet", daemon=True)
        self._thread.start()

    def tell(self, do, **how):
        self.check()
        self._process.stdin.write(json.dumps({"do": do, **how}) + "\n")
        self._process.stdin.flush()

    def write_ledger(self):
        """Have the ledger written; returns its path."""
        path = self._folder / "ledger.npz"
        self.tell("ledger", path=str(path))
        assert self._written.wait(60), "the fleet does not write its ledger"
        return path

    def check(self):
        assert self._process.poll() is None, (self._folder / "fleet.log").read_text()[-3000:]

    def end(self):
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._process.stdin.close()
        self._process.stdout.close()

    def _listen(self):
        for line in self._process.stdout:
            state = json.loads(line)
            if "written" in state:
                self._written.set()
            else:
                self.state = state
