"""The 90 % interval of fitted values: from the errors of held-out blocks, widened by what whole blocks were off."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from calibration.fitting import blocks
from calibration.table import Floats, Ints

LEVEL: Final = 0.90
ENOUGH: Final = 0.75
"""Share of the rows due that a mean needs, as everywhere else."""
LEAST_WINDOWS: Final = 30
"""Fewer means say nothing of a 90 % quantile: at most three lie beyond it."""
WINDOWS_S: Final = (3600, 86400)
"""Averaging times, beside that of the rows, for which an interval is given [s]."""


@dataclass(frozen=True, slots=True)
class Width:
    """Half width of the interval of means over `averaging_s` [s]: `floor + growth * max(value, 0)` [output's unit].

    `windows` is the number of held-out means it comes from.
    """

    averaging_s: int
    floor: float
    growth: float
    windows: int

    def half(self, value: Floats) -> Floats:
        """Half width at values [n]."""
        return half(value, self.floor, self.growth)


def half(value: Floats, floor: Floats | float, growth: Floats | float) -> Floats:
    """Half width at values [n], of one width or of one for each value [n]."""
    return floor + growth * np.maximum(value, 0.0)


def widths(value: Floats, error: Floats, time_s: Ints, cell: Ints, step_s: int) -> tuple[Width, ...]:
    """Widths for each averaging time that has enough held-out means.

    Parameters
    ----------
    value, error
        Predictions of held-out rows, and reference minus prediction [n] [output's unit].
    time_s
        Their times [n] [s].
    cell
        [n] number of the (unit, block) each row was held out with.
    step_s
        Usual time between rows [s].

    Notes
    -----
    An error is divided by a scale that grows with the value (mean absolute error as a straight line of it). q is the
    90 % quantile of the sizes of these about the mean of their cell, over all held-out means; b the root mean square of
    the cells' means. The half width is (q + b) times the scale: what rows differ within a period, widened by what whole
    periods are off. A longer mean lowers q, never b.
    """
    floor, growth = _scale(value, np.abs(error))
    scaled = error / (floor + growth * np.maximum(value, 0.0))
    biases, bias = _biases(scaled, cell)
    found = []
    for averaging_s in sorted({step_s, *(w for w in WINDOWS_S if w > step_s)}):
        means, cells = scaled, cell
        if averaging_s > step_s:
            window = time_s // averaging_s + cell * (int(time_s.max()) // averaging_s + 2)
            least = round(ENOUGH * averaging_s / max(step_s, 1))
            errors, first = blocks.by_window(error, window, least)
            values, _ = blocks.by_window(value, window, least)
            means, cells = errors / (floor + growth * np.maximum(values, 0.0)), cell[first]
        if len(means) >= LEAST_WINDOWS:
            half = float(np.quantile(np.abs(means - biases[cells]), LEVEL)) + bias
            found.append(Width(averaging_s, half * floor, half * growth, len(means)))
    return tuple(found)


def _scale(value: Floats, size: Floats) -> tuple[float, float]:
    """Floor and growth of the mean size of an error: a straight line that neither falls nor starts near zero."""
    level, mean = np.maximum(value, 0.0), float(size.mean())
    if mean == 0:
        return 1e-12, 0.0
    spread = float(level.var())
    growth = float(((level - level.mean()) * (size - mean)).mean()) / spread if spread > 0 else 0.0
    growth = max(growth, 0.0)
    floor = mean - growth * float(level.mean())
    if floor < 0.1 * mean:  # errors near zero would else be promised smaller than any that was seen
        floor = 0.1 * mean
        growth = float(((size - floor) * level).sum() / (level**2).sum())
    return floor, growth


def _biases(scaled: Floats, cell: Ints) -> tuple[Floats, float]:
    """Mean scaled error of each cell, and their root mean square, each with the weight of its rows."""
    rows = np.bincount(cell)
    means = np.bincount(cell, weights=scaled) / np.maximum(rows, 1)
    return means, float(np.sqrt((rows * means**2).sum() / rows.sum()))
