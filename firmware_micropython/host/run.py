"""The host's entry: the node's own files over simulated sensors, in real or (host/discrete on the path) simulated time.

micropython run.py CONFIG.json    keys: see README.md of this folder's parent
"""

import sys

try:
    import pytask
except ImportError:
    pytask = None  # real time
else:
    sys.modules["_asyncio"] = pytask  # the C task queue reads the real tick counter

import asyncio  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402
import time  # noqa: E402
from signal import Signal  # noqa: E402

import flash  # noqa: E402
import machine  # noqa: E402
import sensors  # noqa: E402

from lichen.mqtt import MqttError  # noqa: E402
from lichen.node import Node  # noqa: E402

DRAIN_SPEED = 20
FLASH = "/flash"


def _follow_writes():
    """Tells select which packets a broker must answer: CONNECT, SUBSCRIBE, PINGREQ and PUBLISH with QoS 1."""
    import asyncio.core
    import asyncio.stream

    pytask.core = asyncio.core
    write = asyncio.stream.Stream.write

    def noticed(stream, packet):
        head = packet[0]
        if head & 0xF0 in (0x10, 0x80, 0xC0) or head & 0xF6 == 0x32:
            select.answer_due()
        return write(stream, packet)

    asyncio.stream.Stream.write = noticed


def _bench(config, board):
    signal = Signal(config["signal"])
    for channel, number, _, _ in board.UARTS:
        machine.BENCH["uart", number] = sensors.PmsSim(signal, channel)
    machine.BENCH["i2c", board.I2C[0], board.SHT31_ADDRESS] = sensors.Sht31Sim(signal)
    machine.BENCH["rtc",] = config.get("rtc", True)


class Ledger:
    """CSV of every row appended to the ring, flushed per row; null is an empty cell."""

    def __init__(self, path, node):
        self._file = open(path, "a")  # noqa: SIM115  open as long as the kit lives
        self._head = "%s,%d" % (node.config["kit"], node.boot)
        if not os.stat(path)[6]:
            self._file.write("kit,boot," + ",".join(node.sampler.columns()) + "\n")
            self._file.flush()

    def write(self, row):
        """One line."""
        self._file.write(self._head + "".join(["," if v is None else ",%d" % v for v in row]) + "\n")
        self._file.flush()


def _complain(error):
    if not isinstance(error, (OSError, MqttError)):
        sys.print_exception(error, sys.stderr)


def _report(node):
    t = int(time.time())
    print(
        '{"kit":%s,"boot":%d,"t":%d,"seq":%d,"pending":%d}'
        % (json.dumps(node.config["kit"]), node.boot, t, node.sampler.seq, node.ring.pending)
    )


async def _wait_until(end, node, failed):
    """Sleeps to that second (for ever without one), with a line on stdout each hour; looks up each minute."""
    hour = time.time() // 3600
    while end is None or time.time() < end:
        left = 60 - time.time() % 60 if end is None else min(60 - time.time() % 60, end - time.time())
        await asyncio.sleep_ms(max(1, int(left * 1000)))
        if failed.done():
            await failed  # its exception ends the program
        if time.time() // 3600 != hour:
            hour = time.time() // 3600
            _report(node)


async def main(config):
    """One power-on."""
    board = getattr(__import__("boards." + config["board"]), config["board"])
    _bench(config, board)
    flash.mount(config["flash"], config.get("flash_bytes") or 2097152, FLASH)
    node = Node(board, config, FLASH, __file__.rsplit("/", 2)[0] if "/" in __file__ else "..")
    if config.get("ledger"):
        node.on_row = Ledger(config["ledger"], node).write
    node.publisher.on_error = _complain
    sampling, publishing = node.start()
    await _wait_until(config.get("end"), node, sampling)
    await asyncio.sleep_ms(1)  # the sample due at the end itself has begun
    node.sampler.stop()
    await asyncio.sleep_ms(1000)  # and is finished
    if config.get("at_end") == "drain" and publishing:
        if pytask:
            time.set_speed(min(time.SPEED or DRAIN_SPEED, DRAIN_SPEED))
        while node.ring.pending:
            await asyncio.sleep_ms(1000)
        node.ring.mark()
        node.publisher.close()
        await publishing
    _report(node)


if __name__ == "__main__":
    if pytask:
        _follow_writes()
    with open(sys.argv[1]) as f:
        asyncio.run(main(json.load(f)))
