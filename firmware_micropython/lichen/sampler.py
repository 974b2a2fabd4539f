"""Reads every sensor on a fixed grid of uptime and closes a row of integer means: about each minute, or, in a kit that
saves power, at the end of each cycle's window.
"""

import asyncio

SHORTEST_S = 30  # a shorter interval runs on to the next minute
LONGEST_S = 90
FIRST_POLL_MS = 60  # a PMS needs 7 + 33 ms on its line and a little to think, an SHT31 16 ms
POLL_MS = 40
WINDOW_S = 60  # of samples in a cycle, after the sensors' warm-up
HEAD = ("seq", "up", "t", "q", "dt")


class Sampler:
    """Knows neither ring nor network: `emit(row)` takes each finished row, whose seq is None, and must not wait."""

    def __init__(self, clock, meters, period_s, emit, cycle_s=0):
        """`cycle_s`: from one row to the next in a kit that sleeps in between; 0: always on."""
        self._clock = clock
        self.meters = meters
        self._period = period_s * 1000
        self._emit = emit
        self._cycle = cycle_s * 1000
        self._row_up = 0  # uptime at which the last row ended
        self._last_up = 0  # uptime of the last sample
        self._stop = False
        self.beats = 0  # moves whenever the task does
        self.holes = 0  # slots of the grid that passed without a sample
        self.rows = 0
        self.late_ms = 0  # latest sample behind its slot, since it was last asked
        self.idle_until = 0  # uptime in ms until which no sensor is wanted

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
        if self._cycle:
            await self._run_cycles()
        due = self._period
        while not self._stop:
            due = await self._slot(due)

    async def _run_cycles(self):
        warmup = max([meter.warmup_s for meter in self.meters if meter.sensor.PREFIX == "pm"] + [0]) * 1000
        ahead = warmup + WINDOW_S * 1000
        end = self._cycle
        while not self._stop:
            self.idle_until = end - ahead
            if self.idle_until > self._clock.up_ms() + self._period:
                for meter in self.meters:
                    meter.sensor.sleep()
                await self._until(self.idle_until)
                for meter in self.meters:
                    meter.sensor.wake()
                    if meter.sensor.PREFIX == "pm":  # what was always on is warm already
                        meter.ready_up = (end - WINDOW_S * 1000) // 1000
            due = end - WINDOW_S * 1000 + self._period
            while due <= end and not self._stop:
                due = await self._slot(due)
            end += self._cycle

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
        meter.add(values, up)
        return True

    def _due(self, up):
        """Whether the row ends with the sample at this uptime."""
        dt = up - self._row_up
        if self._cycle:
            return up * 1000 // self._cycle > self._row_up * 1000 // self._cycle
        if not self._clock.quality:
            return dt >= 60
        t, before = self._clock.at(up), self._clock.at(self._last_up)
        return dt >= LONGEST_S or (dt >= SHORTEST_S and t // 60 > before // 60)

    def _close(self, up):
        if self._due(up):
            row = [None, up, self._clock.at(up), self._clock.quality, up - self._row_up]
            for meter in self.meters:
                row += meter.take()
            self._row_up = up
            self.rows += 1
            self._emit(row)
        self._last_up = up
