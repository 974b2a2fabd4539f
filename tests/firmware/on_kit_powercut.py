"""Runs inside MicroPython: power goes at every write and erase of the kit's flash, torn in three ways; nothing is lost.

argv: seed, stride (1: every point). A history of ring, configuration and diary is recorded once, operation by
operation; then for each point the flash is rebuilt up to there, mounted, and asked what it kept. Prints JSON.
"""

import json
import random
import sys

import vfs
from flash_chip import Chip, erase, program, tear
from lichen import diary, ring, settings
from lichen.ring import Ring

BLOCKS = 24
COLUMNS = (("seq", "up", "t", "q", "dt", "pm_n", "temp"), ("seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1"))
WAYS = ("before", "half", "bits")
ring.SEGMENT = 1000  # so that files change often
LIMIT = 8 * (ring.SEGMENT + 64)


def row(boot, seq):
    """What a row of that boot says."""
    width = len(COLUMNS[boot % 2])
    return [seq, seq * 60, None if seq % 5 == 0 else 1800000000 + seq, 1, 60, 12, boot % 100 * seq % 9000, seq][:width]


def config(n):
    return '{"kit":"k1","board":"host","host":"192.0.2.%d","rev":%d}' % (n % 250, n)


class History:
    """Events in order, each with the number of operations before it."""

    def __init__(self, chip):
        self._chip = chip
        self.events = []

    def note(self, kind, *what):
        self.events.append((self._chip.count, kind, what))


def live(history, steps):
    """A life of several boots on the mounted flash."""
    boot = 0
    r = None
    revision = 0
    for step in range(steps):
        if step % 70 == 0:
            if r:
                r._end()
            boot = 0xFFFFFFF0 + step // 70
            history.note("boot", boot)
            r = Ring("/f/ring", boot, COLUMNS[boot % 2], LIMIT)
            r.on_drop = lambda b, first, last: history.note("gone", b, first, last)
            history.note("booted", boot, r.boot_number)
            seq = 0
        if step % 45 == 10:
            revision += 1
            history.note("config", revision)
            settings.save("/f/config.json", config(revision))
            history.note("configured", revision)
        if step % 90 == 50:
            diary.Diary("/f/diary.json").note("crash %d" % step)
        if step % 17 == 16:
            b = random.choice(r.boots())
            to = random.randint(r.first(b), r.last(b))
            history.note("gone", b, 1, to)
            r.free(b, to)
            if random.getrandbits(1):
                r.mark()
        if step % 61 == 33:
            b = r.boots()[0]
            first, last = r.first(b), min(r.last(b), r.first(b) + 9)
            r.put_aside(b, last)
            history.note("aside", b, first, last)
        if step % 122 == 99 and r.asides():
            b, first, last = r.asides()[0]
            history.note("gone", b, first, last)
            r.settle(b, first, last)
        seq += 1
        history.note("append", boot, seq)
        r.append(row(boot, seq))
        history.note("kept", boot, seq)
    r._end()


def expect(events, k):
    """(rows that must be there, that may be, set-aside ranges, least and most revision, boots) at a cut in op k."""
    must, may, asides, gone = set(), set(), [], set()
    least = most = boots = 0
    for count, kind, what in events:
        if count > k:
            break
        if kind == "append":
            may.add(what)
        elif kind == "kept":
            must.add(what)
        elif kind == "gone":
            boot, first, last = what
            held = [a for a in asides if a[0] == boot and not (a[1] >= first and a[2] <= last)]
            for seq in range(first, last + 1):
                if not any([a[1] <= seq <= a[2] for a in held]):
                    gone.add((boot, seq))
            asides = [a for a in asides if a[0] != boot or a in held or first == 1]
        elif kind == "aside":
            asides.append(what)
        elif kind == "config":
            most = what[0]
        elif kind == "configured":
            least = what[0]
        elif kind == "booted":
            boots = what[1]
    return must - gone, may, asides, least, most, boots


def check(image, events, k, scratch):
    """Mounts a copy and compares; returns the number of rows that had to be there."""
    scratch[:] = image
    vfs.mount(vfs.VfsLfs2(Chip(BLOCKS, scratch)), "/g")
    try:
        must, may, asides, least, most, boots = expect(events, k)
        try:
            found = settings.load("/g/config.json")["rev"]
        except settings.ConfigError:
            found = 0
        assert least <= found <= most, ("config", found, least, most)
        diary.Diary("/g/diary.json")
        r = Ring("/g/ring", 5, COLUMNS[1], LIMIT)
        assert r.boot_number > boots, ("boots", r.boot_number, boots)
        there = set()
        held = {s.boot: s for s in r._segments}
        for boot in held:
            for got in r.read(boot, 1, 100000):
                assert got == row(boot, got[0]), ("wrong", boot, got)
                there.add((boot, got[0]))
        assert not must - there, ("lost", sorted(must - there)[:5])
        assert not there - may, ("invented", sorted(there - may)[:5])
        known = r.asides()
        for boot, first, last in asides:
            missing = [s for s in range(first, last + 1) if (boot, s) in must]
            assert not missing or any([a[0] == boot and a[1] <= missing[0] and a[2] >= last for a in known]), ("aside",)
        for seq in range(1, 4):
            r.append(row(5, seq))
        assert list(r.read(5, 1, 9)) == [row(5, s) for s in range(1, 4)]
        r._end()
        return len(must)
    finally:
        vfs.umount("/g")


def main(seed, stride, steps=420):
    random.seed(seed)
    chip = Chip(BLOCKS)
    vfs.VfsLfs2.mkfs(chip)
    image = bytearray(chip.data)
    chip.log, chip.count = [], 0
    vfs.mount(vfs.VfsLfs2(chip), "/f")
    history = History(chip)
    live(history, steps)
    vfs.umount("/f")
    scratch = bytearray(len(image))
    cuts = rows = 0
    lost = []
    phase = seed % stride
    for k, op in enumerate(chip.log):
        if k % stride == phase:
            for way in WAYS:
                torn = bytearray(image)
                tear(torn, op, way)
                cuts += 1
                try:
                    rows += check(torn, history.events, k, scratch)
                except (AssertionError, OSError, ValueError) as e:
                    lost.append((k, way, repr(e)[:120]))
        block, off, data = op
        if data is None:
            erase(image, block)
        else:
            program(image, block, off, data)
    assert image == chip.data
    print(json.dumps({"points": len(chip.log), "cuts": cuts, "rows": rows, "failed": lost[:20], "n_failed": len(lost)}))


main(int(sys.argv[1]), int(sys.argv[2]))
