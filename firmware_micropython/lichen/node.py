"""Composition: builds the parts of a node from its board and configuration, and starts their tasks. Nothing else."""

import asyncio
import binascii
import hashlib
import os

from machine import I2C, RTC, UART, Pin

import lichen
from drivers.pms import Pms
from drivers.sht31 import Sht31
from lichen import wire
from lichen.clock import Clock
from lichen.publisher import Publisher
from lichen.ring import Ring
from lichen.sampler import Meter, Sampler

PM_CHANNELS = ("pm25_cf1", "pm25_atm", "n03")


def meters(board, pm_channels):
    """The board's sensors, constructed from its own table of pins."""
    pins = {signal: pin for signal, pin, _, _ in board.PINS}
    out = []
    for channel, uart, tx, rx in board.UARTS:
        # 1024: a stalled loop must not lose bytes to the default of 256
        port = UART(uart, baudrate=9600, tx=Pin(pins[tx]), rx=Pin(pins[rx]), rxbuf=1024)
        out.append(Meter(Pms(port, pm_channels), "" if channel == "a" else "_" + channel, board.PMS_WARMUP_S))
    number, sda, scl = board.I2C
    bus = I2C(number, sda=Pin(pins[sda]), scl=Pin(pins[scl]), freq=100_000, timeout=50_000)
    out.append(Meter(Sht31(bus, board.SHT31_ADDRESS)))
    return out


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
                    h.update(f.read())
    return binascii.hexlify(h.digest()).decode()[:16] if found else "frozen"


class Node:
    """A kit. `flash`: where its file system is mounted ("" for the root); `code`: where its own files lie."""

    def __init__(self, board, config, flash="", code=""):
        self.config = config
        self.boot = int.from_bytes(os.urandom(4), "big")
        self.clock = Clock(RTC(), config.get("floor") or lichen.BUILD)
        parts = meters(board, config.get("pm_channels") or PM_CHANNELS)
        self.sampler = Sampler(self.clock, parts, board.PERIOD_S, self._keep)
        columns = self.sampler.columns()
        self.ring = Ring(flash + "/ring", self.boot, columns)
        self.publisher = Publisher(config, self.ring, self.clock, self._about(board, parts, code))
        self.on_row = None  # the host's ledger

    def _about(self, board, parts, code):
        sensors = [(m.sensor.TYPE, None, None, m.suffix[1:] or "a") for m in parts]
        columns = []
        for meter in parts:
            for (name, scale, unit), column in zip(meter.sensor.channels, meter.columns()[2:]):
                columns.append((column, unit, 100 if name in ("temp", "rh") else scale))
        return wire.about(
            self.config["kit"], board.NAME, lichen.VERSION, digest(code), sensors, columns,
            self.config.get("config_rev", 0), self.ring.boot_number)  # fmt: skip

    def _keep(self, row):
        self.ring.append(row)
        if self.on_row:
            self.on_row(row)
        self.publisher.wake()

    def start(self):
        """Starts sampling and, unless offline, publishing; returns both tasks."""
        sampling = asyncio.create_task(self.sampler.run())
        publishing = None if self.config.get("offline") else asyncio.create_task(self.publisher.run())
        return sampling, publishing
