"""`lichen aqi`: columns found by name and unit, what is missing said, errors with their line."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.aqi.columns import recognise
from gateway.aqi.csvtable import CsvError, parse
from gateway.aqi.days import ZoneError
from gateway.aqi.indexing import Asked, index_table
from gateway.aqi.kernels import nowcast
from gateway.aqi.scheme import load


def table(text):
    return parse(text.splitlines(keepends=True))


def indexed(text, scheme, **asked):
    return index_table(table(text), load(scheme), Asked(**asked))


def values(found):
    return [row.value for row in found.rows]


@pytest.mark.parametrize(
    ("name", "pollutant", "hours", "unit"),
    [
        ("pm25_ugm3", "pm25", None, "ug/m**3"),
        ("PM2.5 (µg/m³)", "pm25", None, "ug/m**3"),
        ("pm2_5", "pm25", None, None),
        ("pm2_5_avg", "pm25", 0, None),
        ("PM2.5_AVG", "pm25", 0, None),
        ("nowcast_pm25", "pm25", 0, None),
        ("raw_pm25", "pm25", None, None),
        ("pm25_24h_ugm3", "pm25", 24, "ug/m**3"),
        ("Daily Mean PM2.5 Concentration", "pm25", 0, None),
        ("Daily Max 8-hour Ozone Concentration", "o3", 8, None),
        ("Daily Max 1-hour NO2 Concentration", "no2", 1, None),
        ("Daily Max 8-hour CO Concentration", "co", 8, None),
        ("o3_8hr", "o3", 8, None),
        ("O3 [ppb]", "o3", None, "ppb"),
        ("co_8hr", "co", 8, None),
        ("CO", "co", None, None),
        ("so2_avg", "so2", 0, None),
        ("no2_ppb", "no2", None, "ppb"),
        ("臭氧", "o3", None, None),
        ("細懸浮微粒", "pm25", None, None),
    ],
)
def test_concentrations_are_recognised_by_name(name, pollutant, hours, unit):
    found = recognise(name)
    assert (found.pollutant, found.hours, found.unit) == (pollutant, hours, unit)


@pytest.mark.parametrize(
    "name",
    ["pm25_valid_pct", "pm25_index", "pm25_cf1", "aqi", "no", "nox", "noy", "county", "code", "co2", "pm1", "pm100",
     "o3_qc", "so2_flag", "station", "pollutant", "pm25_lo", "no2_we", "temp", "pm_n"],
)  # fmt: skip
def test_other_columns_are_not_taken_for_concentrations(name):
    assert recognise(name) is None


def test_daily_values_with_a_column_of_units():
    found = indexed(
        "date,site_id,pm25,units\n01/03/2023,1,14,ug/m3 LC\n01/04/2023,1,-0.3,ug/m3 LC\n01/05/2023,1,,ug/m3 LC\n",
        "us-2024",
    )
    assert values(found) == [60, 0, None]
    assert [row.category for row in found.rows] == ["moderate", "good", None]
    assert found.rows[0].keys == {"date": "01/03/2023", "site_id": "1"}
    assert found.missing == ["pm10", "no2", "co", "so2", "o3"]
    assert "pm25: column 'pm25' [µg/m³], as it is" in found.notes
    assert not any(use.assumed for use in found.uses)


@pytest.mark.parametrize(
    ("column", "units", "value", "index"),
    [
        ("o3", "ppm", 0.07853, 126),
        ("o3", "Parts per million", 0.07853, 126),
        ("o3", "ppb", 78.53, 126),
        ("co", "ppm", 8.4, 90),
        ("so2", "ppb", 100.9, 112),
        ("so2", "ppb", 500.0, 200),
        ("no2", "ppb", 53.9, 50),
        ("pm10", "ug/m3 SC", 154.9, 100),
        ("pm10", "mg/m3", 0.1549, 100),
        ("no2", "ug/m3", 101.0, 50),  # 53.7 ppb at 25 °C
    ],
)
def test_daily_values_of_every_pollutant(column, units, value, index):
    assert values(indexed(f"date,{column},units\n2021-01-01,{value},{units}\n", "us-2024")) == [index]


def test_hours_are_averaged_as_the_scheme_does():
    rng = np.random.default_rng(7)
    hours = rng.uniform(5, 80, 30).round(1)
    text = "time,pm25_ugm3\n" + "".join(
        f"2026-01-{1 + h // 24:02}T{h % 24:02}:00:00Z,{x}\n" for h, x in enumerate(hours)
    )
    found = indexed(text, "us-2024")
    expected = nowcast(hours)
    assert values(found)[0] is None
    assert [row.used["pm25"] for row in found.rows[1:]] == pytest.approx(np.trunc(expected[1:] * 10 + 1e-6) / 10)
    assert indexed(text, "us-2024", hourly=False).rows[3].used["pm25"] == hours[3]
    assert any("mean by nowcast" in note for note in found.notes)


def test_sites_do_not_mix_and_rows_keep_their_order():
    lines = [f"2026-01-01 {h:02}:00,{s},{x}" for h in range(6) for s, x in (("b", 10.0), ("a", 99.0))]
    found = indexed("\n".join(["time,site,pm25_ugm3", *reversed(lines)]), "us-2024")
    assert [row.keys["site"] for row in found.rows] == ["a", "b"] * 6
    assert [row.used["pm25"] for row in found.rows][:10] == [99.0, 10.0] * 5


def test_taiwans_published_averages_are_preferred_to_hours():
    text = (
        "publish_time,site_id,pm2_5,pm2_5_avg,pm10,pm10_avg,o3,o3_8hr,co,co_8hr,so2,so2_avg,no2\n"
        "2026/07/03 22:00:00,17,7,5.8,14,10,16,31,0.35,0.2,0.5,1,17\n"
        "2026/07/03 22:00:00,18,5,30.5,15,11,101,31,0.22,0.1,1.6,0,10\n"
    )
    found = indexed(text, "tw-2025")
    assert values(found) == [40, 101]
    assert [row.pollutant for row in found.rows] == [None, "pm25"]
    assert not any(use.assumed for use in found.uses)
    assert found.missing == []


def test_ozone_of_an_hour_and_of_eight_serve_their_own_tables():
    found = indexed("time,o3_ppb,o3_8h_ppb\n2026-07-03T22:00:00Z,140,60\n2026-07-03T23:00:00Z,90,60\n", "tw-2025")
    assert values(found) == [155, 67]


def test_a_series_takes_the_table_of_each_row():
    text = "date,pm25_ugm3\n2024-05-05,12.0\n2024-05-06,12.0\n2012-12-13,12.0\n"
    found = indexed(text, "us")
    assert values(found) == [50, 56, None]
    assert [row.table for row in found.rows] == ["us-2012@1", "us-2024@1", ""]
    tw = indexed("date,no2_ppb\n2020-09-17,31\n2021-01-01,31\n2024-12-31,31\n2025-01-01,31\n", "tw")
    assert [(row.value, row.table) for row in tw.rows] == [
        (29, "tw-2016@1"), (51, "tw-2020@1?"), (51, "tw-2020@1"), (57, "tw-2025@1"),
    ]  # fmt: skip
    with pytest.raises(CsvError, match="name a table, such as us-2024"):
        indexed("pm25_ugm3\n12.0\n", "us")


def test_days_are_those_of_standard_time():
    def text(zone):
        hours = (f"2026-07-{1 + h // 24:02}T{h % 24:02}:00:00{zone},{10.0 if h < 24 else 20.0}\n" for h in range(48))
        return "time,pm25_ugm3\n" + "".join(hours)

    for found in (
        indexed(text(""), "us-2024", daily=True),
        indexed(text("+08:00"), "us-2024", daily=True, zone="Asia/Taipei"),
    ):
        assert [(r.keys["date"], r.used["pm25"], r.value) for r in found.rows] == [
            ("2026-07-01", 10.0, 53), ("2026-07-02", 20.0, 71),
        ]  # fmt: skip
    with pytest.raises(CsvError, match="--zone"):
        indexed(text("Z"), "us-2024", daily=True)
    with pytest.raises(ZoneError, match="midnight lies within"):
        indexed(text("Z"), "us-2024", daily=True, zone="Asia/Kolkata")
    new_york = indexed(text("-04:00"), "us-2024", daily=True, zone="America/New_York")  # summer time never counts
    assert [r.keys["date"] for r in new_york.rows] == ["2026-06-30", "2026-07-01", "2026-07-02"]


def test_a_scheme_without_days_says_so():
    with pytest.raises(CsvError, match="tw-2025 has no rule for days"):
        indexed("time,pm25_ugm3\n2026-07-01T00:00:00,1\n2026-07-01T01:00:00,1\n", "tw-2025", daily=True)


def test_a_row_that_is_there_twice_is_one_and_two_that_differ_are_none():
    lines = [f"2026-01-01T{h:02}:00:00Z,{10.0 + h}" for h in range(12)]
    once = values(indexed("\n".join(["time,pm25_ugm3", *lines]), "us-2024"))
    twice = indexed("\n".join(["time,pm25_ugm3", *(line for line in lines for _ in range(2))]), "us-2024")
    assert values(twice) == [value for value in once for _ in range(2)]
    other = indexed("\n".join(["time,pm25_ugm3", *lines, "2026-01-01T11:00:00Z,99.0"]), "us-2024")
    assert other.rows[-1].used["pm25"] == other.rows[-2].used["pm25"] != twice.rows[-1].used["pm25"]
    assert any("2 rows share an hour" in note for note in other.notes)


def test_cells_that_stand_for_nothing_and_hours_called_invalid():
    cells = ("10,Valid", "NA,Valid", "-999,Missing", "985,Invalid", "12,Valid", "14,Valid")
    lines = [f"2013-01-01 {h:02}:00,{cell}" for h, cell in enumerate(cells)]
    found = indexed("\n".join(["local_time,raw_pm25,qc", *lines]), "us-2012")
    expected = nowcast(np.array([10, np.nan, np.nan, np.nan, 12, 14]))
    assert found.rows[-1].used["pm25"] == pytest.approx(np.floor(expected[-1] * 10) / 10)
    assert any("1 rows" in note or "2 rows" in note for note in found.notes)


def test_twelve_hour_clocks():
    lines = [f"2013-01-01 {h % 12 or 12:02}:00 {'AM' if h < 12 else 'PM'},5" for h in range(24)]
    assert indexed("\n".join(["local_time,pm25_ugm3", *lines]), "us-2024").rows[-1].used["pm25"] == 5.0


@pytest.mark.parametrize(
    ("text", "scheme", "problem"),
    [
        ("", "us-2024", "it is empty"),
        ("time,pm25\n", "us-2024", "no rows"),
        ("a,b\n1,2\n", "us-2024", "no column holds a concentration of pm25, pm10"),
        ("time,pm25,pm25\n2026-01-01,1,2\n", "us-2024", "'pm25' is there twice"),
        ("date,pm25\n2026-01-01,1\n2026-01-02,x1\n", "us-2024", "line 3: column 'pm25': 'x1' is no number"),
        ("date,pm25\n2026-01-01,1,9\n", "us-2024", "line 2: 3 cells where the first line names 2"),
        ("date,pm25\n2026-13-01,1\n", "us-2024", "line 2: column 'date': '2026-13-01' is no time"),
        ("date,o3\n2026-01-01,40\n", "us-2024", "tells no unit.*--unit o3=ppb"),
        ("date,pm25 (ppb)\n2026-01-01,40\n", "us-2024", "not one of the gases"),
        ("date,pm25 (µg/m4)\n2026-01-01,40\n", "us-2024", "'m4' is not defined"),
        ("date,pm25,units\n2026-01-01,1,ug/m3\n2026-01-02,1,mg/m3\n", "us-2024", "several units"),
        ("time,pm25\n2026-01-01T00:00:00Z,1\n2026-01-01T01:00:00,1\n", "us-2024", "some do not"),
        ("time,pm25\n" + "".join(f"2026-01-01T00:{m}:00,{m}\n" for m in range(10, 60)), "us-2024", "share an hour"),
        ("time,pm25\n0026-01-01T00:00:00,1\n2026-01-01T01:00:00,1\n", "us-2024", "centuries after"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, scheme, problem):
    with pytest.raises(CsvError, match=problem):
        indexed(text, scheme)


def test_a_unit_can_be_given():
    assert values(indexed("date,o3\n2026-01-01,78.53\n", "us-2024", units={"o3": "ppb"})) == [126]
    with pytest.raises(CsvError, match="did you mean"):
        indexed("date,o3\n2026-01-01,78.53\n", "us-2024", units={"o3": "pbb"})


def test_separators_and_marks_of_spreadsheets():
    found = indexed("\ufeffdate;pm25 (µg/m³);Ort\r\n2026-01-01;12,5\r\n".replace("12,5", "12.5;x"), "tw-2025")
    assert values(found) == [51]


cells = st.one_of(st.just(""), st.floats(-20, 900).map(lambda x: f"{x:.1f}"))


@given(st.lists(cells, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_value(hours, random):
    lines = [f"2026-01-{1 + h // 24:02}T{h % 24:02}:00:00Z,{x}" for h, x in enumerate(hours)]
    places = random.sample(range(len(lines)), len(lines))
    asked = {"hourly": True}
    straight = indexed("\n".join(["time,pm25_ugm3", *lines]), "us-2024", **asked).rows
    mixed = indexed("\n".join(["time,pm25_ugm3", *(lines[i] for i in places)]), "us-2024", **asked).rows
    assert mixed == [straight[i] for i in places]


def lichen(*arguments, stdin=None):
    return subprocess.run([sys.executable, "-m", "gateway.cli", "aqi", *map(str, arguments)], input=stdin, text=True,
                          capture_output=True, check=False)  # fmt: skip


def test_the_command_prints_csv_and_says_what_it_used(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("date,pm25_ugm3\n2026-01-01,9.1\n2026-01-02,\n", "utf-8")
    done = lichen(file, "--scheme", "us-2024")
    assert done.returncode == 0
    assert list(csv.DictReader(io.StringIO(done.stdout))) == [
        {"date": "2026-01-01", "value": "51", "category": "moderate", "pollutant": "pm25", "pm25_index": "51",
         "pm25_ugm3": "9.1", "table": "us-2024@1"},
        {"date": "2026-01-02", "value": "", "category": "", "pollutant": "", "pm25_index": "", "pm25_ugm3": "",
         "table": "us-2024@1"},
    ]  # fmt: skip
    assert "pm25: column 'pm25_ugm3' [µg/m³], as it is" in done.stderr
    assert "o3: no column" in done.stderr
    same = lichen("-", "--scheme", "us-2024", "--json", stdin=file.read_text("utf-8"))
    found = json.loads(same.stdout)
    assert [row["value"] for row in found["rows"]] == [51, None]
    assert found["missing"] == ["pm10", "no2", "co", "so2", "o3"]
    assert found["columns"][0]["column"] == "pm25_ugm3"


def test_the_command_tells_mistakes_in_one_line(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("date,pm25_ugm3\n2026-01-01,9.1\n", "utf-8")
    for arguments, said in (
        ((file, "--scheme", "us2024"), "did you mean 'us-2024'"),
        ((tmp_path / "none.csv", "--scheme", "us-2024"), "No such file"),
        ((file, "--scheme", "us-2024", "--time", "when"), "there is no column 'when'; there are date, pm25_ugm3"),
    ):
        done = lichen(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    (tmp_path / "big5.csv").write_bytes("日期,臭氧".encode("big5"))
    assert "UTF-8" in lichen(tmp_path / "big5.csv", "--scheme", "us-2024").stderr


def test_the_command_knows_the_operators_schemes(tmp_path):
    from importlib import resources

    (tmp_path / "schemes").mkdir()
    text = (resources.files("gateway.aqi") / "schemes" / "eu-2025.toml").read_text("utf-8")
    (tmp_path / "schemes" / "mine.toml").write_text(
        text.replace("[0, 5, 1, 1]", "[0, 6, 1, 1]").replace("[5, 15", "[6, 15"), "utf-8"
    )
    (tmp_path / "gateway.toml").write_text("", "utf-8")
    file = tmp_path / "mine.csv"
    file.write_text("time,pm25_ugm3\n2026-01-01T00:00:00Z,5.5\n", "utf-8")
    for options in (("--schemes-dir", tmp_path / "schemes"), ("-c", tmp_path / "gateway.toml")):
        done = lichen(file, "--scheme", "mine", *options)
        assert done.stdout.splitlines()[1].startswith("2026-01-01T00:00:00Z,1,good"), done.stderr
