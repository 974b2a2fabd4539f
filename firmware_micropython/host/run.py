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
import gc  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import select  # noqa: E402
import time  # noqa: E402
from signal import Signal  # noqa: E402

import faults  # noqa: E402
import flash  # noqa: E402
import machine  # noqa: E402
import registers  # noqa: E402
import sensors  # noqa: E402

from lichen import settings  # noqa: E402
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
        head = 0 if isinstance(packet, memoryview) else packet[0]  # a view is a piece of a payload
        if head & 0xF0 in (0x10, 0x80, 0xC0) or head & 0xF6 == 0x32:
            select.answer_due()
        return write(stream, packet)

    asyncio.stream.Stream.write = noticed


def _bench(config, board):
    signal = Signal(config["signal"])
    for channel, number, _, _ in board.UARTS:
        machine.BENCH["uart", number] = sensors.PmsSim(signal, channel, faults.of(config, "pms_" + channel))
    kinds = {"sht31": (board.SHT31_ADDRESS, sensors.Sht31Sim)}
    kinds["bme280"] = 0x76, registers.Bme280Sim
    kinds["ads1115"] = 0x48, registers.Ads1115Sim
    for name in ["sht31"] + (config.get("more_sensors") or []):
        address, kind = kinds[name]
        machine.BENCH["i2c", board.I2C[0], address] = kind(signal, faults.of(config, name))
    machine.BENCH["rtc",] = config.get("rtc", True)
    machine.cause = getattr(machine, config.get("cause") or "PWRON_RESET")


class Ledger:
    """CSV of every row appended to the ring, flushed per row; null is an empty cell. What a full ring gave up stands
    beside it, in PATH.dropped: kit,boot,first,last.
    """

    def __init__(self, path, node):
        self._file = open(path, "a")  # noqa: SIM115  open as long as the kit lives
        self._path = path
        self._kit = node.config["kit"]
        self._head = "%s,%d" % (self._kit, node.boot)
        if not os.stat(path)[6]:
            self._file.write("kit,boot," + ",".join(node.sampler.columns()) + "\n")
            self._file.flush()

    def write(self, row):
        """One line."""
        self._file.write(self._head + "".join(["," if v is None else ",%d" % v for v in row]) + "\n")
        self._file.flush()

    def dropped(self, boot, first, last):
        """One line of the other file."""
        with open(self._path + ".dropped", "a") as f:
            f.write("%s,%d,%d,%d\n" % (self._kit, boot, first, last))


def _report(node):
    ring, sampler = node.ring, node.sampler
    numbers = (
        ("boot", node.boot), ("t", int(time.time())), ("seq", ring.last(node.boot)), ("pending", ring.pending),
        ("holes", sampler.holes), ("late_ms", sampler.late_ms), ("lost", node.keeper.lost), ("dropped", ring.dropped),
        ("set_aside", ring.set_aside), ("heap", _heap()), ("connects", node.publisher.connects),
        ("connected", 1 if node.publisher._down else 0),
        ("asleep_ms", node.power.asleep_ms if node.power else 0),
    )  # fmt: skip
    text = "".join([',"%s":%d' % pair for pair in numbers])
    states = [m.state() for m in sampler.meters]
    print('{"kit":%s%s,"sensors":%s}' % (json.dumps(node.config["kit"]), text, json.dumps(states)))


def _heap():
    gc.collect()
    return gc.mem_alloc()


async def _wait_until(end, node, failed):
    """Sleeps to that second (for ever without one), with a line on stdout each hour; looks up each minute."""
    hour = time.time() // 3600
    while end is None or time.time() < end:
        left = 60 - time.time() % 60 if end is None else min(60 - time.time() % 60, end - time.time())
        await asyncio.sleep_ms(max(1, int(left * 1000)))
        for task in failed:
            if task.done():
                await task  # its exception ends the program
        for wdt in machine.watchdogs:
            if time.ticks_diff(time.ticks_ms(), wdt.fed_ms) > wdt.timeout:
                print("the watchdog bites: " + str(node.watch.bitten))
                machine.reset()
        if time.time() // 3600 != hour:
            hour = time.time() // 3600
            _report(node)


async def main(config):
    """One power-on."""
    config = dict(dict(settings.DEFAULTS, ntp=False), **config)  # the host's own time server knows nothing of this time
    board = getattr(__import__("boards." + config["board"]), config["board"])
    _bench(config, board)
    flash.mount(config["flash"], config.get("flash_bytes") or 2097152, FLASH, config.get("erase_ms") or 0)
    node = Node(board, config, FLASH, __file__.rsplit("/", 2)[0] if "/" in __file__ else "..")
    if config.get("ledger"):
        ledger = Ledger(config["ledger"], node)
        node.on_row, node.ring.on_drop = ledger.write, ledger.dropped
    if config.get("outages"):
        asyncio.create_task(faults.Weather(config["outages"]).run(node.publisher))
    sampling, publishing, others = node.start()
    await _wait_until(config.get("end"), node, [sampling] + others)
    await asyncio.sleep_ms(1)  # the sample due at the end itself has begun
    node.sampler.stop()
    await asyncio.sleep_ms(1500)  # and is finished, its row on flash
    while node.keeper.waiting():
        await asyncio.sleep_ms(1000)
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
