"""Kits that live for simulated days beside a real broker and gateway, while all of them are killed now and then.

A life ends by SIGKILL at a random moment, as a power cut does to a process, and the next begins with the same flash; a
kit's network goes away for minutes to hours; broker and gateway are killed and started again. What the rings accepted
is then compared with the gateway's store, and the kits' own records with their schedule.
"""

import csv
import json
import random
import sqlite3
import threading
import time
from dataclasses import dataclass, field

from faults.processes import Gateway
from firmware_bench import FIRMWARE, Bench, Broker

from gateway.store.chunks import Packed, unpack
from gateway.store.fresh import of_all

T0_S = 1_693_526_400
PERIOD_S = 5
SEGMENT_ROWS = 283
SEGMENT_BYTES = 140  # of the index in RAM, on 64 bit
COMPARED = ("up", "q", "dt", "pm25_cf1", "rh", "n03_b")
HEAP = "3m"


@dataclass
class Result:
    rows: int = 0
    stored: int = 0
    lost: int = 0
    doubled: int = 0
    foreign: int = 0  # stored, but neither in a ledger nor cut off between ring and ledger
    unledgered: int = 0  # on flash when the power went, before the ledger had its line
    dropped: int = 0
    holes: int = 0
    wrong: int = 0
    power_cuts: int = 0
    outages: int = 0
    broker_kills: int = 0
    gateway_kills: int = 0
    sampled_days: float = 0.0
    heap_growth: int = 0
    seconds: float = 0.0
    notes: list = field(default_factory=list)


