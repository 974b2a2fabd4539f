"""Concentrations to indices: truncation, band and rounding in whole numbers, so that no float can be off by one."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.aqi.scheme import Above, Rounding, Table

if TYPE_CHECKING:
    from pint import Quantity

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_INDEX: Final = -1
"""In an array of indices: there is none, since there is no concentration or the table does not cover it."""

_GUARD: Final = 1e-6
"""Of one step: 9.1 kept to tenths is 91 steps, though the float times 10 may be a hair below."""

_MOST_STEPS: Final = 1e12
"""Far above every table and far below where whole numbers of 64 bits end."""


def truncate_steps(concentration: Floats, decimals: int) -> Ints:
    """Truncate toward zero, in whole steps of the last decimal kept.

    Parameters
    ----------
    concentration
        Any shape [the table's unit]; NaN becomes 0.
    decimals
        Decimals kept: 1 means steps of 0.1.
    """
    scaled = np.clip(np.nan_to_num(concentration * 10.0**decimals, nan=0.0), -_MOST_STEPS, _MOST_STEPS)
    return np.trunc(scaled + np.copysign(_GUARD, scaled)).astype(np.int64)


def truncate(concentration: Floats, decimals: int) -> Floats:
    """Truncate toward zero; NaN stays. The result is the float nearest to the decimal number."""
    steps = truncate_steps(concentration, decimals) / 10.0**decimals
    return np.where(np.isnan(concentration), np.nan, steps)


def sub_index(table: Table, concentration: "Quantity[Any]") -> Ints:
    """Sub-indices of concentrations with a unit, converted with pint first; see `sub_index_nounit`.

    Raises
    ------
    pint.DimensionalityError
        The unit cannot be converted to the table's.
    """
    return sub_index_nounit(table, np.asarray(concentration.m_as(table.unit), np.float64))


def sub_index_nounit(table: Table, concentration: Floats) -> Ints:
    """Sub-indices of concentrations: truncate, find the band, interpolate, round as the scheme does.

    Parameters
    ----------
    table
        One pollutant's table of a scheme.
    concentration
        Any shape [the table's unit], NaN where there is none. Negative ones count as zero.

    Returns
    -------
    Ints
        The same shape; `NO_INDEX` where there is no concentration or the table does not cover it.

    Notes
    -----
    I = (I_high - I_low) / (C_high - C_low) (C - C_low) + I_low. Above the last band its line goes on (`continue`),
    its last index stays (`hold`), or there is none (`none`), as the scheme says.

    References
    ----------
    EPA-454/B-24-002 (2024); 40 CFR 58 Appendix G.
    """
    steps: Ints = np.maximum(truncate_steps(concentration, table.decimals), 0)
    band = np.minimum(np.searchsorted(table.high, steps), len(table.high) - 1)
    if table.above is Above.HOLD:
        steps = np.minimum(steps, table.high[-1])
    rise = (table.index_high - table.index_low)[band] * (steps - table.low[band])
    whole = _divide(rise, (table.high - table.low)[band], table.index_low[band], table.rounding)
    covered = np.isfinite(concentration) & (steps >= table.low[0])
    if table.above is Above.NONE:
        covered &= steps <= table.high[-1]
    return np.where(covered, whole, NO_INDEX)


def _divide(rise: Ints, run: Ints, start: Ints, rounding: Rounding) -> Ints:
    """`start + rise / run`, rounded; only exact halves tell the rules apart."""
    quotient, rest = np.divmod(rise, run)
    index = start + quotient
    up = 2 * rest >= run if rounding is Rounding.HALF_UP else (2 * rest > run) | ((2 * rest == run) & (index % 2 == 1))
    return index + up
