"""Being told to stop by SIGTERM or SIGINT, without a lock that a handler could meet."""

import os
import select
import signal


class StopSignals:
    """Set once one of the signals has come; made in the main thread.

    A handler that sets a `threading.Event` can interrupt the main thread inside that Event's own lock and wait for
    ever. Here the interpreter writes to a pipe, and waiting is `select`.
    """

    def __init__(self) -> None:
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)

    def fileno(self) -> int:
        """Return what becomes readable."""
        return self._woken

    def is_set(self) -> bool:
        """Tell whether a signal has come."""
        return self.wait(0)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for a signal; returns whether it has come."""
        return bool(select.select([self._woken], [], [], timeout_s)[0])
