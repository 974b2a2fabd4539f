"""Runs inside MicroPython (64 and 32 bit) with the stand-ins, in simulated time: sensors, autodetection, faults, clock,
sampling in cycles, watchdog, diary, configuration.

argv: a folder to write to. Prints the names of what passed; an exception fails the test that started it.
"""

import sys

import pytask

sys.modules["_asyncio"] = pytask

import asyncio
import asyncio.core
import gc
import json
import os
import struct
import time

import machine
import registers
import sensors
import vfs
from drivers import ads1115, bme280, pms, sht31
from faults import Faults
from flash_chip import Chip
from lichen import detect, diary, dns, settings, sntp, start, udp
from lichen.cause import reset_cause
from lichen.clock import Clock
from lichen.cycles import Cycles
from lichen.keeper import Keeper
from lichen.memory import largest_block
from lichen.meter import Meter
from lichen.mqtt import MqttError
from lichen.publisher import Publisher
from lichen.ring import Ring
from lichen.sampler import Sampler
from lichen.watch import Watch
from lichen.window import Window

FOLDER = sys.argv[1]
QUEUE, NOISY_PERMILLE, SILENT_AFTER, ZERO_S, LIMIT_MS = 32, 100, 12, 600, 360_000  # as the firmware has them
pytask.core = asyncio.core


class Air:
    """A signal that holds for ever."""

    row = {
        "cf1_a": 1234,
        "atm_a": 1100,
        "n03_a": 52300,
        "cf1_b": 1300,
        "atm_b": 1200,
        "n03_b": 50000,
        "temp": 2134,
        "rh": 4567,
    }

    def at(self, t):
        return [self.row.get(name) for name in self._names]

    def pick(self, names):
        self._names = getattr(self, "_names", [])
        out = []
        for name in names:
            if name in self.row:
                self._names.append(name)
                out.append(len(self._names) - 1)
            else:
                out.append(None)
        return out


class Board:
    NAME, PERIOD_S, SHT31_ADDRESS, PMS_WARMUP_S = "test", 5, 0x44, 0
    PINS = (("tx", 1, "", ""), ("rx", 2, "", ""), ("sda", 5, "", ""), ("scl", 6, "", ""))
    UARTS = (("a", 1, "tx", "rx"),)
    I2C = (0, "sda", "scl")


def hang(*names, faults=()):
    """Sensors on the bench."""
    machine.BENCH.clear()
    kinds = {
        "sht31": (("i2c", 0, 0x44), sensors.Sht31Sim), "bme280": (("i2c", 0, 0x76), registers.Bme280Sim),
        "ads1115": (("i2c", 0, 0x48), registers.Ads1115Sim),
    }  # fmt: skip
    for name in names:
        spans = Faults([f[1:] for f in faults if f[0] == name])
        if name == "pms":
            machine.BENCH["uart", 1] = sensors.PmsSim(Air(), "a", spans)
        else:
            place, kind = kinds[name]
            machine.BENCH[place] = kind(Air(), spans)


def sample(sensor):
    """One sample, waited for."""
    sensor.trigger()
    until = time.ticks_add(time.ticks_ms(), sensor.TIMEOUT_MS)
    while True:
        time.sleep_ms(5)
        values = sensor.poll()
        if values is not None or time.ticks_diff(time.ticks_ms(), until) > 0:
            return values


def bosch():
    """The data sheet's worked example, and its humidity limits."""
    c = bme280.Calibration(registers.LOW, registers.HIGH)
    fine = c.fine(519888)
    assert fine == 128422 and (fine * 5 + 128) >> 8 == 2508
    assert c.pressure(415148, fine) == 100653
    assert c.humidity(0, fine) == 0 and c.humidity(65535, fine) == 10000
    assert [c.humidity(h, fine) for h in range(0, 65536, 4096)] == sorted(
        [c.humidity(h, fine) for h in range(0, 65536, 4096)]
    )
    skipped = b"\x80\x00\x00\x80\x00\x00\x80\x00"
    assert bme280.decode(c, skipped) is None
    high = bytes((0x6A, 0x01, 0x00, 0x13, 0x29, 0x03, 0x1E))
    assert bme280.Calibration(registers.LOW, high).h[1:5] == (362, 0, 0x139, 50)
    high = bytes((0x6A, 0x01, 0x00, 0xF3, 0xF9, 0x83, 0x1E))  # negative H4 and H5
    assert bme280.Calibration(registers.LOW, high).h[3:5] == (-199, -1985)


