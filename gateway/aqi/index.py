"""Concentrations to indices: truncation, band and rounding in whole numbers, so that no float can be off by one."""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from gateway.aqi.tables import Above, Keep, Negative, Rounding, Table

if TYPE_CHECKING:
    from pint import Quantity

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NO_INDEX: Final = -1
"""In an array of indices: there is none, since there is no concentration or the table does not cover it."""

_GUARD: Final = 1e-9
"""Of a value: 9.1 kept to tenths is 91 steps, though the float times 10 may be a hair below."""

_MOST_STEPS: Final = 1e12
"""Far above every table and far below where whole numbers of 64 bits end."""

_LONGEST_LOOK_UP: Final = 1_000_000
"""Steps of a table that is looked up; a longer one is computed for each value."""

_BLOCK: Final = 32_768
"""Values looked up at once: what is between the passes stays in a core's second cache."""


_FEW: Final = 256
"""Values for which looking up costs more than computing."""

_SHIFT: Final = {Keep.TRUNCATE: 0.0, Keep.HALF_UP: 0.5}
"""What is added before steps are cut off; what is kept in other ways is computed for each value."""


def truncate_steps(concentration: Floats, decimals: int) -> Ints:
    """Truncate toward zero, in whole steps of the last decimal kept.

    Parameters
    ----------
    concentration
        Any shape [the table's unit]; NaN becomes 0.
    decimals
        Decimals kept: 1 means steps of 0.1.
    """
    return _bounded(concentration * _scale(decimals)).astype(np.int64)


def truncate(concentration: Floats, decimals: int) -> Floats:
    """Truncate toward zero; NaN stays. The result is the float nearest to the decimal number."""
    steps = truncate_steps(concentration, decimals) / 10.0**decimals
    return np.where(np.isnan(concentration), np.nan, steps)


