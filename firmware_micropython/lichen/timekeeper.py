"""The clock's task: asks the gateway's machine for the time by NTP until it is set, and now and then afterwards.

The gateway's own time messages come over MQTT; NTP is needed before them, since TLS wants a clock, and from a gateway
whose MQTT time is not trusted it is not taken as more than better than nothing.
"""

import asyncio

from lichen import sntp
from lichen.udp import resolve, time_of

STEP_S = 10
RETRY_S = 60
AGAIN_S = 3600


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
        self.answers = 0

    async def run(self):
        """Asks for ever; a failure costs nothing."""
        wait = 0
        while True:
            self.beats += 1
            self._clock.up_ms()  # within every wrap of the ticks
            if wait <= 0:
                good = await self._ask()
                wait = AGAIN_S if good else RETRY_S
            await asyncio.sleep_ms(STEP_S * 1000)
            wait -= STEP_S

    async def _ask(self):
        try:
            found = await time_of(await resolve(self._host, self._server()), self._port, self._floor)
        except (OSError, ValueError):
            return False
        if not found:
            return False
        t, ms, stratum = found
        self.answers += 1
        return self._clock.set(t, ms, 2 if stratum < sntp.LOCAL else 1)
