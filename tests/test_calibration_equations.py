"""Every fixed correction as published: values worked by hand with their source, joints, and the slips of others."""

import math

import numpy as np
import pytest

from calibration import corrections
from calibration.corrections import CORRECTIONS, Input, WrongInputError
from calibration.flags import Flag, Reason
from calibration.qc import Checked

FIXED = [one for name, one in CORRECTIONS.items() if "@" not in name]


def of(name, **inputs):
    values = {channel: np.array([float(value)]) for channel, value in inputs.items()}
    return corrections.correct_nounit(corrections.find(name), values)[0]


@pytest.mark.parametrize(
    ("name", "inputs", "by_hand"),
    [
        # Barkjohn 2021: 0.524*20 - 0.0862*60 + 5.75 = 10.48 - 5.172 + 5.75
        ("barkjohn2021", {"pm25_cf1": 20, "rh": 60}, 11.058),
        # EPA 2021a (AirSensor2): 0.52*343 - 0.086*50 + 5.75 = 178.36 - 4.3 + 5.75
        ("epa_fasm_2021a", {"pm25_cf1": 343, "rh": 50}, 179.81),
        # 0.46*400 + 3.93e-4*160000 + 2.97 = 184 + 62.88 + 2.97
        ("epa_fasm_2021a", {"pm25_cf1": 400, "rh": 50}, 249.85),
        # EPA 2021b (AirGradient PMS.cpp), RH 50, so that -0.0862*50 = -4.31
        ("epa_airnow_2021b", {"pm25_atm": 20, "rh": 50}, 11.92),  # 10.48 - 4.31 + 5.75
        ("epa_airnow_2021b", {"pm25_atm": 40, "rh": 50}, 27.64),  # w 0.5: 0.655*40 = 26.2; + 1.44
        ("epa_airnow_2021b", {"pm25_atm": 100, "rh": 50}, 80.04),  # 78.6 + 1.44
        # v = 235/50 - 4.2 = 0.5: 0.738*235 = 173.43; -4.31/2; 2.966/2; 5.75/2; 8.84e-4*55225/2 = 24.40945
        ("epa_airnow_2021b", {"pm25_atm": 235, "rh": 50}, 200.04245),
        ("epa_airnow_2021b", {"pm25_atm": 300, "rh": 50}, 289.526),  # 2.966 + 207 + 79.56
        # Barkjohn 2022: 0.524*500 - 4.31 + 5.75
        ("barkjohn2022", {"pm25_cf1": 500, "rh": 50}, 263.44),
        # w = 0.0244*590 - 13.9 = 0.496; Q = 4.21e-4*348100 + 0.392*590 + 3.44 = 381.2701; linear 310.6
        ("barkjohn2022", {"pm25_cf1": 590, "rh": 50}, 0.496 * 381.2701 + 0.504 * 310.6),
        ("barkjohn2022", {"pm25_cf1": 700, "rh": 50}, 484.13),  # 206.29 + 274.4 + 3.44
        ("lrapa", {"pm25_atm": 40}, 19.34),
        ("aqandu", {"pm25_cf1": 40}, 33.77),  # 31.12 + 2.65
        # Wallace: bins of 1000, 100, 10 in 0.1 L; pi d^3/6 = 0.030348, 0.185035, 2.069165 um3
        ("wallace_alt_cf3", {"n03": 1110, "n05": 110, "n10": 10, "n25": 0}, 3 * (0.30348 + 0.185035 + 0.2069165)),
        ("wallace_alt_cf34", {"n03": 1110, "n05": 110, "n10": 10, "n25": 0}, 3.4 * (0.30348 + 0.185035 + 0.2069165)),
        # AirGradient: 0.02838*1000 = 28.38 is below 31; 0.02838*1200 = 34.056 is not
        ("airgradient_20231030", {"n03": 1000, "pm25_atm": 20}, 28.38),
        ("airgradient_20231030", {"n03": 1200, "pm25_atm": 36}, 36),
        ("airgradient_20231218", {"n03": 500, "pm25_atm": 20}, 17.625),
        ("airgradient_20240104", {"n03": 500, "pm25_atm": 20}, 14.48),
        ("airgradient_20240826", {"n03": 500, "pm25_atm": 20}, 19.315),
        ("airgradient_20250116", {"n03": 500, "pm25_atm": 20}, 14.915),
        # Crilley: C = 1 + (0.38/1.65)/(1/0.8 - 1) = 1.921212
        ("crilley2018", {"pm25_atm": 30, "rh": 80}, 30 / 1.9212121),
        # Malings at 20 degC, 50 %: dew point 243.12*0.646166/(17.62 - 0.646166) = 9.25517; 75 + 24 - 50 - 41 + 2.9 DP
        ("malings2020", {"pm25_cf1": 40, "temp": 20, "rh": 50}, 34.83999),
        ("malings2020", {"pm25_cf1": 10, "temp": 20, "rh": 50}, 21 + 4.3 - 11.6 - 11 + 0.73 * 9.25517),
        # hackAIR at 80 %: 0.8**8.60068 = 0.146731; 0.8**5.83411 = 0.272023
        ("hackair_pm25", {"pm25_sds": 30, "rh": 80}, 30 / (1 + 0.48756 * 0.146731)),
        ("hackair_pm10", {"pm10_sds": 30, "rh": 80}, 30 / (1 + 0.81559 * 0.272023)),
    ],
)
def test_a_value_worked_by_hand(name, inputs, by_hand):
    assert of(name, **inputs) == pytest.approx(by_hand, rel=2e-5)


