"""Runs inside MicroPython (64 and 32 bit): the pure parts of the node on the interpreter they are meant for.

argv: folder with golden messages. Prints the names of what passed; an exception fails the test that started it.
"""
# ruff: noqa: FURB192, I001, RUF015

import json
import os
import random
import sys

import vfs

from drivers import pms, sht31
from lichen import about, mqtt, wire
from lichen.clock import Clock, civil, epoch
from lichen.ring import Ring
from lichen.meter import mean

FRAME = bytes.fromhex("424d001c00000008000800000008000800d20046002d001e00000000970002c5")
VALUES = (0, 8, 8, 0, 8, 8, 0xD2, 0x46, 0x2D, 0x1E, 0, 0)
DIAG = (
    "boot", "up", "heap_free", "heap_block", "rssi", "brownouts", "ring_used", "ring_size", "ring_dropped", "set_aside",
    "bad_frames", "lag_ms",
)  # fmt: skip
COLUMNS = ("seq", "up", "t", "q", "dt", "temp")


def parser():
    """A captured frame, every corruption of one byte, garbage, replies."""
    for step in (1, 3, 32):
        p = pms.Parser()
        got = []
        for i in range(0, 32, step):
            got += p.feed(FRAME[i : i + step])
        assert got == [VALUES], got
    for i in range(32):
        for bit in range(8):
            bad = bytearray(FRAME)
            bad[i] ^= 1 << bit
            p = pms.Parser()
            assert [f for f in p.feed(bytes(bad) + FRAME + FRAME) if len(f) == 12] == [VALUES, VALUES]
    reply = b"\x42\x4d\x00\x04\xe4\x00\x01\x77"
    p = pms.Parser()
    assert p.feed(b"\x00\x42BM\x42" + reply + b"\x42" + FRAME) == [b"\xe4\x00", VALUES]
    got = []
    for byte in b"noise" + FRAME:
        got += p.feed(byte)
    assert got == [VALUES]


def climate():
    """CRC vectors and rounding."""
    assert sht31.crc8(b"\xbe\xef") == 0x92 and sht31.crc8(b"\x03\x00") == 0xAC and sht31.crc8(b"\x00\x00") == 0x81
    assert sht31.decode(b"\x00\x00\x81\x00\x00\x81") == (-4500, 0)
    full = b"\xff\xff" + bytes((sht31.crc8(b"\xff\xff"),))
    assert sht31.decode(full + full) == (13000, 10000)
    assert sht31.decode(b"\x00\x00\x81\x00\x00\x80") is None


def arithmetic():
    """Means and dates by integers."""
    assert mean(25, 10, 2) == 125 and mean(5, 1, 2) == 3 and mean(-5, 1, 2) == -2 and mean(-7, 1, 2) == -3
    assert mean(0, 10, 0) is None
    assert epoch(1970, 1, 1, 0, 0, 0) == 0 and epoch(2024, 2, 29, 12, 30, 5) == 1709209805
    for t in (0, 951782399, 951782400, 1709209805, 4102444799):
        assert epoch(*civil(t)) == t


class _Rtc:
    def __init__(self, value):
        self.value = value

    def datetime(self, value=None):
        if value:
            self.value = value
        return self.value


def clock():
    """Garbage is no clock; a trusted time sets it, an early one does not."""
    floor = 1700000000
    assert Clock(_Rtc((2000, 25, 40, 0, 0, 0, 0, 0)), floor).quality == 0
    assert Clock(_Rtc((2020, 1, 1, 0, 0, 0, 0, 0)), floor).quality == 0
    assert Clock(_Rtc((2096, 1, 1, 0, 0, 0, 0, 0)), floor).quality == 0
    c = Clock(_Rtc((2024, 2, 29, 3, 12, 30, 5, 0)), floor)
    assert c.quality == 1 and c.at(60) == 1709209865
    assert not c.set(floor - 1, 0) and c.quality == 1
    assert c.set(1800000000, 600) and c.quality == 2 and c.at(0) in (1800000000, 1800000001)
    before = c.at(0)
    assert c.set(1800000000, 700) and c.at(0) == before  # jitter does not move the whole seconds