def kept(table: Table, concentration: Floats) -> Floats:
    """Return what the scheme keeps of concentrations before it looks for the band.

    Parameters
    ----------
    table
        One pollutant's table of a scheme.
    concentration
        Any shape [the table's unit]; NaN stays.

    Returns
    -------
    Floats
        The same shape and unit: truncated or rounded as the agency does, or as it was where edges are compared exactly.
    """
    if table.keep is Keep.EXACT:
        return concentration
    return np.where(np.isnan(concentration), np.nan, _steps(table, concentration) / 10.0**table.decimals)


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
        Any shape [the table's unit], NaN where there is none. Negative ones count as zero, or have no index, as the
        scheme says.

    Returns
    -------
    Ints
        The same shape; `NO_INDEX` where there is no concentration, it is not finite, or the table does not cover it.

    Notes
    -----
    I = (I_high - I_low) / (C_high - C_low) (C - C_low) + I_low. Above the last band its line goes on (`continue`),
    its last index stays (`hold`), or there is none (`none`), as the scheme says.

    Every step of the table is computed once, in whole numbers; arrays are then looked up.

    References
    ----------
    EPA-454/B-24-002 (2024); 40 CFR 58 Appendix G.

    Examples
    --------
    >>> from gateway.aqi.scheme import load
    >>> sub_index_nounit(load("us-2024").table("pm25"), np.array([9.09, 35.9, -1.0, np.nan])).tolist()
    [50, 102, 0, -1]
    """
    with np.errstate(over="ignore"):
        return _sub_index(table, np.asarray(concentration, np.float64))


def _sub_index(table: Table, values: Floats) -> Ints:
    """Look up steps, a block at a time; the few that lie outside the table are computed."""
    shift = _SHIFT.get(table.keep)
    if shift is None or table.high[-1] > _LONGEST_LOOK_UP or values.size < _FEW:
        return _computed(table, values)
    flat = values.reshape(-1)
    found = np.empty(flat.shape, np.int64)
    by_step = _look_up(table)
    scale, top = _scale(table.decimals), float(len(by_step) - 1)
    scaled, at = np.empty(min(_BLOCK, flat.size)), np.empty(min(_BLOCK, flat.size), np.int32)
    for start in range(0, flat.size, _BLOCK):
        block, mine = flat[start : start + _BLOCK], found[start : start + _BLOCK]
        steps, places = scaled[: block.size], at[: block.size]
        np.multiply(block, scale, out=steps)
        if shift:
            np.add(steps, shift, out=steps)
        lowest = steps.min()
        np.clip(steps, 0.0, top, out=steps)
        inside = steps.max() < top
        if not inside:
            np.fmin(steps, top, out=steps)  # NaN as well goes where there is none
        np.copyto(places, steps, casting="unsafe")
        by_step.take(places, out=mine, mode="wrap")
        if not inside:
            _correct_above(table, block, steps >= top, mine)
        if not lowest > -np.inf:
            mine[np.isneginf(block)] = NO_INDEX
    if table.negative is Negative.NONE:
        found[flat < 0] = NO_INDEX
    return found.reshape(values.shape)


def _correct_above(table: Table, block: Floats, above: NDArray[np.bool_], found: Ints) -> None:
    places = np.flatnonzero(above)
    finite = places[np.isfinite(block[places])]
    if finite.size:
        found[finite] = _computed(table, block[finite])


@lru_cache(maxsize=256)
def _look_up(table: Table) -> Ints:
    """Index of each step from 0 to the end of the table, and at last `NO_INDEX` for what is looked at by itself."""
    steps = np.arange(table.high[-1] + 2, dtype=np.int64)
    found = _of_steps(table, steps)
    found[-1] = NO_INDEX
    return found


def _computed(table: Table, values: Floats) -> Ints:
    finite = np.isfinite(values)
    found = _of_steps(table, np.maximum(_steps(table, values), 0.0).astype(np.int64))
    if table.negative is Negative.NONE:
        finite = finite & ~(values < 0)
    return np.where(finite, found, NO_INDEX)


def _scale(decimals: int) -> float:
    return float(10.0**decimals * (1.0 + _GUARD))


def _bounded(scaled: Floats) -> Floats:
    return np.trunc(np.clip(np.nan_to_num(scaled, nan=0.0), -_MOST_STEPS, _MOST_STEPS))


def _steps(table: Table, values: Floats) -> Floats:
    """Whole steps of the last decimal that the scheme keeps; NaN becomes 0."""
    decimals = table.decimals
    if table.keep is Keep.TRUNCATE:
        return _bounded(values * _scale(decimals))
    if table.keep is Keep.HALF_UP:
        return _bounded(np.floor(values * _scale(decimals) + 0.5))
    scaled = np.clip(np.nan_to_num(values * 10.0**decimals, nan=0.0), -_MOST_STEPS, _MOST_STEPS)
    if table.keep is Keep.HALF_EVEN:
        return np.rint(np.round(scaled, 6))  # a half that a float hides is a half
    return np.ceil(scaled - np.abs(scaled) * _GUARD)  # an edge belongs to the band below it


def _of_steps(table: Table, steps: Ints) -> Ints:
    """Sub-indices of whole steps that are not negative."""
    last = table.high[-1]
    band = np.minimum(np.searchsorted(table.high, steps), len(table.high) - 1)
    inside = np.minimum(steps, last) if table.above is Above.HOLD else steps
    rise = (table.index_high - table.index_low)[band] * (inside - table.low[band])
    run = np.maximum((table.high - table.low)[band], 1)
    found = _divide(rise, run, table.index_low[band], table.rounding)
    covered = steps >= table.low[0]
    if table.above is Above.NONE:
        covered &= steps <= last
    return np.where(covered, found, NO_INDEX)


def _divide(rise: Ints, run: Ints, start: Ints, rounding: Rounding) -> Ints:
    """`start + rise / run`, rounded; only exact halves tell the rules apart."""
    quotient, rest = np.divmod(rise, run)
    index = start + quotient
    if rounding is Rounding.CEILING:
        return index + (rest > 0)
    up = 2 * rest >= run if rounding is Rounding.HALF_UP else (2 * rest > run) | ((2 * rest == run) & (index % 2 == 1))
    return index + up
