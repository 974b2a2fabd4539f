"""Evaluation: each number by hand, on the axes and over the rows that its source says."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from collocated import INPUTS, START_S, TARGET, columns, joined, made

import calibration
import calibration.table
from calibration.evaluation import drift, metrics, verdict
from calibration.evaluation.evaluate import evaluate_record, evaluate_table
from calibration.evaluation.uncertainty import Orthogonal, expanded_pct, orthogonal
from calibration.fitting.fit import fit_table
from calibration.inputs import parse
from calibration.table import TableError

NAN = float("nan")


def array(*values):
    return np.array(values, float)


# --- agreement --------------------------------------------------------------------------------------------------


def test_the_sensor_is_on_y_and_the_reference_on_x():
    """Axes swapped, as in atmospy, give slope 0.49 and intercept -0.47: another verdict."""
    found = metrics.agreement(sensor=array(1, 3, 5, 7), reference=array(0, 1, 2, 3))
    assert (found.slope, found.intercept) == (2.0, 1.0)
    noisy = metrics.agreement(sensor=array(2, 1, 6, 7), reference=array(0, 1, 2, 3))
    # by hand: x̄ 1.5, ȳ 4, Sxy 10, Sxx 5, Syy 26 -> slope 2, intercept 1, R² 100/130
    assert (noisy.slope, noisy.intercept, noisy.r2) == pytest.approx((2.0, 1.0, 100 / 130))


def test_rows_without_a_reference_count_nowhere():
    """Counted before they are dropped, as in sensortoolkit, they make the RMSE sqrt(2) too small here."""
    found = metrics.agreement(array(3, 5, 9, 9), array(1, 3, NAN, NAN))
    assert (found.n, found.rmse, found.bias, found.mae) == (2, 2.0, 2.0, 2.0)
    assert found.nrmse_pct == 100.0
    assert metrics.agreement(array(NAN), array(1.0)).n == 0


def test_spread_between_units_by_hand():
    values = np.array([[1.0, 2, NAN], [2.0, 2, 3], [3.0, 5, 3]])
    # two full times, means 2 and 3; squares 1 + 0 + 1 and 1 + 1 + 4, over N M - 1 = 5
    sd, cv = metrics.between_units(values)
    assert sd == pytest.approx(math.sqrt(8 / 5))
    assert cv == pytest.approx(100 * math.sqrt(8 / 5) / 2.5)
    assert math.isnan(metrics.between_units(values[:2])[0])  # two units are too few


def test_a_mean_needs_three_quarters_of_its_rows():
    time_s = START_S + 3600 * np.arange(48)
    value = np.where(np.arange(48) < 24, 1.0, np.where(np.arange(48) < 41, 2.0, NAN))
    starts, (means,) = metrics.windows(time_s, 3600, 86_400, value)
    assert starts.tolist() == [START_S]  # the second day has 17 of 24
    assert means.tolist() == [1.0]
    value[41] = 2.0
    assert len(metrics.windows(time_s, 3600, 86_400, value)[0]) == 2


def test_coverage_counts_rows_that_have_an_interval():
    found = metrics.coverage(array(1, 2, 3, 4), array(1, 0, 4, NAN), array(2, 1, 5, NAN))
    assert found == pytest.approx(1 / 3)
    assert math.isnan(metrics.coverage(array(1), array(NAN), array(NAN)))


# --- expanded uncertainty and classes ---------------------------------------------------------------------------


def test_orthogonal_regression_by_hand():
    # x 0 1 2 3, y 0 2 2 4: Sxx 5, Syy 8, Sxy 6; b1 = (3 + sqrt(9 + 144))/12, b0 = 2 - 1.5 b1
    line = orthogonal(array(0, 2, 2, 4), array(0, 1, 2, 3))
    slope = (3 + math.sqrt(153)) / 12
    assert line.slope == pytest.approx(slope)
    assert line.intercept == pytest.approx(2 - 1.5 * slope)
    residuals = [0 - line.intercept, 2 - line.intercept - slope, 2 - line.intercept - 2 * slope,
                 4 - line.intercept - 3 * slope]  # fmt: skip
    assert line.rss == pytest.approx(sum(r**2 for r in residuals))
    exchanged = orthogonal(array(0, 1, 2, 3), array(0, 2, 2, 4))
    assert exchanged.slope == pytest.approx(1 / slope)  # both axes err: neither is special


def test_expanded_uncertainty_by_hand():
    line = Orthogonal(slope=1.1, intercept=1.0, rss=80.0, n=22)
    # random 80/20 = 4, bias at 30: 1 + 0.1 * 30 = 4; 2 sqrt(4 + 16)/30
    assert expanded_pct(line, 30.0) == pytest.approx(100 * 2 * math.sqrt(20) / 30)
    assert expanded_pct(line, 30.0, u_reference=1.0) == pytest.approx(100 * 2 * math.sqrt(19) / 30)
    assert expanded_pct(line, 30.0, u_reference=9.0) == pytest.approx(100 * 2 * 4 / 30)


def test_what_has_no_line_is_told():
    with pytest.raises(ValueError, match="need 3"):
        orthogonal(array(1, 2), array(1, 2))
    with pytest.raises(ValueError, match="do not vary together"):
        orthogonal(array(1, 1, 1), array(1, 2, 3))


@pytest.mark.parametrize(
    ("factor", "offset", "capture", "reached"),
    [(1.0, 0.0, 100, 1), (1.0, 0.0, 80, 2), (1.0, 0.0, 40, 3), (1.35, 0.0, 100, 2), (1.8, 0.0, 100, 3),
     (1.0, 4.0, 100, 2), (1.0, 6.5, 100, 3), (1.0, 20.0, 100, 0)],
)  # fmt: skip
def test_classes_of_cen_ts_17660(factor, offset, capture, reached):
    reference = np.linspace(2, 40, 60)
    found = verdict.cen("pm25", factor * reference + offset, reference, "ug/m**3", capture)
    assert found.reached == reached


def test_a_gas_in_ppb_is_classed_in_ugm3_at_20_degrees():
    reference = np.linspace(2, 110, 60)
    found = verdict.cen("no2", reference + 6, reference, "ppb", 100)
    assert found.intercept == pytest.approx(6 * 1.9125, abs=0.01)
    assert found.reached == 2  # 11.5 µg/m³ is beyond class 1's 9.8, within class 2's 19


def test_epa_targets_are_met_or_not_point_by_point():
    good = metrics.Agreement(100, 1.2, 4.0, 0.8, 6.0, 40.0, 5.0, 4.0)
    points = {p.name: p.met for p in verdict.epa("pm25", good, 1.0, 10.0)}
    assert points == {"slope": True, "intercept": True, "R²": True, "RMSE": True, "SD between units": True}
    bad = replace(good, slope=1.36, intercept=-5.1, r2=0.69, rmse=7.1, nrmse_pct=30.1)
    assert not any(p.met for p in verdict.epa("pm25", bad, 5.1, 31.0))
    by_share = {p.name: p.met for p in verdict.epa("pm25", replace(bad, nrmse_pct=29.0), 9.0, 29.0)}
    assert by_share["RMSE"]  # 7 µg/m³ or 30 %
    assert by_share["SD between units"]
    assert {p.name: p.met for p in verdict.epa("pm25", good, NAN, NAN)}["SD between units"] is None
    assert not {p.name: p.met for p in verdict.epa("no2", replace(good, rmse=15.1), NAN, NAN)}[
        "RMSE"
    ]  # no share for NO2
    assert verdict.epa("radon", good, 1.0, 1.0) == ()


# --- drift ------------------------------------------------------------------------------------------------------


def test_a_drift_is_measured_and_a_short_time_has_none():
    time_s = START_S + 3600 * np.arange(80 * 24)
    error = 0.1 * np.arange(80 * 24) / 24  # 0.1 a day
    found = drift.parts(time_s, error)
    assert len(found) == drift.PARTS
    assert found[0].bias == pytest.approx(0.5, abs=0.05)
    assert drift.per_30_days(found) == pytest.approx(3.0, abs=0.01)
    assert math.isnan(drift.per_30_days(drift.parts(time_s[:240], error[:240])))


# --- a whole evaluation -----------------------------------------------------------------------------------------


def test_an_evaluation_finds_the_noise_that_was_made_and_nothing_better_published():
    found = evaluate_table(made(2400, noise=0.8), target=TARGET, inputs=parse(INPUTS))
    assert found.agreement.rmse == pytest.approx(0.8, abs=0.1)
    assert found.fixed["barkjohn2021@1"].rmse == pytest.approx(0.8, abs=0.05)  # the rows follow that equation
    assert found.raw.rmse > 5
    assert 0.85 <= found.coverage <= 0.97
    assert [p.share for p in found.learning] == [0.5, 0.7, 0.8]
    assert found.learning[1].rmse == found.agreement.rmse
    assert found.cen.reached == 1
    assert found.agreement.n == 720


def test_units_are_judged_by_themselves_and_together():
    wide, close = columns(900, unit="wide", noise=3.0), columns(900, unit="close", noise=0.5, seed=2)
    found = evaluate_table(joined(wide, close), target=TARGET, inputs=parse(INPUTS), learning=False)
    by_unit = {u.unit: u.agreement for u in found.units}
    assert by_unit["wide"].rmse > 3 * by_unit["close"].rmse
    assert found.rmse_median == pytest.approx((by_unit["wide"].rmse + by_unit["close"].rmse) / 2)
    assert found.agreement.n == by_unit["wide"].n + by_unit["close"].n


def test_units_with_other_inputs_are_judged_with_what_they_have():
    whole, lacking = columns(600, unit="whole"), columns(600, unit="lacking", seed=2)
    lacking["rh"][:] = NAN
    found = evaluate_table(joined(whole, lacking), target=TARGET, inputs=parse(INPUTS), learning=False)
    assert {u.unit: u.agreement.n for u in found.units} == {"whole": 180, "lacking": 180}
    assert len(found.records) == 2
    assert ("other_inputs", "lacking") in [(f.code, f.unit) for f in found.findings]


def test_units_beside_each_other_are_compared_and_units_elsewhere_are_not():
    parts = [columns(600, unit=f"u{i}", seed=1) for i in range(3)]
    for i, part in enumerate(parts):
        part["pm25_cf1"] = part["pm25_cf1"] + np.random.default_rng(i).normal(0, 2, 600)
    beside = evaluate_table(joined(*parts), target=TARGET, inputs=parse(INPUTS), learning=False)
    assert next(p for p in beside.epa if p.name == "SD between units").met
    apart = joined(*(columns(600, unit=f"u{i}", seed=i) for i in range(3)))
    elsewhere = evaluate_table(apart, target=TARGET, inputs=parse(INPUTS), learning=False)
    assert next(p for p in elsewhere.epa if p.name == "SD between units").met is None


def test_a_record_is_judged_on_rows_it_was_not_made_from():
    record = fit_table(made(1200), target=TARGET, inputs=INPUTS)
    later = columns(600, seed=7)
    found = evaluate_record(calibration.table.of(later), target=TARGET, record=record)
    assert found.split is None
    assert found.agreement.n == 600
    assert found.agreement.rmse == pytest.approx(0.5, abs=0.1)
    with pytest.raises(TableError, match="no column"):
        evaluate_record(
            calibration.table.of({n: v for n, v in later.items() if n != "rh"}), target=TARGET, record=record
        )


def test_what_would_be_refused_is_judged_and_told():
    late = columns(1200)
    late[TARGET] = np.roll(late[TARGET], 3)
    found = evaluate_table(calibration.table.of(late), target=TARGET, inputs=parse(INPUTS), learning=False)
    assert "lag" in [f.code for f in found.findings]
    assert found.records[0].forced == "evaluation"


def test_an_evaluation_as_json_has_no_nan():
    found = evaluate_table(made(600), target=TARGET, inputs=parse(INPUTS)).as_dict()
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text)["coverage90"] == found["coverage90"]


@pytest.mark.parametrize("split", [0.0, 1.0, -1, 2])
def test_a_split_that_leaves_nothing_is_refused(split):
    with pytest.raises(TableError, match="split"):
        evaluate_table(made(600), target=TARGET, inputs=parse(INPUTS), split=split)


def test_nothing_to_judge_is_told():
    rows = columns(100)
    rows[TARGET][:] = NAN
    with pytest.raises(TableError, match="none is complete"):
        evaluate_table(calibration.table.of(rows), target=TARGET, inputs=parse(INPUTS))