def electrodes():
    """Microvolts of a two's complement word; saturation is no value."""
    assert ads1115.microvolts(b"\x1f\xff") == 8191 * 125 and ads1115.microvolts(b"\xff\xff") == -125
    assert ads1115.microvolts(b"\x7f\xff") is None and ads1115.microvolts(b"\x80\x00") is None


def drivers():
    """Each driver measures what its simulated chip measures, and says what is wrong when it is."""
    hang("pms", "sht31", "bme280", "ads1115")
    i2c = machine.I2C(0)
    climate, weather, gas = sht31.Sht31(i2c), bme280.Bme280(i2c), ads1115.No2B43f(i2c)
    assert climate.check() and weather.check() and gas.check()
    assert sample(climate) == (2134, 4567)
    temp, rh, pressure = sample(weather)
    assert abs(temp - 1934) <= 1 and abs(rh - 4467) <= 2 and 101324 <= pressure <= 101350
    we, ae = sample(gas)
    assert 271000 <= we <= 272300 and 231000 <= ae <= 232300
    dust = pms.Pms(machine.UART(1), ("pm25_cf1", "n03"))
    dust.start()
    time.sleep_ms(50)
    assert sample(dust) in ([12, 523], [13, 523])
    dust.sleep()
    time.sleep_ms(20)
    assert sample(dust) is None
    dust.wake()
    time.sleep_ms(20)
    dust.start()
    time.sleep_ms(50)
    assert sample(dust)
    for sensor in (climate, weather, gas, dust):
        sensor.sleep()
        sensor.wake()
        sensor.give_up()
    hang()
    for sensor in (climate, weather, gas):
        assert not sensor.check() and sample(sensor) is False
    assert sample(pms.Pms(machine.UART(1), pms.NAMES.split())) is None


def detection():
    """What is wired is always there, what is found is added, and both are said."""
    hang("pms", "sht31", "bme280", "ads1115")
    machine.BENCH["i2c", 0, 0x3C] = registers.Ads1115Sim(Air())  # a display
    machine.BENCH["i2c", 0, 0x45] = sensors.Sht31Sim(Air())
    meters, report = detect.find(Board, ("pm25_cf1",))
    assert [m.name for m in meters] == ["pms_a", "sht31", "ads1115", "bme280"], report
    columns = []
    for meter in meters:
        columns += meter.columns()
    assert columns == [
        "pm_n", "pm_bad", "pm25_cf1", "env_n", "env_bad", "temp", "rh", "gas_n", "gas_bad", "no2_we", "no2_ae",
        "env_n_b", "env_bad_b", "temp_amb", "rh_amb", "pressure",
    ], columns  # fmt: skip
    text = "\n".join(report)
    assert "0x3c: unknown, not used" in text and "0x45: a second sht31, not used" in text
    assert "0x44: sht31 wired, answers" in text and "0x76: bme280 found, answers" in text
    hang()
    meters, report = detect.find(Board, ("pm25_cf1",))
    assert [m.name for m in meters] == ["pms_a", "sht31"] and "0x44: sht31 wired, does not answer" in report[1]
    machine.BENCH["i2c", 0, 0x76] = registers.Ads1115Sim(Air())  # something else at a known address
    meters, report = detect.find(Board, ("pm25_cf1",))
    assert [m.name for m in meters] == ["pms_a", "sht31"] and "not as a bme280" in report[-1], report


class Fake:
    """A sensor for the meter."""

    PREFIX, TYPE, STUCK_S, WARMUP_S, TIMEOUT_MS = "pm", "X", 1800, 30, 0
    channels = [("v", 1, "x")]

    def __init__(self):
        self.bad = 0
        self.zero = False


