"""Collocation mode: one command starts it, one ends it and writes the report; what is wrong ends nothing."""

import json
import time

import numpy as np
import pytest
from collocated import csv_text
from made_store import DAY_S, HOUR_S, START_S, MadeStore, day_of_air
from test_commands import CONFIG, done, refused, running, stored

from gateway.store import collocations

DAYS = 9


@pytest.fixture
def place(tmp_path):
    """Nine days of kit-1, and a station beside it of which an hour is an hour."""
    (tmp_path / "gateway.toml").write_text(CONFIG + '[drift]\nstations = [{name = "roof", file = "station.csv"}]\n')
    made = MadeStore(tmp_path / "store")
    made.add_span("kit-1", START_S, START_S + DAYS * DAY_S, day_of_air, dt_s=600)
    made.derive()
    made.db.close()
    (tmp_path / "store" / "writer.lock").open().close()
    return tmp_path


def station(place, name="station.csv"):
    times = np.arange(START_S, START_S + DAYS * DAY_S, HOUR_S)
    values = np.array([2 + 0.6 * np.mean([day_of_air(t + s) for s in range(600, HOUR_S + 1, 600)]) for t in times])
    (place / name).write_text(csv_text({"time": times, "pm25_ugm3": values}))
    return place / name


def at(place):
    return ("-c", place / "gateway.toml")


def iso(hours):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(START_S + round(hours * HOUR_S)))


def start(place, *more, reference="roof"):
    return done("collocation", "start", "kit-1", "--reference", reference, "--from", iso(24), *more, *at(place))


def kept(place):
    return stored(place, collocations.everything)


def test_one_command_starts_it_and_one_ends_it_and_writes_the_report(place):
    station(place)
    with running(place):
        assert "lichen collocation end kit-1" in start(place)
        told = json.loads(done("collocation", "end", "kit-1", "--to", iso(24 * 8), "--features", "pm25_cf1", "--out",
                               place / "r.html", *at(place), "--json"))  # fmt: skip
        (listed,) = json.loads(done("collocation", "list", *at(place), "--json"))
    assert told["html"] == str(place / "r.html")
    assert told["rmse"] < 0.5
    page, rows = (place / "r.html").read_text(), json.loads((place / "r.json").read_text())
    assert "kit-1, 2023-09-02 to 2023-09-09" in page
    # judged on the last 30 % of the seven days that were said, and on no other hours
    assert rows["rows"]["time"][-1] == iso(24 * 8 - 1)
    assert rows["rows"]["time"][0] == iso(24 + int(0.7 * 7 * 24))
    assert (listed["from"], listed["to"], listed["report"]) == (iso(24), iso(24 * 8), str(place / "r.html"))
    assert listed["by"]


def test_a_kit_stands_beside_one_reference_at_a_time_and_can_be_taken_back(place):
    start(place)
    refused("collocation", "start", "kit-1", "--reference", "roof", *at(place), status=1, says="collocation end kit-1")
    assert iso(24) in done("collocation", "cancel", "kit-1", *at(place))
    assert kept(place) == []
    refused("collocation", "cancel", "kit-1", *at(place), status=1, says="stands beside no reference")
    start(place)
    assert len(kept(place)) == 1


def test_a_file_that_comes_later_is_read_at_the_end(place):
    told = start(place, reference=str(place / "late.csv"))
    assert "is not there yet" in told
    refused("collocation", "end", "kit-1", "--to", iso(200), *at(place), status=1, says="there is no such file")
    station(place, "late.csv")
    done(
        "collocation", "end", "kit-1", "--to", iso(200), "--features", "pm25_cf1", "--out", place / "r.html", *at(place)
    )
    assert [one.to_ms for one in kept(place)] == [1000 * (START_S + 200 * HOUR_S)]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--to", 12), "ends before it began"),
        (("--to", 25), "1 complete rows cannot be divided"),
        (("--to", 200, "--reference", "other.csv"), "there is no such file"),
        (("--to", 200, "--features", "pm25_cf1,wind"), "there is no column 'wind'"),
        (("--to", 200, "--record", "none.toml"), "none.toml"),
    ],
)
def test_a_report_that_cannot_be_made_ends_nothing_and_says_why(place, arguments, says):
    station(place)
    start(place)
    texts = [iso(a) if isinstance(a, int) else a for a in arguments]
    refused("collocation", "end", "kit-1", *texts, "--out", place / "r.html", *at(place), status=1, says=says)
    assert [one.to_ms for one in kept(place)] == [None]
    assert not (place / "r.html").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("kit-1", "--reference", "roof", "--target", "ozone"), "there is no column 'ozone'"),
        (("kit-9", "--reference", "roof"), "nothing of it was ever received"),
    ],
)
def test_a_start_that_makes_no_sense_is_refused(place, arguments, says):
    station(place)
    refused("collocation", "start", *arguments, *at(place), status=1, says=says)
    assert kept(place) == []


def test_the_hours_that_do_not_meet_the_reference_are_told(place):
    times = np.arange(START_S + 100 * DAY_S, START_S + 120 * DAY_S, HOUR_S)
    (place / "station.csv").write_text(csv_text({"time": times, "pm25_ugm3": 8.0 + times % 7}))
    start(place)
    refused("collocation", "end", "kit-1", "--to", iso(200), *at(place), status=1, says="has no row between")


def test_old_ones_go_running_ones_stay():
    import sqlite3

    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    for i in range(collocations.MOST_ENDED + 5):
        one = collocations.Collocation(kit=f"kit-{i}", reference="r", target="pm25_ugm3", from_ms=i, started_by="me")
        collocations.start(db, one)
        if i:
            collocations.end(db, one.kit, collocations.Collocation(
                kit=one.kit, reference="r", target="pm25_ugm3", from_ms=i, started_by="me", to_ms=i + 1))  # fmt: skip
    found = collocations.everything(db)
    assert len(found) == collocations.MOST_ENDED + 1
    assert collocations.running(db, "kit-0") is not None
    assert {one.kit for one in found} >= {f"kit-{collocations.MOST_ENDED + 4}"}
    assert "kit-1" not in {one.kit for one in found}
