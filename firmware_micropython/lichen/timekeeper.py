"""The clock's task: asks the gateway's machine for the time by NTP until it is set, and now and then afterwards.

The gateway's own time messages come over MQTT; NTP is needed before them, since TLS wants a clock, and from a gateway
whose MQTT time is not trusted it is not taken as more than better than nothing.
"""

import asyncio

from micropython import const

from lichen import sntp
from lichen.udp import resolve, time_of

_STEP_S = const(10)
_RETRY_S = const(60)
_AGAIN_S = const(3600)


class Timekeeper:
    """Sets `clock`; `floor` tells which era of NTP it is."""

    def __init__(self, clock, floor, host, server, port=123):
        """`host`: whose time is asked for; `server()`: (address, port) of the DNS server."""
        self._clock = clock
        self._floor = floor
        self._host = host
        self._server = server
        self._port = port
        self.beats = 0

    async def run(self):
        """Asks for ever; a failure costs nothing."""
        wait = 0
        while True:
            self.beats += 1
            self._clock.up_ms()  # within every wrap of the ticks
            if wait <= 0:
                good = await self._ask()
                wait = _AGAIN_S if good else _RETRY_S
            await asyncio.sleep_ms(_STEP_S * 1000)
            wait -= _STEP_S

    async def _ask(self):
        try:
            found = await time_of(await resolve(self._host, self._server()), self._port, self._floor)
        except (OSError, ValueError):
            return False
        if not found:
            return False
        t, ms, stratum = found
        return self._clock.set(t, ms, 2 if stratum < sntp.LOCAL else 1)
