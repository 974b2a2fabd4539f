"""Makes the golden messages that are too large to store."""

from collections.abc import Callable, Mapping
from typing import Final

MAX_BYTES: Final = 16 * 1024
ROW: Final = "[%d,%d,1795217406,2,60]"
HEAD: Final = '{"v":1,"boot":3148731904,"first":0,"cols":["seq","up","t","q","dt"],"rows":['
DEEP: Final = 7_000  # far beyond any parser's recursion limit, and within 16 KiB


def batch(rows: int) -> bytes:
    """Return a batch of so many rows with the required columns only."""
    return (HEAD + ",".join(ROW % (seq, 60 * (seq + 1)) for seq in range(rows)) + "]}").encode()


def padded(message: bytes, size: int) -> bytes:
    """Return the message made exactly `size` bytes long by an unknown top-level key."""
    room = size - len(message) - len(',"pad":""')
    return message[:-1] + b',"pad":"' + b"x" * room + b'"}'


def deep(before: str, after: str) -> bytes:
    """Return nested empty arrays between two pieces of text."""
    return (before + "[" * DEEP + "]" * DEEP + after).encode()


VALID: Final[Mapping[str, Callable[[], bytes]]] = {
    "backlog.rows_256": lambda: batch(256),
    "obs.bytes_16384": lambda: padded(batch(1), MAX_BYTES),
}

_ABOUT: Final = (
    b'{"v":1,"kit":"kit-7f3a","board":"picow","fw":{"version":"0.1.0","hash":"0"},'
    b'"sensors":[],"cols":[],"config_rev":0,"boots":1}'
)

INVALID: Final[Mapping[str, Callable[[], bytes]]] = {
    "obs.bytes_16385": lambda: padded(batch(1), MAX_BYTES + 1),
    "obs.garbage_64k": lambda: bytes(range(256)) * 256,
    "backlog.bytes_1m": lambda: padded(batch(256), 1 << 20),
    "about.bytes_16385": lambda: padded(_ABOUT, MAX_BYTES + 1),
    "obs.rows_257": lambda: batch(257),
    "backlog.rows_500": lambda: batch(500),
    "obs.deep_array": lambda: deep("", ""),
    "obs.deep_cell": lambda: deep(HEAD + "[0,60,1795217406,2,", "]]}"),
    "obs.deep_unknown_key": lambda: deep(HEAD + "[0,60,1795217406,2,60]]" + ',"x":', "}"),
}
