"""The drift watch: what it says of made series with known drift, and where an alarm is told; it corrects nothing."""

import json

import numpy as np
import pytest
from made_store import COLS, HOUR_S, START_S, MadeStore, settings_of
from test_commands import CONFIG, done, lichen, stored
from test_metrics import parsed
from test_status import VITALS

from calibration import drift
from calibration.quantities import DERIVED
from gateway import drift as watching
from gateway.exposition import exposition
from gateway.metrics import Live
from gateway.settings import Drift, Settings, Station, Store
from gateway.status import read_status
from gateway.status_problems import problems
from gateway.store import derived
from gateway.store.database import open_reader, snapshot

NOW = 480_000
HOURS = np.arange(NOW - drift.SPAN_H, NOW)


def air(seed=1, hours=drift.SPAN_H):
    """Hourly PM2.5 that is about the same for a few hours, with a day's swing [µg/m³]."""
    rng = np.random.default_rng(seed)
    slow = np.convolve(rng.normal(0, 1, hours + 5), np.ones(6) / 6**0.5, "valid")
    return np.exp(2.3 + 0.5 * slow + 0.3 * np.sin(2 * np.pi * np.arange(hours) / 24))


def watch(value, proxy, hours=HOURS, quantity="pm25_ugm3"):
    return drift.watch(hours, value, proxy, quantity=quantity, now_hour=NOW)


# Of series alone


def test_gain_and_offset_bring_mean_and_spread_of_a_series_to_those_of_its_proxy():
    value = np.array([2.0, 4.0, 6.0, np.nan, 9.0])
    proxy = np.array([5.0, 9.0, 13.0, 7.0, np.nan])
    found = drift.compare(value, proxy)
    # by hand: of the first three, means 4 and 9, deviations 8/3 and 32/3 squared
    assert (found.n, found.gain, found.offset) == (3, pytest.approx(2.0), pytest.approx(1.0))


def test_kolmogorov_smirnov_gives_published_critical_values():
    # D = 1.36 and 1.63 times sqrt((n + m) / nm) for 5 and 1 %: Smirnov 1948, doi:10.1214/aoms/1177730256
    for factor, p in ((1.36, 0.05), (1.63, 0.01)):
        n = 10_000
        steps = round(factor * (2 / n) ** 0.5 * n)
        found = drift.kolmogorov_smirnov(np.arange(n, dtype=float), np.arange(steps, n + steps, dtype=float))
        assert found[0] == pytest.approx(factor * (2 / n) ** 0.5, abs=1e-4)
        assert found[1] == pytest.approx(p, rel=0.06)
    assert drift.kolmogorov_smirnov(np.arange(50.0), np.arange(50.0)) == (0.0, 1.0)
    assert drift.kolmogorov_smirnov(np.arange(50.0), np.arange(100.0, 150.0))[0] == 1.0


def test_hours_that_follow_each_other_count_as_fewer():
    one, other = air(1), air(2)
    assert drift.compare(one, other).ks_p > drift.kolmogorov_smirnov(one, other)[1]


def test_series_of_the_same_air_raise_no_alarm():
    for seed in range(20):
        rng = np.random.default_rng(100 + seed)
        value = air(seed)
        assert watch(value, value + rng.normal(0, 1, len(value))).alarms == (), seed


@pytest.mark.parametrize(
    ("moved", "alarms"),
    [
        (lambda value: 1.6 * (value - value.mean()) + value.mean(), {"gain"}),
        (lambda value: value + 8.0, {"offset"}),
        (lambda value: value + 40.0, {"offset", "ks"}),
    ],
)
def test_each_kind_of_drift_is_an_alarm_of_its_kind(moved, alarms):
    value = air()
    assert set(watch(moved(value), value).alarms) == alarms


