"""Expanded uncertainty of values beside a reference, by orthogonal regression."""

from dataclasses import dataclass

import numpy as np

from calibration.table import Floats

COVERAGE_FACTOR = 2.0


@dataclass(frozen=True, slots=True)
class Orthogonal:
    """The line y = `intercept` + `slope` x, and `rss`, the residual sum of squares of `n` rows."""

    slope: float
    intercept: float
    rss: float
    n: int


def orthogonal(sensor: Floats, reference: Floats) -> Orthogonal:
    """Fit a line to values [n] and a reference [n] that both err equally; rows with a NaN are dropped.

    Raises
    ------
    ValueError
        Fewer than three rows, or values that do not vary together.

    Notes
    -----
    b1 = (Syy - Sxx + sqrt((Syy - Sxx)² + 4 Sxy²)) / (2 Sxy), b0 = mean(y) - b1 mean(x).

    References
    ----------
    EC Working Group, Guide to the Demonstration of Equivalence of Ambient Air Monitoring Methods, 2010, annex B.
    """
    both = ~(np.isnan(sensor) | np.isnan(reference))
    y, x = sensor[both], reference[both]
    if len(y) < 3:
        raise ValueError(f"{len(y)} rows; a line and what is left of it need 3")
    sxx, syy = float(((x - x.mean()) ** 2).sum()), float(((y - y.mean()) ** 2).sum())
    sxy = float(((x - x.mean()) * (y - y.mean())).sum())
    if sxy == 0:
        raise ValueError("sensor and reference do not vary together; no line can be drawn")
    slope = (syy - sxx + float(np.sqrt((syy - sxx) ** 2 + 4 * sxy**2))) / (2 * sxy)
    intercept = float(y.mean() - slope * x.mean())
    return Orthogonal(slope, intercept, float(((y - intercept - slope * x) ** 2).sum()), len(y))


def expanded_pct(line: Orthogonal, at: float, u_reference: float = 0.0) -> float:
    """Return the expanded relative uncertainty at a concentration [%].

    Parameters
    ----------
    line
        From `orthogonal`.
    at
        Concentration, such as a limit value, above 0 [the values' unit].
    u_reference
        Standard uncertainty of the reference between its instruments [the same unit]; 0 leaves it in the result.

    Notes
    -----
    U = 2 sqrt(RSS/(n - 2) - u_ref² + (b0 + (b1 - 1) x)²) / x; a random part below 0 counts as 0.
    """
    random = max(line.rss / (line.n - 2) - u_reference**2, 0.0)
    bias = line.intercept + (line.slope - 1) * at
    return 100 * COVERAGE_FACTOR * float(np.sqrt(random + bias**2)) / at
