"""A fitted calibration in service: what is derived again, what names it, what lies between two records."""

import json
import shutil

import numpy as np
import pytest
from collocated import csv_text
from made_place import HOUR0, at, derive, hours, iso, waiting
from made_store import DAY_S, HOUR_S, START_S, MadeStore
from test_commands import CONFIG, done, refused, stored

from calibration import assigned
from calibration.record import loads
from gateway.store import derived

COLS = (
    "seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "env_n", "env_bad", "temp", "rh", "gas_n", "gas_bad",
    "no2_we", "no2_ae", "temp_gas", "temp_amb", "rh_amb",
)  # fmt: skip
DAYS = 9
DT_S = 600
ROWS = DAYS * DAY_S // DT_S


def air():
    """What the kit sends each ten minutes, and the truth that it follows."""
    rng = np.random.default_rng(8)
    hours = np.arange(ROWS) * DT_S / HOUR_S
    day = np.sin(2 * np.pi * hours / 24)
    temp = 15 + 6 * day + 3 * np.sin(2 * np.pi * hours / 50) + rng.normal(0, 0.2, ROWS)
    rh = 55 - 12 * day + 8 * np.sin(2 * np.pi * hours / 37) + rng.normal(0, 1, ROWS)
    pm = np.exp(np.interp(hours, np.arange(0, 24 * DAYS + 6, 3), rng.normal(2.6, 0.6, 8 * DAYS + 2)))
    no2 = np.exp(np.interp(hours, np.arange(0, 24 * DAYS + 6, 3), rng.normal(2.8, 0.5, 8 * DAYS + 2)))
    ae = 236 + 0.3 * (temp - 15) + rng.normal(0, 0.05, ROWS)
    we = 225 + 0.26 * no2 + 0.6 * (ae - 231) + rng.normal(0, 0.05, ROWS)
    return {"temp": temp, "rh": rh, "pm": pm, "no2": no2, "we": we, "ae": ae}


