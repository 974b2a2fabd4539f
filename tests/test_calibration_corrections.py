"""Fixed corrections: values by hand, units, and what is refused."""

import numpy as np
import pytest

from calibration import corrections
from calibration.corrections import CorrectionTableError, UnknownCorrectionError, WrongInputError
from calibration.flags import Flag, Reason
from calibration.qc import Checked
from calibration.quantities import CHANNELS, DERIVED, unit_factor, unit_registry

NAN = float("nan")
BARKJOHN = corrections.find("barkjohn2021")


def checked(*values, flag=Flag.GOOD, reasons=0):
    n = len(values)
    return Checked(np.array(values, float), np.full(n, int(flag)), np.full(n, int(reasons)))


@pytest.mark.parametrize(
    ("pm", "rh", "expected"),
    [
        (10.0, 50.0, 6.68),  # 5.24 - 4.31 + 5.75
        (0.0, 0.0, 5.75),  # zero is not special
        (0.0, 100.0, -2.87),  # and a negative value is not clamped
        (100.0, 40.0, 54.702),  # 52.4 - 3.448 + 5.75
        (343.0, 21.3, 183.64594),  # 179.732 - 1.83606 + 5.75
    ],
)
def test_barkjohn2021_by_hand(pm, rh, expected):
    found = corrections.correct_nounit(BARKJOHN, {"pm25_cf1": np.array([pm]), "rh": np.array([rh])})
    assert found[0] == pytest.approx(expected, abs=1e-9)


def test_the_factors_equal_those_of_pint():
    units = unit_registry()
    constants = {name: units.Quantity(c, BARKJOHN.units[name]) for name, c in BARKJOHN.constants.items()}
    pm, rh = units.Quantity(np.array([0.0123, 0.2]), "mg/m**3"), units.Quantity(np.array([0.5, 0.9]), "dimensionless")
    by_pint = constants["slope"] * pm + constants["per_rh"] * rh.to("percent") + constants["offset"]
    found = corrections.correct("barkjohn2021", {"pm25_cf1": pm, "rh": rh})
    bare = corrections.correct_nounit(BARKJOHN, {"pm25_cf1": np.array([12.3, 200.0]), "rh": np.array([50.0, 90.0])})
    np.testing.assert_allclose(found.m_as("ug/m**3"), by_pint.m_as("ug/m**3"), rtol=1e-12)
    np.testing.assert_allclose(bare, by_pint.m_as("ug/m**3"), rtol=1e-12)


def test_a_value_without_mass_concentration_is_refused():
    units = unit_registry()
    with pytest.raises(Exception, match="Cannot convert"):
        corrections.correct(
            "barkjohn2021", {"pm25_cf1": units.Quantity(1.0, "degC"), "rh": units.Quantity(1, "percent")}
        )


@pytest.mark.parametrize("channel", ["pm25_atm", "n03", "pm10_cf1"])
def test_a_wrong_input_channel_is_refused(channel):
    with pytest.raises(WrongInputError, match=f"cf1 output.*not for {channel}") as caught:
        corrections.correct_nounit(BARKJOHN, {channel: np.ones(1), "rh": np.ones(1)})
    assert caught.value.wanted == ("pm25_cf1", "rh")
    with pytest.raises(WrongInputError):
        corrections.correct("barkjohn2021", {channel: unit_registry().Quantity(1.0, CHANNELS[channel].unit)})
    with pytest.raises(WrongInputError):
        corrections.apply(BARKJOHN, {channel: checked(1.0), "rh": checked(50.0)})


def test_a_missing_input_is_refused():
    with pytest.raises(WrongInputError):
        corrections.correct_nounit(BARKJOHN, {"pm25_cf1": np.ones(1)})


@pytest.mark.parametrize(
    ("pm", "rh", "flag", "reasons"),
    [
        (250.0, 50.0, Flag.GOOD, 0),
        (250.1, 50.0, Flag.SUSPECT, Reason.EXTRAPOLATED),
        (0.0, 100.0, Flag.GOOD, 0),
    ],
)
def test_beyond_its_range_the_value_is_kept_and_flagged(pm, rh, flag, reasons):
    found = corrections.apply(BARKJOHN, {"pm25_cf1": checked(pm), "rh": checked(rh)})
    assert (found.flags[0], found.reasons[0]) == (flag, reasons)
    assert found.value[0] == pytest.approx(0.524 * pm - 0.0862 * rh + 5.75)


