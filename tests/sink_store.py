"""A filled store for sink tests, and what InfluxDB must hold afterwards, read from the store by another way."""

import math
import os
from types import SimpleNamespace

import numpy as np

from calibration.quantities import CHANNELS, COUNTERS
from gateway.records import HOUR_MS, AirHour, HourRecord, IndexRecord, SubIndex
from gateway.store import database, derived, health, readings
from gateway.store.raw import RawWriter
from gateway.wire import Batch

T0_S = 1_795_215_600  # the start of an hour
BASE = ("seq", "up", "t", "q", "dt")
PM = (*BASE, "pm_n", "pm_bad", "pm25_cf1", "pm25_atm", "temp", "rh")
GAS = (*BASE, "gas_n", "gas_bad", "no2_we", "no2_ae", "pressure")


class Store:
    """The writing side of a store."""

    def __init__(self, folder):
        self.dir = folder
        self.db = database.open_writer(folder)
        self.writer = RawWriter(self.db)
        self.rng = np.random.default_rng(3)

    def add_raw(self, kit, boot, first, count, cols=PM, step_s=1):
        """Commit `count` readings, a null in every tenth value."""
        rows = []
        for seq in range(first, first + count):
            values = [None if v % 10 == 0 else int(v) for v in self.rng.integers(-5000, 60000, len(cols) - len(BASE))]
            values[:2] = self.rng.integers(0, 60, 2).tolist()
            rows.append([seq, 10 + seq * step_s, T0_S + (seq + 1) * step_s, 2, step_s, *values])
        with database.transaction(self.db):
            for at in range(0, count, 250):
                self.writer.add(kit, Batch(1, boot, 0, cols, rows[at : at + 250]), T0_S * 1000, None, live=False)
            self.writer.flush()

    def kit(self, name):
        return self.writer.kit_id(name, T0_S * 1000)

    def add_air(self, kit, hour, values, cal="barkjohn2021"):
        """Write an hour's calibrated rows, a minute apart."""
        values = np.asarray(values, float)
        n = len(values)
        air = AirHour(
            kit=kit, site="Rose's, 1 = \"home\"", hour=hour, time_ms=hour * HOUR_MS + 60_000 * np.arange(1, n + 1),
            values={"pm25_ugm3": values, "no2_ppb": np.full(n, math.nan)}, lo={"pm25_ugm3": values - 2},
            hi={"pm25_ugm3": values + 2}, qc=np.where(np.isnan(values), 9, 1), reasons=np.zeros(n, int), cal=cal,
            rev=np.zeros(n, int),
        )  # fmt: skip
        with database.transaction(self.db):
            derived.write_air(self.db, self.kit(kit), [air])

    def add_hour(self, kit, hour, pm25):
        record = HourRecord(
            kit=kit, site="s", hour=hour, values={"pm25_ugm3": pm25, "temp": 21.0}, qc=1, reasons=0, cal="none",
            valid_pct={"pm25_ugm3": 98.3, "temp": 100.0}, lo={"pm25_ugm3": pm25 - 1.5}, hi={"pm25_ugm3": pm25 + 1.5},
        )  # fmt: skip
        with database.transaction(self.db):
            derived.write_hours(self.db, self.kit(kit), [record])

    def add_index(self, hour, value):
        record = IndexRecord(
            site="s", scheme="us-2024", hour=hour, value=value, category=None if value is None else "Good",
            pollutant=None if value is None else "pm25", table="us-2024.1",
            subs={"pm25": SubIndex(concentration=7.5 if value else None, index=value, valid_pct=75.0)},
        )  # fmt: skip
        with database.transaction(self.db):
            derived.write_indices(self.db, record.site, record.hour, record.hour, [record])


