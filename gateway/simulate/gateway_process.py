"""A `lichen run` process that is started again when it dies, with its process id in a file."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from gateway.errors import PartFailedError
from gateway.simulate import child

_STOP_TIMEOUT_S: Final = 10.0
_MAX_QUICK_DEATHS: Final = 5
_QUICK_S: Final = 3.0
_START_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.1


class GatewayProcess:
    """Keeps one gateway running; its output goes to a log file."""

    def __init__(self, config: Path, *, pid_file: Path, log_file: Path) -> None:
        self.restarts = 0
        self.failed = ""
        self._command = [sys.executable, "-m", "gateway.cli", "run", "-c", str(config)]
        self._pid_file = pid_file
        self._log_file = log_file
        # What the gateway tells about itself, as to systemd; an address without a file, so of any length of path.
        self._address = f"lichen-{os.getpid()}-{secrets.token_hex(8)}"
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(f"\0{self._address}")
        self._notices.settimeout(_POLL_S)
        self._stopping = False
        self._lock = threading.Lock()
        self._process = self._spawn()
        self._thread = threading.Thread(target=self._keep_running, name="gateway-watch", daemon=True)
        self._thread.start()

    def wait_until_it_receives(self) -> None:
        """Wait until the gateway has its subscription: before that, a broker throws away what kits send.

        Raises
        ------
        PartFailedError
            If it cannot be kept running, or does not come so far.
        """
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            self.check()
            with contextlib.suppress(TimeoutError):
                if self._notices.recv(4096).startswith(b"STATUS=receiving"):
                    return
        raise PartFailedError(f"the gateway does not reach the broker; see {self._log_file}")

    def stop(self) -> None:
        """End the gateway."""
        with self._lock:
            self._stopping = True
            self._process.terminate()
        self._thread.join(_STOP_TIMEOUT_S)
        self._process.kill()
        self._thread.join()
        self._notices.close()
        self._pid_file.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise `PartFailedError` when the gateway could not be kept running."""
        if self.failed:
            raise PartFailedError(self.failed)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log_file.open("ab") as log:
            environment = {**os.environ, "NOTIFY_SOCKET": f"@{self._address}"}
            process = child.start(self._command, stdout=log, stderr=log, env=environment)
        # Replaced as a whole, so that a reader never meets half a number.
        new = self._pid_file.with_suffix(".new")
        new.write_text(f"{process.pid}\n", "ascii")
        new.replace(self._pid_file)
        return process

    def _keep_running(self) -> None:
        quick_deaths = 0
        while True:
            started_s = time.monotonic()
            status = self._process.wait()
            failed_early = status > 0 and time.monotonic() - started_s < _QUICK_S
            quick_deaths = quick_deaths + 1 if failed_early else 0
            with self._lock:
                if self._stopping:
                    return
                if quick_deaths >= _MAX_QUICK_DEATHS:
                    self.failed = f"the gateway keeps dying with status {status}; see {self._log_file}"
                    return
                self.restarts += 1
                self._process = self._spawn()
