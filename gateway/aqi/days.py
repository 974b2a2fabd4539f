"""Local days: values from midnight to midnight in a site's standard time, which has no summer time."""

import datetime as dt
import re
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.aqi.kernels import Floats, trailing_mean

Ints = NDArray[np.int64]

_OFFSET: Final = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?$")


class ZoneError(ValueError):
    """Raised when local days cannot be made in a zone; says why and what to do."""

    def __init__(self, zone: str, why: str) -> None:
        self.zone = zone
        super().__init__(f"time zone {zone!r}: {why}")


def standard_offset_h(zone: str, year: int = 2026) -> int:
    """Offset of a zone's standard time from UTC; summer time never counts.

    Parameters
    ----------
    zone
        `UTC`, an offset such as `+08:00`, or an IANA name such as `America/New_York`.
    year
        Year whose rules are taken: zones have changed theirs.

    Returns
    -------
    int
        [h], east of Greenwich positive. The smaller of the offsets in January and in July.

    Raises
    ------
    ZoneError
        The zone is unknown, or its standard time is not whole hours from UTC.

    References
    ----------
    AirNow forum 171: days run from midnight to midnight local standard time.
    """
    minutes = _offset_min(zone, year)
    if minutes % 60:
        sign = "-" if minutes < 0 else "+"
        raise ZoneError(
            zone,
            f"its standard time is {sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02} from UTC, so its midnight lies "
            "within a UTC hour; hours are kept as UTC hours, and a day from midnight to midnight cannot be made of "
            "them. Indices by trailing hours work; for local days name a zone of whole hours",
        )
    return minutes // 60


def _offset_min(zone: str, year: int) -> int:
    if zone.upper() in {"UTC", "Z", "GMT"}:
        return 0
    if found := _OFFSET.match(zone.strip()):
        sign, hours, minutes = found.groups()
        size = int(hours) * 60 + int(minutes or 0)
        if size <= 14 * 60:
            return -size if sign == "-" else size
        raise ZoneError(zone, "no place is more than 14 hours from UTC")
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # here: only names of zones need it

    try:
        rules = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ZoneError(zone, "is unknown; use an offset such as +08:00 or an IANA name such as Asia/Taipei") from error
    # noon: no zone changes its clock then
    offsets = [dt.datetime(year, month, 1, 12, tzinfo=rules).utcoffset() for month in (1, 7)]
    return min(round(offset.total_seconds() / 60) for offset in offsets if offset is not None)


class DayValues(msgspec.Struct, frozen=True):
    """Values of local days, a day each: `days` int64 [n] since 1970-01-01, `values` and `present` float64 [..., n].

    `present` is the number of windows (hours, where the window is one hour) that were valid.
    """

    days: Ints
    values: Floats
    present: Floats


class LocalDay(msgspec.Struct, frozen=True):
    """How a scheme makes one value of a local day: the mean or the largest of its windows.

    A window has `hours` hours, of which `least_hours` must be valid. It belongs to the day in which it begins
    (`label` start) or ends (end), if its first or last hour is one of `first` to `last`, both included, counted
    from midnight. `least` windows must be valid.
    """

    kernel: Literal["mean", "max"]
    hours: int
    least_hours: int
    first: int
    last: int
    label: Literal["start", "end"]
    least: int

    def of(self, hours: Floats, first_hour: int, utc_offset_h: int) -> DayValues:
        """Make the values of the local days that the hours touch.

        Parameters
        ----------
        hours
            Consecutive hours [..., n] [any unit], NaN where invalid.
        first_hour
            Hour since 1970, UTC, of the first.
        utc_offset_h
            Offset of the site's standard time [h], see `standard_offset_h`.

        Returns
        -------
        DayValues
            In the same unit, NaN where too few windows are valid; not truncated.
        """
        n = hours.shape[-1]
        local = first_hour + utc_offset_h
        first_day, last_day = local // 24, (local + max(n, 1) - 1) // 24
        count, before = last_day - first_day + 1, local - first_day * 24
        reach = self.hours - 1  # a window that begins in the last hours of a day ends in the next one
        whole = np.full((*hours.shape[:-1], count * 24 + reach), np.nan)
        whole[..., before : before + n] = hours
        windows = trailing_mean(whole, window=self.hours, least=self.least_hours)
        start = reach if self.label == "start" else 0
        by_day = windows[..., start : start + count * 24].reshape(*hours.shape[:-1], count, 24)
        mine = by_day[..., self.first : self.last + 1]
        valid = ~np.isnan(mine)
        present = valid.sum(axis=-1).astype(np.float64)
        if self.kernel == "max":
            found = np.where(valid, mine, -np.inf).max(axis=-1)
        else:
            found = np.where(valid, mine, 0.0).sum(axis=-1) / np.maximum(present, 1.0)
        enough = present >= max(self.least, 1)
        return DayValues(np.arange(first_day, last_day + 1), np.where(enough, found, np.nan), present)


PM_DAY: Final = LocalDay("mean", hours=1, least_hours=1, first=0, last=23, label="start", least=18)
"""Mean of the 24 hours from midnight to midnight, 18 of them valid (AirNow forum 171 and 263)."""

MAX_1H_DAY: Final = LocalDay("max", hours=1, least_hours=1, first=0, last=23, label="start", least=18)
"""Largest hour of the day, 18 hours valid: SO2 and NO2 of the US (AirNow forum 263)."""

MAX_8H_DAY: Final = LocalDay("max", hours=8, least_hours=6, first=7, last=23, label="start", least=13)
"""Largest of the 17 means of 8 hours that begin at 07:00 to 23:00, 13 of them valid: O3 of the US (AirNow forum 171;
40 CFR 50 Appendix U for the hours and windows needed, unverified)."""
