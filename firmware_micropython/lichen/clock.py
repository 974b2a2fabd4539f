"""Uptime that never wraps, and UTC as an offset to it with a quality: 0 none, 1 held over, 2 set in this boot."""

import time

from micropython import const

# 30 years: an RTC further than this beyond the floor holds garbage (month 25 was seen in the field)
_LIFE_S = const(30 * 31557600)


def epoch(*date):
    """Seconds since 1970 of (year, month, day, hour, minute, second); time.mktime counts from 2000 on some ports."""
    year, month, day, hour, minute, second = date
    y = year - (month < 3)
    days = 365 * y + y // 4 - y // 100 + y // 400 + (153 * ((month + 9) % 12) + 2) // 5 + day - 719469
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def civil(t):
    """The inverse of epoch()."""
    days, s = divmod(t, 86400)
    z = days + 719468
    era, doe = divmod(z, 146097)
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    return yoe + era * 400 + (month < 3), month, doy - (153 * mp + 2) // 5 + 1, s // 3600, s // 60 % 60, s % 60


class Clock:
    """Uptime starts with it. The ticks beneath wrap: it must be asked every six days at least; the sampler does."""

    def __init__(self, rtc, floor):
        self._rtc = rtc
        self._floor = floor
        self._ticks = time.ticks_ms()
        self._up_ms = 0
        self._offset = 0  # epoch - uptime, whole seconds
        self.quality = 0
        self._hold_over()

    def _hold_over(self):
        try:
            year, month, day, _, hour, minute, second, _ = self._rtc.datetime()
            if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 61):
                return
            t = epoch(year, month, day, hour, minute, second)
        except (OSError, ValueError, TypeError):  # a broken RTC is no clock, never a reason to stop
            return
        if self._plausible(t):
            self._offset = t
            self.quality = 1

    def _plausible(self, t):
        return self._floor <= t < self._floor + _LIFE_S

    def up_ms(self):
        """Milliseconds of uptime."""
        now = time.ticks_ms()
        self._up_ms += time.ticks_diff(now, self._ticks)
        self._ticks = now
        return self._up_ms

    def at(self, up):
        """UTC epoch second at that second of uptime, or None."""
        return up + self._offset if self.quality else None

    def set(self, t, ms, quality=2):
        """Sets UTC from a trusted source, or (quality 1) from one that is better than nothing: then only where there is
        nothing. False if it says what cannot be.
        """
        if not self._plausible(t):
            return False
        if quality < 2 and self.quality:
            return True
        offset_ms = t * 1000 + ms - self.up_ms()
        # a jittering network must not make the whole seconds jump to and fro
        if self.quality < 2 or abs(offset_ms - self._offset * 1000) > 750:
            self._offset = (offset_ms + 500) // 1000
        self.quality = quality
        self._write_rtc()
        return True

    def _write_rtc(self):
        year, month, day, hour, minute, second = civil(self.up_ms() // 1000 + self._offset)
        try:
            self._rtc.datetime((year, month, day, 0, hour, minute, second, 0))
        except (OSError, ValueError, TypeError):
            pass
