"""How well values follow a reference: regression as the EPA does it, errors, spread between units, coverage."""

from dataclasses import dataclass

import numpy as np

from calibration.table import Floats, Ints


@dataclass(frozen=True, slots=True)
class Agreement:
    """How values follow a reference over `n` rows in which both are there; NaN where it cannot be said.

    `slope` and `intercept` of ordinary least squares with the sensor on y and the reference on x; `r2` the squared
    Pearson correlation; `rmse`, `mae` and `bias` (sensor minus reference) [the values' unit]; `nrmse_pct` the RMSE over
    the reference's mean [%].
    """

    n: int
    slope: float
    intercept: float
    r2: float
    rmse: float
    nrmse_pct: float
    mae: float
    bias: float


def agreement(sensor: Floats, reference: Floats) -> Agreement:
    """Compare values with a reference, as the EPA's targets are defined.

    Parameters
    ----------
    sensor
        The sensor's values [n] [any unit]; on the y axis.
    reference
        The reference's [n] [the same unit]; on the x axis.

    Notes
    -----
    Rows in which either is NaN are dropped before anything is counted: an n that counts them makes the RMSE too small.

    References
    ----------
    US EPA, Performance Testing Protocols, Metrics, and Target Values for Fine Particulate Matter Air Sensors,
    EPA/600/R-20/280, 2021.

    Examples
    --------
    >>> found = agreement(np.array([1.0, 3.0, 5.0]), np.array([0.0, 1.0, 2.0]))
    >>> found.slope, found.intercept, round(found.rmse, 3)
    (2.0, 1.0, 2.16)
    """
    both = ~(np.isnan(sensor) | np.isnan(reference))
    y, x = sensor[both], reference[both]
    nan = float("nan")
    if len(y) == 0:
        return Agreement(0, nan, nan, nan, nan, nan, nan, nan)
    error = y - x
    rmse, mean = float(np.sqrt((error**2).mean())), float(x.mean())
    slope = intercept = r2 = nan
    if len(y) > 1 and x.std() > 0:
        slope = float(((x - mean) * (y - y.mean())).mean() / x.var())
        intercept = float(y.mean() - slope * mean)
        r2 = slope**2 * float(x.var() / y.var()) if y.std() > 0 else 0.0
    nrmse = 100 * rmse / mean if mean > 0 else nan
    return Agreement(len(y), slope, intercept, r2, rmse, nrmse, float(np.abs(error).mean()), float(error.mean()))


def between_units(values: Floats) -> tuple[float, float]:
    """Return standard deviation [the values' unit] and coefficient of variation [%] between units beside each other.

    Parameters
    ----------
    values
        [units, n] of the same times; only columns in which all units have a value count, of at least 3 units.

    Notes
    -----
    SD = sqrt(sum_ij (x_ij - mean_i)² / (N M - 1)) over N times and M units; CV = SD over the mean of all.
    """
    full = values[:, ~np.isnan(values).any(axis=0)] if len(values) else values
    if len(values) < 3 or full.shape[1] == 0:
        return float("nan"), float("nan")
    sd = float(np.sqrt(((full - full.mean(axis=0)) ** 2).sum() / (full.size - 1)))
    mean = float(full.mean())
    return sd, 100 * sd / mean if mean > 0 else float("nan")


def coverage(reference: Floats, lo: Floats, hi: Floats) -> float:
    """Share of the rows with an interval in which the reference lies within it, its bounds included [0-1]."""
    there = ~(np.isnan(reference) | np.isnan(lo) | np.isnan(hi))
    if not there.any():
        return float("nan")
    return float(((reference >= lo) & (reference <= hi))[there].mean())


def windows(time_s: Ints, step_s: int, averaging_s: int, *columns: Floats) -> tuple[Ints, tuple[Floats, ...]]:
    """Return the start [s] of every window that has 75 % of its rows, and the columns' means over them.

    A row counts where no column is NaN. Rows are labelled by their start, windows too.
    """
    there = ~np.isnan(np.stack(columns)).any(axis=0)
    if averaging_s <= step_s or not there.any():
        return time_s[there], tuple(c[there] for c in columns)
    number, back, counts = np.unique(time_s[there] // averaging_s, return_inverse=True, return_counts=True)
    full = counts >= 0.75 * averaging_s / max(step_s, 1)
    means = tuple((np.bincount(back, weights=c[there]) / counts)[full] for c in columns)
    return number[full] * averaging_s, means
