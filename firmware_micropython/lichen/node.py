"""The node of a kit: its parts, made by `assembly`, what they tell each other, its health message and its tasks."""

import asyncio
import gc

import machine
from micropython import const

import lichen
from lichen import wire
from lichen.memory import largest_block

_WATCHDOG_MS = const(8000)  # the RP2040's bites after 8388 ms at most


class Node:
    """A kit. `flash`: where its file system is mounted ("" for the root); `code`: where its own files lie; `wlan`: the
    network interface, or None.
    """

    def __init__(self, board, config, flash="", code="", wlan=None):
        from lichen import assembly

        self.config = config
        self._wlan = wlan
        self.on_row = None  # the host's ledger
        assembly.build(self, board, config, flash, code)
        lichen.forget("lichen.assembly")

    def dns(self):
        """(address, port) of the DNS server."""
        return (self._wlan.ifconfig()[3] if self._wlan else "127.0.0.1", 53)

    def radio(self, on):
        """Switches the network interface."""
        if self._wlan:
            self._wlan.active(on)

    def diag(self):
        """The health message."""
        gc.collect()
        meters = self.sampler.meters
        numbers = (
            ("boot", self.boot), ("up", self.clock.up_ms() // 1000), ("heap_free", gc.mem_free()),
            ("heap_block", largest_block()), ("rssi", self._rssi()), ("brownouts", self.diary.brownouts),
            ("ring_used", self.ring.pending), ("ring_size", self.ring.capacity()),
            ("ring_dropped", self.ring.dropped + self.keeper.lost), ("set_aside", self.ring.set_aside),
            ("bad_frames", sum([m.sensor.bad for m in meters])), ("lag_ms", self.watch.take_lag()),
        )  # fmt: skip
        sensors = [(m.name, m.state(), m.sensor.bad) for m in meters]
        return wire.diag(numbers, self.diary.cause, sensors, self.diary.crash)

    def _rssi(self):
        try:
            return self._wlan.status("rssi") if self._wlan else None
        except (OSError, ValueError, TypeError):  # not connected, or a port without it
            return None

    def keep(self, row):
        """Takes the sampler's row."""
        self.keeper.put(row)

    def kept(self, row):
        """The row is on flash."""
        if self.on_row:
            self.on_row(row)
        self.publisher.wake()

    def start(self):
        """Starts the tasks; returns the sampler's, the publisher's (None offline), and the others."""
        self.watch.wdt = machine.WDT(timeout=_WATCHDOG_MS)  # last: it cannot be stopped, and a slow start must fit
        sampling = asyncio.create_task(self.sampler.run())
        publishing = None if self.config.get("offline") else asyncio.create_task(self.publisher.run())
        others = [self.keeper, self.watch, self.timekeeper, self.power]
        return sampling, publishing, [asyncio.create_task(part.run()) for part in others if part]