def test_an_alarm_takes_five_days_and_ends_with_the_first_good_window():
    value = air()
    for days, told in ((7.9, True), (6.0, False), (2.0, False)):
        late = NOW - round(24 * days) <= HOURS
        found = watch(np.where(late, value + 30, value), value)
        assert ("offset" in found.alarms) == told, days
        assert found.failing_h["offset"] >= 24 * (days - 5)
    mended = np.where(HOURS >= NOW - drift.WINDOW_H, value, value + 30)
    assert watch(mended, value).alarms == ()


def test_too_few_hours_say_nothing_and_a_gap_within_is_passed():
    value = air()
    few = np.where(np.arange(len(value)) % 2, value, np.nan)
    assert watch(few + 30, value).newest is None
    assert watch(few + 30, value).alarms == ()
    gap = value.copy()
    gap[60:100] = np.nan
    assert "offset" in watch(gap + 30, value).alarms
    newest_away = value.copy()
    newest_away[-40:] = np.nan
    assert watch(newest_away + 30, value).alarms == ()


def test_a_sensor_that_does_not_vary_is_an_alarm():
    assert "gain" in watch(np.full(drift.SPAN_H, 8.0), air()).alarms


def test_only_the_eight_days_before_count():
    hours = np.arange(NOW - 1000, NOW + 50)
    value = air(hours=len(hours))
    inside = (hours >= NOW - drift.SPAN_H) & (hours < NOW)
    found = watch(np.where(inside, value, 1e6), np.where(inside, value, 0), hours)
    assert found == watch(value[inside], value[inside])


def test_every_derived_quantity_has_a_threshold_with_its_source():
    assert {*DERIVED, "pm25_cf1"} == set(drift.RULES["offset_beyond"])
    assert all(one["source"] and one["value"] > 0 for one in drift.RULES["offset_beyond"].values())


# Of a store


DAYS = 9
PAIRED = (*COLS, "pm_n_b", "pm_bad_b", "pm25_cf1_b")


