"""Placing readings in time; pure."""

from enum import IntEnum
from typing import Final, NamedTuple, overload

import msgspec

from gateway.records import HOUR_MS, Ints, TimeSource

FUTURE_LIMIT_S: Final = 60
"""A reading later than this after its receipt is held, not stored as truth."""

ERROR_SET_S: Final = 2
"""A clock set in this boot (q 2) is off by its integer second and the delay of the message that set it."""

ERROR_HELD_OVER_S: Final = 60
"""A clock held over a restart (q 1): a day of a 100 ppm crystal is 9 s, a month away from power more; not measured."""

ERROR_ANCHOR_S: Final = 5
"""Uptime of the same boot plus the offset of its row with quality 2: both errors, and the drift between them."""

ERROR_RECEIPT_S: Final = 60
"""Uptime plus the smallest delay with which a live row of the boot arrived: a kit sends within its interval."""

LIVE_SPAN_MS: Final = 900_000
"""Receive times place rows only where they lie this far apart: a burst out of the broker's queue tells nothing."""

SHIFTS: Final = 1000
"""Rows of one kit that can share a second, each at a millisecond of its own; more wait."""


class Wait(IntEnum):
    """Why a row has no hour."""

    NO_TIME = 1
    FUTURE = 2
    CROWDED = 3


class Anchor(msgspec.Struct, frozen=True):
    """Epoch minus uptime of a boot [s], where it comes from, and by how much a time from it may be wrong [s]."""

    offset_s: int
    source: TimeSource
    error_s: int


class BootClock(msgspec.Struct):
    """What a boot's rows and their receipts tell of its uptime; the same whatever order they came in.

    `offset_s` is epoch minus uptime of the row with the lowest seq whose clock was set in this boot. `live_offset_ms`
    is the smallest receive time minus uptime of live rows, received from `live_from_ms` to `live_to_ms` by a trusted
    clock: a row cannot have been made later than it was received.
    """

    offset_s: int | None = None
    offset_seq: int | None = None
    live_from_ms: int | None = None
    live_to_ms: int | None = None
    live_offset_ms: int | None = None

    def anchor(self) -> Anchor | None:
        """Return what places rows of this boot that have no time, the kit's own clock before receive times."""
        if self.offset_s is not None:
            return Anchor(self.offset_s, TimeSource.ANCHOR, ERROR_ANCHOR_S)
        if self.live_from_ms is None or self.live_to_ms is None or self.live_offset_ms is None:
            return None
        if self.live_to_ms - self.live_from_ms < LIVE_SPAN_MS:
            return None
        return Anchor(self.live_offset_ms // 1000, TimeSource.RECEIPT, ERROR_RECEIPT_S)

    def learn_row(self, seq: int, up_s: int, t_s: int) -> bool:
        """Take in a row whose clock was set in this boot; returns whether it is the lowest so far."""
        if self.offset_seq is not None and seq >= self.offset_seq:
            return False
        self.offset_s, self.offset_seq = t_s - up_s, seq
        return True

    def learn_receipt(self, up_s: int, received_ms: int) -> bool:
        """Take in when a live row was received; returns whether that told anything new."""
        before = (self.live_from_ms, self.live_to_ms, self.live_offset_ms)
        offset_ms = received_ms - up_s * 1000
        self.live_from_ms = min(received_ms, received_ms if self.live_from_ms is None else self.live_from_ms)
        self.live_to_ms = max(received_ms, received_ms if self.live_to_ms is None else self.live_to_ms)
        self.live_offset_ms = min(offset_ms, offset_ms if self.live_offset_ms is None else self.live_offset_ms)
        return before != (self.live_from_ms, self.live_to_ms, self.live_offset_ms)


class Receipt(NamedTuple):
    """When a row was received [ms], and by how much the gateway's clock may have been wrong [s]; None: not trusted."""

    received_ms: int
    clock_error_s: int | None

    @property
    def bound_ms(self) -> int | None:
        """Latest time that is believed of a row received then [ms]; None where the clock was not trusted."""
        if self.clock_error_s is None:
            return None
        return self.received_ms + (FUTURE_LIMIT_S + self.clock_error_s) * 1000


class Placement(msgspec.Struct, frozen=True):
    """Where a row stands in time; `hour` is `None` while it waits, and then `time_ms` may be unknown."""

    hour: int | None
    time_ms: int | None
    source: TimeSource
    error_s: int | None
    offset_s: int | None
    waits: Wait | None = None


NO_TIME: Final = Placement(None, None, TimeSource.ANCHOR, None, None, Wait.NO_TIME)


@overload
def hour_of(time_ms: int, dt_s: int) -> int: ...
@overload
def hour_of(time_ms: Ints, dt_s: int | Ints) -> Ints: ...
def hour_of(time_ms: int | Ints, dt_s: int | Ints) -> int | Ints:
    """Return the UTC hour, since 1970, that contains the middle of a sampling interval ending at `time_ms`."""
    return (time_ms - dt_s * 500) // HOUR_MS


def place(
    *, up: int, t: int | None, q: int, dt: int, anchor: Anchor | None, receipt: Receipt, now_ms: int | None = None
) -> Placement:
    """Place one row.

    By its own time where its clock was set or held over, and the receipt allows that; else by the boot's anchor. What
    would stand after its receipt all the same is held until that time has come; it then stands there with the
    disagreement of the two clocks as its error.

    Parameters
    ----------
    up, t, q, dt
        The row's own columns: uptime [s], epoch at the end of its interval [s] or None, clock quality, length [s].
    anchor
        What places rows of this boot without a time of their own.
    receipt
        When the row was received.
    now_ms
        The gateway's time where it is trusted and held rows are to be looked at again [ms since 1970].
    """
    bound_ms, doubt_s = receipt.bound_ms, receipt.clock_error_s or 0
    own = t is not None and q > 0
    if own and t is not None and (bound_ms is None or t * 1000 <= bound_ms):
        error_s = (ERROR_SET_S if q == 2 else ERROR_HELD_OVER_S) + doubt_s
        return Placement(hour_of(t * 1000, dt), t * 1000, TimeSource.KIT, error_s, None)
    if anchor is not None:
        time_ms = (up + anchor.offset_s) * 1000
        found = Placement(hour_of(time_ms, dt), time_ms, anchor.source, anchor.error_s + doubt_s, anchor.offset_s)
        return found if bound_ms is None or time_ms <= bound_ms else _held(found, receipt, now_ms)
    if not own or t is None:
        return NO_TIME
    claimed = Placement(hour_of(t * 1000, dt), t * 1000, TimeSource.KIT, None, None)
    return _held(claimed, receipt, now_ms)


def _held(claimed: Placement, receipt: Receipt, now_ms: int | None) -> Placement:
    """Hold a row that would stand after its receipt, until that time has come."""
    time_ms = claimed.time_ms or 0
    if now_ms is None or time_ms > now_ms + FUTURE_LIMIT_S * 1000:
        return msgspec.structs.replace(claimed, hour=None, error_s=None, waits=Wait.FUTURE)
    return msgspec.structs.replace(claimed, error_s=-(-(time_ms - receipt.received_ms) // 1000))