class KitLife:
    """One kit from its first power-on to the last receipt."""

    def __init__(self, week, name, number):
        self.week, self.name = week, name
        self.rng = random.Random(f"{week.seed} {name}")
        self.folder = week.folder / name
        self.folder.mkdir()
        self.bench = Bench(week.micropython, FIRMWARE, self.folder)
        self.steady_s = 2 * 86_400 if number == 0 else 0  # one boot long enough to show that the heap does not grow
        self.small = number == 1
        self.cuts = self.starts = 0
        self.failed = None
        rows = []
        for hour in range(24 * week.days + 2):
            row = {c: self.rng.randrange(0, 9000) for c in ("cf1_a", "atm_a", "cf1_b", "atm_b")}
            row |= {"n03_a": self.rng.randrange(0, 400_000), "n03_b": self.rng.randrange(0, 400_000)}
            row |= {"temp": self.rng.randrange(-2000, 4500), "rh": self.rng.randrange(0, 10_001)}
            rows.append(row | {"end_s": T0_S + 3600 * (hour + 1)})
        self.bench.signal(rows)
        self.outages = []
        at = T0_S
        while (at := at + round(self.rng.expovariate(1 / 30_000))) < week.end_s - 7200:
            long = self.rng.random() < 0.1
            self.outages.append([at, min(week.end_s - 3600, at + self.rng.randint(600, 90_000 if long else 9000))])
            at = self.outages[-1][1]
        if self.small:  # 20 hours fill its ring
            self.outages.append([T0_S + 43_200, min(week.end_s - 3600, T0_S + 115_200)])
        self.thread = threading.Thread(target=self._guarded, daemon=True)

    def _guarded(self):
        try:
            self._live()
        except BaseException as error:  # noqa: BLE001  told to the test
            self.failed = error

    def _live(self):
        at, week = T0_S, self.week
        while True:
            config = self.bench.config(
                kit=self.name, port=week.broker.port, flash=str(self.folder / "flash.img"), end=week.end_s,
                ledger=str(self.folder / "ledger.csv"), at_end="drain", rtc=self.rng.random() > 0.1,
                flash_bytes=262_144 if self.small else 2_097_152, ring_bytes=49_152 if self.small else None,
                outages=self.outages, erase_ms=self.rng.choice((0, 0, 60, 400)), ntp=False,
                cause=self.rng.choice(("PWRON_RESET", "BROWNOUT_RESET", "WDT_RESET")),
            )  # fmt: skip
            until = at + max(self.steady_s, 900 + round(self.rng.expovariate(1 / 60_000)))
            self.steady_s = 0
            self._past = {line.split(b",")[1] for line in self._lines()}
            process = self.bench.start(config, at, speed=week.speed, heap=HEAP)
            self.starts += 1
            if until >= week.end_s - 1800:  # the last life
                while process.poll() is None and time.monotonic() < week.deadline_s:
                    time.sleep(0.1)
                assert process.poll() == 0, f"{self.name} did not end: {self._errors()}"
                return
            up = 0
            while at + up < until:
                if process.poll() == 0 and at + self._uptime() > week.end_s - 7200:  # it was quicker than this
                    return
                assert process.poll() is None, f"{self.name} ended: {self._errors()}"
                assert time.monotonic() < week.deadline_s, f"{self.name} stands still at {at + up - T0_S} s"
                time.sleep(0.02 + 0.05 * self.rng.random())
                up = self._uptime()
            process.kill()
            process.wait()
            self.cuts += 1
            at += self._uptime() + self.rng.choice((5, 60, 3600)) + self.rng.randrange(60)

    def _uptime(self):
        """Of the present boot, by the ledger's last whole line."""
        path = self.folder / "ledger.csv"
        if not path.exists():
            return 0
        with path.open("rb") as f:
            f.seek(max(0, path.stat().st_size - 2000))
            lines = f.read().split(b"\n")[:-1]
        cells = lines[-1].split(b",") if lines else []
        boot = cells[1] if len(cells) > 3 else b""
        if boot in (b"boot", b"") or boot in self._past:
            return 0
        return int(cells[3])

    def _lines(self):
        path = self.folder / "ledger.csv"
        return path.read_bytes().split(b"\n")[1:-1] if path.exists() else []

    def _errors(self):
        return (self.folder / "kit.err").read_text()[-600:] + (self.folder / "kit.out").read_text()[-300:]

    def reports(self):
        """What it said each hour."""
        lines = (self.folder / "kit.out").read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def read_ledger(path):
    """{(boot, seq): row} of every whole line; a power cut may have torn the last of a boot."""
    ledger = {}
    with path.open() as f:
        for row in csv.DictReader(f):
            if None in row.values() or None in row:
                continue
            key = int(row["boot"]), int(row["seq"])
            assert key not in ledger
            ledger[key] = row
    return ledger


def read_dropped(path):
    """(boot, seq) of rows that a full ring gave up."""
    lines = [line.split(",") for line in path.read_text().splitlines()] if path.exists() else []
    return {(int(boot), seq) for _, boot, first, end in lines for seq in range(int(first), int(end) + 1)}


def read_stored(db, name):
    """{(boot, seq): rows} of the gateway's store."""
    stored = {}
    for boot, names, width, packed in db.execute(
        of_all("SELECT boot, names, width, rows FROM chunk JOIN column_set ON column_set.id = chunk.columns "
               "WHERE kit = (SELECT id FROM kit WHERE name = :name)"), {"name": name}
    ):  # fmt: skip
        columns = names.split(",")
        for row in unpack(Packed(width, packed), len(columns)):
            found = dict(zip(columns, row.tolist(), strict=True))
            stored.setdefault((boot, found["seq"]), []).append(found)
    return stored