def test_every_correction_has_a_value_worked_by_hand():
    marks = test_a_value_worked_by_hand.pytestmark[0].args[1]
    assert {mark[0] for mark in marks} == {one.id for one in FIXED}


def test_the_constants_are_those_of_the_paper_and_not_of_its_draft():
    """sensortoolkit and others use 0.0852 and 5.72, of the draft of 2020: 0.07 µg/m³ off at 40 %."""
    assert of("barkjohn2021", pm25_cf1=10, rh=40) == pytest.approx(5.24 - 3.448 + 5.75, abs=1e-9)
    assert abs(of("barkjohn2021", pm25_cf1=10, rh=40) - (5.24 - 0.0852 * 40 + 5.72)) > 0.009


@pytest.mark.parametrize(("pm", "slip"), [(30, 3.9), (40, 5.2), (49, 6.4)])
def test_the_blend_is_not_made_of_whole_numbers(pm, slip):
    """In C++ `3/2` is 1 and `21/5` is 4: one port was off by so many µg/m³."""
    weight = pm / 20 - 3 // 2
    wrong = (0.786 * weight + 0.524 * (1 - weight)) * pm - 0.0862 * 50 + 5.75
    assert wrong - of("epa_airnow_2021b", pm25_atm=pm, rh=50) == pytest.approx(slip, abs=0.05)


def test_the_square_is_a_square():
    """One port left it out: 8.84e-4 * 300 in place of 8.84e-4 * 300**2."""
    assert of("epa_airnow_2021b", pm25_atm=300, rh=50) - (2.966 + 0.69 * 300) == pytest.approx(79.56)


@pytest.mark.parametrize("joint", [30, 50, 210, 260])
@pytest.mark.parametrize("rh", [0, 35, 100])
def test_the_five_pieces_meet(joint, rh):
    below, above = (of("epa_airnow_2021b", pm25_atm=joint + d, rh=rh) for d in (-1e-9, 1e-9))
    assert above == pytest.approx(below, abs=1e-6)


def test_the_jumps_are_those_that_the_registry_tells():
    def jump(name, at, eps=1e-9, channel="pm25_cf1", **rest):
        return of(name, **{channel: at + eps}, **rest) - of(name, **{channel: at - eps}, **rest)

    assert jump("epa_fasm_2021a", 343, rh=0) == pytest.approx(207.0 - 184.1, abs=0.1)
    for rh in (0, 100):
        assert jump("barkjohn2022", 570, rh=rh) == pytest.approx(0.5, abs=0.05)
        assert -0.71 < jump("barkjohn2022", 611, rh=rh) < -0.6
    for temp, rh in ((0, 50), (20, 50), (30, 80)):
        assert 7 < jump("malings2020", 20, temp=temp, rh=rh) < 9.5
    assert jump("airgradient_20231030", 31 / 0.02838, 1e-3, "n03", pm25_atm=40) == pytest.approx(9, abs=0.01)
    told = {one.id for one in FIXED if one.jumps}
    assert {"epa_fasm_2021a", "barkjohn2022", "malings2020", "airgradient_20231030"} <= told
    assert not corrections.find("epa_airnow_2021b").jumps


