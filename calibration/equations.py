"""The equations that corrections.toml names, as published: pure functions of arrays in canonical units.

Each takes the channels of a correction in the order in which the registry lists them, and its constants by name.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.physics import dew_point, kohler_growth

Floats = NDArray[np.float64]
Polynomial = Mapping[str, float]


def linear(pm: Floats, *, slope: float, offset: float) -> Floats:
    """`slope * pm + offset` [µg/m³].

    Parameters
    ----------
    pm
        Particle mass concentration [µg/m³].
    slope, offset
        Published constants [1], [µg/m³].
    """
    return slope * pm + offset


def linear_rh(pm: Floats, rh: Floats, *, slope: float, per_rh: float, offset: float) -> Floats:
    """`slope * pm + per_rh * rh + offset` [µg/m³].

    Parameters
    ----------
    pm
        Particle mass concentration [µg/m³].
    rh
        Relative humidity inside the sensor's enclosure [%].
    slope, per_rh, offset
        Published constants [1], [µg/m³/%], [µg/m³].
    """
    return slope * pm + per_rh * rh + offset


def pieces(pm: Floats, rh: Floats, *, terms: Sequence[Polynomial], parts: Sequence[Mapping[str, float]]) -> Floats:
    """Polynomials of `pm` and `rh`, one for each stretch of `pm`, with blends between two of them [µg/m³].

    Parameters
    ----------
    pm
        Particle mass concentration, which decides the part [µg/m³].
    rh
        Relative humidity inside the sensor's enclosure [%].
    terms
        Polynomials `square * pm**2 + slope * pm + per_rh * rh + offset`; what one does not name is 0.
    parts
        By rising `pm`. Each ends at `below` (not included) or `up_to` (included), the last nowhere. `use` is the number
        of its polynomial; or `low` and `high` are those of a blend, `w * high + (1 - w) * low` with the weight
        `w = per * pm + at_zero`.
    """
    values = [_polynomial(pm, rh, term) for term in terms]
    result = np.full(np.broadcast(pm, rh).shape, np.nan)
    open_ = ~np.isnan(pm)
    for part in parts:
        here = open_ & (pm < part.get("below", np.inf)) & (pm <= part.get("up_to", np.inf))
        if here.any():
            result = np.where(here, _part(pm, values, part), result)
        open_ = open_ & ~here
    return result


def _polynomial(pm: Floats, rh: Floats, term: Polynomial) -> Floats:
    square, slope, per_rh, offset = (term.get(name, 0.0) for name in ("square", "slope", "per_rh", "offset"))
    return slope * pm + per_rh * rh + offset + square * pm**2


def _part(pm: Floats, values: Sequence[Floats], part: Mapping[str, float]) -> Floats:
    if "use" in part:
        return values[int(part["use"])]
    weight = part["per"] * pm + part["at_zero"]
    return weight * values[int(part["high"])] + (1.0 - weight) * values[int(part["low"])]


def volume_of_counts(
    n03: Floats, n05: Floats, n10: Floats, n25: Floats, *, factor: float, density: float,
    d03: float, d05: float, d10: float,
) -> Floats:  # fmt: skip
    """`factor * density * sum(N_i * pi * d_i**3 / 6)` over the bins 0.3-0.5, 0.5-1.0, 1.0-2.5 µm [µg/m³].

    Parameters
    ----------
    n03, n05, n10, n25
        Particles above 0.3, 0.5, 1.0, 2.5 µm [1/0.1 L]; a bin holds the difference of two.
    factor
        Published calibration factor [1].
    density
        Of the particles [g/cm³].
    d03, d05, d10
        Published mean diameters of the bins [µm].
    """
    bins = ((n03 - n05, d03), (n05 - n10, d05), (n10 - n25, d10))
    volume: Floats = sum((n * np.pi * d**3 / 6.0 for n, d in bins), start=np.zeros(()))  # µm³ in 0.1 L
    # 1 µm³ at 1 g/cm³ is 1e-6 µg; 0.1 L is 1e-4 m³
    return factor * density * volume * 1e-2


def low_from_counts(n03: Floats, pm: Floats, *, slope: float, offset: float, below: float) -> Floats:
    """`slope * n03 + offset` where that is lower than `below`, else `pm` as it is [µg/m³].

    Parameters
    ----------
    n03
        Particles above 0.3 µm [1/0.1 L].
    pm
        PM2.5 as the sensor gives it [µg/m³].
    slope, offset, below
        Published constants of a batch [µg/m³ per 1/0.1 L], [µg/m³], [µg/m³].
    """
    low = slope * n03 + offset
    return np.where(low < below, low, pm) + 0.0 * (low + pm)  # NaN where either is


def growth(pm: Floats, rh: Floats, *, kappa: float, density: float, rh_most: float) -> Floats:
    """`pm / C`, C the growth factor of kappa-Koehler theory [µg/m³]; above `rh_most` that of `rh_most`.

    Parameters
    ----------
    pm
        Particle mass concentration [µg/m³].
    rh
        Relative humidity where the particles are measured [%].
    kappa, density, rh_most
        Hygroscopicity [1], density of the dry particles [g/cm³], highest humidity taken [%].
    """
    return pm / kohler_growth(np.minimum(rh, rh_most), kappa, density)


def two_ranges_with_dew_point(
    pm: Floats, temp: Floats, rh: Floats, *, above: float, high: Polynomial, low: Polynomial
) -> Floats:
    """`offset + slope pm + per_temp T + per_rh RH + per_dew DP`, with other constants above a concentration [µg/m³].

    Parameters
    ----------
    pm
        Particle mass concentration [µg/m³].
    temp, rh
        Temperature [°C] and relative humidity [%]; the dew point DP [°C] follows from them.
    above
        Where `high` begins (not included) [µg/m³].
    high, low
        Published constants of the two ranges.
    """
    dew = dew_point(temp, rh)

    def of(c: Polynomial) -> Floats:
        return c["offset"] + c["slope"] * pm + c["per_temp"] * temp + c["per_rh"] * rh + c["per_dew"] * dew

    return np.where(pm > above, of(high), of(low))


def over_power_of_rh(pm: Floats, rh: Floats, *, factor: float, power: float) -> Floats:
    """`pm / (1 + factor * (rh/100)**power)` [µg/m³].

    Parameters
    ----------
    pm
        Particle mass concentration [µg/m³].
    rh
        Relative humidity [%].
    factor, power
        Published constants [1].
    """
    return pm / (1.0 + factor * (rh / 100.0) ** power)


Equation = Callable[..., Any]

EQUATIONS: Final[Mapping[str, tuple[Equation, frozenset[str]]]] = {
    "linear": (linear, frozenset({"slope", "offset"})),
    "linear_rh": (linear_rh, frozenset({"slope", "per_rh", "offset"})),
    "pieces": (pieces, frozenset({"terms", "parts"})),
    "volume_of_counts": (volume_of_counts, frozenset({"factor", "density", "d03", "d05", "d10"})),
    "low_from_counts": (low_from_counts, frozenset({"slope", "offset", "below"})),
    "growth": (growth, frozenset({"kappa", "density", "rh_most"})),
    "two_ranges_with_dew_point": (two_ranges_with_dew_point, frozenset({"above", "high", "low"})),
    "over_power_of_rh": (over_power_of_rh, frozenset({"factor", "power"})),
}
"""Each equation by name, with the constants it needs."""
