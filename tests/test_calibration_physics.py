"""Units of gases at stated conditions, and moist air: by hand, against pint, and against what others got wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration import physics
from calibration.physics import UnknownNameError
from calibration.quantities import CONDITIONS, GASES, unit_registry


@pytest.mark.parametrize(
    ("gas", "condition", "factor"),
    [
        # 46.0055 g/mol over 24.0550 L/mol at 20 °C, 24.4654 at 25, 22.4140 at 0
        ("no2", "20c", 1.9125),
        ("no2", "25c", 1.8804),
        ("no2", "0c", 2.0525),
        ("o3", "20c", 1.9953),
        ("o3", "25c", 1.9619),
    ],
)
def test_factors_of_the_agencies(gas, condition, factor):
    assert physics.ugm3_per_ppb(gas, condition) == pytest.approx(factor, abs=5e-5)


@pytest.mark.parametrize("gas", GASES)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_factor_is_that_of_pint(gas, condition):
    units = unit_registry()
    at, one = CONDITIONS[condition], GASES[gas]
    molar = units.Quantity(1, "molar_gas_constant") * units.Quantity(at.temp_c, "degC").to("kelvin")
    density = units.Quantity(one.molar_mass_g_mol, "g/mol") * units.Quantity(at.pressure_pa, "Pa") / molar
    by_pint = (density * units.Quantity(1, "ppb")).m_as("ug/m**3")
    assert physics.ugm3_per_ppb(gas, condition) == pytest.approx(by_pint, rel=1e-12)


@given(st.floats(-500, 5000), st.sampled_from(sorted(GASES)), st.sampled_from(sorted(CONDITIONS)))
def test_there_and_back_is_the_same(ppb, gas, condition):
    assert physics.ugm3_to_ppb(physics.ppb_to_ugm3(ppb, gas, condition), gas, condition) == pytest.approx(
        ppb, rel=1e-12
    )


def test_units_are_checked_at_the_edge():
    units = unit_registry()
    found = physics.to_mass(units.Quantity(np.array([0.01, 0.02]), "ppm"), "no2", "20c")
    assert found.m_as("ug/m**3") == pytest.approx([19.125, 38.25], abs=1e-3)
    assert physics.to_mixing_ratio(units.Quantity(0.0382, "mg/m**3"), "no2", "20c").m_as("ppb") == pytest.approx(
        19.974, abs=1e-3
    )
    with pytest.raises(Exception, match="Cannot convert"):
        physics.to_mass(units.Quantity(1.0, "ug/m**3"), "no2", "20c")
    with pytest.raises(Exception, match="Cannot convert"):
        physics.to_mixing_ratio(units.Quantity(1.0, "ppb"), "no2", "20c")


def test_an_unknown_gas_or_condition_is_named():
    with pytest.raises(UnknownNameError, match=r"no gas is called 'no3'.*no2"):
        physics.ugm3_per_ppb("no3", "20c")
    with pytest.raises(UnknownNameError, match="no condition is called '20'"):
        physics.ugm3_per_ppb("no2", "20")


@pytest.mark.parametrize(
    ("temp", "rh", "grams"),
    [
        # 611.2*exp(17.62*20/263.12) = 2332.7 Pa; over 461.523*293.15: 17.24 g/m³
        (20.0, 100.0, 17.24),
        (20.0, 50.0, 8.62),
        (0.0, 100.0, 4.848),  # 611.2/(461.523*273.15)
        (30.0, 80.0, 24.21),  # 0.8*4233.7 Pa over 461.523*303.15
    ],
)
def test_absolute_humidity_by_hand(temp, rh, grams):
    assert physics.absolute_humidity(np.array([temp]), np.array([rh]))[0] == pytest.approx(grams, rel=1e-3)


def test_absolute_humidity_is_not_humidity_times_vapour_pressure():
    """A peer returns RH x vapour pressure by that name: 100 times the pressure at saturation."""
    found = physics.absolute_humidity(np.array([20.0]), np.array([100.0]))[0]
    assert found < 20 < physics.saturation_vapour_pressure(np.array([20.0]))[0]


@given(st.floats(-40, 60), st.floats(1, 100))
def test_air_at_its_dew_point_is_saturated(temp, rh):
    dew = physics.dew_point(np.array([temp]), np.array([rh]))
    pressure = physics.saturation_vapour_pressure(dew)
    assert pressure == pytest.approx(rh / 100 * physics.saturation_vapour_pressure(np.array([temp])), rel=1e-9)
    assert np.isnan(physics.dew_point(np.array([temp]), np.array([0.0])))


@pytest.mark.parametrize(("rh", "factor"), [(0, 1.0), (80, 1.9697), (90, 3.1818), (95, 5.6061), (99, 25.0)])
def test_growth_with_kappa_by_hand(rh, factor):
    """1 + (0.4/1.65)/(1/aw - 1); a peer's starts without the density of 1.65, and would give 2.6 at 80 %."""
    assert physics.kohler_growth(np.array([float(rh)]), 0.4)[0] == pytest.approx(factor, abs=1e-4)


def test_growth_has_no_value_in_saturated_air():
    assert np.isnan(physics.kohler_growth(np.array([100.0, 101.0, -1.0, np.nan]), 0.4)).all()
