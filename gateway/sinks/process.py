"""The InfluxDB sink as a process of its own, since the interpreter lock would make it share one core with intake.

The child's standard input is a socket to the service. The service says when there is something new: with the first
word the child begins. When the service ends, however it ends, the child reads the end of the file and ends too. In the
other direction the child speaks after each attempt, successful or failed, with the pause [s] it takes before the next
one. A child that is silent for longer hangs: it is killed and started again.
What one side alone needs is imported when it needs it: each import is paid for at every start.
"""

import logging
import os
import select
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway import log as logs
from gateway import settings as configuration
from gateway.errors import LichenError
from gateway.loading import loading
from gateway.signals import StopSignals

if TYPE_CHECKING:
    import subprocess

log = logging.getLogger(__name__)

_GRACE_S: Final = 2.5
"""How long a request may still take after the order to stop; the next process sends again what is not confirmed."""
_STOP_S: Final = _GRACE_S + 1.0
SILENCE_S: Final = 120.0
"""Beside the pause and the timeout of a request: reading a batch, finding the line that is refused, a slow card."""
_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 60.0
_STEADY_S: Final = 60.0
"""A process that lived this long was well: the next restart is quick again."""


class SinkProcess:
    """The service's side: starts the sink's process, starts it again when it dies or hangs, stops it. For one thread.

    `prepare` lets it load what it needs while the service does the same; it touches nothing before `start`.

    Parameters
    ----------
    config
        The configuration file.
    silence_s
        How long the process may be silent beyond the pause that it has announced [s].
    """

    def __init__(self, config: Path, silence_s: float = SILENCE_S) -> None:
        self.restarts = 0
        self.hangs = 0
        self.last_exit: int | None = None
        self._command = [sys.executable, "-m", "gateway.sinks.process", str(config)]
        self._child: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._silence_s = silence_s
        self._heard_s = self._pause_s = 0.0
        self._started_s = 0.0
        self._due_s = 0.0
        self._failures = 0

    @classmethod
    def of(cls, settings: configuration.Settings, silence_s: float = SILENCE_S) -> "SinkProcess | None":
        """Return the sink that a configuration asks for."""
        if settings.influx is None:
            return None
        return cls(settings.path, silence_s + 2 * settings.influx.timeout_s)

    @property
    def pid(self) -> int | None:
        """The running process, if there is one."""
        return self._child.pid if self._child else None

    def prepare(self) -> None:
        """Start the process, which then waits for `start`."""
        import subprocess

        self._line, childs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.settimeout(0)
        with childs:
            # A group of its own: Ctrl-C in a terminal reaches the service alone, which then stops the sink in its turn.
            self._child = subprocess.Popen(self._command, stdin=childs.fileno(), process_group=0)

    def start(self) -> None:
        """Let the process begin, started where it is not yet."""
        if self._child is None:
            self.prepare()
        self._started_s = self._heard_s = time.monotonic()
        self._pause_s = 0.0
        self.wake()

    def wake(self) -> None:
        """Tell the process that there is something new in the store."""
        if self._line:
            with suppress(OSError):  # it has ended, or has many words to read: enough to be awake
                self._line.send(b"new")

    def poll(self) -> bool:
        """Return whether it runs; call it every second or so, it starts again what has died, with growing delays."""
        now_s = time.monotonic()
        if self._child is not None:
            if (code := self._child.poll()) is None:
                self._listen(now_s)
                return True
            self._buried(code)
            self._failures = 1 if now_s - self._started_s > _STEADY_S else self._failures + 1
            import random

            delay_s = min(_FIRST_DELAY_S * 2.0 ** min(self._failures - 1, 10), _LONGEST_DELAY_S)
            self._due_s = now_s + delay_s * random.uniform(0.5, 1.0)  # noqa: S311
            log.warning("the InfluxDB sink ended with %d; it is started again in %.0f s", code, self._due_s - now_s)
        elif now_s >= self._due_s:
            self.start()
            self.restarts += 1
            return True
        return False

    def _listen(self, now_s: float) -> None:
        """Take what the process says of itself, and kill it when it has been silent for too long."""
        child, line = self._child, self._line
        if not (child and line):
            return
        try:
            while told := line.recv(4096):
                self._heard_s = now_s
                with suppress(ValueError):
                    self._pause_s = float(told)
        except OSError:  # no more to read
            pass
        silent_s = now_s - self._heard_s
        if silent_s > self._pause_s + self._silence_s:
            self.hangs += 1
            self._heard_s = now_s  # a process in the kernel's hands may take its time to die
            log.error("the InfluxDB sink hangs: nothing of it for %.0f s; it is killed and started again (time %d)",
                      silent_s, self.hangs)  # fmt: skip
            child.kill()

    def stop(self) -> None:
        """End the process, within about 4 s."""
        if self._child is None:
            return
        import subprocess

        child = self._child
        child.terminate()
        try:
            code = child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
        self._buried(code)

    def _buried(self, code: int) -> None:
        if self._line:
            self._line.close()
        self.last_exit, self._child, self._line = code, None, None


class _Parent:
    """The child's side of the line."""

    def __init__(self) -> None:
        self._line: socket.socket | None = None
        with suppress(OSError):  # started by hand, standard input is no socket, and nobody speaks or listens
            self._line = socket.socket(fileno=os.dup(sys.stdin.fileno()))

    @property
    def speaks(self) -> bool:
        """Whether there is one that says when to begin."""
        return self._line is not None

    def tell(self, pause_s: float) -> None:
        """Say that the sink lives, and does the next thing after a pause [s] unless it is woken."""
        if self._line:
            with suppress(OSError):  # it has gone, or does not listen at the moment
                self._line.send(b"%.1f" % pause_s, socket.MSG_DONTWAIT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sink of a configuration file until the parent ends or a signal comes; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m gateway.sinks.process CONFIG.toml\n")
        return 2
    logs.set_up()
    told = StopSignals()
    try:
        settings = configuration.load(Path(arguments[0]))
    except LichenError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if (influx := settings.influx) is None:
        sys.stderr.write(f"{settings.path}: there is no section [influx]; add it, or do not start this sink\n")
        return 1
    # Nothing here is linear algebra: its threads would cost more than all else at the start (OpenBLAS reads this).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with loading():
        from gateway.sinks.influx import InfluxSink  # which imports numpy

    parent = _Parent()
    stop, news, failed = threading.Event(), threading.Event(), threading.Event()
    ended, end = os.pipe()

    def work() -> None:
        try:
            if parent.speaks:
                news.wait()
            if not stop.is_set():
                InfluxSink(influx, settings.beside(influx.token_file), settings.store_dir, parent.tell).run(stop, news)
        except BaseException:
            failed.set()
            raise
        finally:
            os.close(end)

    worker = threading.Thread(target=work, name="influx sink", daemon=True)
    worker.start()
    _wait_for_end(news, told.fileno(), ended)
    stop.set()
    news.set()
    worker.join(_GRACE_S)
    return 1 if failed.is_set() else 0


def _wait_for_end(news: threading.Event, *descriptors: int) -> None:
    """Wait for a signal, the worker's end, or the end of standard input; a word there tells that there are news."""
    parent = sys.stdin.fileno()
    while True:
        readable, _, _ = select.select([parent, *descriptors], [], [])
        try:
            if readable != [parent] or not os.read(parent, 4096):
                return
            news.set()
        except ConnectionResetError:  # it was killed
            return


if __name__ == "__main__":
    sys.exit(main())
