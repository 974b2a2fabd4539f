"""Kits that run the real firmware as MicroPython processes, one for each stretch with power."""

import json
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.errors import PartFailedError
from gateway.programs import MICROPYTHON, find, firmware_dir
from gateway.simulate import child
from gateway.simulate.recording import Recording, Span

_HEAP: Final = "heapsize=4m"
_FLASH_BYTES: Final = 4 << 20
_MASS_CHANNELS: Final = ["pm25_cf1", "pm25_atm"]
_STOP_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class KitPlan:
    """One simulated kit: who it is, what it senses, where it connects, where its flash and ledger lie."""

    name: str
    folder: Path
    recording: Recording
    ledger: Path | None
    host: str
    port: int
    base: str
    user: str
    password: str
    more: dict[str, Any] = field(default_factory=dict)
    """Further keys of the firmware's configuration on the host: faults, outages, sensors, duty cycle."""


class SimulatedKit:
    """Runs one kit through its stretches with power; what runs it blocks, `stop` may come from another thread."""

    def __init__(self, plan: KitPlan, on_progress: Callable[[dict[str, Any]], None]) -> None:
        self.plan = plan
        self._on_progress = on_progress
        self._process: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()
        self._pending: int | None = None
        self._counted_bytes = self._counted_lines = 0
        try:
            plan.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PartFailedError(f"{plan.folder} cannot be used ({error.strerror}); name another folder") from error
        self._signal = plan.folder / f"{plan.name}.signal.csv"
        plan.recording.write_signal(self._signal)

    def run_simulated(self, spans: list[Span], speed: int, *, offline: bool = False) -> None:
        """Live through the spans in simulated time; at the end of the last one wait for every receipt."""
        for number, span in enumerate(spans):
            last = number == len(spans) - 1
            config = self._config(
                end=span.end_s, at_end="drain" if last and not offline else "off", rtc=True, offline=offline
            )
            self._pending = None
            self._run(config, {"SPEED": str(speed), "EPOCH": str(span.start_s)}, "host/discrete")
            if self._stopped.is_set():
                return
            if self._pending is None or (last and not offline and self._pending):
                raise PartFailedError(f"kit {self.plan.name} ended before its work, with {self._pending} rows to send")

    def run_live(self, end_s: int | None = None) -> None:
        """Live in real time until stopped, or to that second [s since 1970] and then until every receipt is there."""
        self._run(self._config(end=end_s, at_end="drain" if end_s else None, rtc=True, offline=False), {})

    def rows_made(self) -> int:
        """Count the rows appended to the ring so far: the ledger's lines without its header."""
        ledger = self.plan.ledger
        if ledger and ledger.exists():
            with ledger.open("rb") as file:
                file.seek(self._counted_bytes)
                more = file.read()
            self._counted_bytes += len(more)
            self._counted_lines += more.count(b"\n")
        return max(0, self._counted_lines - 1)

    def stop(self) -> None:
        """End the process, as if its power was cut."""
        self._stopped.set()
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait(_STOP_TIMEOUT_S)

    def _config(self, **more: Any) -> dict[str, Any]:
        plan = self.plan
        return {
            "kit": plan.name, "board": "host", "base": plan.base, "receipts": True,
            "host": plan.host, "port": plan.port, "user": plan.user, "password": plan.password,
            "flash": str(plan.folder / f"{plan.name}.flash"), "flash_bytes": _FLASH_BYTES, "signal": str(self._signal),
            "ledger": str(plan.ledger) if plan.ledger else None, "floor": plan.recording.end_s[0] - 86_400,
            "pm_channels": [*_MASS_CHANNELS, "n03"] if plan.recording.has_counts else _MASS_CHANNELS, **more,
            **plan.more,
        }  # fmt: skip

    def _run(self, config: dict[str, Any], environment: dict[str, str], *first_folders: str) -> None:
        firmware = firmware_dir()
        # Holds a password: readable by its owner alone, and not on the command line.
        path = self.plan.folder / f"{self.plan.name}.json"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            json.dump(config, out)
        folders = [*(str(firmware / f) for f in (*first_folders, "host", ".")), ".frozen"]
        with child.start(
            [find(MICROPYTHON), "-X", _HEAP, str(firmware / "host" / "run.py"), str(path)],
            env={**os.environ, **environment, "MICROPYPATH": ":".join(folders)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        ) as process:  # fmt: skip
            self._process = process
            said = self._follow(process)
        if process.returncode and not self._stopped.is_set():
            raise PartFailedError(
                f"kit {self.plan.name} ended with status {process.returncode}: {said or 'no message'}"
            )

    def _follow(self, process: subprocess.Popen[str]) -> str:
        """Report progress lines; return the last of the others, which tell what went wrong."""
        said: list[str] = []
        for line in process.stdout or ():
            try:
                state = json.loads(line)
            except ValueError:
                state = None
            if isinstance(state, dict):
                self._on_progress(state)
                self._pending = state.get("pending", self._pending)
            else:
                said = [*said[-8:], line.rstrip()]
        return " | ".join(said)
