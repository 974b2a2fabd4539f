"""Official records reproduced: concentrations in, the agencies' own means and indices out."""

import csv
import datetime as dt
from pathlib import Path

import numpy as np
import pytest

from gateway.aqi import kernels
from gateway.aqi.index import sub_index_nounit, truncate
from gateway.aqi.scheme import load

AQI = Path(__file__).resolve().parents[2] / "shared" / "data" / "aqi"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not AQI.is_dir(), reason=f"official records not found at {AQI}"),
]


def rows(name):
    with (AQI / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def numbers(found, column):
    return np.array([float(row[column]) if row[column] else np.nan for row in found])


def share_equal(name, found, expected):
    """Percentage of equal pairs, printed for `pytest -s`."""
    equal = int(np.sum(found == expected))
    print(f"{name}: {equal} of {len(expected)} = {100 * equal / len(expected):.4f} %")  # noqa: T201  (the figures are quoted in the documents)
    return 100 * equal / len(expected)


def by_hour(found, time_of):
    """Hours from the first to the last, each the row of that hour or None."""
    at = {int(time_of(row).timestamp()) // 3600: row for row in found}
    return [at.get(hour) for hour in range(min(at), max(at) + 1)]


@pytest.mark.parametrize(
    ("file", "column", "table", "least"),
    [
        ("us_pm25_newyork_2023_daily.csv", "pm25", "pm25", 12_000),
        ("us_no2_bayarea_2021_daily.csv", "no2", "no2", 1_000),
    ],
)
def test_us_daily_indices(file, column, table, least):
    found = [row for row in rows(file) if row["aqi"] and row[column]]
    assert len(found) > least
    index = sub_index_nounit(load("us-2024").table(table), numbers(found, column))
    assert share_equal(file, index, numbers(found, "aqi")) == 100.0


def test_airnow_nowcast_of_full_windows():
    zone = dt.timezone(dt.timedelta(hours=8))
    hours = by_hour(
        rows("airnow_beijing_2013_hourly_nowcast.csv"),
        lambda r: dt.datetime(int(r["year"]), int(r["month"]), int(r["day"]), int(r["hour"]), tzinfo=zone),
    )
    # the record itself says which hours it holds invalid (985, -47 and others) or missing (-999)
    raw = np.array([float(row["raw_pm25"]) if row and row["qc"] == "Valid" else np.nan for row in hours])
    official = np.array([float(row["nowcast_pm25"]) if row and row["nowcast_pm25"] else np.nan for row in hours])
    full = (kernels.count(raw, 12) == 12) & (official > -900)
    assert full.sum() > 7_000
    found = truncate(kernels.nowcast(raw), 1)
    assert share_equal("AirNow NowCast, full windows", found[full], official[full]) >= 99.9


def taiwan():
    return [row for row in rows("taiwan_taoyuan_2026-07_hourly.csv") if row["status"]]


def test_taiwan_index_from_published_averages():
    tw = load("tw-2025")
    concentrations = {
        "pm25": "pm2_5_avg", "pm10": "pm10_avg", "o3_8h": "o3_8hr", "o3_1h": "o3", "co": "co_8hr", "so2_1h": "so2",
        "no2": "no2",
    }  # fmt: skip
    found = taiwan()
    assert len(found) > 3_000
    official = numbers(found, "aqi")
    subs = {t: sub_index_nounit(tw.table(t), numbers(found, c)) for t, c in concentrations.items()}
    assert share_equal("Taiwan AQI", np.max(list(subs.values()), axis=0), official) >= 99.9
    led = np.array([row["pollutant"] for row in found])
    assert (subs["pm25"] <= official).all()  # a sub-index is never above the index
    pm25 = led == "細懸浮微粒"
    if pm25.any():
        assert share_equal("Taiwan, led by PM2.5", subs["pm25"][pm25], official[pm25]) == 100.0


def test_taiwan_moving_averages():
    stations = {row["site_id"] for row in taiwan()}
    found, official = [], []
    for station in sorted(stations):
        hours = by_hour(
            [row for row in taiwan() if row["site_id"] == station],
            lambda r: dt.datetime.strptime(r["publish_time"], "%Y/%m/%d %H:%M:%S").replace(tzinfo=dt.UTC),
        )
        raw = np.array([float(row["pm2_5"]) if row and row["pm2_5"] else np.nan for row in hours])
        published = np.array([float(row["pm2_5_avg"]) if row and row["pm2_5_avg"] else np.nan for row in hours])
        mean = truncate(kernels.tw_mean(raw), 1)
        both = (kernels.count(raw, 12) == 12) & ~np.isnan(published)
        found.append(mean[both])
        official.append(published[both])
    assert sum(map(len, found)) > 2_500
    assert share_equal("Taiwan PM2.5 moving average", np.concatenate(found), np.concatenate(official)) >= 99.7
