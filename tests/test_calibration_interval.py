"""The 90 % interval of a fitted calibration, from the fit to each row, hour, export and page."""

import csv
import io

import numpy as np
import pytest
from collocated import INPUTS, TARGET, columns, csv_text, record_text
from made_store import COLS, HOUR_S, START_S, MadeStore
from test_calibrate_commands import COLS as GAS_COLS
from test_calibrate_commands import row as gas_row
from test_commands import CONFIG, done
from test_web_page import serving

from calibration.assigned import loads
from calibration.interpolated import Between, Interpolated
from calibration.no2_label import EXAMPLE
from gateway.derive.chain import Stretch, derive_hours
from gateway.export import iso_time
from gateway.records import Flag, Readings, Reason, Void
from gateway.store import losses
from gateway.store.air_pack import air_content

WIDTHS = ((60, 3.0, 0.2), (3600, 1.0, 0.1), (86_400, 0.5, 0.05))


def readings(pm, *, dt_s=60):
    """Rows of one kit, from a whole hour on, each as long as its `dt_s`."""
    pm = np.asarray(pm, float)
    n = len(pm)
    dt = np.broadcast_to(np.asarray(dt_s), n).astype(float)
    end_s = START_S + np.cumsum(dt)
    whole = dict.fromkeys(("boot", "time_source", "time_error_s", "rev"), np.zeros(n, np.int64))
    return Readings(
        kit="k", time_ms=(1000 * end_s).astype(np.int64), seq=np.arange(n), **whole,
        columns={
            "dt": dt, "up": np.cumsum(dt) + 600, "pm_n": np.full(n, 12.0), "pm_bad": np.zeros(n), "pm25_cf1": pm,
            "env_n": np.full(n, 12.0), "env_bad": np.zeros(n), "temp": 20 + np.arange(n) % 2 / 10,
            "rh": np.full(n, 50.0),
        },
    )  # fmt: skip


def moving(n):
    return 20 + 5 * np.sin(np.arange(n) / 7)


def record(**how):
    return loads(record_text("roof-1", {"pm25_cf1": 0.5}, intercept=2.0, widths=how.pop("widths", WIDTHS), **how), "k")


def hours_of(found, *calibrations, **how):
    (pairs,) = derive_hours([Stretch(found, "s", calibrations, **how)])
    return pairs


def test_a_row_has_the_interval_of_its_own_length_and_an_hour_that_of_an_hour():
    ((air, hour),) = hours_of(readings(moving(60)), record())
    value = air.values["pm25_ugm3"]
    np.testing.assert_allclose(value, 2 + 0.5 * moving(60))
    np.testing.assert_allclose(air.hi["pm25_ugm3"] - value, 3.0 + 0.2 * value)
    np.testing.assert_allclose(value - air.lo["pm25_ugm3"], 3.0 + 0.2 * value)
    mean = hour.values["pm25_ugm3"]
    assert hour.lo == {"pm25_ugm3": pytest.approx(mean - 1.0 - 0.1 * mean)}
    assert hour.hi == {"pm25_ugm3": pytest.approx(mean + 1.0 + 0.1 * mean)}
    assert air.cal == hour.cal == "roof-1"


def test_rows_of_a_length_without_an_interval_have_none_and_their_hours_do():
    ((air, hour),) = hours_of(readings(moving(30), dt_s=120), record())
    assert (air.lo, air.hi) == ({}, {})
    assert set(hour.lo) == set(hour.hi) == {"pm25_ugm3"}
    ((air, hour),) = hours_of(readings(moving(60)), record(widths=((86_400, 0.5, 0.05),)))
    assert (air.lo, air.hi, hour.lo, hour.hi) == ({}, {}, {}, {})


def test_published_corrections_have_none():
    ((air, hour),) = hours_of(readings(moving(60)))
    assert (air.lo, air.hi, hour.lo, hour.hi) == ({}, {}, {}, {})
    assert (hour.cal, set(hour.values)) == ("barkjohn2021@1", {"pm25_cf1", "temp", "rh", "pm25_ugm3"})


def test_an_hour_has_the_same_bounds_whatever_hours_are_derived_with_it():
    both = readings(moving(91), dt_s=[60] * 60 + [120] * 30 + [3600])
    together = hours_of(both, record())
    assert [sorted(air.lo) for air, _ in together] == [["pm25_ugm3"], [], ["pm25_ugm3"]]
    for (air, hour), rows in zip(together, (slice(0, 60), slice(60, 90), slice(90, 91)), strict=True):
        alone = Readings(
            both.kit, both.time_ms[rows], both.boot[rows], both.seq[rows], both.time_source[rows],
            both.time_error_s[rows], both.rev[rows], {n: v[rows] for n, v in both.columns.items()},
        )  # fmt: skip
        ((air_alone, hour_alone),) = hours_of(alone, record())
        assert air_content(air_alone) == air_content(air)
        assert hour_alone == hour


