"""The sampler of a kit that saves power: a row at the end of each cycle's window, sensors asleep in between."""

from micropython import const

from lichen.sampler import Sampler

_WINDOW_S = const(60)  # of samples in a cycle, after the sensors' warm-up


class Cycles(Sampler):
    """Rows end at whole multiples of `cycle_s`."""

    def __init__(self, clock, meters, period_s, emit, cycle_s):
        super().__init__(clock, meters, period_s, emit)
        self._cycle = cycle_s * 1000
        self.idle_until = 0  # uptime in ms until which no sensor is wanted

    async def run(self):
        """Samples in each window for ever."""
        for meter in self.meters:
            meter.sensor.start()
        warmup = max([meter.warmup_s for meter in self.meters if meter.sensor.PREFIX == "pm"] + [0]) * 1000
        ahead = warmup + _WINDOW_S * 1000
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
                        meter.ready_up = (end - _WINDOW_S * 1000) // 1000
            due = end - _WINDOW_S * 1000 + self._period
            while due <= end and not self._stop:
                due = await self._slot(due)
            end += self._cycle

    def _due(self, up):
        return up * 1000 // self._cycle > self._row_up * 1000 // self._cycle
