"""Sends the ring's rows to the broker and frees them on receipts. The one broad boundary: it cannot end the node."""

import asyncio
import random
import time

from micropython import const

from lichen import mqtt, wire
from lichen.mqtt_io import Link
from lichen.udp import resolve
from lichen.window import Window

_INFLIGHT = const(4)  # PUBLISH packets without PUBACK
_KEEPALIVE_S = const(60)  # a Link pings after half of it
_TIME = const("/gateway/time")
_SETTLE_MS = const(1500)  # receipts for what is stored already come first
_BACKOFF_S = const(60)
_MESSAGE_BYTES = const(2048)  # about 22 rows of two PMS and an SHT31; the wire allows 16384
_BACKOFF_STEP_MS = const(10_000)
_DIAG_MS = const(600_000)


class Publisher:
    """`config`: kit, host, port, user, password, base, receipts. `about`: payload of the birth certificate; `diag()`:
    one of the health message; `unforeseen(error)` is told of what is not the network's; `server()`: (address, port) of
    the DNS server; `tls`: a context, or None.
    """

    def __init__(self, config, ring, clock, about, diag, unforeseen, server, tls):
        self._config = config
        self._ring = ring
        self._clock = clock
        self._about = about
        self._diag = diag
        self._diag_at = None
        self._unforeseen = unforeseen
        self._server = server
        self._tls = tls
        self._topic = config["base"] + "/" + config["kit"] + "/"
        self._receipts = config.get("receipts", True)  # without them (lossy) a PUBACK frees
        self.window = Window(ring, ring.boot)
        self._buf = bytearray(_MESSAGE_BYTES)  # once, while the heap is in one piece
        self._wake = asyncio.Event()
        self._closing = False
        self._paused = False
        self._down = self._failure = None
        self.beats = 0  # moves whenever the task does
        self.connects = 0

    def wake(self):
        """There may be something to send."""
        self._wake.set()

    def close(self):
        """Says goodbye and ends run()."""
        self._closing = True
        self._wake.set()

    def pause(self, on):
        """Says goodbye until it is wanted again: a kit that saves power switches its radio off."""
        self._paused = on
        self._wake.set()

    def drop(self, error):
        """Gives up the connection, if there is one, as if it had failed that way."""
        if self._down:
            self._failure = error
            self._down.set()

    async def run(self):
        """Connects again and again until close()."""
        delay = 1
        while not self._closing:
            self.beats += 1
            if self._paused:
                self._wake.clear()
                await self._wake.wait()
                continue
            connects = self.connects
            try:
                await self._session()
            except (OSError, mqtt.MqttError):  # the network's: the next connection is the answer
                pass
            except Exception as e:  # noqa: BLE001  whatever it is, sampling goes on and so does trying
                self._unforeseen(e)
            delay = 1 if self.connects != connects else min(_BACKOFF_S, delay * 2)
            await self._back_off(500 * delay + random.getrandbits(16) * 500 * delay // 65536)

    async def _back_off(self, ms):
        while ms > 0 and not (self._closing or self._paused):
            self.beats += 1
            await asyncio.sleep_ms(min(ms, _BACKOFF_STEP_MS))
            ms -= _BACKOFF_STEP_MS

    async def _session(self):
        c = self._config
        self._link = Link()
        self._inflight = {}  # packet id -> (boot, first, last), or None for what is no batch
        self._down = asyncio.Event()
        self._ready = asyncio.Event()
        self._failure = None
        tasks = []
        try:
            address = await resolve(c["host"], self._server())
            self.beats += 1
            await self._link.open(address, c["port"], self._hello(), self._tls, c["host"])
            for part in (self._receive, self._send, self._link.keep_alive):
                tasks.append(asyncio.create_task(self._guard(part)))
            await self._down.wait()
        finally:
            self._down = None
            for task in tasks:
                task.cancel()
            self._link.close()
        if self._failure:
            raise self._failure

    def _hello(self):
        c = self._config
        return mqtt.connect(c["kit"], c.get("user"), c.get("password"), _KEEPALIVE_S, self._topic + "status", wire.WILL)

    async def _guard(self, part):
        try:
            await part()
        except Exception as e:  # noqa: BLE001  told to run()
            self._failure = e
        if self._down:
            self._down.set()

    # sending

    async def _publish(self, name, payload, retain=False, what=None):
        pid = self._link.next_pid()
        self._inflight[pid] = what
        await self._link.send(mqtt.publish(self._topic + name, len(payload), 1, pid, retain), payload)

    async def _send(self):
        await self._ready.wait()
        await self._publish("about", self._about, True)
        await self._publish("status", wire.status(self._ring.boot), True)
        self.window.restart()
        await asyncio.sleep_ms(_SETTLE_MS)
        while not (self._closing or self._paused):
            self._wake.clear()
            self.beats += 1
            await self._send_diag()
            while len(self._inflight) < _INFLIGHT and not self._closing:
                item = self.window.next()
                if not item:
                    break
                await self._send_rows(*item)
            await self._wake.wait()
        await self._publish("status", wire.WILL, True)
        while self._inflight:
            self._wake.clear()
            self.beats += 1
            await self._wake.wait()
        await self._link.send(mqtt.DISCONNECT)

    async def _send_diag(self):
        now = time.ticks_ms()
        if self._diag_at is not None and time.ticks_diff(now, self._diag_at) < _DIAG_MS:
            return
        self._diag_at = now
        payload = self._diag()
        await self._link.send(mqtt.publish(self._topic + "diag", len(payload)), payload)

    async def _send_rows(self, live, boot, seq, count, first):
        payload, n, last = self._batch(boot, seq, count, first)
        if not n:  # none readable: passed over
            last = min(self._ring.last(boot), seq + count - 1)
        self.window.sent(boot, last)
        if n:
            await self._publish("obs" if live else "backlog", payload, False, (boot, seq, last))

    def _batch(self, boot, seq, count, first):
        rows = self._ring.read(boot, seq, count)
        made = wire.batch(self._buf, boot, first, self._ring.columns(boot), rows)
        rows.close()
        return made

    # receiving

    async def _receive(self):
        while True:
            for event in await self._link.receive():
                await self._handle(event)

    async def _handle(self, event):
        kind = event[0]
        if kind == "publish":
            _, topic, payload, qos, pid = event
            self._message(topic, payload)
            if qos:
                await self._link.send(mqtt.puback(pid))
        elif kind == "oversized":
            if event[1]:
                await self._link.send(mqtt.puback(event[2]))
        elif kind == "puback":
            self._acknowledged(event[1])
        elif kind == "connack":
            if event[2]:
                raise mqtt.MqttError("refused with code %d" % event[2])
            self._link.connected = True
            self.connects += 1
            topics = ((self._topic + "cmd", 1), (self._topic + "stored", 1), (self._config["base"] + _TIME, 0))
            await self._link.send(mqtt.subscribe(self._link.next_pid(), topics))
        elif kind == "suback":  # refused, too: an access list without this topic, and the readings go all the same
            self._ready.set()

    def _acknowledged(self, pid):
        what = self._inflight.pop(pid, None)
        if what:
            boot, _, last = what
            waiting = [w[1] for w in self._inflight.values() if w and w[0] == boot]
            if not waiting:
                self.window.acknowledged(boot)
            if not self._receipts:
                self.window.receipt(boot, min(waiting) - 1 if waiting else last)
        self._wake.set()

    def _message(self, topic, payload):
        if topic == self._topic + "stored":
            receipt = wire.receipt(payload)
            if receipt:
                self.window.receipt(*receipt)
        elif topic == self._config["base"] + _TIME:
            now = wire.gateway_time(payload)
            if now:
                if now[2]:
                    self._clock.set(now[0], now[1])
                self.window.tick()
        self._wake.set()  # what is neither is passed over: commands come with a later version
