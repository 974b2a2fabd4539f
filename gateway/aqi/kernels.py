"""Real-time means over hours, exactly as the agencies define them: the same kernels for the stream and for a batch."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

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


def _lags(hours: Floats, window: int) -> Iterator[Floats]:
    """Yield the hours themselves, those one hour before, and so on; NaN before the first."""
    n = hours.shape[-1]
    padded = np.concatenate([np.full((*hours.shape[:-1], window - 1), np.nan), hours], axis=-1)
    for lag in range(window):
        yield padded[..., window - 1 - lag : window - 1 - lag + n]


def count(hours: Floats, window: int) -> Floats:
    """Count the valid hours in each trailing window.

    Parameters
    ----------
    hours
        Consecutive hours [..., n], NaN where invalid.
    window
        Length of the window, the hour itself included [h].
    """
    total = np.zeros(hours.shape)
    for lagged in _lags(hours, window):
        total += ~np.isnan(lagged)
    return total


def _mean(hours: Floats, window: int, least: int) -> Floats:
    total = np.zeros(hours.shape)
    for lagged in _lags(hours, window):
        total += np.where(np.isnan(lagged), 0.0, lagged)
    present = count(hours, window)
    return np.where(present >= least, total / np.maximum(present, 1.0), np.nan)


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
    return _mean(hours, window, least)


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
    return 0.5 * _mean(hours, TW_HOURS, TW_LEAST) + 0.5 * _mean(hours, TW_RECENT, TW_LEAST_RECENT)


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
    low, high = np.full(hours.shape, np.inf), np.full(hours.shape, -np.inf)
    for lagged in _lags(hours, NOWCAST_HOURS):
        low, high = np.fmin(low, lagged), np.fmax(high, lagged)
    above_zero = np.isfinite(high) & (high > 0)
    with np.errstate(over="ignore"):  # a largest value of next to nothing: infinite, and clipped below
        ratio = np.divide(low, high, out=np.ones(hours.shape), where=above_zero)
    weight = np.clip(ratio, NOWCAST_LEAST_WEIGHT, 1.0)
    power, total, weights = np.ones(hours.shape), np.zeros(hours.shape), np.zeros(hours.shape)
    for lagged in _lags(hours, NOWCAST_HOURS):
        missing = np.isnan(lagged)
        total += np.where(missing, 0.0, power * lagged)
        weights += np.where(missing, 0.0, power)
        power *= weight
    valid = count(hours, NOWCAST_RECENT) >= NOWCAST_LEAST_RECENT
    mean: Floats = np.divide(total, weights, out=np.full(hours.shape, np.nan), where=valid)
    return mean


@dataclass(frozen=True, slots=True)
class Mean:
    """A real-time mean as a scheme asks for it: the kernel, how far it looks back, and the hours it needs [h]."""

    kernel: str
    window: int
    least: int

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
