"""Physics of moist air and of gases: units at stated conditions, absolute humidity, dew point, hygroscopic growth.

Functions take float64 arrays (or floats) in canonical units and return the same; NaN in gives NaN out. The twins that
take units, `to_mass`, `to_mixing_ratio`, convert with pint first.
"""

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from calibration.quantities import CONDITIONS, GASES, Condition, Gas, unit_registry

if TYPE_CHECKING:
    from pint import Quantity

Floats = NDArray[np.float64]
_Known = TypeVar("_Known")

GAS_CONSTANT: Final = 8.31446261815324
"""Molar gas constant [J/(mol K)], exact since the SI of 2019."""
WATER_GAS_CONSTANT: Final = 461.523
"""Specific gas constant of water vapour [J/(kg K)]: the molar one over 18.0153 g/mol."""
ZERO_CELSIUS_K: Final = 273.15


class UnknownNameError(LookupError):
    """Raised when a table has no entry of the name asked for; carries the name and the nearest known one."""

    def __init__(self, kind: str, name: str, known: Mapping[str, object]) -> None:
        self.name = name
        self.nearest = next(iter(difflib.get_close_matches(name, known, n=1)), None)
        super().__init__(f"no {kind} is called {name!r}; known: {', '.join(known)}")


def ugm3_per_ppb(gas: str, condition: str) -> float:
    """Factor from ppb to µg/m³ at a stated condition [µg/m³/ppb]: `M p / (R T)`.

    Parameters
    ----------
    gas
        Name in `GASES`: `no2`, `o3`, `no`, `co`, `so2`.
    condition
        Name in `CONDITIONS`: `20c` (EU, UK), `25c` (US EPA, WHO), `0c`; all at 1 atm.

    Raises
    ------
    UnknownNameError
        An unknown gas or condition.

    Notes
    -----
    NO2: 1.9125 at 20 °C, 1.8804 at 25 °C. O3: 1.9953 and 1.9619. An ideal gas; within 0.1 % for these gases in air.
    The condition is stated, never measured: at the temperature of the moment NO2 would move by -3 to +7 %.

    Examples
    --------
    >>> round(ugm3_per_ppb("no2", "20c"), 4)
    1.9125
    """
    one, at = _known("gas", gas, GASES), _known("condition", condition, CONDITIONS)
    return _factor(one, at)


def _factor(gas: Gas, at: Condition) -> float:
    # g/mol * Pa / (J/(mol K) * K) = g/m³ of the pure gas; a ppb of it is 1e-9 of that, and a gram 1e6 µg
    return gas.molar_mass_g_mol * at.pressure_pa / (GAS_CONSTANT * (at.temp_c + ZERO_CELSIUS_K)) * 1e-3


def _known(kind: str, name: str, table: Mapping[str, _Known]) -> _Known:
    if name not in table:
        raise UnknownNameError(kind, name, table)
    return table[name]


def ppb_to_ugm3(mixing_ratio: Floats, gas: str, condition: str) -> Floats:
    """Mass concentration of a gas [µg/m³] from its mixing ratio [ppb]; see `ugm3_per_ppb`."""
    return mixing_ratio * ugm3_per_ppb(gas, condition)


def ugm3_to_ppb(mass: Floats, gas: str, condition: str) -> Floats:
    """Mixing ratio of a gas [ppb] from its mass concentration [µg/m³]; see `ugm3_per_ppb`."""
    return mass / ugm3_per_ppb(gas, condition)


def to_mass(mixing_ratio: "Quantity[Any]", gas: str, condition: str) -> "Quantity[Any]":
    """Mass concentration of a gas [µg/m³] from a mixing ratio with its unit (ppb, ppm, 1).

    Raises
    ------
    UnknownNameError
        An unknown gas or condition.
    pint.DimensionalityError
        Not a mixing ratio.
    """
    return unit_registry().Quantity(ppb_to_ugm3(mixing_ratio.m_as("ppb"), gas, condition), "ug/m**3")


def to_mixing_ratio(mass: "Quantity[Any]", gas: str, condition: str) -> "Quantity[Any]":
    """Mixing ratio of a gas [ppb] from a mass concentration with its unit; raises as `to_mass`."""
    return unit_registry().Quantity(ugm3_to_ppb(mass.m_as("ug/m**3"), gas, condition), "ppb")


def saturation_vapour_pressure(temp: Floats) -> Floats:
    """Saturation vapour pressure over water [Pa].

    Parameters
    ----------
    temp
        Air temperature [°C], -45 to 60.

    References
    ----------
    WMO-No. 8, Guide to Instruments and Methods of Observation, 2018, annex 4.B: 6.112 hPa exp(17.62 t/(243.12 + t)).
    """
    found: Floats = 611.2 * np.exp(17.62 * temp / (243.12 + temp))
    return found


def absolute_humidity(temp: Floats, rh: Floats) -> Floats:
    """Mass of water vapour in a volume of air [g/m³]: vapour pressure over (R_w T).

    Parameters
    ----------
    temp
        Air temperature [°C], -45 to 60.
    rh
        Relative humidity of that air [%], 0 to 100.

    Notes
    -----
    At 20 °C and 100 % it is 17.3 g/m³. A vapour pressure times a relative humidity is no absolute humidity.
    """
    return 1000.0 * (rh / 100.0) * saturation_vapour_pressure(temp) / (WATER_GAS_CONSTANT * (temp + ZERO_CELSIUS_K))


def dew_point(temp: Floats, rh: Floats) -> Floats:
    """Temperature at which the air would be saturated [°C]; the inverse of `saturation_vapour_pressure`.

    Parameters
    ----------
    temp
        Air temperature [°C], -45 to 60.
    rh
        Relative humidity of that air [%], above 0; NaN at 0.
    """
    log_ratio = np.log(np.where(rh > 0, rh, np.nan) / 100.0) + 17.62 * temp / (243.12 + temp)
    found: Floats = 243.12 * log_ratio / (17.62 - log_ratio)
    return found


DRY_DENSITY_G_CM3: Final = 1.65
"""Of dry ambient particles, as Crilley 2018 takes it [g/cm³]."""


def kohler_growth(rh: Floats, kappa: float, dry_density_g_cm3: float = DRY_DENSITY_G_CM3) -> Floats:
    """Factor by which water makes a particle sensor read high [1]: `1 + (kappa/density) / (1/aw - 1)`, aw = RH/100.

    Parameters
    ----------
    rh
        Relative humidity where the particles are measured [%], 0 to below 100.
    kappa
        Hygroscopicity [1]: 0.38 to 0.41 in the literature.
    dry_density_g_cm3
        Of the dry particles, relative to water [g/cm³].

    Returns
    -------
    Floats
        1 at 0 %; NaN at 100 % and beyond, where the equation has none. It explodes towards it: kappa 0.4 gives
        1.97 at 80 %, 3.18 at 90 %, 5.61 at 95 %, 25 at 99 %.

    References
    ----------
    Crilley et al. 2018, Atmos. Meas. Tech. 11, 709, doi:10.5194/amt-11-709-2018, eq. 3 to 5.
    """
    activity = np.where((rh >= 0) & (rh < 100), rh, np.nan) / 100.0
    # aw / (1 - aw) is 1 / (1/aw - 1) without the division by a humidity of zero
    found: Floats = 1.0 + (kappa / dry_density_g_cm3) * activity / (1.0 - activity)
    return found
