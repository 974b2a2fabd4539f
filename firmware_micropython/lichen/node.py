"""Composition: builds the parts of a node from its board and configuration, and starts their tasks. Nothing else."""

import asyncio
import binascii
import gc
import hashlib
import os

import machine

import lichen
from lichen import detect, wire
from lichen.clock import Clock
from lichen.diary import Diary
from lichen.keeper import Keeper
from lichen.memory import largest_block
from lichen.publisher import Publisher
from lichen.ring import RING_BYTES, Ring
from lichen.sampler import Sampler
from lichen.timekeeper import Timekeeper
from lichen.watch import WATCHDOG_MS, Watch

PM_CHANNELS = ("pm25_cf1", "pm25_atm", "n03")


def digest(root):
    """SHA-256 over the node's own files below root, shortened; "frozen" where they are part of the image."""
    h = hashlib.sha256()
    found = False
    for folder in ("lichen", "drivers", "boards"):
        try:
            names = sorted(os.listdir(root + "/" + folder))
        except OSError:
            continue
        for name in names:
            if name.endswith((".py", ".mpy")):
                found = True
                h.update((folder + "/" + name).encode())
                with open(root + "/" + folder + "/" + name, "rb") as f:
                    while True:
                        piece = f.read(512)
                        if not piece:
                            break
                        h.update(piece)
    return binascii.hexlify(h.digest()).decode()[:16] if found else "frozen"


def _tls(path):
    """A context that verifies the server by the CA in that DER file; boards' own default would not."""
    import tls

    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    with open(path, "rb") as f:
        context.load_verify_locations(f.read())
    return context


class Node:
    """A kit. `flash`: where its file system is mounted ("" for the root); `code`: where its own files lie; `wlan`: the
    network interface, or None.
    """

    def __init__(self, board, config, flash="", code="", wlan=None):
        self.config = config
        self._board = board
        self._wlan = wlan
        self.boot = int.from_bytes(os.urandom(4), "big")
        self.diary = Diary(flash + "/diary.json")
        floor = config.get("floor") or lichen.BUILD
        self.clock = Clock(machine.RTC(), floor)
        meters, self.report = detect.find(board, config.get("pm_channels") or PM_CHANNELS)
        cycle_s = config.get("cycle_s") or 0
        self.sampler = Sampler(self.clock, meters, board.PERIOD_S, self._keep, cycle_s)
        self.ring = Ring(flash + "/ring", self.boot, self.sampler.columns(), config.get("ring_bytes") or RING_BYTES)
        self.keeper = Keeper(self.ring, self._kept)
        tls = _tls(config["ca"]) if config.get("ca") else None
        about = self._about(board, meters, code)
        self.publisher = Publisher(config, self.ring, self.clock, about, self.diag, self._dns, tls)
        self.timekeeper = None
        if config.get("ntp", True) and not config.get("offline"):
            port = config.get("ntp_port") or 123
            self.timekeeper = Timekeeper(self.clock, floor, config["host"], self._dns, port)
        tasks = {"sampler": self.sampler, "ring": self.keeper, "publisher": self.publisher, "clock": self.timekeeper}
        if config.get("offline"):
            del tasks["publisher"]
        self.watch = Watch({name: task for name, task in tasks.items() if task}, self.diary.note)
        self.power = None
        if cycle_s:
            from lichen.power import Power

            self.power = Power(
                self.clock, self.sampler, self.keeper, self.ring, self.publisher, self.watch, self._radio
            )
        self.on_row = None  # the host's ledger

    def _dns(self):
        return (self._wlan.ifconfig()[3] if self._wlan else "127.0.0.1", 53)

    def _radio(self, on):
        if self._wlan:
            self._wlan.active(on)

    def _about(self, board, meters, code):
        sensors = [(m.sensor.TYPE, None, None, m.suffix[1:] or "a") for m in meters]
        columns = []
        for meter in meters:
            for (_, scale, unit), column in zip(meter.sensor.channels, meter.columns()[2:]):
                columns.append((column, unit, 100 if unit in ("degC", "percent") else scale))
        return wire.about(
            self.config["kit"], board.NAME, lichen.VERSION, digest(code), sensors, columns,
            self.config.get("config_rev", 0), self.ring.boot_number)  # fmt: skip

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

    def _keep(self, row):
        self.keeper.put(row)

    def _kept(self, row):
        if self.on_row:
            self.on_row(row)
        self.publisher.wake()

    def start(self):
        """Starts the tasks; returns the sampler's, the publisher's (None offline), and the others."""
        self.watch.wdt = machine.WDT(timeout=WATCHDOG_MS)  # last: it cannot be stopped, and a slow start must fit
        sampling = asyncio.create_task(self.sampler.run())
        publishing = None if self.config.get("offline") else asyncio.create_task(self.publisher.run())
        others = [self.keeper, self.watch, self.timekeeper, self.power]
        return sampling, publishing, [asyncio.create_task(part.run()) for part in others if part]
