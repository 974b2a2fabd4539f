"""The watchdog's task: feeds it only while sampler, ring, publisher and clock each move; and how late the loop runs.

Moving means that the task went round its loop, not that anybody answered: no outage reboots a kit. A task that waits
for something to do is woken now and then to show that it can.
"""

import asyncio
import time

from micropython import const

_PERIOD_MS = const(2000)
_LIMIT_MS = const(360_000)  # of a task's standstill: a connection that hangs is given up within two minutes


class Watch:
    """`tasks`: name -> object with `beats` and, where it may wait long, `wake()`. `stalled(text)` is told
    before the bite.
    """

    def __init__(self, tasks, stalled):
        self._tasks = tasks
        self.wdt = None  # set when everything has started
        self._stalled = stalled
        self._seen = {}
        self._excused = 0
        self.lag_ms = 0  # longest delay of the loop since take_lag()
        self.bitten = None

    def take_lag(self):
        """The longest delay of the loop since it was last asked, in ms."""
        lag, self.lag_ms = self.lag_ms, 0
        return lag

    def excuse(self, ms):
        """So long the processor slept on purpose."""
        self._excused += ms

    def look(self, now):
        """Name of a task that stands still, or None."""
        for name, task in self._tasks.items():
            beats, since = self._seen.get(name, (None, now))
            if task.beats != beats:
                self._seen[name] = task.beats, now
            elif time.ticks_diff(now, since) >= _LIMIT_MS:
                return name
            elif time.ticks_diff(now, since) >= _LIMIT_MS // 12 and hasattr(task, "wake"):
                task.wake()
        return None

    async def run(self):
        """Looks for ever; once something stands still it feeds no more."""
        while True:
            before = time.ticks_ms()
            await asyncio.sleep_ms(_PERIOD_MS)
            now = time.ticks_ms()
            self.lag_ms = max(self.lag_ms, time.ticks_diff(now, before) - _PERIOD_MS - self._excused)
            self._excused = 0
            if self.bitten:
                continue
            self.bitten = self.look(now)
            if self.bitten:
                self._stalled("watchdog: %s stands still" % self.bitten)
            elif self.wdt:
                self.wdt.feed()
