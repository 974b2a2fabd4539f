"""Who writes a store, seen from beside: looks at the lock and never takes it."""

import fcntl
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

_FLOCK: Final = "hhqqi4x"  # struct flock of 64-bit Linux


def owner_pid(store_dir: Path) -> int | None:
    """Return the process that writes a store, 0 where it cannot be seen from here, None where nobody does."""
    with suppress(OSError):
        descriptor = os.open(store_dir / "writer.lock", os.O_RDONLY | os.O_CLOEXEC)
        try:
            question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
        finally:
            os.close(descriptor)
        return None if kind == fcntl.F_UNLCK else max(0, int(pid))
    return None
