"""NO2 cells after AAN 803: tables, algorithms worked by hand, labels, and what others got wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration import no2
from calibration.assigned import CalibrationError, loads
from calibration.flags import Flag, Reason
from calibration.no2 import CELLS, KNOTS_C, Zeros
from calibration.no2_label import EXAMPLE
from calibration.qc import Checked
from calibration.quantities import unit_registry

B43F, A43F, OX = CELLS["NO2-B43F"], CELLS["NO2-A43F"], CELLS["OX-B431"]
ZEROS = Zeros(we_electronic_mv=224, ae_electronic_mv=231, we_sensor_mv=-21, ae_sensor_mv=-12)


def at(temp, algorithm, cell=B43F, we=250.0, ae=236.0, zeros=ZEROS):
    one = [np.array([float(value)]) for value in (we, ae, temp)]
    return no2.corrected_mv(*one, cell=cell, algorithm=algorithm, zeros=zeros)[0]


@pytest.mark.parametrize(
    ("algorithm", "temp", "by_hand"),
    [
        # WEu - WEe = 26, AEu - AEe = 5
        (1, 20, 23.0),  # 26 - 0.6*5
        (1, 25, 23.5),  # nT half way between 0.6 and 0.4
        (1, 45, 29.25),  # nT half way between 0.2 and -1.5 is -0.65: 26 + 3.25
        (2, 20, 17.25),  # 26 - 1.0*(-21/-12)*5
        (3, 20, 30.0),  # 26 - (-21 + 12) - 1.0*5
        (3, 35, 34.25),  # k'T half way between 0.4 and -0.1: 26 + 9 - 0.15*5
        (4, 20, 47.0),  # 26 + 21 - 0
        (4, 15, 45.0),  # k''T half way between 4 and 0
    ],
)
def test_the_algorithms_by_hand(algorithm, temp, by_hand):
    assert at(temp, algorithm) == pytest.approx(by_hand, abs=1e-9)


def test_algorithm_3_subtracts_the_sensor_zeros():
    """A peer multiplies: k'T (WEo - AEo) AE."""
    assert at(20, 3) == pytest.approx(26 + 9 - 5)
    assert abs(at(20, 3) - (26 - 1.0 * (-21 + 12) * 5)) > 40


def test_the_tables_are_knots_and_neither_a_polynomial_nor_steps():
    """One peer takes them for coefficients of a polynomial; another takes the knot below, and reads past the end."""
    assert no2.factor(B43F, 1, KNOTS_C).tolist() == list(B43F.nt)
    assert no2.factor(B43F, 1, np.array([25.0]))[0] == pytest.approx(0.5)
    assert no2.factor(B43F, 1, np.array([50.0, 51.0, 85.0])).tolist() == [-1.5] * 3
    assert no2.factor(B43F, 1, np.array([-31.0])).tolist() == [1.3]
    assert np.isnan(no2.factor(B43F, 1, np.array([np.nan]))).all()


def test_cells_of_both_sizes_have_tables_of_their_own():
    """The tables of A4 and B4 cells are easily mixed up: at 40 °C it is 0.2 against 2.5."""
    assert no2.factor(A43F, 1, np.array([40.0]))[0] == 2.5
    assert at(40, 1) - at(40, 1, cell=A43F) == pytest.approx((2.5 - 0.2) * 5)
    assert all(len(cell.factors(a)) == len(KNOTS_C) for cell in CELLS.values() for a in (1, 2, 3, 4))
    assert OX.nt == (0.9, 0.9, 1.0, 1.3, 1.5, 1.7, 2.0, 2.5, 3.7)


def test_what_rests_on_one_source_alone_is_said():
    assert [B43F.is_verified(a) for a in (1, 2, 3, 4)] == [True, False, True, False]
    label = loads(EXAMPLE.replace("algorithm = 1", "algorithm = 2"), "kit-1")
    assert "one source alone" in label.unverified[0]
    assert loads(EXAMPLE, "kit-1").unverified == ()


@pytest.mark.parametrize("algorithm", [0, 5, -1])
def test_another_algorithm_is_refused(algorithm):
    with pytest.raises(ValueError, match="1 to 4"):
        at(20, algorithm)


def test_algorithm_2_refuses_a_zero_by_which_it_divides():
    with pytest.raises(ValueError, match="divides"):
        at(20, 2, zeros=Zeros(we_electronic_mv=224, ae_electronic_mv=231, we_sensor_mv=-21))


def test_sensitivity_from_the_current_and_the_gain():
    """-355 nA/ppm x -0.73 mV/nA = 259 mV/ppm."""
    assert no2.sensitivity_of_current(-355, -0.73) == pytest.approx(0.25915)


def test_ozone_from_an_ox_cell_takes_off_its_no2():
    """(20 mV - 10 ppb x 0.3 mV/ppb) / 0.4 mV/ppb."""
    found = no2.ozone(np.array([20.0]), np.array([10.0]), no2_sensitivity_mv_ppb=0.3, o3_sensitivity_mv_ppb=0.4)
    assert found[0] == pytest.approx(42.5)


def test_units_are_checked_at_the_edge_and_agree_with_the_bare_twin():
    q = unit_registry().Quantity
    found = no2.mixing_ratio_of(
        q(np.array([0.250]), "V"), q(np.array([236_000.0]), "uV"), q(np.array([293.15]), "kelvin"), cell="NO2-B43F",
        algorithm=1, zeros=ZEROS, sensitivity=q(259.0, "mV/ppm"),
    )  # fmt: skip
    assert found.m_as("ppb")[0] == pytest.approx(23.0 / 0.259)
    with pytest.raises(Exception, match="Cannot convert"):
        no2.mixing_ratio_of(
            q(1.0, "nA"), q(1.0, "mV"), q(20.0, "degC"), cell="NO2-B43F", algorithm=1, zeros=ZEROS,
            sensitivity=q(0.259, "mV/ppb"),
        )  # fmt: skip


