"""Between two windows of a kit that saves power: radio off and light sleep. RAM, uptime and boot survive it."""

import asyncio

import machine
from micropython import const

_SEND_MS = const(60_000)  # for rows and receipts after a window; then it sleeps, and what is left goes with the next
_SPARE_MS = const(2000)  # to wake up in
_NAP_MS = const(5000)  # at a stretch: the watchdog, which may run on, wants to be fed in between


class Power:
    """`radio(on)` switches the network interface."""

    def __init__(self, clock, sampler, keeper, ring, publisher, watch, radio):
        self._clock = clock
        self._sampler = sampler
        self._keeper = keeper
        self._ring = ring
        self._publisher = publisher
        self._watch = watch
        self._radio = radio
        self.asleep_ms = 0

    async def run(self):
        """Sleeps between windows for ever."""
        while True:
            await asyncio.sleep_ms(1000)
            if self._sampler.idle_until - self._clock.up_ms() < _SPARE_MS + _SEND_MS:
                continue
            await self._send()
            self._publisher.pause(True)
            await asyncio.sleep_ms(_SPARE_MS)  # for the goodbye
            self._radio(False)
            await self._sleep()
            self._radio(True)
            self._publisher.pause(False)

    async def _send(self):
        """Until nothing is left to send, or the time for it is up."""
        waited = 0
        while waited < _SEND_MS and (self._ring.pending or self._keeper.waiting()):
            await asyncio.sleep_ms(500)
            waited += 500

    async def _sleep(self):
        while True:
            left = self._sampler.idle_until - self._clock.up_ms() - _SPARE_MS
            if left <= 0:
                return
            before = self._clock.up_ms()
            machine.lightsleep(min(left, _NAP_MS))
            slept = self._clock.up_ms() - before
            self.asleep_ms += slept
            self._watch.excuse(slept)
            await asyncio.sleep_ms(0)