def series(moved=0.0):
    found = air(hours=24 * DAYS + 1) + moved
    return lambda t: float(found[(t - START_S) // HOUR_S])


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Nine days of five kits: kit-3 reads 40 µg/m³ more, the second sensor of kit-4 does."""
    made = MadeStore(tmp_path_factory.mktemp("drift") / "store")
    for kit, moved in (("kit-1", 0.0), ("kit-2", 1.0), ("kit-3", 40.0), ("kit-5", 0.5)):
        made.add_span(kit, START_S, START_S + DAYS * 86_400 + 600, series(moved), dt_s=600)
    rows = []
    for seq, t in enumerate(range(START_S + 600, START_S + DAYS * 86_400 + 601, 600)):
        value = round(10 * series()(t))
        rows.append(
            [seq, 60 + seq * 600, t, 2, 600, 12, 0, value, value, 12, 0, 2100 + seq % 9, 5500, 12, 0, value + 80]
        )
    made.add("kit-4", PAIRED, rows)
    made.derive()
    made.db.close()
    (made.dir.parent / "gateway.toml").write_text(CONFIG)
    (made.dir / "writer.lock").open().close()
    return made.dir


def pairs(folder, **options):
    settings = Settings(store=Store(dir=str(folder)), drift=Drift(**options), path=folder.parent / "gateway.toml")
    db = open_reader(folder)
    try:
        with snapshot(db):
            return watching.read(db, settings)
    finally:
        db.close()


def alarms(found):
    return {(one.kit, one.quantity, one.against): set(one.alarms) for one in found.pairs if one.alarms}


def test_a_kit_that_moved_away_from_its_neighbours_is_told_and_no_other(seen):
    found = pairs(seen)
    assert set(alarms(found)) == {("kit-3", "pm25_ugm3", "neighbours"), ("kit-4", "pm25_cf1", "second channel")}
    one = next(one for one in found.pairs if one.kit == "kit-3")
    assert one.offset == pytest.approx(-0.524 * 39.5, abs=3)
    assert one.hours == drift.WINDOW_H


def test_areas_say_who_is_whose_neighbour(seen):
    found = pairs(seen, areas=(("kit-1", "kit-2"), ("kit-3",)))
    assert set(alarms(found)) == {("kit-4", "pm25_cf1", "second channel")}
    assert {one.kit for one in found.pairs if one.against == "neighbours"} == {"kit-1", "kit-2"}


def test_an_official_station_is_a_proxy_and_a_file_that_cannot_be_read_is_told(seen):
    lines = ["time,pm25_ugm3"]
    lines += [f"{START_S + 900 * i},{0.524 * series()(START_S + 900 * i) - 4.741 + 5.75}" for i in range(96 * DAYS)]
    (seen.parent / "roof.csv").write_text("\n".join(lines))
    stations = (Station(name="roof", file="roof.csv"), Station(name="gone", file="gone.csv"))
    found = pairs(seen, stations=stations)
    assert {key[0] for key in alarms(found) if key[2] == "station roof"} == {"kit-3"}
    assert {one.kit for one in found.pairs if one.against == "station roof"} == {
        "kit-1",
        "kit-2",
        "kit-3",
        "kit-4",
        "kit-5",
    }
    assert len(found.unreadable) == 1
    assert "station gone" in found.unreadable[0]


def test_the_alarm_is_in_the_status_in_the_metrics_and_in_the_command_and_changes_nothing(seen):
    before = stored(seen.parent, lambda db: list(derived.read_hours(db)))
    db = open_reader(seen)
    status = read_status(db, settings_of(seen), None, 1, lambda: 1000 * (START_S + DAYS * 86_400 + 600))
    db.close()
    told = [one.what for one in problems(status) if one.what.startswith("drift of")]
    assert [text.split(" for 5 days")[0] for text in told] == [
        "drift of kit-3 pm25_ugm3 against neighbours",
        "drift of kit-4 pm25_cf1 against second channel",
    ]
    numbers = parsed(exposition(settings_of(seen), Live(), VITALS, 0))
    labels = ("against", "neighbours"), ("kit", "kit-3"), ("quantity", "pm25_ugm3")
    assert numbers["lichen_drift_alarm"][labels] == 1
    assert numbers["lichen_drift_alarm"][labels[0], ("kit", "kit-1"), labels[2]] == 0
    result = lichen("calibrate", "watch", "-c", seen.parent / "gateway.toml", "--json")
    assert result.returncode == 1
    found = {(one["kit"], one["against"]): one["alarms"] for one in json.loads(result.stdout)["pairs"]}
    assert "offset" in found["kit-3", "neighbours"]
    assert found["kit-1", "neighbours"] == []
    text = lichen("calibrate", "watch", "-c", seen.parent / "gateway.toml").stdout
    assert "ALARM: offset" in text
    assert text.count("fine") == len(found) - 3
    assert text.count("too few hours in common") == 1  # the pair of kit-4 disagrees, so it has no PM2.5 in most hours
    assert stored(seen.parent, lambda db: list(derived.read_hours(db))) == before


def test_one_kit_with_one_sensor_has_nothing_to_compare_with(tmp_path):
    made = MadeStore(tmp_path / "store")
    made.add_span("alone", START_S, START_S + 7200, lambda t: 8.0 + t % 3)
    made.derive()
    made.db.close()
    (tmp_path / "gateway.toml").write_text(CONFIG)
    assert "nothing to compare" in done("calibrate", "watch", "-c", tmp_path / "gateway.toml")


def test_the_median_of_the_others_leaves_each_one_out():
    rng = np.random.default_rng(3)
    for rows in (2, 3, 4, 7):
        table = rng.normal(0, 1, (rows, 60)).round(1)  # with equal values
        table[rng.uniform(size=table.shape) < 0.4] = np.nan
        for i, found in enumerate(watching.medians_of_others(table)):
            others = np.delete(table, i, axis=0)
            for hour in range(60):
                there = others[~np.isnan(others[:, hour]), hour]
                np.testing.assert_array_equal(found[hour], np.median(there) if len(there) else np.nan)