def states():
    """The words for a sensor, each after its time and gone when it is well again."""
    sensor = Fake()
    m = Meter(sensor, "x")
    for up in range(5, 5 * SILENT_AFTER, 5):
        m.add(None, up)
    assert m.state() == "ok" or m.state() == "warming"
    m.add(None, 60)
    assert m.state() == "absent"
    m.add([1], 65)
    assert m.state() == "ok" and m.n == 1 and m.bad == SILENT_AFTER
    for up in range(70, 70 + 5 * SILENT_AFTER, 5):
        m.add(False, up)
    assert m.state() == "silent"
    for up in range(200, 2000, 5):
        m.add([7], up)
    assert m.state() == "ok"
    m.add([7], 2000 + 1800)
    assert m.state() == "stuck"
    m.add([8], 3805)
    assert m.state() == "ok"
    sensor.zero = True
    m.add([0], 3810)
    m.add([1], 3810 + ZERO_S)
    assert m.state() == "zero"
    sensor.zero = False
    m.add([3], 5000)
    assert m.state() == "ok"
    for i in range(400):
        if i % 7 == 0:
            sensor.bad += 1
            m.add(False, 5000 + i)
        else:
            m.add([i], 5000 + i)
    assert m.state() == "noisy" and m._noise >= NOISY_PERMILLE
    for i in range(600):
        m.add([i], 6000 + i)
    assert m.state() == "ok"
    fresh = Meter(Fake(), "x")
    fresh.add([1], 10)
    assert fresh.state() == "warming" and (fresh.n, fresh.bad) == (0, 1)


class Rtc:
    def __init__(self, *values):
        self.values = values

    def datetime(self, value=None):
        if self.values is None:
            raise OSError(5)
        if value:
            self.values = value
        return self.values


def clocks():
    """Steps move only what comes; what is better than nothing gives way; a broken RTC stops nothing."""
    floor = 1700000000
    c = Clock(Rtc(2000, 1, 1, 0, 0, 0, 0, 0), floor)
    assert c.quality == 0 and c.at(5) is None
    assert c.set(1800000000, 0, 1) and c.quality == 1
    assert c.set(1900000000, 0, 1) and c.at(0) <= 1800000001  # no better than what it has
    assert c.set(1900000000, 0) and c.quality == 2 and c.at(0) > 1899000000
    assert not c.set(floor - 1, 0)
    assert c._rtc.values[:3] == (2030, 3, 17)
    broken = Rtc(2026, 1, 1, 0, 0, 0, 0, 0)
    broken.values = None
    assert Clock(broken, floor).quality == 0
    assert Clock(broken, floor).set(1800000000, 0)
    assert Clock(Rtc(1, 2, 3), floor).quality == 0


class Steady:
    """A clock for the sampler that a script moves."""

    quality = 2

    def __init__(self):
        self.offset = 1800000000
        self._start = time.ticks_ms()

    def up_ms(self):
        return time.ticks_diff(time.ticks_ms(), self._start)

    def at(self, up):
        return up + self.offset


class Quick(Fake):
    TIMEOUT_MS = 0
    WARMUP_S = 0
    n = 0

    def nothing(self):
        pass

    start = sleep = wake = trigger = give_up = nothing

    def poll(self):
        self.n += 1
        return [self.n]


def rows_made(seconds, at=None, cycle_s=0, sensor=None):
    """Rows of a sampler whose clock is moved at those seconds of uptime."""
    clock = Steady()
    out = []
    meters = [Meter(sensor or Quick(), "x")]
    s = Cycles(clock, meters, 10, out.append, cycle_s) if cycle_s else Sampler(clock, meters, 10, out.append)

    async def main():
        task = asyncio.create_task(s.run())
        for up, step in at or ():
            await asyncio.sleep_ms(up * 1000 - clock.up_ms())
            clock.offset += step
        await asyncio.sleep_ms(seconds * 1000 - clock.up_ms())
        s.stop()
        await task

    asyncio.run(main())
    return out, s


def steps():
    """A clock that jumps back and forth reorders nothing and leaves no hole: uptime counts on."""
    made, _ = rows_made(400, ((95, -3600), (200, 86400), (300, -30)))
    ups = [row[1] for row in made]
    assert ups == sorted(ups) and len(made) >= 4
    at = 0
    for row in made:
        assert row[1] == at + row[4] and 30 <= row[4] <= 90
        at = row[1]