class Week:
    """Everything of one run."""

    def __init__(self, folder, mosquitto, micropython, *, days, kits, seed, speed, limit_s):
        self.folder, self.micropython, self.days, self.seed, self.speed = folder, micropython, days, seed, speed
        self.end_s = T0_S + days * 86_400
        self.broker = Broker(mosquitto, folder)
        self.rng = random.Random(seed)
        self.deadline_s = time.monotonic() + limit_s
        self.kits = [KitLife(self, f"kit-{n}", n) for n in range(kits)]

    def run(self):
        began_s = time.monotonic()
        result = Result()
        config = self.folder / "gateway.toml"
        config.write_text(
            f'[broker]\nport = {self.broker.port}\nbase = "lichen/v1"\n\n[clock]\ntrusted = false\n\n[web]\nport = 0\n'
        )
        self.broker.start()
        gateway = Gateway(config, log_path=self.folder / "gateway.log", environment={})
        try:
            gateway.wait_until_connected()
            for kit in self.kits:
                kit.thread.start()
            self._trouble(gateway, result)
            for kit in self.kits:
                kit.thread.join()
            for kit in self.kits:
                if kit.failed:
                    raise kit.failed
            self._compare(result)
        finally:
            for kit in self.kits:
                kit.bench.close()
            gateway.end()
            self.broker.stop()
        result.seconds = round(time.monotonic() - began_s, 1)
        return result

    def _trouble(self, gateway, result):
        """Kills now and then, until the last kit has ended."""
        while any(kit.thread.is_alive() for kit in self.kits):
            for _ in range(self.rng.randint(20, 60)):
                if not any(kit.thread.is_alive() for kit in self.kits):
                    return
                time.sleep(0.1)
            if time.monotonic() > self.deadline_s - 60:
                continue
            if self.rng.random() < 0.5:
                self.broker.stop()
                time.sleep(self.rng.random())
                self.broker.start()
                result.broker_kills += 1
            else:
                gateway.kill()
                result.gateway_kills += 1

    def _compare(self, result):
        time.sleep(2)  # the last commits: receipts have come for all of it, so nothing is on its way
        db = sqlite3.connect(f"{(self.folder / 'store' / 'lichen.sqlite').as_uri()}?mode=ro", uri=True)
        for kit in self.kits:
            result.power_cuts += kit.cuts
            result.outages += len(kit.outages)
            self._compare_kit(db, kit, result)
            self._heap(kit, result)
        db.close()

    def _compare_kit(self, db, kit, result):
        ledger = read_ledger(kit.folder / "ledger.csv")
        dropped = read_dropped(kit.folder / "ledger.csv.dropped")
        stored = read_stored(db, kit.name)
        result.rows += len(ledger)
        result.stored += len(stored.keys() & ledger.keys())
        lost = ledger.keys() - stored.keys() - dropped
        result.lost += len(lost)
        result.notes += [(kit.name, key) for key in sorted(lost)[:5]]
        result.dropped += len(dropped - stored.keys())
        result.doubled += sum(len(copies) - 1 for copies in stored.values())
        last = {}
        for boot, seq in ledger:
            last[boot] = max(seq, last.get(boot, 0))
        for boot, seq in stored.keys() - ledger.keys():
            if seq == last.get(boot, 0) + 1:
                result.unledgered += 1
            else:
                result.foreign += 1
        for key, row in ledger.items():
            result.holes += abs(int(row["dt"]) // PERIOD_S - int(row["pm_n"])) + int(row["pm_bad"])
            result.sampled_days += int(row["dt"]) / 86_400
            for copy in stored.get(key, ()):
                result.wrong += any(copy[name] != int(row[name]) for name in COMPARED)

    def _heap(self, kit, result):
        """Growth of what is live from the first to the second half of boots that lasted a day: with a connection and
        without one, which differ by its buffers, each less the ring's index in RAM, which has an entry a segment.
        """
        boots = {}
        for report in kit.reports():
            boots.setdefault(report["boot"], []).append(report)
        for reports in boots.values():
            for connected in (0, 1):
                halves = [[], []]
                for hour, report in enumerate(reports[1:]):
                    if report["connected"] == connected:
                        index = -(-report["pending"] // SEGMENT_ROWS) * SEGMENT_BYTES
                        halves[2 * hour // len(reports)].append(report["heap"] - index)
                if len(reports) >= 24 and min(map(len, halves)) >= 3:
                    result.heap_growth = max(result.heap_growth, min(halves[1]) - min(halves[0]))
