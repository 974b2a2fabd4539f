"""Between sampler and ring: a short queue in RAM and the task that writes it to flash: sampling never waits."""

import asyncio

from micropython import const

_QUEUE = const(32)  # rows: half an hour in which the flash may refuse; beyond, the oldest is lost and counted
_RETRY_MS = const(2000)
_RETRY_MAX_MS = const(60_000)


class Keeper:
    """put() takes rows without a number; run() numbers them, without holes, as the ring accepts them."""

    def __init__(self, ring, kept):
        """`kept(row)` is called with each row that is on flash."""
        self._ring = ring
        self._kept = kept
        self._rows = []
        self._wake = asyncio.Event()
        self.beats = 0  # moves whenever the task does
        self.lost = 0  # rows that could not be kept
        self.errors = 0

    def put(self, row):
        """Takes a row at once, whatever the flash does."""
        if len(self._rows) >= _QUEUE:
            self._rows.pop(0)
            self.lost += 1
        self._rows.append(row)
        self._wake.set()

    def wake(self):
        """Moves the task once, so that it shows that it can."""
        self._wake.set()

    def waiting(self):
        """Rows not on flash yet."""
        return len(self._rows)

    async def run(self):
        """Writes for ever."""
        delay = _RETRY_MS
        while True:
            self._wake.clear()
            self.beats += 1
            while self._rows:
                row = self._rows[0]
                row[0] = self._ring.last(self._ring.boot) + 1
                try:
                    self._ring.append(row)
                except OSError:
                    self.errors += 1
                    break
                self._rows.pop(0)
                self._kept(row)
                delay = _RETRY_MS
                await asyncio.sleep_ms(0)
            if self._rows:
                await asyncio.sleep_ms(delay)
                delay = min(_RETRY_MAX_MS, 2 * delay)
            else:
                await self._wake.wait()
