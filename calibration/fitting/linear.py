"""The linear family: ridge regression on channels and their products, each unit drawn towards what all units share.

Everything is computed from the normal equations of (unit, block) cells, which add up: a whole cross-validation costs
one pass over the rows.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from calibration.table import Floats, Ints

Term = tuple[int, ...]
"""Numbers of the inputs that are multiplied; the intercept is always there and is none."""

PENALTIES: Final = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3)
"""Ridge penalties tried, per row and in units of each term's variance."""

PULLS: Final = (0.0, 3.0, 10.0, 30.0, 100.0, 300.0, float("inf"))
"""How many rows' worth each unit is drawn towards the coefficients of all: 0 each alone, inf one for all."""


def families(inputs: int, signals: int) -> dict[str, tuple[Term, ...]]:
    """Term sets tried, simplest first; the first `signals` inputs are the sensor's own, the rest say the conditions."""
    main = tuple((i,) for i in range(inputs))
    by_condition = tuple((i, j) for i in range(signals) for j in range(signals, inputs))
    found = {
        "signal": main[:1],
        "signals": main[:signals],
        "main": main,
        "main and signal x condition": main + by_condition,
        "main and all products": main + tuple(combinations(range(inputs), 2)),
    }
    return {name: terms for i, (name, terms) in enumerate(found.items()) if terms not in list(found.values())[:i]}


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """How inputs are brought to one scale before products are taken: centre and spread [m] each."""

    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, inputs: Floats) -> "Scale":
        """From rows [n, m]; a constant input has spread 1, so that it stays harmless."""
        spread = inputs.std(axis=0)
        return cls(inputs.mean(axis=0), np.where(spread > 0, spread, 1.0))

    def design(self, inputs: Floats, terms: tuple[Term, ...]) -> Floats:
        """Design matrix [n, 1 + terms] of rows [n, m], the intercept first."""
        z = (inputs - self.centre) / self.spread
        return np.stack([np.ones(len(z)), *(np.prod(z[:, list(term)], axis=1) for term in terms)], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Normal equations of each (unit, block): `gram` [u, b, p, p], `moment` [u, b, p], `square` and `rows` [u, b]."""

    gram: Floats
    moment: Floats
    square: Floats
    rows: Floats

    @classmethod
    def of(cls, design: Floats, target: Floats, unit: Ints, block: Ints) -> "Cells":
        """Add rows [n, p] up by their unit and block numbers [n]."""
        units, blocks, p = int(unit.max()) + 1, int(block.max()) + 1, design.shape[1]
        gram, moment = np.zeros((units, blocks, p, p)), np.zeros((units, blocks, p))
        square, rows = np.zeros((2, units, blocks))
        for u in range(units):
            for b in range(blocks):
                here = (unit == u) & (block == b)
                part, y = design[here], target[here]
                gram[u, b], moment[u, b] = part.T @ part, part.T @ y
                square[u, b], rows[u, b] = y @ y, len(y)
        return cls(gram, moment, square, rows)

    def squared_errors(self, coefficients: Floats, block: int) -> Floats:
        """Sum of squared errors of coefficients [u, p] in one block, by unit [u]."""
        explained = np.einsum("ui,uij,uj->u", coefficients, self.gram[:, block], coefficients)
        crossed = np.einsum("ui,ui->u", coefficients, self.moment[:, block])
        found: Floats = np.maximum(self.square[:, block] - 2 * crossed + explained, 0.0)
        return found


def solve(cells: Cells, blocks: Ints, free: Floats, penalty: float, pull: float) -> Floats:
    """Coefficients of every unit from some blocks.

    Parameters
    ----------
    cells
        The normal equations.
    blocks
        Numbers of the blocks to learn from.
    free
        [p] 1 where a term is not penalised (intercept and the sensor's own signals), 0 where it is.
    penalty
        Ridge penalty per row, in units of each term's variance [1].
    pull
        How many rows' worth each unit is drawn towards the coefficients of all units [1].

    Returns
    -------
    Floats
        [u, p].
    """
    gram, moment = cells.gram[:, blocks].sum(axis=1), cells.moment[:, blocks].sum(axis=1)
    total, rows = gram.sum(axis=0), gram[:, 0, 0]
    n = max(total[0, 0], 1.0)
    variance = np.maximum(np.diag(total) / n - (total[0] / n) ** 2, 1e-12)
    ridge = penalty * variance * (1 - free)
    together = _solve(total + np.diag(n * ridge), moment.sum(axis=0))
    if np.isinf(pull):
        return np.broadcast_to(together, moment.shape).copy()
    found: Floats = np.empty_like(moment)
    spread = np.where(np.arange(len(variance)) == 0, 1.0, variance)
    for u in range(len(found)):
        if rows[u] == 0:
            found[u] = together
        elif pull:
            found[u] = _solve(gram[u] + np.diag(pull * spread), moment[u] + pull * spread * together)
        else:
            found[u] = _solve(gram[u] + np.diag(rows[u] * ridge), moment[u])
    return found


def _solve(matrix: Floats, vector: Floats) -> Floats:
    """Least squares of least length: terms that say the same share what they say."""
    return np.asarray(np.linalg.lstsq(matrix, vector, rcond=1e-10)[0], np.float64)


def expand(scale: Scale, terms: tuple[Term, ...], coefficients: Floats) -> dict[Term, float]:
    """Coefficients for the inputs as they are, from those for scaled ones; () is the intercept.

    With z = (v - m)/s the product of two is (v_i v_j - m_j v_i - m_i v_j + m_i m_j)/(s_i s_j).
    """
    found: dict[Term, float] = {(): float(coefficients[0])}
    for term, c in zip(terms, coefficients[1:].tolist(), strict=True):
        scaled = c / float(np.prod(scale.spread[list(term)]))
        for kept in (sub for size in range(len(term) + 1) for sub in combinations(term, size)):
            rest = [i for i in term if i not in kept]
            found[kept] = found.get(kept, 0.0) + scaled * float(np.prod(-scale.centre[rest]))
    return found
