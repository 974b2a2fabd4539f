"""Real-time means over hours, exactly as the agencies define them: the same kernels for the stream and for a batch.

Each output depends on its own window alone, by the same operations in the same order wherever it stands in an array;
so a live hour and a year at once give the same bits. Each takes bare arrays, or quantities of pint and returns such.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NOWCAST_HOURS: Final = 12
NOWCAST_RECENT: Final = 3
NOWCAST_LEAST_RECENT: Final = 2
NOWCAST_LEAST_WEIGHT: Final = 0.5

TW_HOURS: Final = 12
TW_LEAST: Final = 6
TW_RECENT: Final = 4
TW_LEAST_RECENT: Final = 2

_BLOCK: Final = 8192
"""Windows worked on at once: some arrays of this length stay in a core's second cache."""


def _by_windows(kernel: Callable[[Floats], Floats], hours: Floats, window: int) -> Floats:
    """Apply a kernel to every trailing window, a block at a time.

    The kernel takes consecutive hours [m + window - 1] and returns the m values of the hours that have a whole window;
    before the first hour of a row there is NaN. Hours with a unit of pint give means with the same unit.
    """
    if hasattr(hours, "magnitude"):
        with_unit: Any = hours
        mean: Floats = with_unit.units * _by_windows(kernel, np.asarray(with_unit.magnitude, np.float64), window)
        return mean
    n, before = hours.shape[-1], window - 1
    rows = hours.reshape(-1, n) if n else hours.reshape(0, 0)
    padded = np.full((len(rows), before + n), np.nan)
    padded[:, before:] = rows
    flat = padded.reshape(-1)
    found = np.full(flat.shape, np.nan)
    for start in range(before, len(flat), _BLOCK):
        stop = min(start + _BLOCK, len(flat))
        found[start:stop] = kernel(flat[start - before : stop])
    return found.reshape(padded.shape)[:, before:].reshape(hours.shape)


def _sum_count(hours: Floats, window: int) -> tuple[Floats, Floats]:
    """Sum and number of the valid hours of each whole window, the newest hour added first."""
    m = len(hours) - window + 1
    valid = ~np.isnan(hours)
    ones, zeroed = valid.astype(np.float64), np.where(valid, hours, 0.0)
    total, present = np.zeros(m), np.zeros(m)
    for lag in range(window):
        at = slice(window - 1 - lag, window - 1 - lag + m)
        total += zeroed[at]
        present += ones[at]
    return total, present


def _mean_of(total: Floats, present: Floats, least: int) -> Floats:
    mean: Floats = np.divide(total, present, out=np.full(total.shape, np.nan), where=present >= least)
    return mean


def count(hours: Floats, window: int) -> Floats:
    """Count the valid hours in each trailing window.

    Parameters
    ----------
    hours
        Consecutive hours [..., n], NaN where invalid.
    window
        Length of the window, the hour itself included [h].
    """
    bare = np.asarray(getattr(hours, "magnitude", hours), np.float64)
    return _by_windows(lambda block: _sum_count(block, window)[1], bare, window)


def trailing_mean(hours: Floats, *, window: int, least: int) -> Floats:
    """Mean of the valid hours of each trailing window, the hour itself included.

    Parameters
    ----------
    hours
        Consecutive hours [..., n] [any unit], NaN where invalid.
    window
        Length of the window [h].
    least
        Valid hours needed, at least 1.

    Returns
    -------
    Floats
        [..., n] [the same unit], NaN where too few hours are valid.
    """
    return _by_windows(lambda block: _mean_of(*_sum_count(block, window), least), hours, window)


def mean_8h(hours: Floats, *, least: int = 6) -> Floats:
    """Mean of the last 8 hours, of which 6 must be valid (75 %) unless the agency asks for others.

    Parameters
    ----------
    hours
        Consecutive hours [..., n] [any unit], NaN where invalid.
    least
        Valid hours needed. Taiwan's records fit 5 for O3 and 4 for CO; no text says it.

    References
    ----------
    40 CFR 50 Appendix U (O3, 75 %); AirNow forum 171.
    """
    return trailing_mean(hours, window=8, least=least)


def mean_24h(hours: Floats) -> Floats:
    """Mean of the last 24 hours, of which 18 must be valid (75 %).

    Parameters
    ----------
    hours
        Consecutive hours [..., n] [any unit], NaN where invalid.

    References
    ----------
    AirNow forum 171 and 263; 40 CFR 58 Appendix G.
    """
    return trailing_mean(hours, window=24, least=18)