@given(st.floats(100, 500), st.floats(100, 500), st.floats(-40, 60), st.sampled_from([1, 2, 3, 4]))
def test_more_gas_is_more_signal_and_nothing_is_clamped(we, ae, temp, algorithm):
    low, high = (at(temp, algorithm, we=we + d, ae=ae) for d in (0, 1))
    assert high - low == pytest.approx(1.0, abs=1e-9)


# Labels


def checked(*values, flag=Flag.GOOD, reasons=0):
    n = len(values)
    return Checked(np.array(values, float), np.full(n, int(flag)), np.full(n, int(reasons)))


def test_a_label_makes_no2_of_both_electrodes():
    """we 250 mV, ae 236 mV at 20 °C: 23 mV; over 0.259 mV/ppb."""
    label = loads(EXAMPLE, "kit-1")
    assert (label.label, label.output, label.interval) == ("no2-202751234@1", "no2_ppb", "none")
    assert label.inputs == ("no2_we", "no2_ae", "temp_gas")
    found = label.apply({"no2_we": checked(250_000), "no2_ae": checked(236_000), "temp_gas": checked(20)})
    assert found.value[0] == pytest.approx(23 / 0.259)
    assert (found.flags[0], found.reasons[0]) == (Flag.GOOD, 0)


def test_beyond_the_cells_temperatures_no2_is_suspect_and_without_one_there_is_none():
    label = loads(EXAMPLE, "kit-1")
    pair = {"no2_we": checked(250_000, 250_000, 250_000), "no2_ae": checked(236_000, 236_000, 236_000)}
    found = label.apply(pair | {"temp_gas": checked(40.0, 40.1, np.nan, flag=Flag.GOOD)})
    assert found.flags[:2].tolist() == [Flag.GOOD, Flag.SUSPECT]
    assert found.reasons.tolist() == [0, Reason.EXTRAPOLATED, Reason.NO_TEMPERATURE]
    assert np.isnan(found.value[2])


def test_total_zeros_and_currents_say_the_same_as_sensor_zeros_and_voltages():
    same = EXAMPLE.replace("we_sensor_zero_mv = -21.0", "we_total_zero_mv = 203.0").replace(
        "sensitivity_mv_ppb = 0.259", "sensitivity_na_ppm = -354.7945205479452\ngain_mv_na = -0.73"
    )
    one, other = loads(EXAMPLE, "k"), loads(same, "k")
    assert other.zeros == one.zeros
    assert other.sensitivity_mv_ppb == pytest.approx(one.sensitivity_mv_ppb)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('cell = "NO2-B43F"', 'cell = "NO2-B4"', "NO2-B43F or NO2-A43F"),
        ('cell = "NO2-B43F"', 'cell = "OX-B431"', "NO2-B43F or NO2-A43F"),
        ("sensitivity_mv_ppb = 0.259", "sensitivity_mv_ppb = 259.0", "another unit"),
        ("sensitivity_mv_ppb = 0.259", "sensitivity_mv_ppb = -0.259", "another sign"),
        ("sensitivity_mv_ppb = 0.259", "sensitivity_na_ppm = 355.0", "another unit or of another sign"),
        ("sensitivity_mv_ppb = 0.259", "sensitivity_mv_ppb = 0.259\nsensitivity_na_ppm = -200.0", "do not agree"),
        ("sensitivity_mv_ppb = 0.259", "", "sensitivity_mv_ppb is missing"),
        ("we_electronic_zero_mv = 224.0", "we_electronic_zero_mv = 0.224", "no label says that"),
        ("we_electronic_zero_mv = 224.0", "we_electronic_zero_mv = '224'", "a number"),
        ("ae_electronic_zero_mv = 231.0", "", "ae_electronic_zero_mv is missing"),
        ("we_sensor_zero_mv = -21.0", "we_total_zero_mv = 240.0\nwe_sensor_zero_mv = -21.0", "not the sum"),
        ("algorithm = 1", "algorithm = 5", "1, 2, 3 or 4"),
        ("algorithm = 1", "algorithm = true", "1, 2, 3 or 4"),
        ("algorithm = 1", "algoritm = 1", "did you mean 'algorithm'"),
        ('temperature = "temp_gas"', 'temperature = "rh"', "temp_gas, temp_amb, temp"),
        ("version = 1", "version = 0", "from 1 on"),
        ('id = "no2-202751234"', 'id = "a b"', "letters, digits"),
        ('id = "no2-202751234"', "", "id None"),
        ('kind = "no2-cell"', "kind = ", "not TOML"),
    ],
)
def test_a_label_that_cannot_be_right_is_refused_with_what_would_be(old, new, says):
    assert old in EXAMPLE
    with pytest.raises(CalibrationError, match=says):
        loads(EXAMPLE.replace(old, new), "kit-1")


def test_algorithm_2_needs_an_auxiliary_zero():
    text = EXAMPLE.replace("algorithm = 1", "algorithm = 2").replace(
        "ae_sensor_zero_mv = -12.0", "ae_sensor_zero_mv = 0"
    )
    with pytest.raises(CalibrationError, match="divides"):
        loads(text, "kit-1")
    missing = EXAMPLE.replace("algorithm = 1", "algorithm = 3").replace("ae_sensor_zero_mv = -12.0", "")
    with pytest.raises(CalibrationError, match="ae_sensor_zero_mv is missing"):
        loads(missing, "kit-1")


def test_a_text_without_end_is_refused():
    with pytest.raises(CalibrationError, match="256 KiB"):
        loads("#" * 300_000, "kit-1")
