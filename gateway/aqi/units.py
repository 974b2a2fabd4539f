"""Units of concentrations: factors between them, and between mole fraction and mass for gases at a stated state.

The spellings that schemes use are known here, so that loading one costs no pint; a test proves each factor equal to
pint's. Any other spelling is pint's to judge.
"""

import difflib
from collections.abc import Mapping
from typing import Final

from calibration.physics import ugm3_per_ppb
from calibration.quantities import CONDITIONS, DERIVED, GASES, unit_factor

CANONICAL: Final[Mapping[str, str]] = {
    "pm25": "ug/m**3", "pm10": "ug/m**3", "no2": "ppb", "o3": "ppb", "so2": "ppb", "co": "ppb",
    **{quantity.pollutant: quantity.unit for quantity in DERIVED.values()},
}  # fmt: skip
"""Unit of a pollutant's hours in the store and in `derive_index`; one that is not here is taken in its table's own."""

TEXTS: Final[Mapping[str, str]] = {"ug/m**3": "µg/m³", "mg/m**3": "mg/m³"}
"""How units are written for people where that differs."""

_MASS: Final[Mapping[str, float]] = {"ug/m**3": 1.0, "mg/m**3": 1000.0}
_FRACTION: Final[Mapping[str, float]] = {"ppb": 1.0, "ppm": 1000.0}


class UnitError(ValueError):
    """Raised when a unit is unknown or cannot become another; says which and why."""


def factor(unit: str, to: str, *, pollutant: str = "", condition: str | None = None) -> float:
    """Factor that takes a concentration in `unit` to `to`.

    Parameters
    ----------
    unit, to
        As pint reads them.
    pollutant
        Of gases, whose mass per volume and mole fraction can be converted: no2, o3, so2, co.
    condition
        State at which they are converted, a name of `calibration.quantities.CONDITIONS`: `20c` or `25c`, at 1 atm.

    Raises
    ------
    UnitError
        A unit is unknown, one cannot be converted to the other, or only at a state that is not given.

    See Also
    --------
    calibration.physics.ugm3_per_ppb
    """
    unit, to = plain(unit), plain(to)
    for known in (_MASS, _FRACTION):
        if unit in known and to in known:
            return known[unit] / known[to]
    if unit in _MASS and to in _FRACTION:
        return _MASS[unit] / (_FRACTION[to] * _ugm3_per_ppb(unit, to, pollutant, condition))
    if unit in _FRACTION and to in _MASS:
        return _FRACTION[unit] * _ugm3_per_ppb(unit, to, pollutant, condition) / _MASS[to]
    try:
        return unit_factor(unit, to)
    except (AttributeError, ValueError, TypeError) as error:  # pint's errors are of these kinds
        names = [*_SPELLINGS.values(), *_FRACTION]
        unknown = next((u for u in (unit, to) if repr(u) in str(error) and "not defined" in str(error)), "")
        near = difflib.get_close_matches(unknown, names, n=1, cutoff=0.4) if unknown else []
        raise UnitError(f"{error}{f'; did you mean {near[0]!r}?' if near else ''}") from error


def _ugm3_per_ppb(unit: str, to: str, pollutant: str, condition: str | None) -> float:
    problem = f"Cannot convert {unit} to {to}"
    if pollutant not in GASES:
        raise UnitError(f"{problem}: {pollutant or 'the pollutant'} is not one of the gases {', '.join(GASES)}")
    if condition is None:
        raise UnitError(f"{problem}: the scheme does not say for which state of the air ({', '.join(CONDITIONS)})")
    return ugm3_per_ppb(pollutant, condition)


_SPELLINGS: Final[Mapping[str, str]] = {
    "µg/m³": "ug/m**3", "μg/m³": "ug/m**3", "µg/m3": "ug/m**3", "μg/m3": "ug/m**3", "ug/m3": "ug/m**3",
    "ug/m^3": "ug/m**3", "ugm3": "ug/m**3", "µgm3": "ug/m**3", "ug m-3": "ug/m**3", "micrograms/cubic meter": "ug/m**3",
    "ug/m3 lc": "ug/m**3", "ug/m3 sc": "ug/m**3", "micrograms/cubic meter (lc)": "ug/m**3",
    "micrograms/cubic meter (25 c)": "ug/m**3",
    "mg/m³": "mg/m**3", "mg/m3": "mg/m**3", "mg/m^3": "mg/m**3", "mgm3": "mg/m**3",
    "parts per billion": "ppb", "ppbv": "ppb", "nmol/mol": "ppb", "parts per million": "ppm", "ppmv": "ppm",
    "umol/mol": "ppm",
}  # fmt: skip
"""Spellings met in tables of agencies (AirData, aqx_p_432, OpenAQ), in lower case; `LC` and `SC` tell the state of the
air that particles were counted in, which the agencies' tables take as it is."""


def plain(unit: str) -> str:
    """Return a unit as schemes spell it; what is not known stays as it is."""
    tidy = " ".join(unit.strip().split())
    return _SPELLINGS.get(tidy.lower(), tidy.lower() if tidy.lower() in {*_MASS, *_FRACTION} else tidy)


def text(unit: str) -> str:
    """Return a unit for people: `µg/m³`."""
    return TEXTS.get(unit, unit)
