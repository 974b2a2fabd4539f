"""Version 1 messages to typed structs and back; no I/O."""

import re
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar

import msgspec

from calibration.quantities import ROW_COLUMNS, WIRE_COLUMNS

VERSION: Final = 1
MAX_MESSAGE_BYTES: Final = 16 * 1024
MAX_ROWS: Final = 256
MAX_BOOT: Final = 2**32 - 1
MAX_INTEGER: Final = 2**63 - 1
MAX_TIME_S: Final = 2**33  # the year 2242: later is a kit's mistake, and times in ms stay far from the 64-bit end
MAX_INTERVAL_S: Final = 86_400
MAX_DETAIL: Final = 200

RESERVED_NAME: Final = "gateway"
_KIT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Reason(StrEnum):
    """Why a message is a dead letter."""

    NOT_JSON = "not_json"
    TOO_LARGE = "too_large"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_COLUMN = "unknown_column"
    WRONG_TYPE = "wrong_type"
    ROW_LENGTH = "row_length"
    TOO_MANY_ROWS = "too_many_rows"
    BAD_RANGE = "bad_range"
    BAD_TOPIC = "bad_topic"
    CONFLICT = "conflict"
    TOO_MANY_KITS = "too_many_kits"
    INTERNAL = "internal"


class WireError(Exception):
    """A message that is not version 1; `rows` are those it meant to bring, where they can be read."""

    def __init__(self, reason: Reason, detail: str, *, rows: "Rows | None" = None) -> None:
        detail = detail[:MAX_DETAIL]
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.rows = rows


class Rows(NamedTuple):
    """Which rows a message is about: its boot, the oldest seq the kit still holds, and their own, rising."""

    boot: int
    first: int
    seqs: Sequence[int]

    @property
    def is_run(self) -> bool:
        """Whether their seqs have no gap."""
        return len(self.seqs) == self.seqs[-1] - self.seqs[0] + 1


class Batch(msgspec.Struct, frozen=True):
    """Readings of one boot: `rows` holds integers or None in the order of `cols`."""

    v: int
    boot: int
    first: int
    cols: tuple[str, ...]
    rows: list[list[int | None]]


class Status(msgspec.Struct, frozen=True):
    """Whether a kit is connected; a last will has no boot."""

    v: int
    up: int
    boot: int | None = None


class Firmware(msgspec.Struct, frozen=True):
    """Version and hash of what runs on a kit."""

    version: str
    hash: str | None


class About(msgspec.Struct, frozen=True):
    """Birth certificate of a kit; only what the gateway reads of it."""

    v: int
    kit: str
    board: str
    fw: Firmware


class Stored(msgspec.Struct, frozen=True):
    """Receipt: every row of the boot up to seq is on disk here or was never held by the kit."""

    v: int
    boot: int
    seq: int


class GatewayTime(msgspec.Struct, frozen=True):
    """The gateway's clock: epoch second, millisecond, and 1 where it is trusted."""

    v: int
    t: int
    ms: int
    sync: int


_Other = TypeVar("_Other", Status, About)


class _Versioned(msgspec.Struct):
    v: int


_decode_batch: Final = msgspec.json.Decoder(Batch).decode
_decode_versioned: Final = msgspec.json.Decoder(_Versioned).decode
encode: Final = msgspec.json.Encoder().encode
"""Bytes of any message of this module."""


def is_kit_name(name: str) -> bool:
    """Tell whether a kit may have this id: letters, digits, `.`, `_` and `-`, not the gateway's own."""
    return bool(_KIT_NAME.fullmatch(name)) and name != RESERVED_NAME