def packets():
    """The decoder gives the same events whatever the pieces; what is forbidden is refused by its type."""
    stream = b"\x20\x02\x00\x00\x90\x03\x00\x01\x01\xd0\x00" + mqtt.publish("a/b", 200, 1, 7) + b"x" * 200
    stream += mqtt.publish("t", 0) + mqtt.puback(65535)
    whole = mqtt.Decoder().feed(stream)
    assert [e[0] for e in whole] == ["connack", "suback", "pingresp", "publish", "publish", "puback"]
    assert whole[3] == ("publish", "a/b", b"x" * 200, 1, 7) and whole[5] == ("puback", 65535)
    for step in (1, 2, 5):
        d = mqtt.Decoder()
        got = []
        for i in range(0, len(stream), step):
            got += d.feed(stream[i : i + step])
        assert got == whole
    forbidden = (
        b"\x30\xff\xff\xff\xff\x01",
        b"\x32\x05\x00\x01a\x00\x00",
        b"\x34\x06\x00\x01a\x00\x01b",
        b"\x30\x03\x00\x05a",
    )
    for bad in forbidden + (b"\x41\x02\x00\x01", b"\x40\x01\x00", b"\x00\x00", b"\x30\x03\x00\x01\xff"):
        try:
            mqtt.Decoder().feed(bad)
            raise AssertionError(bad)
        except mqtt.ProtocolError:
            pass
    large = mqtt.publish("lichen/v1/k/cmd", 9000, 1, 77) + b"x" * 9000 + mqtt.puback(3)
    large += mqtt.publish("a", 70000) + b"y" * 70000 + mqtt.puback(4)
    for step in (1, 7, 1024, len(large)):
        d = mqtt.Decoder()
        got = []
        for i in range(0, len(large), step):
            got += d.feed(large[i : i + step])
        assert got == [("oversized", 1, 77), ("puback", 3), ("oversized", 0, 0), ("puback", 4)], got


def _batch(data):
    view, n, last = wire.batch(bytearray(16384), data["boot"], data["first"], data["cols"], data["rows"])
    assert last == data["rows"][-1][data["cols"].index("seq")] or data["cols"][0] != "seq"
    return bytes(view), n


def messages():
    """What the node writes equals the golden messages; what it reads it understands, or ignores."""
    folder = sys.argv[1]
    if not folder:
        return
    for name in os.listdir(folder + "/valid"):
        with open(folder + "/valid/" + name, "rb") as f:
            text = f.read()
        data = json.loads(text)
        kind = name.split(".")[0]
        if kind in ("obs", "backlog") and name != "obs.unknown_key.json":
            assert _batch(data) == (text, len(data["rows"])), name
        elif kind == "about":
            sensors = [(s["type"], s["serial"], s["batch"], s["channels"]) for s in data["sensors"]]
            cols = [(c["name"], c["unit"], c["per_unit"]) for c in data["cols"]]
            fw = data["fw"]
            made = about.message(
                data["kit"], data["board"], fw["version"], fw["hash"], sensors, cols, data["config_rev"], data["boots"]
            )
            assert made == text, name
        elif kind == "diag":
            numbers = [(key, data[key]) for key in DIAG]
            sensors = [(v["name"], v["state"], v["bad"]) for v in data["sensors"]]
            assert wire.diag(numbers, data["reset"], sensors, None) == text, name
        elif kind == "status":
            assert text == (wire.status(data["boot"]) if data["up"] else wire.WILL)
        elif kind == "stored":
            assert wire.receipt(text) == (data["boot"], data["seq"])
        elif kind == "time":
            assert wire.gateway_time(text) == (data["t"], data["ms"], data["sync"])
    for name in os.listdir(folder + "/invalid"):
        with open(folder + "/invalid/" + name, "rb") as f:
            text = f.read()
        if name.split(".")[0] in ("stored", "time"):
            assert wire.receipt(text) is None and wire.gateway_time(text) is None, name


