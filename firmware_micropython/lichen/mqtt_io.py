"""The MQTT core on a socket: opening, sending one packet at a time, receiving, keeping alive."""

import asyncio
import time

from micropython import const

from lichen import mqtt

_OPEN_MS = const(20_000)
_CONNACK_MS = const(10_000)
_PING_MS = const(30_000)  # of silence in either direction
_PINGRESP_MS = const(20_000)
_SEND_MS = const(20_000)  # a peer that stopped reading
_CHECK_MS = const(10_000)
_SMALL = const(512)
_PIECE = const(1024)


class Link:
    """One TCP connection to a broker. Every failure is an OSError or an MqttError."""

    def __init__(self):
        self._decoder = mqtt.Decoder()
        self._stream = None
        self._lock = asyncio.Lock()
        self._pid = 0
        self.connected = False  # set by the owner when CONNACK has come
        self._since = self._rx = self._tx = time.ticks_ms()
        self._pinged = None
        self._sending = None  # since when a packet waits for the socket

    async def open(self, address, port, hello, tls=None, name=None):
        """Connects and sends CONNECT. `address` is numeric: a name would be resolved by a call that blocks. `tls`: a
        context for the server `name`.
        """
        try:
            opening = (
                asyncio.open_connection(address, port, tls, name) if tls else asyncio.open_connection(address, port)
            )
            self._stream, _ = await asyncio.wait_for_ms(opening, _OPEN_MS)
        except asyncio.TimeoutError:
            raise OSError(110) from None
        self._since = self._rx = time.ticks_ms()
        await self.send(hello)

    def next_pid(self):
        """A packet id not used lately."""
        self._pid = self._pid % 65535 + 1
        return self._pid

    async def send(self, packet, payload=None):
        """Hands a packet to the socket, waiting while its buffer is full. A large payload goes apart, piece by piece,
        since the stream copies what the socket does not take; a small one would wait for the acknowledgement of the
        first part (Nagle, 40 ms).
        """
        if payload and len(payload) <= _SMALL:
            packet += payload
            payload = None
        async with self._lock:
            self._sending = time.ticks_ms()
            self._stream.write(packet)
            if payload:
                payload = memoryview(payload)
                for at in range(0, len(payload), _PIECE):
                    await self._stream.drain()
                    self._stream.write(payload[at : at + _PIECE])
            await self._stream.drain()
            self._sending = None
        self._tx = time.ticks_ms()

    async def receive(self):
        """The next events, at least one byte's worth."""
        data = await self._stream.read(256)
        if not data:
            raise OSError(104)
        self._rx = time.ticks_ms()
        self._pinged = None
        return self._decoder.feed(data)

    async def keep_alive(self):
        """Pings when it is quiet; raises when the broker does not answer."""
        while True:
            await asyncio.sleep_ms(_CHECK_MS)
            now = time.ticks_ms()
            if self._sending is not None:
                if time.ticks_diff(now, self._sending) >= _SEND_MS:
                    raise OSError(110)
            elif not self.connected:
                if time.ticks_diff(now, self._since) >= _CONNACK_MS:
                    raise OSError(110)
            elif self._pinged is not None:
                if time.ticks_diff(now, self._pinged) >= _PINGRESP_MS:
                    raise OSError(110)
            elif max(time.ticks_diff(now, self._rx), time.ticks_diff(now, self._tx)) >= _PING_MS:
                self._pinged = now
                await self.send(mqtt.PINGREQ)

    def close(self):
        """Closes the socket without a word."""
        if self._stream:
            self._stream.close()
            self._stream = None