def cycles():
    """Fan off between windows, 30 s dropped after it starts, nothing else missing."""

    class Fan(Quick):
        WARMUP_S = 30
        said = ()

        def sleep(self):
            self.said += ("sleep",)

        def wake(self):
            self.said += ("wake",)

    fan = Fan()
    made, s = rows_made(930, (), 300, fan)
    assert [row[4] for row in made] == [300, 300, 300], made
    assert [(row[5], row[6]) for row in made] == [(6, 0)] * 3, made
    assert fan.said[:5] == ("sleep", "wake", "sleep", "wake", "sleep") and s.holes == 0


class Stubborn:
    """A ring that refuses."""

    boot = 1

    def __init__(self):
        self.refuse = 0
        self.rows = []

    def last(self, boot):
        return len(self.rows)

    def append(self, row):
        if self.refuse:
            self.refuse -= 1
            raise OSError(5)
        self.rows.append(list(row))


def keeping():
    """A flash that refuses costs nothing while the queue holds, then the oldest rows, counted, and no number."""
    ring = Stubborn()
    keeper = Keeper(ring, lambda row: None)

    async def main():
        asyncio.create_task(keeper.run())
        ring.refuse = 3
        for i in range(5):
            keeper.put([None, i])
        await asyncio.sleep_ms(60_000)
        assert [row for row in ring.rows] == [[i + 1, i] for i in range(5)] and keeper.errors == 3
        ring.refuse = 10**6
        for i in range(QUEUE + 4):
            keeper.put([None, i])
        await asyncio.sleep_ms(10_000)
        ring.refuse = 0
        await asyncio.sleep_ms(120_000)
        assert keeper.lost == 4 and keeper.waiting() == 0
        assert ring.rows[5:] == [[i + 6, i + 4] for i in range(QUEUE)]

    asyncio.run(main())


def broken_flash():
    """A flash that refuses everything for a while costs no row that it holds, and does not keep a kit from starting."""
    chip = Chip(24)
    vfs.VfsLfs2.mkfs(chip)
    vfs.mount(vfs.VfsLfs2(chip), "/b")
    columns = ("seq", "up", "t", "q", "dt", "temp")
    r = Ring("/b/ring", 1, columns)
    for seq in range(1, 1201):
        r.append([seq, seq, None, 0, 60, 1])

    def refuse():
        raise OSError(5)

    chip.stall = refuse
    for _ in range(20):
        try:
            r.append([1201, 1201, None, 0, 60, 1])
            raise AssertionError("kept")
        except OSError:
            pass
    r.free(1, 100)
    again = Ring("/b/ring", 2, columns)  # it starts, though nothing can be written
    assert again.errors == 1 and again.pending == 1200
    chip.stall = None
    r.append([1201, 1201, None, 0, 60, 1])
    assert r.dropped == 0 and [row[0] for row in r.read(1, 101, 2000)] == list(range(101, 1202))
    r._end()
    vfs.umount("/b")


