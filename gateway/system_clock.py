"""What the operating system says of its own clock."""

import ctypes
import time
from typing import Literal

_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_libc = ctypes.CDLL(None)


def now_ms() -> int:
    """Return the system's time [ms since 1970]."""
    return time.time_ns() // 1_000_000


def is_trusted(setting: bool | Literal["auto"]) -> bool:
    """Tell whether the clock is believed: as configured, or while the kernel says that it is synchronised."""
    if setting != "auto":
        return setting
    timex = ctypes.create_string_buffer(256)  # struct timex, mode 0: read only; 208 bytes on 64-bit Linux
    state: int = _libc.adjtimex(timex)
    return 0 <= state < _TIME_ERROR