def test_values_beyond_the_training_are_suspect_in_row_and_hour_and_keep_their_interval():
    beyond = moving(60)
    beyond[40] = 300.0
    ((air, hour),) = hours_of(readings(beyond), record(domain={"pm25_cf1": (0.0, 100.0)}))
    flagged = air.qc == Flag.SUSPECT
    assert flagged[40]
    assert air.reasons[40] & Reason.EXTRAPOLATED
    assert not (air.reasons[~flagged] & Reason.EXTRAPOLATED).any()
    assert hour.reasons & Reason.EXTRAPOLATED
    assert not np.isnan(air.lo["pm25_ugm3"][40])


@pytest.mark.parametrize("what", ["", "pm25_cf1", "pm25_ugm3"])
def test_what_has_no_value_has_no_bounds(what):
    void = Void(what, 1000 * START_S, 1000 * (START_S + 600))
    ((air, hour),) = hours_of(readings(moving(60)), record(), voids=[void])
    assert np.isnan(air.values["pm25_ugm3"][:10]).all()
    for bound in (air.lo, air.hi):
        np.testing.assert_array_equal(np.isnan(bound["pm25_ugm3"]), np.isnan(air.values["pm25_ugm3"]))
    assert set(hour.lo) == {"pm25_ugm3"}
    half = Void(what, 1000 * START_S, 1000 * (START_S + 1800))
    ((_, hour),) = hours_of(readings(moving(60)), record(), voids=[half])
    assert (hour.lo, hour.hi) == ({}, {})


def test_between_two_records_the_half_width_moves_from_the_one_to_the_other():
    second = loads(record_text("roof-2", {"pm25_cf1": 0.5}, intercept=2.0, widths=((3600, 4.0, 0.0),)), "k")
    moved = Interpolated(Between("roof-1", "roof-2", START_S, START_S + 4 * HOUR_S), record(), second)
    value, time_s = np.full(3, 10.0), START_S + HOUR_S * np.array([0.0, 1.0, 4.0])
    np.testing.assert_allclose(moved.half_width(value, 3600.0, time_s), [2.0, 2.5, 4.0])
    assert moved.half_width(value, 60.0, time_s) is None
    found = hours_of(readings(moving(60)), moved)[0][1]
    mean, weight = found.values["pm25_ugm3"], 0.125
    expected = (1 - weight) * (1.0 + 0.1 * mean) + weight * 4.0
    assert found.hi["pm25_ugm3"] - mean == pytest.approx(expected)


def test_an_hour_that_loses_its_interval_loses_a_field():
    ((_, with_one),) = hours_of(readings(moving(60)), record())
    ((_, without),) = hours_of(readings(moving(60)), record(widths=()))
    assert losses.loses_fields(with_one, without)
    assert not losses.loses_fields(without, with_one)


def place_of(tmp_path):
    (tmp_path / "gateway.toml").write_text(CONFIG)
    return tmp_path / "store", ("-c", tmp_path / "gateway.toml")


def close(made):
    made.db.close()
    (made.dir / "writer.lock").open().close()


def exported(kind, at):
    return list(csv.DictReader(io.StringIO(done("export", kind, *at))))


def test_from_the_fit_to_the_export_rows_name_the_record_and_their_bounds_cover_the_reference(tmp_path):
    beside = columns(1500, seed=3)
    train = 1050
    (tmp_path / "train.csv").write_text(csv_text({n: v[:train] for n, v in beside.items()}))
    done("calibrate", "fit", "--table", tmp_path / "train.csv", "--target", TARGET, "--features", ",".join(INPUTS),
         "--name", "roof-1", "--out", tmp_path / "roof-1.toml")  # fmt: skip
    store, at = place_of(tmp_path)
    made = MadeStore(store)
    hours = beside["datetime_utc"].astype(int)
    made.add("kit-1", COLS, [
        [i, HOUR_S * (i + 1), int(hours[i]) + HOUR_S, 2, HOUR_S, 12, 0, round(10 * beside["pm25_cf1"][i]),
         round(10 * beside["pm25_cf1"][i]), 12, 0, round(100 * beside["temp"][i]), round(100 * beside["rh"][i])]
        for i in range(len(hours))
    ])  # fmt: skip
    made.derive()
    close(made)
    assert not any("_lo" in name for name in exported("air", at)[0])

    start = iso_time(1000 * int(hours[train]))
    done("calibrate", "assign", "kit-1", tmp_path / "roof-1.toml", "--from", start, *at)
    made = MadeStore(store)
    made.derive()
    close(made)
    done("verify", *at)

    reference = dict(zip((iso_time(1000 * (int(t) + HOUR_S)) for t in hours), beside[TARGET], strict=True))
    air = exported("air", at)
    before, after = ([r for r in air if (r["cal"] == "roof-1") is fitted] for fitted in (False, True))
    assert {r["cal"] for r in before} == {"barkjohn2021@1"}
    assert not any(r["pm25_ugm3_lo"] or r["pm25_ugm3_hi"] for r in before)
    assert len(after) == len(hours) - train
    rows = [(float(r["pm25_ugm3_lo"]), reference[r["time"]], float(r["pm25_ugm3_hi"])) for r in after if r["pm25_ugm3"]]
    assert len(rows) > 400
    assert 0.85 <= np.mean([low <= there <= high for low, there, high in rows]) <= 0.96
    of_hours = [r for r in exported("hour", at) if r["cal"] == "roof-1"]
    assert len(of_hours) == len(after)
    for hour, row in zip(of_hours, after, strict=True):  # rows as long as an hour
        for name in ("pm25_ugm3_lo", "pm25_ugm3_hi"):
            assert (hour[name] == row[name] == "") or float(hour[name]) == pytest.approx(float(row[name]))