@pytest.mark.parametrize("correction", FIXED, ids=lambda c: c.id)
def test_nothing_is_clamped_and_zero_is_not_special(correction):
    """As published: a reading of exactly 0 is corrected like 0.001, and nothing is cut off at zero."""
    rest = {"rh": 95.0, "temp": 20.0}
    values = {c: np.array([0.0, 1e-9]) if c not in rest else np.full(2, rest[c]) for c in correction.inputs}
    found = corrections.correct_nounit(correction, values)
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    if correction.id in {"barkjohn2021", "epa_fasm_2021a", "epa_airnow_2021b", "barkjohn2022"}:
        assert found[0] < 0


@pytest.mark.parametrize("correction", FIXED, ids=lambda c: c.id)
def test_any_missing_input_gives_no_value(correction):
    full = {c: np.full(3, 50.0) for c in correction.inputs}
    assert np.isfinite(corrections.correct_nounit(correction, full)).all()
    for channel in correction.inputs:
        holed = full | {channel: np.array([50.0, np.nan, 50.0])}
        assert np.isnan(corrections.correct_nounit(correction, holed)).tolist() == [False, True, False]


@pytest.mark.parametrize("correction", FIXED, ids=lambda c: c.id)
def test_another_output_of_the_sensor_is_refused(correction):
    """Mixing CF=1 and ATM is the commonest error of users."""
    main = correction.inputs[0]
    other = {"_cf1": "_atm", "_atm": "_cf1"}.get(main[-4:], "")
    wrong = main[:-4] + other if other else "pm25_cf1"
    values = {wrong if c == main else c: np.ones(1) for c in correction.inputs}
    with pytest.raises(WrongInputError, match=correction.id):
        corrections.correct_nounit(correction, values)


@pytest.mark.parametrize("correction", FIXED, ids=lambda c: c.id)
def test_each_says_where_it_comes_from_and_what_is_unverified(correction):
    assert correction.source
    assert correction.averaging_s >= 60
    assert correction.interval == "none"
    text = " ".join(correction.unverified)
    for name in set(correction.inputs) & {"pm25_cf1", "pm25_atm"} - correction.valid_range.keys():
        assert "range" in text or correction.input is Input.COUNTS or correction.notes, name
    if correction.id in {"malings2020", "barkjohn2022", "lrapa"}:
        assert "all constants" in text


def test_what_kits_do_not_send_is_not_for_kits():
    assert [one.id for one in FIXED if not one.is_for_kits] == ["hackair_pm25", "hackair_pm10"]


def test_water_is_taken_off_up_to_95_percent_and_flagged_above():
    rows = {"pm25_atm": np.full(3, 30.0), "rh": np.array([95.0, 95.1, 100.0])}
    checked = {c: Checked(v, np.ones(3, np.int64), np.zeros(3, np.int64)) for c, v in rows.items()}
    found = corrections.find("crilley2018").apply(checked)
    assert found.value == pytest.approx([30 / (1 + 0.38 / 1.65 * 19)] * 3)
    assert found.flags.tolist() == [Flag.GOOD, Flag.SUSPECT, Flag.SUSPECT]
    assert found.reasons.tolist() == [0, Reason.EXTRAPOLATED, Reason.EXTRAPOLATED]


def test_the_growth_of_jrc_without_the_density_is_not_ours():
    """JRC's `Kohler_lit` starts from 0.38/(1/aw - 1), without /1.65."""
    wrong = 30 / (1 + 0.38 / (1 / 0.8 - 1))
    assert not math.isclose(of("crilley2018", pm25_atm=30, rh=80), wrong, rel_tol=0.1)


def test_whole_arrays_and_single_rows_give_the_same_bits():
    rng = np.random.default_rng(3)
    for correction in FIXED:
        values = {c: rng.uniform(0, 100, 200) for c in correction.inputs}
        together = corrections.correct_nounit(correction, values)
        alone = [
            corrections.correct_nounit(correction, {c: v[i : i + 1] for c, v in values.items()})[0] for i in range(200)
        ]
        assert together.tolist() == alone, correction.id
