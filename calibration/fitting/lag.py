"""Whether reference and sensor have one clock and one way of labelling: found by shifting one past the other."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibration.fitting import blocks
from calibration.table import Floats, Ints

MOST_S: Final = 14 * 3600
"""No two zones are further apart than 14 h from UTC."""
LEAST_GAIN: Final = 0.05
"""A shift is one from here on: by so much of what the unshifted clocks leave unexplained."""
LEAST_ROWS: Final = 48


@dataclass(frozen=True, slots=True)
class Lag:
    """The reference fits best when the sensor's rows are taken `seconds` later [s]; `r2` unshifted and `best_r2` then.

    A positive lag: the reference's labels are that much too early, or the sensor's too late. `changed_s` is the time
    from which another lag holds than before, None where one holds throughout.
    """

    seconds: int
    r2: float
    best_r2: float
    changed_s: int | None = None


def find(time_s: Ints, target: Floats, inputs: Floats, step_s: int) -> Lag | None:
    """Return the lag of one unit's rows [n], inputs [n, m], None where the clocks agree or nothing can be said.

    A lag must explain the reference clearly better in four of six parts of the time and clearly worse in at most one;
    one that begins or ends in between, in all parts after or before, and clearly worse in all the others.
    Steps of a day and more are not shifted: weather of yesterday resembles that of today.
    """
    if step_s <= 0 or step_s > 6 * 3600 or len(time_s) < LEAST_ROWS:
        return None
    most = max(MOST_S // step_s, 1)
    lags = range(-most, most + 1)
    part = blocks.cut(np.zeros(len(time_s), np.int64))
    explained = np.array([_explained(time_s, target, inputs, lag * step_s, part) for lag in lags])
    whole, none = explained.mean(axis=1), most
    best = _best(explained, none, blocks.BLOCKS - 2)
    if best != none and _clear(explained[none], explained[best]).sum() <= 1:
        return Lag(lags[best] * step_s, float(whole[none]), float(whole[best]))
    for k in range(2, blocks.BLOCKS - 1):
        early, late = _best(explained[:, :k], none, k), _best(explained[:, k:], none, blocks.BLOCKS - k)
        if (early == none) != (late == none):
            other, parts = (late, explained[:, k:]) if early == none else (early, explained[:, :k])
            rest = explained[:, :k] if early == none else explained[:, k:]
            if _clear(rest[none], rest[other]).all():
                found = float(parts[other].mean())
                return Lag(lags[other] * step_s, float(parts[none].mean()), found, int(time_s[part == k][0]))
    return None


def _clear(better: Floats, worse: Floats) -> NDArray[np.bool_]:
    """Whether each share explained is clearly more than another."""
    found: NDArray[np.bool_] = better - worse > LEAST_GAIN * (1 - worse)
    return found


def _best(explained: Floats, none: int, least: int) -> int:
    """Return the lag that explains most [lags, parts], `none` where that is not clear in at least `least` parts."""
    mean = explained.mean(axis=1)
    best = int(np.argmax(mean))
    clear = _clear(explained[best], explained[none]).sum() >= least
    return best if clear and _clear(mean[[best]], mean[[none]])[0] else none


def _explained(time_s: Ints, target: Floats, inputs: Floats, shift_s: int, part: Ints) -> Floats:
    """Share of the target's variance that a line through the inputs, taken `shift_s` later, explains, by part [6]."""
    at = np.searchsorted(time_s, time_s + shift_s)
    at = np.minimum(at, len(time_s) - 1)
    there = time_s[at] == time_s + shift_s
    found = np.zeros(blocks.BLOCKS)
    for p in range(blocks.BLOCKS):
        rows = there & (part == p)
        if rows.sum() > 3 * inputs.shape[1] + 6:
            found[p] = _r2(target[rows], inputs[at[rows]])
    return found


def _r2(target: Floats, inputs: Floats) -> float:
    design = np.column_stack([np.ones(len(inputs)), inputs])
    coefficients = np.linalg.lstsq(design, target, rcond=None)[0]
    total = float(((target - target.mean()) ** 2).sum())
    return 0.0 if total == 0 else 1 - float(((target - design @ coefficients) ** 2).sum()) / total
