"""Reads every sensor on a fixed grid of uptime and closes a row of integer means about once a minute."""

import asyncio

SHORTEST_S = 30  # a shorter interval runs on to the next minute
LONGEST_S = 90
FIRST_POLL_MS = 60  # a PMS needs 7 + 33 ms on its line and a little to think, an SHT31 16 ms
POLL_MS = 40
HEAD = ("seq", "up", "t", "q", "dt")


def mean(total, scale, n):
    """total * scale / n rounded half up, for negative totals too; None without samples."""
    return (2 * total * scale + n) // (2 * n) if n else None


class Meter:
    """A sensor and what it has measured in the interval."""

    def __init__(self, sensor, suffix="", warmup_s=0):
        self.sensor = sensor
        self.suffix = suffix
        self.warmup_s = warmup_s  # samples before this uptime are not to be trusted: they count as bad
        self._clear()

    def columns(self):
        """Names of what take() returns."""
        p = self.sensor.PREFIX
        names = [p + "_n", p + "_bad"] + [c[0] for c in self.sensor.channels]
        return [name + self.suffix for name in names]

    def _clear(self):
        self.n = self.bad = 0
        self._sums = [0] * len(self.sensor.channels)

    def add(self, values):
        """One good sample."""
        self.n += 1
        sums = self._sums
        for i, value in enumerate(values):
            sums[i] += value

    def take(self):
        """Counts and means of the interval, which ends here."""
        out = [self.n, self.bad] + [mean(s, c[1], self.n) for s, c in zip(self._sums, self.sensor.channels)]
        self._clear()
        return out


class Sampler:
    """Knows neither ring nor network: `emit(row)` takes each finished row and must not wait."""

    def __init__(self, clock, meters, period_s, emit):
        self._clock = clock
        self._meters = meters
        self._period = period_s * 1000
        self._emit = emit
        self._row_up = 0  # uptime at which the last row ended
        self._last_up = 0  # uptime of the last sample
        self._stop = False
        self.lost = 0  # rows that could not be kept
        self.seq = 0

    def columns(self):
        """Names of a row's values."""
        names = list(HEAD)
        for meter in self._meters:
            names += meter.columns()
        return names

    def stop(self):
        """No further sample is begun; run() returns at its next grid point."""
        self._stop = True

    async def run(self):
        """Samples for ever. A late wake-up samples late; slots missed altogether count as bad."""
        clock, period = self._clock, self._period
        for meter in self._meters:
            meter.sensor.start()
        due = period
        while True:
            wait = due - clock.up_ms()
            if wait > 0:
                await asyncio.sleep_ms(wait)
            if self._stop:
                return
            up = clock.up_ms()
            missed = max(0, (up - due) // period)
            for meter in self._meters:
                meter.bad += missed
            await self.sample(up // 1000)
            due += (missed + 1) * period

    async def sample(self, up):
        """One sample of every sensor, asked together; none can take longer than its time-out."""
        open_ = list(self._meters)
        for meter in open_:
            meter.sensor.trigger()
        waited = FIRST_POLL_MS
        await asyncio.sleep_ms(FIRST_POLL_MS)
        while True:
            open_ = [meter for meter in open_ if not self._collect(meter, up, waited)]
            if not open_:
                break
            await asyncio.sleep_ms(POLL_MS)
            waited += POLL_MS
        self._close(up)

    def _collect(self, meter, up, waited):
        values = meter.sensor.poll()
        if values is None:
            if waited < meter.sensor.TIMEOUT_MS:
                return False
            meter.sensor.give_up()
        if values and up >= meter.warmup_s:
            meter.add(values)
        else:
            meter.bad += 1
        return True

    def _due(self, up):
        """Whether the row ends with the sample at this uptime."""
        dt = up - self._row_up
        if not self._clock.quality:
            return dt >= 60
        t, before = self._clock.at(up), self._clock.at(self._last_up)
        return dt >= LONGEST_S or (dt >= SHORTEST_S and t // 60 > before // 60)

    def _close(self, up):
        if self._due(up):
            row = [self.seq + 1, up, self._clock.at(up), self._clock.quality, up - self._row_up]
            for meter in self._meters:
                row += meter.take()
            self._row_up = up
            try:
                self._emit(row)
                self.seq += 1  # a row that could not be kept leaves no hole in seq, for which receipts would wait
            except OSError:  # a full or broken flash must not end sampling
                self.lost += 1
        self._last_up = up
