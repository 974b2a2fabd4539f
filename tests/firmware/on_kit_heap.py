"""Runs inside MicroPython in real time: what a node takes of the heap, stand-ins for the board excluded.

argv: configuration; seconds (0: until the backlog is sent); rows put into the ring; a ROM file system's image, or
nothing where the built firmware is the working folder (the paths of its modules, which the heap holds, are then as
short as on a board) or frozen; 1 to count after a collection, each 20 ms and before a part that only the start needs is
forgotten, 0 to leave collecting to the interpreter. The stand-ins, which import nothing of the firmware, come first;
what follows is what a board holds from main.py on. Prints JSON.
"""

import gc
import sys

gc.collect()
EMPTY = gc.mem_alloc()

import time

import flash
import machine
import network
from micropython import const

_FRAME = const(
    b"\x42\x4d\x00\x1c\x00\x00\x00\x08\x00\x08\x00\x00\x00\x08\x00\x08"
    b"\x00\xd2\x00\x46\x00\x2d\x00\x1e\x00\x00\x00\x00\x97\x00\x02\xc5"
)
_CLIMATE = const(b"\x66\x66\x93\x66\x66\x93")


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
        return _FRAME


class Climate:
    """Answers at once."""

    def there(self):
        return True

    def write(self, data):
        pass

    def read(self, n):
        return _CLIMATE[:n]


def live():
    if sys.argv[5] == "1":
        gc.collect()
    return gc.mem_alloc()


def prepare():
    """The board, and the file system with its code; what the interpreter has of a ROM file system in RAM."""
    import vfs

    if sys.argv[4].endswith(".romfs"):
        with open(sys.argv[4], "rb") as f:
            rom = f.read()
        vfs.mount(vfs.VfsRom(rom), "/rom")
        sys.path.append("/rom")
    else:
        sys.path.append("")
    network.WLAN(network.STA_IF)  # imported here, since a board has it in its image
    for number in (0, 1):
        machine.BENCH["uart", number] = Dust()
    machine.BENCH["i2c", 0, 0x44] = Climate()
    machine.BENCH["rtc",] = True
    device = flash.ImageDevice(sys.argv[1] + ".img", 1048576)
    vfs.VfsLfs2.mkfs(device)
    return device


device = prepare()
OWN = live() - EMPTY

import asyncio

import lichen
import vfs
from lichen import start

seen = [0]


def look():
    now = live() - OWN
    seen[0] = max(seen[0], now)
    return now


def forget(*modules, really=lichen.forget):
    """The most that a start needs is what is there before it is given back."""
    look()
    really(*modules)


async def main(path, seconds, rows):
    vfs.mount(vfs.VfsLfs2(device), "/flash")
    lichen.forget = forget
    node = start.build(path, "/flash")
    for seq in range(1, rows + 1):
        node.ring.append([seq, seq * 60, None, 0, 60, 12, 0, 83, 83, 1521, 12, 0, 79, 79, 1498, 12, 0, 2130, 4710])
    built = look()
    held = node.ring.pending
    asyncio.create_task(start.run(node))
    minutes = []
    second = 0
    while second < seconds or (not seconds and node.ring.pending):
        for _ in range(50):
            await asyncio.sleep_ms(20)
            now = look()
        if second % 60 == 30:
            minutes.append(now)
        second += 1
    print('{"own":%d,"built":%d,"peak":%d,"sent":%d,"rows":%d,"minutes":%s}' % (
        OWN, built, seen[0], held - node.ring.pending, node.sampler.rows, minutes))  # fmt: skip


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
