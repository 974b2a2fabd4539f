"""Starting the processes of a demonstration so that none outlives it."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_libc: Final = ctypes.CDLL(None)


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process that the kernel kills when the thread that started it ends, however it ends.

    It is in a process group of its own: Ctrl-C in a terminal reaches the demonstration alone, which then ends the
    others in their order.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the kernel knew
            os._exit(1)

    return subprocess.Popen(command, process_group=0, preexec_fn=die_with_parent, **options)  # noqa: PLW1509
