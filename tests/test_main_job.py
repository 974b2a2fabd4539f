"""The main job on real input: recording -> kit -> broker -> gateway -> store, InfluxDB, hours and indices."""

import shutil
import subprocess
from datetime import UTC, datetime
from functools import cache, partial

import figures
import independent
import main_job
import pytest
from influxd import Influxd
from made_store import gather

from gateway.derive.dirty import Deriver
from gateway.derive.recipe import Recipe
from gateway.settings import Derive
from gateway.store.database import open_writer
from gateway.store.derived import count_dirty, start_again

RECORDING = "data/calibration/raw_purpleair_tukwila_2min_10days.csv"
HOURS = 24
CHANNELS = ("pm25_cf1", "pm25_atm", "n03", "pm25_cf1_b", "pm25_atm_b", "n03_b", "temp", "rh")
HOW = "make accept"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.micropython,
    pytest.mark.mosquitto,
    pytest.mark.influxdb,
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module", params=[pytest.param(0, marks=pytest.mark.accept), 3], ids=["undisturbed", "kill9"])
def job(request, tmp_path_factory, shared, micropython, mosquitto, influxd):
    """The main job, once as it is and once with the gateway killed three times on the way."""
    kills = request.param
    folder = tmp_path_factory.mktemp("job") / "D"
    with Influxd(influxd, tmp_path_factory.mktemp("influx")) as influx:
        summary = main_job.run(
            shared / RECORDING, folder, hours=HOURS, speed=5000 if kills else 1000, influx=influx, kills=kills
        )
        yield Job(folder, shared / RECORDING, summary, influx, kills)


class Job:
    def __init__(self, folder, recording, summary, influx, kills):
        self.folder, self.recording, self.summary, self.influx, self.kills = folder, recording, summary, influx, kills
        self.ledger = independent.read_ledger(folder / "ledger.csv")
        self.corrected = independent.hours(self.ledger, independent.corrected)
        self.export = cache(partial(main_job.export, folder))


def test_every_row_of_the_ledger_is_stored_once_with_its_values(job):
    stored = job.export("raw")
    assert len(job.ledger) >= HOURS * 60 - 2
    assert len(stored) == len(job.ledger)
    by_key = {(r["kit"], int(r["boot"]), int(r["seq"])): r for r in stored}
    assert len(by_key) == len(stored)
    for row in job.ledger:
        copy = by_key[row["kit"], row["boot"], row["seq"]]
        for column in set(row) - {"kit", "boot", "seq"}:
            expected = independent.canonical(column, row[column])
            assert (float(copy[column]) if copy[column] else None) == expected, (row, column)
        assert datetime.fromisoformat(copy["time"]).timestamp() == row["t"]
    assert job.summary["rows_made"] == job.summary["rows_stored"] == len(job.ledger)
    assert job.summary["dead_letters"] == 0
    assert job.summary["gateway_restarts"] == job.kills
    if not job.kills:
        figures.record("main.ledger_rows", len(job.ledger), unit="rows", goal="all stored once", how=HOW)
        figures.record("main.rows_stored", len(stored), unit="rows", goal="= main.ledger_rows", how=HOW)
        figures.record("main.seconds", job.summary["seconds"], unit="s", goal="< 120", how=HOW)
        assert job.summary["seconds"] < 120


def test_every_row_of_the_ledger_is_in_influxdb_once_with_its_values(job):
    points = main_job.points(job.influx, "raw")
    assert len(points) == len(job.ledger)
    by_key = {(p["kit"], p["boot"], p["seq"]): p for p in points}
    for row in job.ledger:
        point = by_key[row["kit"], row["boot"], row["seq"]]
        assert point["time_ms"] == row["t"] * 1000
        for column in (*CHANNELS, "pm_n", "pm_bad", "env_n", "env_bad"):
            assert point.get(column) == independent.canonical(column, row[column]), (row, column)
    if not job.kills:
        figures.record("main.rows_influx", len(by_key), unit="rows", goal="= main.ledger_rows", how=HOW)