def patience():
    """Sent again, set aside, tried again and settled, over two boots on one flash."""
    chip = Chip(24)
    vfs.VfsLfs2.mkfs(chip)
    vfs.mount(vfs.VfsLfs2(chip), "/p")
    columns = ("seq", "up", "t", "q", "dt", "temp")
    old = Ring("/p/ring", 1, columns)
    for seq in range(1, 151):
        old.append([seq, seq, None, 0, 60, 1])
    old._end()
    r = Ring("/p/ring", 2, columns)
    w = Window(r, 2)

    def send():
        out = []
        item = w.next()
        while item:
            _, boot, first, count, _ = item
            last = min(r.last(boot), first + count - 1)
            w.sent(boot, last)
            out.append((boot, first, last))
            item = w.next()
        return out

    w.restart()
    assert send() == [(1, 1, 100), (1, 101, 150)] and w.outstanding() == 150
    for _ in range(5):
        assert [w.tick(), w.tick(), w.tick()] == [False, False, True]
        send()
    assert len(r.asides()) == 1 and r.set_aside == 100
    assert w.receipt(1, 150) and not w.receipt(9, 1) and r.boots() == []
    assert not w.tick()
    w.restart()
    r.append([1, 1, None, 0, 60, 1])
    assert send() == [(2, 1, 1)] and w.receipt(2, 1)
    assert w.next()[:4] == (False, 1, 1, 100)
    w.sent(1, 60)
    w.acknowledged(1)
    assert w.receipt(1, 150) and r.asides() == [(1, 61, 100)]
    r.append([2, 2, None, 0, 60, 1])
    assert send() == [(2, 2, 2)] and w.receipt(2, 2)
    assert send() == [(1, 61, 100)]
    r.append([3, 3, None, 0, 60, 1])
    assert send() == [(2, 3, 3)]  # the try is over
    w.acknowledged(1)
    assert w.receipt(1, 150) and r.asides() == [(1, 61, 100)]
    assert w.receipt(2, 3)
    w.restart()
    r.append([4, 4, None, 0, 60, 1])
    assert send() == [(2, 4, 4)] and w.receipt(2, 4) and send() == [(1, 61, 100)]
    r._end()
    r._drop_oldest()
    assert r.dropped == 40 and w.next() is None
    vfs.umount("/p")


