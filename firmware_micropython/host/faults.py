"""Faults of simulated sensors, and network weather, as the configuration tells: when, what, how long."""

import asyncio
import random
import time

KINDS = ("silent", "stuck", "zero", "noisy")


class Faults:
    """Of one sensor: `spans` of (kind, from second, to second or None)."""

    def __init__(self, spans):
        self._spans = spans

    def now(self):
        """The fault that holds now, or None."""
        t = time.time()
        for kind, start, end in self._spans:
            if start <= t and (end is None or t < end):
                return kind
        return None

    def spoil(self, data):
        """One bit flipped in three of four."""
        if random.getrandbits(2) == 0:
            return data
        out = bytearray(data)
        out[random.randrange(len(out))] ^= 1 << random.randrange(8)
        return bytes(out)


def of(config, name):
    """Faults of the sensor with that name: the configuration's `faults` are [name, kind, from, to]."""
    return Faults([tuple(f[1:]) for f in config.get("faults") or () if f[0] == name])


class Weather:
    """Spans without a network: connections break and none can be opened."""

    def __init__(self, spans):
        self._spans = sorted(spans)
        self._open = asyncio.open_connection
        asyncio.open_connection = self._connect

    def _away(self):
        t = time.time()
        return any([start <= t < end for start, end in self._spans])

    async def _connect(self, *args):
        if self._away():
            raise OSError(113)
        return await self._open(*args)

    async def run(self, publisher):
        """Breaks what is open when a span begins."""
        for start, end in self._spans:
            while time.time() < start:
                await asyncio.sleep_ms(max(1, int(start - time.time()) * 1000))
            if time.time() < end:
                publisher.drop(OSError(104))