class RamFlash:
    """A block device in RAM."""

    def __init__(self, blocks=64):
        self.data = bytearray(blocks * 4096)

    def readblocks(self, block, buf, off=0):
        at = block * 4096 + off
        buf[:] = self.data[at : at + len(buf)]

    def writeblocks(self, block, buf, off=0):
        at = block * 4096 + (off or 0)
        self.data[at : at + len(buf)] = buf

    def ioctl(self, op, arg):
        return {4: len(self.data) // 4096, 5: 4096}.get(op, 0)


def _row(seq):
    return [seq, seq * 60, None if seq % 3 == 0 else 4000000000 + seq, 1, 60, -(seq % 30000)]


def ring():
    """Re-opening, freeing, a torn tail, a full flash, on littlefs."""
    device = RamFlash()
    vfs.VfsLfs2.mkfs(device)
    vfs.mount(vfs.VfsLfs2(device), "/f")
    r = Ring("/f/ring", 0xFFFFFFF1, COLUMNS)
    for seq in range(1, 1501):
        r.append(_row(seq))
    assert r.pending == 1500 and r.boots() == [0xFFFFFFF1] and len([n for n in os.listdir("/f/ring") if "seg" in n]) > 1
    for seq in range(1, 1501, 100):
        assert list(r.read(0xFFFFFFF1, seq, 100)) == [_row(s) for s in range(seq, seq + 100)]
    r.free(0xFFFFFFF1, 1000)
    assert (r.first(0xFFFFFFF1), r.last(0xFFFFFFF1), r.pending) == (1001, 1500, 500)
    files = len(os.listdir("/f/ring"))
    last = sorted([n for n in os.listdir("/f/ring") if n.endswith(".seg")])[-1]
    r._end()
    with open("/f/ring/" + last, "ab") as f:  # a record cut in the middle
        f.write(b"\x01\x02\x03\x04" * 5)
    r = Ring("/f/ring", 7, COLUMNS + ("rh",))
    assert r.boot_number == 2 and r.first(0xFFFFFFF1) == 1001 and r.last(0xFFFFFFF1) == 1500 and r.pending == 500
    assert r.columns(0xFFFFFFF1) == COLUMNS and list(r.read(0xFFFFFFF1, 1499, 9)) == [_row(1499), _row(1500)]
    r.append(_row(1) + [5])
    assert r.boots() == [0xFFFFFFF1, 7] and list(r.read(7, 1, 5)) == [_row(1) + [5]]
    r.free(0xFFFFFFF1, 1500)
    assert r.boots() == [7] and r.pending == 1 and len(os.listdir("/f/ring")) <= files
    r.free(12345, 3)  # a boot it never had
    for seq in range(2, 15000):  # far more than the flash holds: the oldest give way, nothing is raised
        r.append(_row(seq) + [5])
    assert r.dropped > 0 and r.last(7) == 14999 and r.first(7) == r.dropped + 1
    assert next(r.read(7, r.first(7), 1))[0] == r.first(7)
    r._end()
    vfs.umount("/f")


def damaged():
    """Whatever single byte of a segment rots, every row but that one is kept and nothing is raised; a rotten head costs
    the segment, and the last record counts as torn.
    """
    device = RamFlash()
    vfs.VfsLfs2.mkfs(device)
    vfs.mount(vfs.VfsLfs2(device), "/f")
    r = Ring("/f/ring", 9, COLUMNS)
    for seq in range(1, 21):
        r.append(_row(seq))
    r._end()
    name = [n for n in os.listdir("/f/ring") if n.endswith(".seg")][0]
    with open("/f/ring/" + name, "rb") as f:
        good = f.read()
    layout = r._segments[0].layout
    start, size = layout.start, layout.size
    for _ in range(60):
        at = random.randrange(len(good))
        bad = bytearray(good)
        bad[at] ^= random.randrange(1, 256)
        with open("/f/ring/" + name, "wb") as f:
            f.write(bad)
        r = Ring("/f/ring", 10, COLUMNS)
        rows = list(r.read(9, 1, 99))
        hit = (at - start) // size + 1 if at >= start else 0
        assert rows == [_row(s) for s in range(1, 21) if hit and s != hit], at
        if hit:
            assert r.rotten == (hit != 20) and r.first(9) == (2 if hit == 1 else 1)
    vfs.umount("/f")


for part in (parser, climate, arithmetic, clock, packets, messages, ring, damaged):
    part()
    print(part.__name__)
