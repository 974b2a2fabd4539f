"""A broker for demonstrations: real mosquitto on a loopback port, with a password and an ACL for each kit."""

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.errors import PartFailedError
from gateway.programs import MOSQUITTO, MOSQUITTO_PASSWD, find
from gateway.simulate import child

GATEWAY_USER: Final = "gateway"
_START_TIMEOUT_S: Final = 15.0
_STOP_TIMEOUT_S: Final = 5.0
_PROBE_TIMEOUT_S: Final = 5.0

# Plain `topic` lines before the first `user` apply to anonymous clients only; `pattern` lines apply to all users.
_ACL: Final = """\
user {gateway}
topic readwrite {base}/#

pattern write {base}/%u/obs
pattern write {base}/%u/backlog
pattern write {base}/%u/about
pattern write {base}/%u/status
pattern write {base}/%u/diag
pattern write {base}/%u/reply
pattern read {base}/%u/cmd
pattern read {base}/%u/stored
pattern read {base}/gateway/time
"""

_CONF: Final = """\
listener {port} 127.0.0.1
{user}allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/acl
persistence true
persistence_location {folder}/
autosave_interval 60
max_queued_messages 1000000000
max_queued_bytes 268435456
max_inflight_messages 1000
message_size_limit 65536
log_dest stderr
log_type error
log_type warning
"""


def free_port() -> int:
    """Return a TCP port of this machine that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def probe(host: str, port: int) -> None:
    """Raise `PartFailedError` where nothing accepts a connection."""
    try:
        socket.create_connection((host, port), timeout=_PROBE_TIMEOUT_S).close()
    except (OSError, UnicodeError) as error:
        raise PartFailedError(f"no broker answers at {host}:{port} ({error}); check --host and --port") from error


class DemoBroker:
    """A mosquitto process with its own folder; passwords are made anew and kept in files that only the owner reads."""

    def __init__(self, folder: Path, base: str, kits: Sequence[str]) -> None:
        self.port = free_port()
        self.passwords = {name: secrets.token_urlsafe(18) for name in (GATEWAY_USER, *kits)}
        self._folder = folder.resolve()
        self._base = base
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def gateway_password_file(self) -> Path:
        """File with the gateway's password."""
        return self._folder / "gateway.password"

    def start(self) -> None:
        """Write the configuration, start mosquitto and wait until it accepts connections."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write("gateway.password", self.passwords[GATEWAY_USER] + "\n")
        self._write("passwords", "".join(f"{name}:{password}\n" for name, password in self.passwords.items()))
        self._run_once([find(MOSQUITTO_PASSWD), "-U", str(self._folder / "passwords")])
        self._write("acl", _ACL.format(gateway=GATEWAY_USER, base=self._base))
        # As root mosquitto would become another user, who could not read these files.
        user = "user root\n" if os.geteuid() == 0 else ""
        conf = _CONF.format(port=self.port, user=user, folder=self._folder)
        self._write("mosquitto.conf", conf)
        with (self._folder / "mosquitto.log").open("ab") as log:
            command = [find(MOSQUITTO), "-c", str(self._folder / "mosquitto.conf")]
            self._process = child.start(command, stdout=log, stderr=log)
        deadline_s = time.monotonic() + _START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise PartFailedError(f"mosquitto did not start; see {self._folder / 'mosquitto.log'}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End mosquitto."""
        if self._process and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _answers(self) -> bool:
        try:
            probe("127.0.0.1", self.port)
        except PartFailedError:
            return False
        return True

    def _write(self, name: str, text: str) -> None:
        path = self._folder / name
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            out.write(text)

    @staticmethod
    def _run_once(command: Sequence[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PartFailedError(f"{command[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