def decode_batch(payload: bytes) -> Batch:
    """Return the checked batch.

    Raises
    ------
    WireError
        With the reason and, where they can be read, the boot and the rows meant.
    """
    if len(payload) > MAX_MESSAGE_BYTES:
        raise WireError(Reason.TOO_LARGE, f"{len(payload)} bytes, at most {MAX_MESSAGE_BYTES}")
    try:
        batch = _decode_batch(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_a_batch(payload, error) from error
    if batch.v != VERSION:
        raise WireError(Reason.UNKNOWN_VERSION, f"v {batch.v}")
    _check_shape(batch)
    _check_values(batch)
    return batch


def _not_a_batch(payload: bytes, error: Exception) -> WireError:
    if not isinstance(error, msgspec.ValidationError):
        return WireError(Reason.NOT_JSON, str(error))
    try:
        version = _decode_versioned(payload).v
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        version = VERSION
    if version != VERSION:
        return WireError(Reason.UNKNOWN_VERSION, f"v {version}")
    return WireError(Reason.WRONG_TYPE, str(error))


def _check_shape(batch: Batch) -> None:
    width = len(batch.cols)
    if len(batch.rows) > MAX_ROWS:
        raise WireError(Reason.TOO_MANY_ROWS, f"{len(batch.rows)} rows, at most {MAX_ROWS}")
    if not batch.rows:
        raise WireError(Reason.BAD_RANGE, "no rows")
    for number, row in enumerate(batch.rows):
        if len(row) != width:
            raise WireError(Reason.ROW_LENGTH, f"row {number} has {len(row)} values for {width} columns")
    if len(set(batch.cols)) != width:
        raise WireError(Reason.WRONG_TYPE, "a column stands twice")
    for name in ROW_COLUMNS:
        if name not in batch.cols:
            raise WireError(Reason.WRONG_TYPE, f"no column {name}")


def _check_values(batch: Batch) -> None:
    columns = dict(zip(batch.cols, zip(*batch.rows, strict=True), strict=True))
    seqs = _bounded("seq", columns["seq"], 0, MAX_INTEGER)
    _bounded("boot", (batch.boot,), 0, MAX_BOOT)
    if any(b <= a for a, b in pairwise(seqs)):
        raise WireError(Reason.BAD_RANGE, "seq does not rise")
    if not 0 <= batch.first <= seqs[0]:
        raise WireError(Reason.BAD_RANGE, f"first {batch.first} is not within 0 and the lowest seq {seqs[0]}")
    _bounded("up", columns["up"], 0, MAX_TIME_S)
    _bounded("q", columns["q"], 0, 2)
    _bounded("dt", columns["dt"], 0, MAX_INTERVAL_S)
    _bounded("t", [t for t in columns["t"] if t is not None], 0, MAX_TIME_S)
    for name in batch.cols:
        if name not in WIRE_COLUMNS:
            raise WireError(Reason.UNKNOWN_COLUMN, f"column {name[:40]!r}", rows=Rows(batch.boot, batch.first, seqs))
        present = [v for v in columns[name] if v is not None]
        if present and not (min(present) >= -MAX_INTEGER and max(present) <= MAX_INTEGER):
            raise WireError(Reason.BAD_RANGE, f"{name} is beyond 64 bits")


def _bounded(name: str, values: Sequence[int | None], low: int, high: int) -> Sequence[int]:
    integers: list[int] = [v for v in values if v is not None]
    if len(integers) < len(values):
        raise WireError(Reason.WRONG_TYPE, f"{name} is null")
    if integers and not (low <= min(integers) and max(integers) <= high):
        raise WireError(Reason.BAD_RANGE, f"{name} is not within {low} and {high}")
    return integers


def decode_status(payload: bytes) -> Status:
    """Return a kit's status; raises `WireError`."""
    status = _decode_other(payload, Status)
    _bounded("up", (status.up,), 0, 1)
    if status.boot is not None:
        _bounded("boot", (status.boot,), 0, MAX_BOOT)
    if status.up and status.boot is None:
        raise WireError(Reason.WRONG_TYPE, "up without boot")
    return status


def decode_about(payload: bytes) -> About:
    """Return a kit's birth certificate; raises `WireError`."""
    return _decode_other(payload, About)


def _decode_other(payload: bytes, kind: type[_Other]) -> _Other:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise WireError(Reason.TOO_LARGE, f"{len(payload)} bytes, at most {MAX_MESSAGE_BYTES}")
    try:
        message = msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _not_a_batch(payload, error) from error
    if message.v != VERSION:
        raise WireError(Reason.UNKNOWN_VERSION, f"v {message.v}")
    return message
