"""Placing readings in time; pure."""

from dataclasses import dataclass
from typing import Final, overload

from gateway.records import HOUR_MS, Ints, TimeSource

FUTURE_LIMIT_S: Final = 60
"""A reading later than this after its receipt is held, not stored as truth."""

ERROR_SET_S: Final = 2
"""A clock set in this boot (q 2) is off by its integer second and the delay of the message that set it."""

ERROR_HELD_OVER_S: Final = 60
"""A clock held over a restart (q 1): a day of a 100 ppm crystal is 9 s, a month away from power more; not measured."""

ERROR_ANCHOR_S: Final = 5
"""Uptime of the same boot plus the offset of its row with quality 2: both errors, and the drift between them."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a row stands in time; `hour` is `None` while it waits, and then `time_ms` may be unknown."""

    hour: int | None
    time_ms: int | None
    source: TimeSource
    error_s: int | None
    offset_s: int | None


WAITING: Final = Placement(hour=None, time_ms=None, source=TimeSource.ANCHOR, error_s=None, offset_s=None)


@overload
def hour_of(time_ms: int, dt_s: int) -> int: ...
@overload
def hour_of(time_ms: Ints, dt_s: Ints) -> Ints: ...
def hour_of(time_ms: int | Ints, dt_s: int | Ints) -> int | Ints:
    """Return the UTC hour, since 1970, that contains the middle of a sampling interval ending at `time_ms`."""
    return (time_ms - dt_s * 500) // HOUR_MS


def place(*, up: int, t: int | None, q: int, dt: int, offset_s: int | None, horizon_ms: int | None) -> Placement:
    """Place one row.

    Parameters
    ----------
    up, t, q, dt
        The row's own columns: uptime [s], epoch at the end of its interval [s] or None, clock quality, length [s].
    offset_s
        Epoch minus uptime of this boot [s], where a row with quality 2 has told it.
    horizon_ms
        Latest time that is believed [ms since 1970]; None where the gateway's own clock is not trusted.
    """
    if t is not None and q > 0:
        time_ms, source, offset = t * 1000, TimeSource.KIT, None
        error_s = ERROR_SET_S if q == 2 else ERROR_HELD_OVER_S
    elif offset_s is not None:
        time_ms, source, offset = (up + offset_s) * 1000, TimeSource.ANCHOR, offset_s
        error_s = ERROR_ANCHOR_S
    else:
        return WAITING
    held = horizon_ms is not None and time_ms > horizon_ms
    return Placement(None if held else hour_of(time_ms, dt), time_ms, source, error_s, offset)
