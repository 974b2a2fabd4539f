"""Version 1 messages to typed structs and back; no I/O."""

import re
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from operator import lt
from typing import Annotated, Final, NamedTuple, TypeVar, cast

import msgspec
from msgspec import Meta

from calibration.quantities import ROW_COLUMNS, WIRE_COLUMNS

VERSION: Final = 1
MAX_MESSAGE_BYTES: Final = 16 * 1024
MAX_ROWS: Final = 256
MAX_BOOT: Final = 2**32 - 1
MAX_INTEGER: Final = 2**63 - 1
MAX_TIME_S: Final = 2**33  # the year 2242: later is a kit's mistake, and times in ms stay far from the 64-bit end
MAX_INTERVAL_S: Final = 86_400
MAX_DETAIL: Final = 200

RESETS: Final = ("power", "soft", "watchdog", "brownout", "sleep", "other")
"""Why a kit has started, as `diag` says it."""

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


class Layout(msgspec.Struct, frozen=True, eq=False):
    """Where the columns that every row has stand among `names`; one object for each order of columns."""

    names: tuple[str, ...]
    seq: int
    up: int
    t: int
    q: int
    dt: int


@lru_cache(maxsize=1024)
def layout_of(names: tuple[str, ...]) -> Layout:
    """Return the layout of columns, known or not; raises `ValueError` where one that every row has is missing."""
    return Layout(names, *(names.index(name) for name in ("seq", "up", "t", "q", "dt")))


_Value = Annotated[int, Meta(ge=-MAX_INTEGER, le=MAX_INTEGER)]


class Batch(msgspec.Struct, frozen=True):
    """Readings of one boot: `rows` holds integers of 64 bits or None in the order of `cols`."""

    v: int
    boot: int
    first: int
    cols: tuple[str, ...]
    rows: list[list[_Value | None]]

    @property
    def layout(self) -> Layout:
        """Where its columns stand."""
        return layout_of(self.cols)


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


class SensorHealth(msgspec.Struct, frozen=True):
    """How one sensor fares, in a word, and how many of its frames were refused in this boot."""

    name: str
    state: str
    bad: int


class Diag(msgspec.Struct, frozen=True):
    """Health of a kit; None where its board cannot tell. Counters are of this boot, `brownouts` of the kit's life."""

    v: int
    boot: int
    up: int
    heap_free: int
    heap_block: int | None
    rssi: int | None
    reset: str
    brownouts: int | None
    ring_used: int
    ring_size: int
    ring_dropped: int
    set_aside: int
    bad_frames: int
    lag_ms: int
    sensors: list[SensorHealth]

    def numbers(self) -> dict[str, int]:
        """Return it as fields of `kit_health`; `reset` is the place in `RESETS`."""
        found: dict[str, int | None] = {
            name: getattr(self, name) for name in self.__struct_fields__ if name not in {"v", "reset", "sensors"}
        }
        found["reset"] = RESETS.index(self.reset) if self.reset in RESETS else len(RESETS)
        found["sensors"] = len(self.sensors)
        found["sensors_ok"] = sum(sensor.state == "ok" for sensor in self.sensors)
        return {name: value for name, value in found.items() if value is not None}


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


_Other = TypeVar("_Other", Status, About, Diag)


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
    beyond = "Expected `int` <=" in str(error) or "Expected `int` >=" in str(error)
    return WireError(Reason.BAD_RANGE if beyond else Reason.WRONG_TYPE, str(error))


def _check_shape(batch: Batch) -> None:
    width = len(batch.cols)
    if len(batch.rows) > MAX_ROWS:
        raise WireError(Reason.TOO_MANY_ROWS, f"{len(batch.rows)} rows, at most {MAX_ROWS}")
    if not batch.rows:
        raise WireError(Reason.BAD_RANGE, "no rows")
    if set(map(len, batch.rows)) != {width}:
        number, row = next((number, row) for number, row in enumerate(batch.rows) if len(row) != width)
        raise WireError(Reason.ROW_LENGTH, f"row {number} has {len(row)} values for {width} columns")


@lru_cache(maxsize=1024)
def _check_columns(names: tuple[str, ...]) -> str | None:
    """Refuse columns that stand twice or are missing; returns the first that is not known."""
    if len(set(names)) != len(names):
        raise WireError(Reason.WRONG_TYPE, "a column stands twice")
    for name in ROW_COLUMNS:
        if name not in names:
            raise WireError(Reason.WRONG_TYPE, f"no column {name}")
    return next((name for name in names if name not in WIRE_COLUMNS), None)


def are_known_columns(names: tuple[str, ...]) -> bool:
    """Tell whether these are columns that a batch may have."""
    try:
        return _check_columns(names) is None
    except WireError:
        return False


def _check_values(batch: Batch) -> None:
    unknown = _check_columns(batch.cols)
    rows, at = batch.rows, batch.layout
    seqs = _bounded("seq", [row[at.seq] for row in rows], 0, MAX_INTEGER)
    if not 0 <= batch.boot <= MAX_BOOT:
        raise WireError(Reason.BAD_RANGE, f"boot is not within 0 and {MAX_BOOT}")
    if not all(map(lt, seqs, islice(seqs, 1, None))):
        raise WireError(Reason.BAD_RANGE, "seq does not rise")
    if not 0 <= batch.first <= seqs[0]:
        raise WireError(Reason.BAD_RANGE, f"first {batch.first} is not within 0 and the lowest seq {seqs[0]}")
    _bounded("up", [row[at.up] for row in rows], 0, MAX_TIME_S)
    _bounded("q", [row[at.q] for row in rows], 0, 2)
    _bounded("dt", [row[at.dt] for row in rows], 0, MAX_INTERVAL_S)
    times = [t for row in rows if (t := row[at.t]) is not None]
    if times:
        _bounded("t", times, 0, MAX_TIME_S)
    if unknown is not None:
        raise WireError(Reason.UNKNOWN_COLUMN, f"column {unknown[:40]!r}", rows=Rows(batch.boot, batch.first, seqs))


def _bounded(name: str, values: Sequence[int | None], low: int, high: int) -> Sequence[int]:
    if None in values:
        raise WireError(Reason.WRONG_TYPE, f"{name} is null")
    integers = cast("Sequence[int]", values)
    if not (low <= min(integers) and max(integers) <= high):
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


def decode_diag(payload: bytes) -> Diag:
    """Return a kit's health; raises `WireError`."""
    diag = _decode_other(payload, Diag)
    _bounded("boot", (diag.boot,), 0, MAX_BOOT)
    _bounded("up", (diag.up,), 0, MAX_TIME_S)
    for name, value in diag.numbers().items():
        _bounded(name, (value,), -MAX_INTEGER, MAX_INTEGER)
    return diag


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
