"""The acceptance figures: the first 70 % of each unit's rows train, the rest judges, by the command."""

import json
import subprocess
import sys
from functools import cache

import figures
import pytest
from components import REPO, need_shared

pytestmark = pytest.mark.shared

TUKWILA = ("pm25_purpleair_tukwila_hourly.csv", "ref_pm25_ugm3", "pm25_cf1_a,pm25_cf1_b,rh_pct_raw,temp_c_raw")
SOUTH_EAST = ("pm25_purpleair_southeast_us_daily.csv", "ref_pm25_ugm3", "pm25_cf1_mean,rh_pct_raw,temp_c_raw")
ISPRA = ("no2_alphasense_ispra_4boxes_15min.csv", "ref_no2_ppb", "no2_b43f_na,ox_a431_na,temp_int_c,abs_hum")
AMSTERDAM = ("no2_urbanairq_amsterdam_hourly.csv", "ref_vondelpark_no2_ugm3", "waag_55303")


@cache
def evaluate(file, target, features, split="0.7"):
    path = need_shared() / "data" / "calibration" / file
    command = [sys.executable, "-m", "gateway.cli", "calibrate", "evaluate", "--table", path, "--target", target]
    told = subprocess.run(
        [*command, "--features", features, "--split", split, "--json"], check=True, capture_output=True, text=True
    )
    return json.loads(told.stdout)


@pytest.fixture
def told(capsys):
    """Print a line of the acceptance table."""

    def line(text):
        with capsys.disabled():
            sys.stdout.write(f"\n{text}")

    return line


def keep(name, value, unit, goal):
    figures.record(name, round(value, 3), unit=unit, goal=goal, how="make accept")


def curve(found):
    return ", ".join(f"{p['share']:.0%} {p['rmse']:.2f}" for p in found["learning_curve"])


def test_tukwila(told):
    found = evaluate(*TUKWILA)
    rmse, published, coverage = (
        found["agreement"]["rmse"], found["fixed"]["barkjohn2021@1"]["rmse"], found["coverage90"],
    )  # fmt: skip
    told(f"Tukwila PM2.5: RMSE {rmse:.2f} µg/m³ (goal 2.05; barkjohn2021 {published:.2f}), within {coverage:.1%}; "
         f"learned from {curve(found)}")  # fmt: skip
    keep("cal.tukwila_rmse", rmse, "µg/m³", f"<= 2.05 (barkjohn2021: {published:.2f})")
    keep("cal.tukwila_coverage90", 100 * coverage, "%", "85 to 95")
    assert rmse <= 2.05
    assert 0.85 <= coverage <= 0.95


def test_south_east(told):
    found = evaluate(*SOUTH_EAST)
    rmse, coverage = found["agreement"]["rmse"], found["coverage90"]
    told(f"south-east US PM2.5: RMSE {rmse:.2f} µg/m³ (goal 2.1), within {coverage:.1%}; learned from {curve(found)}")
    keep("cal.seus_rmse", rmse, "µg/m³", "<= 2.1")
    keep("cal.seus_coverage90", 100 * coverage, "%", "85 to 95")
    assert len(found["units"]) == 12
    assert rmse <= 2.1
    assert 0.85 <= coverage <= 0.95


def test_ispra(told):
    found = evaluate(*ISPRA)
    median, coverage = found["rmse_median"], found["coverage90"]
    told(f"Ispra NO2: median RMSE {median:.2f} ppb (goal 3.6), within {coverage:.1%}; learned from {curve(found)}")
    keep("cal.ispra_no2_rmse_median", median, "ppb", "<= 3.6")
    keep("cal.ispra_coverage90", 100 * coverage, "%", "85 to 95")
    assert len(found["units"]) == 4
    assert median <= 3.6
    assert 0.85 <= coverage <= 0.95


@pytest.mark.parametrize("table", [TUKWILA, SOUTH_EAST, ISPRA], ids=["tukwila", "south-east", "ispra"])
def test_real_collocations_raise_no_error(table):
    found = evaluate(*table)
    assert [f for f in found["findings"] if f["severity"] == "error"] == []


def test_the_same_command_runs_on_another_kind_of_table():
    found = evaluate(*AMSTERDAM)
    assert found["pollutant"] == "no2"
    assert found["agreement"]["r2"] > 0.5
    assert [f["severity"] for f in found["findings"]] == ["note"]


def test_the_example_of_the_documentation_prints_what_it_says():
    page = (REPO / "docs" / "calibration.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    said = page.split("```text\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=need_shared() / "data/calibration", check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(said)
    values = done.stdout.removeprefix(said).split()
    assert values[:4] == ["value", "lo", "hi", "outside"]