def memory():
    """The largest block is no more than what is free, and can be had."""
    gc.collect()
    block = largest_block()
    assert 0 < block <= gc.mem_free()
    bytearray(block // 2)


class StartsAgainError(Exception):
    """What the reset of the stand-in raises here."""


def starting():
    """Whatever ends the program is noted on flash, and the board starts again."""

    def reset():
        raise StartsAgainError

    machine.reset = reset
    machine.cause = machine.PWRON_RESET
    try:
        start.start(FOLDER + "/absent.json", FOLDER)
        raise AssertionError("it runs")
    except StartsAgainError:
        pass
    assert "ConfigError" in diary.Diary(FOLDER + "/diary.json").crash


class Task:
    def __init__(self):
        self.beats = 0
        self.woken = 0

    def wake(self):
        self.woken += 1


def watchdog():
    """Every task must move; one that waits is woken before it is held against it."""
    said = []
    tasks = {"sampler": Task(), "publisher": Task()}
    watch = Watch(tasks, said.append)
    now = 1 << 29
    for _ in range(3 * LIMIT_MS // 2000):
        now = time.ticks_add(now, 2000)
        tasks["sampler"].beats += 1
        if tasks["publisher"].woken:
            tasks["publisher"].woken = 0
            tasks["publisher"].beats += 1
        assert watch.look(now) is None
    stopped = now
    while not watch.look(now):
        now = time.ticks_add(now, 2000)
        tasks["sampler"].beats += 1
    assert LIMIT_MS - 40000 <= time.ticks_diff(now, stopped) <= LIMIT_MS + 4000 and watch.look(now) == "publisher"
    watch._seen.clear()
    watch.wdt = machine.WDT(timeout=8000)

    async def main():
        task = asyncio.create_task(watch.run())
        await asyncio.sleep_ms(2100)
        assert watch.wdt.fed == 1 and not said
        watch.look = lambda now: "publisher"
        await asyncio.sleep_ms(2100)
        assert watch.wdt.fed == 1 and said == ["watchdog: publisher stands still"]
        await asyncio.sleep_ms(2100)
        assert watch.wdt.fed == 1 and len(said) == 1
        task.cancel()

    asyncio.run(main())
    assert watch.take_lag() >= 0 and watch.take_lag() == 0


def diaries():
    """Causes, brown-outs and the last crash survive, bounded; a broken file is no reason to stop."""
    path = FOLDER + "/diary.json"
    for cause, word in ((machine.PWRON_RESET, "power"), (machine.BROWNOUT_RESET, "brownout"), (99, "other")):
        machine.cause = cause
        d = diary.Diary(path, reset_cause())
        assert d.cause == word
    machine.cause = machine.BROWNOUT_RESET
    assert diary.Diary(path).brownouts == 1  # counted once, also where a crash opens the file again in that life
    assert d.brownouts == 1 and d.crash is None
    d.note("x" * 5000 + "the end")
    machine.cause = machine.WDT_RESET
    d = diary.Diary(path, reset_cause())
    assert d.crash.endswith("the end") and len(d.crash) == 600 and d._data["watchdogs"] == 1
    for text in ("", "{", "[1]", '{"brownouts":"x"}'):
        with open(path, "w") as f:
            f.write(text)
        machine.cause = machine.BROWNOUT_RESET
        assert diary.Diary(path, reset_cause()).cause == "brownout"
    machine.cause = machine.PWRON_RESET
    diary.Diary("/no/such/folder/diary").note("lost, and nothing raised")


def mistakes():
    """What the publisher did not foresee is kept as a crash, once, and it tries again; the network's is passed over."""
    d = diary.Diary(FOLDER + "/mistakes.json")
    p = Publisher(
        {"base": "b", "kit": "k"}, Ring(FOLDER + "/mistakes", 1, ("seq", "up")), None, b"", None, d.keep, None, None
    )
    kept = []
    d._keep = lambda: kept.append(d.crash)
    meets = [OSError(110), MqttError("refused"), ValueError("a mistake"), ValueError("a mistake"), OSError(104)]

    async def session():
        if len(meets) == 1:
            p._closing = True
        error = meets.pop(0)
        raise error

    async def at_once(ms):
        pass

    p._session, p._back_off = session, at_once
    asyncio.run(p.run())
    assert not meets and len(kept) == 1
    assert "ValueError: a mistake" in d.crash


def configuration():
    """Replaced as a whole, refused when it lacks something, found beside its place after a cut."""
    path = FOLDER + "/config.json"
    good = '{"kit":"k1","board":"host","host":"192.0.2.1"}'
    try:
        settings.load(path)
        raise AssertionError("none")
    except settings.ConfigError:
        pass
    settings.save(path, good)
    assert settings.load(path)["port"] == 1883
    for bad in ("", "{}", good[:-1], "[]"):
        try:
            settings.save(path, bad)
            raise AssertionError(bad)
        except settings.ConfigError:
            pass
    assert json.dumps(settings.load(path)["kit"]) == '"k1"'
    settings.save(path, good.replace("k1", "k2"))
    assert settings.load(path)["kit"] == "k2" and settings.load(path + ".old")["kit"] == "k1"
    os.remove(path)
    assert settings.load(path)["kit"] == "k1"


def names():
    """Names and addresses."""
    assert udp.is_address("192.0.2.1") and not udp.is_address("192.0.2.256") and not udp.is_address("a.b.c.d")
    assert dns.query("a.bc.", 258) == b"\x01\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x01\x00\x01"
    for bad in ("", "a..b", "x" * 64):
        try:
            dns.query(bad, 1)
            raise AssertionError(bad)
        except ValueError:
            pass
    nonce = b"abcdefgh"
    good = bytearray(b"\x24\x02\x00\x00" + bytes(20) + nonce + bytes(8) + struct.pack(">II", 10, 0))
    assert sntp.reply(good, nonce, 2085978496 + 5)[0] == 2085978496 + 10  # the era after 2036
    for at, value in ((0, 0xE4), (0, 0x23), (1, 0), (1, 16), (24, 0), (43, 0)):
        bad = bytearray(good)
        bad[at] = value
        assert sntp.reply(bad, nonce, 1700000000) is None, at
    assert sntp.reply(good[:47], nonce, 0) is None and len(sntp.request(nonce)) == 48

    async def main():
        assert await udp.resolve("192.0.2.7", None) == "192.0.2.7"
        try:
            await udp.resolve("nowhere.example", ("127.0.0.1", 9))
            raise AssertionError("resolved")
        except OSError:
            pass

    asyncio.run(main())


PARTS = (
    bosch, electrodes, drivers, detection, states, clocks, steps, cycles, keeping, broken_flash,
    patience, memory, watchdog, diaries, mistakes, starting,
    configuration, names,
)  # fmt: skip
if __name__ == "__main__":
    for part in PARTS:
        part()
        print(part.__name__)