class Connection:
    """Stands for one connection to InfluxDB; what is written and deleted goes to `target`, answered at once."""

    def __init__(self, target):
        self.target = target
        self.begun = None
        self.always_readable = os.open("/dev/null", os.O_RDONLY)

    def __getattr__(self, name):
        return getattr(self.target, name)

    def begin(self, body):
        self.begun = body

    def finish(self):
        lines = self.begun.text.split(b"\n")
        assert len(lines) == self.begun.count
        return self.target.write(lines)

    def fileno(self):
        return self.always_readable

    def left_s(self):
        return 60.0

    def close(self):
        if self.always_readable is not None:
            os.close(self.always_readable)
        self.always_readable = None


def by_kit(tables):
    """Return the rows of each kit in raw tables."""
    return [
        SimpleNamespace(kit=kit, **{name: getattr(table, name)[table.kit == i] for name in ("boot", "seq", "rev")})
        for table in tables
        for i, kit in enumerate(table.kits)
    ]


def expected_raw(db):
    """Return what `Influxd.points("raw")` must give, row by row from the store."""
    points = {}
    for some in readings.each_hour(db):
        for i in range(len(some)):
            fields = {"boot": int(some.boot[i]), "seq": int(some.seq[i]), "time_error_s": int(some.time_error_s[i])}
            for name, column in some.columns.items():
                if name in CHANNELS and not math.isnan(column[i]):
                    fields[name] = float(column[i])
                elif name in COUNTERS and not math.isnan(column[i]):
                    fields[name] = int(column[i])
            key = ((("kit", some.kit),), int(some.time_ms[i]))
            assert key not in points
            points[key] = fields
    return points


def expected_air(db):
    points = {}
    for air in derived.read_air(db):
        tags = (("kit", air.kit), ("site", air.site))
        for i in range(len(air)):
            fields = {"qc": int(air.qc[i]), "cal": air.cal}
            for suffix, group in (("", air.values), ("_lo", air.lo), ("_hi", air.hi)):
                fields |= {n + suffix: float(v[i]) for n, v in group.items() if not math.isnan(v[i])}
            points[tags, int(air.time_ms[i])] = fields
    return points


def expected_hours(db):
    points = {}
    for record in derived.read_hours(db):
        names = {"pm25_ugm3": "pm25_valid_pct", "no2_ppb": "no2_valid_pct"}
        fields = {**record.values, "qc": record.qc, "cal": record.cal}
        for suffix, group in (("_lo", record.lo), ("_hi", record.hi)):
            fields |= {name + suffix: value for name, value in group.items()}
        fields |= {names.get(n, f"{n}_valid_pct"): pct for n, pct in record.valid_pct.items()}
        points[(("kit", record.kit), ("site", record.site)), record.hour * HOUR_MS] = fields
    return points


def expected_indices(db):
    points = {}
    for record in derived.read_indices(db):
        fields = {"value": record.value, "category": record.category, "pollutant": record.pollutant}
        for name, sub in record.subs.items():
            unit = {"pm25": "_ugm3", "no2": "_ppb"}[name]
            fields |= {
                f"{name}_index": sub.index, f"{name}{unit}": sub.concentration, f"{name}_valid_pct": sub.valid_pct,
                f"{name}_24h{unit}": sub.mean_24h, f"{name}_24h_index": sub.index_24h,
                f"{name}_24h_valid_pct": sub.valid_24h_pct,
            }  # fmt: skip
        tags = (("scheme", record.scheme), ("site", record.site))
        fields["table"] = record.table
        if record.subs:
            names = [name for key, name in (("pm25", "PM2.5"), ("no2", "NO2")) if key in record.subs]
            fields["equivalent"] = "/".join(names) + " equivalent"
        points[tags, record.hour * HOUR_MS] = {n: v for n, v in fields.items() if v is not None}
    return points


def expected_health(db, *, gateway):
    found = health.between(db, -(2**62), 2**62, gateway=gateway)
    return {((("kit", r.kit),) if r.kit else (), r.time_ms): dict(r.values) for r in found}