def tw_mean(hours: Floats) -> Floats:
    """Taiwan's real-time mean of particles: half the mean of 12 hours plus half that of the last 4.

    At least 6 of the 12 and 2 of the 4 must be valid; the window includes the hour itself.

    Parameters
    ----------
    hours
        Consecutive hours [..., n] [µg/m³], NaN where invalid.

    Returns
    -------
    Floats
        [..., n] [µg/m³], not truncated, NaN where too few hours are valid.

    References
    ----------
    airtw.moenv.gov.tw, rules of the real-time AQI; agrees with the averages published in `aqx_p_432`.
    """
    return _by_windows(_tw_block, hours, TW_HOURS)


def _tw_block(hours: Floats) -> Floats:
    long = _mean_of(*_sum_count(hours, TW_HOURS), TW_LEAST)
    recent = _mean_of(*_sum_count(hours[TW_HOURS - TW_RECENT :], TW_RECENT), TW_LEAST_RECENT)
    return 0.5 * long + 0.5 * recent


def nowcast(hours: Floats) -> Floats:
    """EPA's NowCast of particles over 12 hours.

    Weights w^i with w = min/max of the valid hours, between 0.5 and 1; missing hours are left out of both sums. At
    least 2 of the last 3 hours must be valid, and the current one may be missing. Negative hours are not clipped;
    where the largest is not above zero w is 1.

    Parameters
    ----------
    hours
        Consecutive hours [..., n] [µg/m³], NaN where invalid.

    Returns
    -------
    Floats
        [..., n] [µg/m³], not truncated, NaN where too few of the last 3 hours are valid.

    References
    ----------
    EPA leaflet nepis P100X0J6; AirNow forum 172; agrees with AirNow's own hourly records.
    """
    return _by_windows(_nowcast_block, hours, NOWCAST_HOURS)


def _nowcast_block(hours: Floats) -> Floats:
    valid = ~np.isnan(hours)
    whole = bool(valid.all())
    low = _over_12(np.minimum, hours if whole else np.where(valid, hours, np.inf))
    high = _over_12(np.maximum, hours if whole else np.where(valid, hours, -np.inf))
    weight = _nowcast_weight(low, high)
    ones, zeroed = valid.astype(np.float64), hours if whole else np.where(valid, hours, 0.0)
    m = len(weight)
    power, total, weights, term = np.ones(m), np.zeros(m), np.zeros(m), np.empty(m)
    for lag in range(NOWCAST_HOURS):
        at = slice(NOWCAST_HOURS - 1 - lag, NOWCAST_HOURS - 1 - lag + m)
        total += np.multiply(power, zeroed[at], out=term)
        weights += power if whole else np.multiply(power, ones[at], out=term)
        power *= weight
    recent = ones[NOWCAST_HOURS - 1 :] + ones[NOWCAST_HOURS - 2 : -1] + ones[NOWCAST_HOURS - 3 : -2]
    mean: Floats = np.divide(total, weights, out=np.full(m, np.nan), where=recent >= NOWCAST_LEAST_RECENT)
    return mean


def _over_12(smaller: Callable[[Floats, Floats], Floats], hours: Floats) -> Floats:
    """Minimum or maximum of each 12 hours, by those of 2, 4 and 8."""
    two = smaller(hours[1:], hours[:-1])
    four = smaller(two[2:], two[:-2])
    eight = smaller(four[4:], four[:-4])
    return smaller(eight[4:], four[:-8])


def _nowcast_weight(low: Floats, high: Floats) -> Floats:
    above_zero = np.isfinite(high) & (high > 0)
    with np.errstate(over="ignore"):  # a largest value of next to nothing: infinite, and clipped below
        ratio = np.divide(low, high, out=np.ones(low.shape), where=above_zero)
    return np.clip(ratio, NOWCAST_LEAST_WEIGHT, 1.0, out=ratio)


class Mean(msgspec.Struct, frozen=True):
    """A real-time mean as a scheme asks for it: the kernel, how far it looks back, and the hours it needs [h]."""

    kernel: str
    window: int
    least: int

    @property
    def text(self) -> str:
        """What it is, for people."""
        return f"{self.window} h, {self.least} needed" if self.kernel == "trailing" else self.kernel

    def of(self, hours: Floats) -> Floats:
        """Apply it to consecutive hours [..., n]."""
        if self.kernel == "trailing":
            return trailing_mean(hours, window=self.window, least=self.least)
        return FIXED_KERNELS[self.kernel][0](hours)


FIXED_KERNELS: Final[Mapping[str, tuple[Callable[[Floats], Floats], int, int]]] = {
    "nowcast": (nowcast, NOWCAST_HOURS, NOWCAST_LEAST_RECENT),
    "tw_mean": (tw_mean, TW_HOURS, TW_LEAST),
}
"""Kernels whose rules are the agency's own, with their window and the hours they need; `trailing` takes both."""
