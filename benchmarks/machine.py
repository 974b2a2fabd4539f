"""What processes cost, read from /proc, and whether somebody else used the machine meanwhile."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")
DISTURBED_CORES = 0.15
"""Other people's use of the machine, in cores, from which on a result says so."""


def _stat(pid):
    """Return the fields of /proc/PID/stat after the name, which may hold spaces."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()


def tree(pid):
    """Return a process and all that descend from it."""
    children = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                children.setdefault(int(_stat(entry.name)[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def cpu_s(pids):
    """Return user and system time of processes, with that of their children who have ended [s]."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += sum(int(v) for v in _stat(pid)[11:15])
    return total * _TICK_S


def thread_cpu_s(pid):
    """Return the CPU time of each thread of a process by its number [s]."""
    found = {}
    for task in (_PROC / str(pid) / "task").iterdir():
        with suppress(OSError):
            found[int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
    return found


def memory_mb(pids, key="VmRSS"):
    """Return the resident memory of processes together, or their peaks with `VmHWM` [MB]."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in (_PROC / str(pid) / "status").read_text().splitlines():
                if line.startswith(f"{key}:"):
                    total += int(line.split()[1])
    return total / 1024


def written_bytes(pids):
    """Return what processes have caused to be written to disk [bytes]."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in (_PROC / str(pid) / "io").read_text().splitlines():
                if line.startswith("write_bytes:"):
                    total += int(line.split()[1])
    return total


def _busy_s():
    user, nice, system, _idle, _wait, irq, soft, *_ = (_PROC / "stat").read_text().split("\n", 1)[0].split()[1:]
    return sum(int(v) for v in (user, nice, system, irq, soft)) * _TICK_S


def _soaking():
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if b"soak" in words and any(word.endswith(b"pytest") for word in words):
                    return True
    return False


@dataclass
class Others:
    """Measures how much of the machine was used by processes that are not ours, between start and `cores()`."""

    ours: list = field(default_factory=list)
    """Functions that return CPU time of our own processes [s]."""

    def __post_init__(self):
        self._soak = _soaking()
        self._start_s = time.monotonic()
        self._start = _busy_s() - self._own_s()

    def cores(self):
        return max(0.0, (_busy_s() - self._own_s() - self._start) / (time.monotonic() - self._start_s))

    def soak(self):
        return self._soak or _soaking()

    def _own_s(self):
        return sum(own() for own in self.ours) + cpu_s([os.getpid()])


def wait_for_quiet(patience_s):
    """Wait until nobody else uses the machine, at most so long; measure then all the same."""
    deadline_s = time.monotonic() + patience_s
    while time.monotonic() < deadline_s:
        others = Others()
        time.sleep(1)
        if others.cores() < DISTURBED_CORES:
            return


def disturbed(cores):
    """Return what to say of a measurement during which others used so much, nothing where it was little."""
    return f", others used {cores:.1f} cores" if cores >= DISTURBED_CORES else ""


def wait_until(condition, what, timeout_s, every_s=0.05):
    """Return the first true value of a condition, and fail after the deadline."""
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {timeout_s} s: {what}")
        time.sleep(every_s)
    return value