def rows(found, first=0, last=ROWS):
    scaled = {name: np.rint(found[name] * by).astype(int) for name, by in
              (("pm", 10), ("temp", 100), ("rh", 100), ("we", 1000), ("ae", 1000))}  # fmt: skip
    for i in range(first, last):
        temp, rh = int(scaled["temp"][i]), int(scaled["rh"][i])
        yield [
            i, 100_000 + DT_S * (i + 1), START_S + DT_S * (i + 1), 2, DT_S, 60, 0, int(scaled["pm"][i]), 60, 0, temp,
            rh, 60, 0, int(scaled["we"][i]), int(scaled["ae"][i]), temp, temp, rh,
        ]  # fmt: skip


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A store of nine days of kit-1, and the records that `lichen calibrate fit` makes of it beside a station."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "gateway.toml").write_text(CONFIG)
    found = air()
    made = MadeStore(folder / "store")
    made.add("kit-1", COLS, rows(found))
    made.add_span("kit-2", START_S, START_S + DAY_S, lambda t: 20 + t % 7)
    made.derive()
    made.db.close()
    hourly = {name: found[name].reshape(-1, HOUR_S // DT_S).mean(axis=1) for name in ("pm", "no2")}
    station = {
        "time": START_S + HOUR_S * np.arange(24 * DAYS), "pm25_ugm3": 2 + 0.6 * hourly["pm"], "no2_ppb": hourly["no2"],
    }  # fmt: skip
    autumn = {**station, "pm25_ugm3": 3 + 0.8 * hourly["pm"]}
    (folder / "station.csv").write_text(csv_text(station))
    (folder / "autumn.csv").write_text(csv_text(autumn))
    for target, file, name in (
        ("pm25_ugm3", "station.csv", "pm"), ("no2_ppb", "station.csv", "no2"), ("pm25_ugm3", "autumn.csv", "pm-autumn"),
    ):  # fmt: skip
        done("calibrate", "fit", "--kit", "kit-1", "--reference", folder / file, "--target", target, "--name", name,
             "--out", folder / f"{name}.toml", "-c", folder / "gateway.toml")  # fmt: skip
    return folder


@pytest.fixture
def place(seen, tmp_path):
    """A copy of it."""
    shutil.copytree(seen, tmp_path / "place")
    (tmp_path / "place" / "store" / "writer.lock").open().close()
    return tmp_path / "place"


def assign(place, what, hour, kit="kit-1"):
    done("calibrate", "assign", kit, what, "--from", iso(hour), *at(place))


def test_fitted_records_derive_again_exactly_their_hours_and_every_row_names_them(place):
    before = hours(place)
    assign(place, place / "pm.toml", 100)
    assign(place, place / "no2.toml", 150)
    assert waiting(place) == [("kit-1", hour) for hour in range(100, 24 * DAYS)]
    derive(place)
    after = hours(place)
    assert {hour: h for hour, h in after.items() if hour < 100} == {h: before[h] for h in range(100)}
    assert {after[h].cal for h in range(100, 150)} == {"pm"}
    assert {after[h].cal for h in range(150, 24 * DAYS)} == {"pm|no2"}
    assert "no2_ppb" not in after[149].valid_pct
    for one in stored(place, lambda db: list(derived.read_air(db, kit="kit-1"))):
        at_hour = one.hour - HOUR0
        assert one.cal == ("barkjohn2021@1" if at_hour < 100 else "pm" if at_hour < 150 else "pm|no2")
    assert all("pm" not in h.cal for h in hours(place, "kit-2").values() if h.cal != "barkjohn2021@1")


def test_values_of_fitted_records_are_those_of_the_station(place):
    assign(place, place / "pm.toml", 0)
    assign(place, place / "no2.toml", 0)
    derive(place)
    found, truth = hours(place), np.genfromtxt(place / "station.csv", delimiter=",", names=True)
    pm = np.array([found[h].values["pm25_ugm3"] for h in range(4, 24 * DAYS)])
    no2 = np.array([found[h].values["no2_ppb"] for h in range(4, 24 * DAYS)])
    assert np.sqrt(np.mean((pm - truth["pm25_ugm3"][4:]) ** 2)) < 0.5
    assert np.sqrt(np.mean((no2 - truth["no2_ppb"][4:]) ** 2)) < 1.5


def test_an_input_that_is_computed_is_asked_of_the_channels_it_is_made_of(place):
    record = loads((place / "no2.toml").read_text())
    assert [i.name for i in record.inputs] == ["no2_we", "no2_ae", "temp_gas", "abs_hum"]
    assert assigned.loads((place / "no2.toml").read_text(), "kit-1").inputs == (
        "no2_we",
        "no2_ae",
        "temp_gas",
        "temp_amb",
        "rh_amb",
    )


# Between two records


@pytest.fixture
def two(place):
    assign(place, place / "pm.toml", 24)
    assign(place, place / "pm-autumn.toml", 124)
    derive(place)
    return place


def interpolate(place, first=24, last=124):
    return done("calibrate", "interpolate", "kit-1", "--from", iso(first), "--to", iso(last), *at(place), "--json")


def values(place):
    return {h: r.values["pm25_ugm3"] for h, r in hours(place).items()}


def rows_of(place, hour):
    (found,) = [a for a in stored(place, lambda db: list(derived.read_air(db, kit="kit-1"))) if a.hour == HOUR0 + hour]
    return found


def test_between_two_assignments_a_value_moves_linearly_from_the_first_to_the_second(two):
    before = rows_of(two, 73)
    assign(two, "pm-autumn", 24)
    derive(two)
    after = rows_of(two, 73)
    assign(two, "pm", 24)
    derive(two)
    told = json.loads(interpolate(two))
    assert told["hours"] == 100
    assert waiting(two) == [("kit-1", hour) for hour in range(24, 124)]
    derive(two)
    found = rows_of(two, 73)
    assert found.cal == told["label"] == "pm~pm-autumn:20230902T00-20230906T04"
    middle_h = (found.time_ms / 1000 - DT_S / 2 - START_S) / HOUR_S
    weight = (middle_h - 24) / 100
    a, b = before.values["pm25_ugm3"], after.values["pm25_ugm3"]
    assert np.abs(a - b).max() > 1
    np.testing.assert_allclose(found.values["pm25_ugm3"], a + weight * (b - a), rtol=1e-12)
    assert {h.cal for n, h in hours(two).items() if n >= 124} == {"pm-autumn"}


def test_the_first_assigned_again_takes_it_back(two):
    before = values(two)
    interpolate(two)
    derive(two)
    assert values(two) != before
    assign(two, "pm", 24)
    derive(two)
    assert values(two) == before


def test_it_is_listed_and_asked_for_twice_is_told(two):
    label = json.loads(interpolate(two))["label"]
    found = {one["label"]: one for one in json.loads(done("calibrate", "list", *at(two), "--json"))["calibrations"]}
    assert found[label]["title"] == "pm becoming pm-autumn, linearly in time"
    assert 'before = "pm"' in done("calibrate", "show", label, *at(two))
    refused("calibrate", "interpolate", "kit-1", "--from", iso(24), "--to", iso(124), *at(two), status=1,
            says="is interpolated already")  # fmt: skip


@pytest.mark.parametrize(
    ("first", "last", "says"),
    [
        (24, 125, "has no two assignments from"),
        (124, 24, "two calibrations that follow each other"),
        (24, 24, "two calibrations that follow each other"),
    ],
)
def test_two_assignments_are_needed(two, first, last, says):
    refused("calibrate", "interpolate", "kit-1", "--from", iso(first), "--to", iso(last), *at(two), status=1, says=says)
    assert waiting(two) == []


@pytest.mark.parametrize("other", ["barkjohn2022", "pm"])
def test_nothing_may_lie_between_the_two(two, other):
    assign(two, other, 60)
    derive(two)
    says = f"{other}@1 from {iso(60)}" if other != "pm" else f"pm from {iso(60)}"
    refused("calibrate", "interpolate", "kit-1", "--from", iso(24), "--to", iso(124), *at(two), status=1, says=says)
    assert waiting(two) == []
