"""How the agreement with a reference changes with time."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from calibration.table import Floats, Ints

PARTS: Final = 8
LEAST_ROWS: Final = 10
DAY_S: Final = 86_400
TREND_DAYS: Final = 20


@dataclass(frozen=True, slots=True)
class Part:
    """Bias and RMSE of one part of the time, which begins at `from_s` and ends at `to_s` [s]."""

    from_s: int
    to_s: int
    n: int
    bias: float
    rmse: float


def parts(time_s: Ints, error: Floats) -> tuple[Part, ...]:
    """Cut the time into eight parts of equal length and return those with at least ten rows.

    Parameters
    ----------
    time_s
        [n] [s].
    error
        Value minus reference [n] [their unit], NaN where there is none.
    """
    there = ~np.isnan(error)
    time_s, error = time_s[there], error[there]
    if not len(error):
        return ()
    start, length = int(time_s.min()), max(int(time_s.max() - time_s.min()) + 1, PARTS)
    found = []
    for k in range(PARTS):
        low, high = start + length * k // PARTS, start + length * (k + 1) // PARTS
        here = error[(time_s >= low) & (time_s < high)]
        if len(here) >= LEAST_ROWS:
            found.append(Part(low, high, len(here), float(here.mean()), float(np.sqrt((here**2).mean()))))
    return tuple(found)


def per_30_days(found: tuple[Part, ...]) -> float:
    """Slope of the parts' biases over time [values' unit per 30 days]; NaN for less than 20 days: that is weather."""
    if len(found) < 3 or found[-1].to_s - found[0].from_s < TREND_DAYS * DAY_S:
        return float("nan")
    middle = np.array([(p.from_s + p.to_s) / 2 for p in found]) / (30 * DAY_S)
    return float(np.polyfit(middle - middle.mean(), np.array([p.bias for p in found]), 1)[0])