@pytest.fixture
def shown(tmp_path):
    """Thirty hours of a kit with a gas cell, served; what `assign` gives it is derived at once."""
    store, at = place_of(tmp_path)
    made = MadeStore(store)
    made.add("kit-1", GAS_COLS, [gas_row(seq) for seq in range(60 * 30)])
    made.derive()
    close(made)

    def assign(name, text, from_hour=0):
        (tmp_path / f"{name}.toml").write_text(text)
        start = iso_time(1000 * (START_S + from_hour * HOUR_S))
        done("calibrate", "assign", "kit-1", tmp_path / f"{name}.toml", "--from", start, *at)
        made = MadeStore(store)
        made.derive()
        close(made)

    with serving(made, now_s=START_S + 30 * HOUR_S) as client:
        yield client, assign


def figures_of(client):
    (kit,) = client.get("/api/v1/kits").json()["kits"]
    return kit


def intervals(quantity):
    return [quantity[when]["interval"] for when in ("now", "last_hour", "last_24h")]


def test_the_page_names_calibration_interval_and_averaging_time_also_of_no2(shown):
    client, assign = shown
    assign("roof-1", record_text("roof-1", {"pm25_cf1": 0.5}, widths=WIDTHS[1:]))
    assign("cell", EXAMPLE)
    page = client.get("/").text
    pm25, no2 = (figures_of(client)[name] for name in ("pm25_ugm3", "no2_ppb"))
    assert pm25["correction"] == "fitted beside a reference, made 2026-11-01"
    assert no2["correction"] == loads(EXAMPLE, "kit-1").title
    assert pm25["correction"] in page
    assert no2["correction"] in page
    assert list(no2["last_hour"]["raw"]) == ["no2_we"]
    assert intervals(no2) == ["none"] * 3
    assert intervals(pm25) == ["none for 60 s means", "fitted, 1 h means", "fitted, 24 h means"]
    assert (pm25["now"]["lo"], pm25["now"]["hi"]) == (None, None)
    for mean, floor, growth in ((pm25["last_hour"], 1.0, 0.1), (pm25["last_24h"], 0.5, 0.05)):
        half = pytest.approx(floor + growth * mean["value"])
        assert mean["hi"] - mean["value"] == half
        assert mean["value"] - mean["lo"] == half
        assert f"90 % interval {mean['lo']:.1f} to {mean['hi']:.1f} (fitted, " in page
    series = client.get("/api/v1/series?kit=kit-1&hours=2").json()
    assert series["hours"]["pm25_ugm3_lo"] == [pm25["last_hour"]["lo"], None]
    assert series["hours"]["pm25_ugm3_hi"] == [pm25["last_hour"]["hi"], None]
    assert "pm25_ugm3_lo" not in series["readings"]


def test_a_reading_has_its_interval_and_a_day_of_two_records_has_none(shown):
    client, assign = shown
    assign("roof-1", record_text("roof-1", {"pm25_cf1": 0.5}, widths=WIDTHS))
    assign("roof-2", record_text("roof-2", {"pm25_cf1": 0.5}, widths=WIDTHS), from_hour=20)
    pm25 = figures_of(client)["pm25_ugm3"]
    assert intervals(pm25) == ["fitted, 60 s means", "fitted, 1 h means", "none for 24 h means"]
    assert pm25["now"]["hi"] - pm25["now"]["value"] == pytest.approx(3.0 + 0.2 * pm25["now"]["value"])
    assert (pm25["last_24h"]["lo"], pm25["last_24h"]["hi"]) == (None, None)
    series = client.get("/api/v1/series?kit=kit-1&hours=2").json()
    assert series["readings"]["pm25_ugm3_hi"][-1] == pm25["now"]["hi"]
