"""Runs inside MicroPython in real time: what a node takes of the heap, stand-ins for the board excluded.

argv: configuration, seconds, where the built firmware is (a folder, or a ROM file system). The stand-ins, which import
nothing of the firmware, come first; what follows is what a board would hold. Live bytes are counted after a collection,
each second. Prints JSON: bytes after the start, the peak, and what was live each minute.
"""

import gc
import sys

gc.collect()
EMPTY = gc.mem_alloc()
if sys.argv[3].endswith(".romfs"):
    import vfs

    with open(sys.argv[3], "rb") as f:
        image = f.read()
    vfs.mount(vfs.VfsRom(image), "/rom")
    sys.path.append("/rom")
else:
    sys.path.append(sys.argv[3])

import time

import flash
import machine

FRAME = bytes.fromhex("424d001c00000008000800000008000800d20046002d001e00000000970002c5")
CLIMATE = b"\x66\x66\x93\x66\x66\x93"


class Dust:
    """Answers each request with one frame."""

    def __init__(self):
        self._due = None

    def write(self, data):
        if data[2] == 0xE2:
            self._due = time.ticks_add(time.ticks_ms(), 40)

    def read(self):
        if self._due is None or time.ticks_diff(time.ticks_ms(), self._due) < 0:
            return None
        self._due = None
        return FRAME


class Climate:
    """Answers at once."""

    def there(self):
        return True

    def write(self, data):
        pass

    def read(self, n):
        return CLIMATE[:n]


for number in (1, 2):
    machine.BENCH["uart", number] = Dust()
machine.BENCH["i2c", 0, 0x44] = Climate()
machine.BENCH["rtc",] = True


class Board:
    NAME, PERIOD_S, SHT31_ADDRESS = "host", 5, 0x44
    PINS = (
        ("a_tx", 1, "", ""), ("a_rx", 2, "", ""), ("b_tx", 3, "", ""), ("b_rx", 4, "", ""), ("d", 5, "", ""),
        ("c", 6, "", ""),
    )  # fmt: skip
    UARTS = (("a", 1, "a_tx", "a_rx"), ("b", 2, "b_tx", "b_rx"))
    I2C = (0, "d", "c")


def live():
    gc.collect()
    return gc.mem_alloc()


device = flash.ImageDevice(sys.argv[1] + ".img", 524288)
OWN = live() - EMPTY  # the stand-ins, and what the interpreter has of a ROM file system in RAM

import asyncio

import vfs
from lichen import settings
from lichen.node import Node


async def main(path, seconds):
    vfs.VfsLfs2.mkfs(device)
    vfs.mount(vfs.VfsLfs2(device), "/flash")
    node = Node(Board, settings.load(path), "/flash", "/none")
    for seq in range(1, 601):  # a backlog of ten hours
        node.keeper._ring.append(
            [seq, seq * 60, None, 0, 60, 12, 0, 83, 83, 1521, 12, 0, 79, 79, 1498, 12, 0, 2130, 4710]
        )
    built = live()
    node.start()
    peak = 0
    minutes = []
    for second in range(seconds):
        await asyncio.sleep_ms(1000)
        now = live()
        peak = max(peak, now)
        if second % 60 == 30:
            minutes.append(now - OWN)
    sent = 600 - node.ring.pending
    out = {"built": built - OWN, "peak": peak - OWN, "minutes": minutes, "sent": sent, "rows": node.sampler.rows}
    print('{"own":%d%s}' % (OWN, "".join([',"%s":%s' % pair for pair in out.items()])))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