def test_influxdb_holds_what_is_derived(job):
    for kind, measurement, keys in (
        ("hour", "hour", ("kit",)),
        ("index", "index", ("site", "scheme")),
    ):
        stored = {(r["hour_start"], *(r[k] for k in keys)): r for r in job.export(kind)}
        points = {(iso(p["time_ms"]), *(p[k] for k in keys)): p for p in main_job.points(job.influx, measurement)}
        assert stored.keys() == points.keys()
        for key, row in stored.items():
            for column in ("pm25_ugm3", "value", "pm25_cf1"):
                if column in row:
                    assert points[key].get(column) == (float(row[column]) if row[column] else None), (key, column)
    air = [r for r in job.export("air") if r["pm25_ugm3"]]
    points = [p for p in main_job.points(job.influx, "air") if "pm25_ugm3" in p]
    values = sorted((iso(p["time_ms"]), p["pm25_ugm3"]) for p in points)
    assert values == sorted((r["time"], float(r["pm25_ugm3"])) for r in air)


def test_hours_equal_those_of_the_ledger_and_of_the_recording(job):
    stored = {main_job.hour_number(r["hour_start"]): r for r in job.export("hour")}
    start_s, end_s = job.ledger[0]["t"] - job.ledger[0]["dt"], job.ledger[-1]["t"]
    for column, source in (
        ("pm25_cf1", "pm2_5_cf_1"),
        ("pm25_cf1_b", "pm2_5_cf_1_b"),
        ("pm25_atm", "pm2_5_atm"),
        ("rh", "current_humidity"),
    ):
        of_ledger = independent.hours(job.ledger, lambda row, c=column: independent.canonical(c, row[c]))
        of_recording = independent.recording_hours(job.recording, source, start_s, end_s)
        assert len(of_ledger) >= HOURS - 1
        for hour, mean in of_ledger.items():
            assert float(stored[hour][column]) == pytest.approx(mean, rel=1e-9), (hour, column)
            signal, covered_s = of_recording[hour]
            assert covered_s > 2700
            assert abs(mean - signal) <= max(0.2, 0.01 * signal), (hour, column, mean, signal)
        assert {h for h, r in stored.items() if r[column]} == set(of_ledger)


def test_corrected_hours_nowcast_and_index_equal_an_independent_computation(job, shared):
    stored = {main_job.hour_number(r["hour_start"]): r for r in job.export("hour")}
    assert {h for h, r in stored.items() if r["pm25_ugm3"]} == set(job.corrected)
    for hour, mean in job.corrected.items():
        assert float(stored[hour]["pm25_ugm3"]) == pytest.approx(mean, rel=1e-9)
    tables = independent.read_tables(shared / "reference" / "aqi_tables.json")
    seen = 0
    for row in job.export("index"):
        hour = main_job.hour_number(row["hour_start"])
        used, index, day, day_index = independent.indices(job.corrected, hour, tables)[row["scheme"]]
        for column, expected in (
            ("pm25_ugm3", used),
            ("value", index),
            ("pm25_index", index),
            ("pm25_24h_ugm3", day),
            ("pm25_24h_index", day_index),
        ):
            got = float(row[column]) if row[column] else None
            assert got == (None if expected is None else pytest.approx(expected, abs=1e-9)), (row, column)
        seen += index is not None
    assert seen >= 2 * (HOURS - 8)


def test_the_export_equals_a_clean_recomputation_of_the_store(job, tmp_path):
    main_job.lichen("verify", "--dir", job.folder)
    copy = tmp_path / "copy"
    shutil.copytree(job.folder / "store", copy / "store")
    db = open_writer(copy / "store")
    for table in ("air", "hour", "site_index"):
        db.execute(f"DELETE FROM {table}")  # noqa: S608 - constants
    start_again(db, "", [])
    assert count_dirty(db) > 0
    derive_all(db)
    db.close()
    for kind in ("raw", "air", "hour", "index"):
        assert main_job.export(copy, kind) == job.export(kind), kind
    if job.kills:
        figures.record("main.kill9_equal", 1, unit="1 = equal", goal="1", how=HOW)


def iso(time_ms):
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def derive_all(db):

    gather(db)
    deriver = Deriver(db, Recipe.of(Derive()))
    while deriver.step():
        pass
    assert count_dirty(db) == 0


def test_the_kit_is_real_micropython(job, micropython):
    ask = "import sys; print(sys.implementation.name, *sys.implementation.version[:2])"
    said = subprocess.run([micropython, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == "micropython"
    assert tuple(map(int, said[1:])) >= (1, 25)
    if not job.kills:
        figures.record("main.micropython", ".".join(said[1:]), unit="version", goal=">= 1.25", how=HOW)
