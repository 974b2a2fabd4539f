"""Noticing a part that hangs: parts report work and attempts, and the systemd watchdog is fed while none is stuck.

A part that has work and completes no attempt, successful or failed, within its limit is stuck. An idle part is not, and
neither is one whose attempts all fail: those are told in the log and in the status, and go on.
"""

import logging
import os
import threading
import time
from typing import Final, NamedTuple

from gateway.notify import notify

log = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 1.0
_HELD_UP_S: Final = 5.0
"""A look that is later than this means that the whole process stood still (stopped, swapped out), not one part."""


class _Task(NamedTuple):
    since_s: float
    work: str


class Part:
    """What one part of the gateway reports; for one thread, any other may look."""

    def __init__(self, name: str, limit_s: float) -> None:
        self.name = name
        self.limit_s = limit_s
        self._task: _Task | None = None

    def begin(self, work: str) -> None:
        """Say what there is to do; the time runs from the first such call after an attempt."""
        task = self._task
        self._task = _Task(task.since_s if task else time.monotonic(), work)

    def attempted(self) -> None:
        """Say that an attempt is over, whether it succeeded or failed, and that there is no more to do for now."""
        self._task = None

    def beat(self, work: str) -> None:
        """Say that an attempt is over and that there is this to do next."""
        self._task = _Task(time.monotonic(), work)

    def stuck(self, now_s: float) -> _Task | None:
        """Return what the part has been at for longer than its limit."""
        task = self._task
        return task if task and now_s - task.since_s > self.limit_s else None


class Watch:
    """Feeds the watchdog of systemd and shows one line of status to it, from a thread of its own."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._stuck: dict[str, str] = {}
        self._status = self._shown = ""
        self._showing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def part(self, name: str, limit_s: float) -> Part:
        """Return a new part to watch."""
        part = Part(name, limit_s)
        self._parts.append(part)
        return part

    @property
    def stuck(self) -> tuple[str, ...]:
        """What is said of each part that is stuck now."""
        return tuple(self._stuck.copy().values())  # copied at once: another thread asks

    def say(self, status: str) -> None:
        """Show a status; one that has not changed is not sent again."""
        self._status = status
        self._show()

    def start(self) -> None:
        """Begin to look, and to feed the watchdog where there is one."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; harmless where it never started."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        timeout_s = watchdog_timeout_s()
        every_s = min(timeout_s / 3, _LOOK_EVERY_S) if timeout_s else _LOOK_EVERY_S
        looked_s = fed_s = time.monotonic()
        while not self._ended.wait(every_s):
            now_s = time.monotonic()
            held_up = now_s - looked_s > every_s + _HELD_UP_S
            looked_s = now_s
            if not held_up:  # else the parts get until the next look to show that they live
                self._look(now_s)
            if timeout_s and not self._stuck and now_s - fed_s + every_s > timeout_s / 3:
                notify("WATCHDOG=1")
                fed_s = now_s

    def _look(self, now_s: float) -> None:
        for part in self._parts:
            task = part.stuck(now_s)
            if task and part.name not in self._stuck:
                since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - (now_s - task.since_s)))
                self._stuck[part.name] = told = f"{part.name} is stuck since {since}, at: {task.work}"
                log.error("%s; a restart mends it, and the watchdog is not fed until then", told)
            elif not task and part.name in self._stuck:
                del self._stuck[part.name]
                log.warning("%s goes on; the watchdog is fed again", part.name)
        self._show()

    def _show(self) -> None:
        with self._showing:
            text = "; ".join(self._stuck.values()) or self._status
            if text and text != self._shown:
                self._shown = text
                notify(f"STATUS={' '.join(text.split())}")


def watchdog_timeout_s() -> float | None:
    """Return the time within which systemd wants to be told that all is well; `None` where it does not ask."""
    try:
        timeout_s = int(os.environ["WATCHDOG_USEC"]) / 1e6
        if int(os.environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():  # meant for the process that started us
            return None
    except (KeyError, ValueError):
        return None
    return timeout_s if timeout_s > 0 else None
