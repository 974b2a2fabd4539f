"""`lichen calibrate fit` and `evaluate`, `lichen report collocation`: as a person calls them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from collocated import INPUTS, TARGET, columns, csv_text
from made_store import DAY_S, HOUR_S, START_S, MadeStore, day_of_air

from calibration.record import loads

FEATURES = ",".join(INPUTS)


def lichen(*args, cwd=None, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", *map(str, args)], check=False, capture_output=True, text=True, cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(csv_text(columns(1000)))
    return path


def test_a_record_is_made_and_judged_and_reported(rows, tmp_path):
    told = lichen("calibrate", "fit", "--table", rows, "--target", TARGET, "--features", FEATURES, "--name", "roof",
                  "--json", cwd=tmp_path).stdout  # fmt: skip
    made = json.loads(told)
    assert made["record"] == "roof.toml"
    record = loads((tmp_path / "roof.toml").read_text())
    assert record.id == "roof"
    assert record.data["file"] == "rows.csv"
    assert record.data["file_sha256"] == subprocess.run(
        ["sha256sum", rows], capture_output=True, text=True, check=True
    ).stdout.split()[0]  # fmt: skip

    judged = json.loads(lichen("calibrate", "evaluate", "--table", rows, "--target", TARGET, "--record",
                               tmp_path / "roof.toml", "--json").stdout)  # fmt: skip
    assert judged["agreement"]["rmse"] == pytest.approx(0.5, abs=0.1)

    lichen("report", "collocation", "--table", rows, "--target", TARGET, "--features", FEATURES, "--out",
           tmp_path / "r.html", "--title", "Roof")  # fmt: skip
    assert "<title>Roof" in (tmp_path / "r.html").read_text()
    assert json.loads((tmp_path / "r.json").read_text())["title"] == "Roof"


def test_a_record_is_never_written_over(rows, tmp_path):
    command = (
        "calibrate",
        "fit",
        "--table",
        rows,
        "--target",
        TARGET,
        "--features",
        FEATURES,
        "--out",
        tmp_path / "r.toml",
    )
    lichen(*command)
    before = (tmp_path / "r.toml").read_bytes()
    assert "is there already" in lichen(*command, code=1).stderr
    assert (tmp_path / "r.toml").read_bytes() == before


def test_a_refused_fit_writes_nothing_says_why_and_can_be_forced(tmp_path):
    late = columns(1000)
    late[TARGET] = np.roll(late[TARGET], 2)
    path = tmp_path / "late.csv"
    path.write_text(csv_text(late))
    command = (
        "calibrate",
        "fit",
        "--table",
        path,
        "--target",
        TARGET,
        "--features",
        FEATURES,
        "--out",
        tmp_path / "r.toml",
    )
    problem = lichen(*command, code=1).stderr
    assert "clocks or labels" in problem
    assert "--lag-s -7200" in problem
    assert "--force" in problem
    assert not (tmp_path / "r.toml").exists()
    lichen(*command, "--lag-s", "-7200")
    assert loads((tmp_path / "r.toml").read_text()).data["lag_s"] == -7200
    (tmp_path / "r.toml").unlink()
    lichen(*command, "--force", "no other rows are left")
    assert loads((tmp_path / "r.toml").read_text()).forced == "no other rows are left"


def test_what_is_said_for_a_person(rows):
    told = lichen("calibrate", "evaluate", "--table", rows, "--target", TARGET, "--features", FEATURES).stdout
    assert "a value is typically 0.5 µg/m³ off" in told
    assert "learned from 50%" in told
    assert "barkjohn2021@1" in told
    assert "EPA slope" in told


@pytest.mark.parametrize(
    ("args", "code", "problem"),
    [
        (("--target", "nothing", "--features", FEATURES), 1, "there is no column 'nothing'"),
        (("--target", TARGET, "--features", "pm25_cf1,wind"), 1, "there is no column 'wind'"),
        (("--target", TARGET), 2, "give one of --features"),
        (("--target", TARGET, "--features", FEATURES, "--split", "1.5"), 2, "--split"),
        (("--target", TARGET, "--features", FEATURES, "--unit", "box"), 1, "there is no column 'box'"),
        (("--target", TARGET, "--record", "none.toml"), 1, "none.toml"),
    ],
)
def test_wrong_use_is_told_in_a_line(rows, args, code, problem):
    assert problem in lichen("calibrate", "evaluate", "--table", rows, *args, code=code).stderr


def test_a_file_that_is_no_table_is_told(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xff\xfe\x00")
    assert (
        "no UTF-8 text"
        in lichen("calibrate", "evaluate", "--table", path, "--target", "a", "--features", "b", code=1).stderr
    )
    problem = lichen(
        "calibrate", "evaluate", "--table", tmp_path / "y.csv", "--target", "a", "--features", "b", code=1
    ).stderr
    assert "there is no such file" in problem


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kit")
    made = MadeStore(folder / "store")
    made.add_span("roof", START_S, START_S + 8 * DAY_S, day_of_air, dt_s=600)
    made.derive()
    made.db.close()
    return folder


def test_a_kit_is_fitted_beside_a_reference_of_other_steps(store, tmp_path):
    """Hours of the kit meet quarter hours of the station; what the kit sends is what the record takes."""
    times = np.arange(START_S, START_S + 8 * DAY_S, 900)
    values = np.array([2 + 0.6 * np.mean([day_of_air(t + s) for s in range(600, 901, 300)]) for t in times])
    reference = tmp_path / "station.csv"
    reference.write_text(csv_text({"time": times, "pm25_ugm3": values}))
    told = lichen("calibrate", "fit", "--kit", "roof", "--reference", reference, "--target", "pm25_ugm3", "--features",
                  "pm25_cf1", "--dir", store, "--out", tmp_path / "roof.toml", "--json").stdout  # fmt: skip
    assert json.loads(told)["units"] == ["roof"]
    record = loads((tmp_path / "roof.toml").read_text())
    assert (record.output, record.averaging_s, record.data["kit"]) == ("pm25_ugm3", HOUR_S, "roof")
    assert [i.name for i in record.inputs] == ["pm25_cf1"]
    levels = np.array([10.0, 30.0])
    assert record.apply({"pm25_cf1": levels}).value == pytest.approx(2 + 0.6 * levels, abs=1.0)
    problem = lichen("calibrate", "fit", "--kit", "cellar", "--reference", reference, "--target", "pm25_ugm3", "--dir",
                     store,                      "--out", tmp_path / "c.toml", code=1).stderr  # fmt: skip
    assert "kit cellar has no hours" in problem
