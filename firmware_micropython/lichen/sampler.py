"""Reads every sensor on a fixed grid of uptime and closes a row of integer means about each minute."""

import asyncio

from micropython import const

_SHORTEST_S = const(30)  # a shorter interval runs on to the next minute
_LONGEST_S = const(90)
_FIRST_POLL_MS = const(60)  # a PMS needs 7 + 33 ms on its line and a little to think, an SHT31 16 ms
_POLL_MS = const(40)
HEAD = ("seq", "up", "t", "q", "dt")


class Sampler:
    """Knows neither ring nor network: `emit(row)` takes each finished row, whose seq is None, and must not wait."""

    def __init__(self, clock, meters, period_s, emit):
        self._clock = clock
        self.meters = meters
        self._period = period_s * 1000
        self._emit = emit
        self._row_up = 0  # uptime at which the last row ended
        self._last_up = 0  # uptime of the last sample
        self._stop = False
        self.beats = 0  # moves whenever the task does
        self.holes = 0  # slots of the grid that passed without a sample
        self.rows = 0
        self.late_ms = 0  # latest sample behind its slot, since it was last asked

    def columns(self):
        """Names of a row's values."""
        names = list(HEAD)
        for meter in self.meters:
            names += meter.columns()
        return names

    def stop(self):
        """No further sample is begun; run() returns at its next grid point."""
        self._stop = True

    async def run(self):
        """Samples for ever. A late wake-up samples late; slots missed altogether count as bad."""
        for meter in self.meters:
            meter.sensor.start()
        due = self._period
        while not self._stop:
            due = await self._slot(due)

    async def _until(self, due):
        """Sleeps to that uptime in ms, in steps short enough to show that the task moves, and for the ticks' wrap."""
        while not self._stop:
            self.beats += 1
            wait = due - self._clock.up_ms()
            if wait <= 0:
                return
            await asyncio.sleep_ms(min(wait, 10_000))

    async def _slot(self, due):
        """The sample due then; returns when the next one is."""
        await self._until(due)
        if self._stop:
            return due
        late = self._clock.up_ms() - due
        missed = max(0, late // self._period)
        self.holes += missed
        self.late_ms = max(self.late_ms, late)
        for meter in self.meters:
            meter.bad += missed
        up = due // 1000 + missed * self._period // 1000
        await self.sample(up)
        return due + (missed + 1) * self._period

    async def sample(self, up):
        """One sample of every sensor, asked together; none can take longer than its time-out."""
        open_ = list(self.meters)
        for meter in open_:
            meter.sensor.trigger()
        waited = _FIRST_POLL_MS
        await asyncio.sleep_ms(_FIRST_POLL_MS)
        while True:
            open_ = [meter for meter in open_ if not self._collect(meter, up, waited)]
            if not open_:
                break
            await asyncio.sleep_ms(_POLL_MS)
            waited += _POLL_MS
        self._close(up)

    def _collect(self, meter, up, waited):
        values = meter.sensor.poll()
        if values is None:
            if waited < meter.sensor.TIMEOUT_MS:
                return False
            meter.sensor.give_up()
        meter.add(values, up)
        return True

    def _due(self, up):
        """Whether the row ends with the sample at this uptime."""
        dt = up - self._row_up
        if not self._clock.quality:
            return dt >= 60
        t, before = self._clock.at(up), self._clock.at(self._last_up)
        return dt >= _LONGEST_S or (dt >= _SHORTEST_S and t // 60 > before // 60)

    def _close(self, up):
        if self._due(up):
            row = [None, up, self._clock.at(up), self._clock.quality, up - self._row_up]
            for meter in self.meters:
                row += meter.take()
            self._row_up = up
            self.rows += 1
            self._emit(row)
        self._last_up = up