def test_without_humidity_there_is_no_value():
    rh = checked(NAN, flag=Flag.FAIL, reasons=Reason.RANGE)
    found = corrections.apply(BARKJOHN, {"pm25_cf1": checked(10.0), "rh": rh})
    assert np.isnan(found.value[0])
    assert found.reasons[0] == Reason.NO_HUMIDITY
    assert found.flags[0] == Flag.FAIL
    absent = corrections.apply(BARKJOHN, {"pm25_cf1": checked(10.0), "rh": checked(NAN, flag=Flag.MISSING)})
    assert (absent.flags[0], absent.reasons[0]) == (Flag.MISSING, Reason.NO_HUMIDITY)


def test_flags_and_reasons_of_the_particles_pass_through():
    pm = checked(10.0, flag=Flag.SUSPECT, reasons=Reason.SINGLE_CHANNEL)
    found = corrections.apply(BARKJOHN, {"pm25_cf1": pm, "rh": checked(50.0)})
    assert (found.flags[0], found.reasons[0]) == (Flag.SUSPECT, Reason.SINGLE_CHANNEL)
    assert found.value[0] == pytest.approx(6.68)


def test_the_registry_says_what_it_knows():
    assert BARKJOHN.label == "barkjohn2021@1"
    assert corrections.find("barkjohn2021@1") is BARKJOHN
    assert BARKJOHN.source == "doi:10.5194/amt-14-4617-2021"
    assert (BARKJOHN.interval, BARKJOHN.input, BARKJOHN.averaging_s) == ("none", "cf1", 86400)
    assert any("250" in fact for fact in BARKJOHN.unverified)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownCorrectionError, match="did you mean 'barkjohn2021'") as caught:
        corrections.find("barkjon2021")
    assert caught.value.name == "barkjon2021"


ENTRY = """
[[correction]]
id = "mine"
version = {version}
title = "mine"
output = "pm25_ugm3"
input = "{kind}"
inputs = ["{channel}", "rh"]
equation = "{equation}"
constants = {{ {constant} = 1.0, per_rh = 0.0, offset = 0.0 }}
units = {{ slope = "dimensionless", per_rh = "ug/m**3/percent", offset = "ug/m**3" }}
averaging_s = 3600
range = {{ {channel} = [0, 10] }}
interval = "{interval}"
source = "a test"
"""
GOOD = {
    "version": 1, "kind": "atm", "channel": "pm25_atm", "equation": "linear_rh", "constant": "slope", "interval": "none"
}  # fmt: skip


def test_the_newest_version_is_the_default():
    registry = corrections.load(ENTRY.format(**GOOD | {"version": 2}) + ENTRY.format(**GOOD))
    assert corrections.find("mine", registry).version == 2
    assert corrections.find("mine@1", registry).version == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "cf1"}, "not of the cf1 output"),
        ({"kind": "counts"}, "not of the counts output"),
        ({"kind": "cf2"}, "cf2"),
        ({"channel": "pm25_xyz"}, "unknown channel 'pm25_xyz'"),
        ({"equation": "cubic"}, "unknown equation 'cubic'"),
        ({"constant": "slop"}, "constants must be"),
        ({"interval": "maybe"}, "maybe"),
    ],
)
def test_a_wrong_entry_is_refused_and_named(change, message):
    with pytest.raises(CorrectionTableError, match=message) as caught:
        corrections.load(ENTRY.format(**GOOD | change))
    assert caught.value.entry == "mine"


def test_the_same_version_twice_is_refused():
    with pytest.raises(CorrectionTableError, match="twice"):
        corrections.load(ENTRY.format(**GOOD) * 2)


def test_every_unit_of_the_table_is_known_to_pint():
    assert all(unit_registry().Unit(q.unit) is not None for q in (*CHANNELS.values(), *DERIVED.values()))
    assert unit_factor("ppm", "ppb") == pytest.approx(1000.0, rel=1e-12)
    assert unit_factor("mg/m**3", "ug/m**3") == pytest.approx(1000.0, rel=1e-12)
