"""Which model: the linear family and trees compared on held-out blocks, the simplest that does as well as the best."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from calibration.fitting import blocks, linear, trees
from calibration.fitting.linear import Cells, Scale, Term
from calibration.table import Floats, Ints

_FOLDS: Final = tuple(blocks.folds())


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One model and its mean squared error in each held-out block, `mse` [blocks] [output's unit²]."""

    name: str
    terms: tuple[Term, ...]
    penalty: float
    pull: float
    rounds: int
    mse: Floats
    coefficients: float
    """How many it has in effect: units drawn towards all share some."""

    @property
    def rmse(self) -> float:
        """Root of the mean over blocks."""
        return float(np.sqrt(self.mse.mean()))


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The chosen model, all that were compared, and what it predicted for each row while that was held out [n].

    `constant_rmse` is what the mean of each unit's rows would have done on the same blocks.
    """

    chosen: Candidate
    compared: tuple[Candidate, ...]
    held_out: Floats
    constant_rmse: float


def choose(inputs: Floats, target: Floats, unit: Ints, *, signals: int) -> Choice:
    """Compare models on rows [n, m] of a training period.

    The first `signals` inputs are the sensor's own. Of each term set the penalties with the least error stand for it.
    The simplest model is chosen whose error, block by block, is within one standard error of the best one's: a
    difference that the blocks do not agree on is no reason for more terms.
    """
    block = blocks.cut(unit)
    scale = Scale.of(inputs)
    found = []
    for name, terms in linear.families(inputs.shape[1], signals).items():
        cells = Cells.of(scale.design(inputs, terms), target, unit, block)
        found += _tuned(name, terms, cells, signals)
    chosen = _simplest(found)
    held_out = _held_out(chosen, scale, inputs, target, unit, block, signals)
    with_trees, tree_values = _with_trees(chosen, held_out, inputs, target, block, scale, unit, signals)
    found.append(with_trees)
    if _simplest([chosen, with_trees]) is with_trees:
        chosen, held_out = with_trees, tree_values
    constant = Cells.of(np.ones((len(target), 1)), target, unit, block)
    alone = _mse(constant, np.ones(1), 0.0, 0.0)
    return Choice(chosen, tuple(found), held_out, float(np.sqrt(alone.mean())))


def free_terms(terms: tuple[Term, ...], signals: int) -> Floats:
    """Return 1 for the intercept and the sensor's own signals, which no penalty holds, 0 for others [1 + terms]."""
    return np.array([1.0, *(float(len(term) == 1 and term[0] < signals) for term in terms)])


def _tuned(name: str, terms: tuple[Term, ...], cells: Cells, signals: int) -> list[Candidate]:
    """One candidate for each way of sharing between units, with the ridge penalty that suits it best."""
    free = free_terms(terms, signals)
    rows = cells.rows.sum(axis=1)
    found = []
    for pull in linear.PULLS if len(rows) > 1 else (0.0,):
        own = 0.0 if np.isinf(pull) else float((rows / (rows + pull)).sum())
        size = len(free) * max(own, 1.0)
        tried = [
            Candidate(name, terms, penalty, pull, 0, _mse(cells, free, penalty, pull), size)
            for penalty in (linear.PENALTIES if not free.all() else (0.0,))
        ]
        found.append(min(tried, key=lambda c: float(c.mse.mean())))
    return found


def _mse(cells: Cells, free: Floats, penalty: float, pull: float) -> Floats:
    return np.array([
        cells.squared_errors(linear.solve(cells, learned, free, penalty, pull), held).sum()
        / max(cells.rows[:, held].sum(), 1.0)
        for learned, held in _FOLDS
    ])  # fmt: skip


def _simplest(candidates: list[Candidate]) -> Candidate:
    """Return the first, in order of complexity, that is within one standard error of the best."""
    best = min(candidates, key=lambda c: float(c.mse.mean()))
    for candidate in sorted(candidates, key=lambda c: (c.rounds, c.coefficients)):
        worse = candidate.mse - best.mse
        if worse.mean() <= worse.std(ddof=1) / np.sqrt(len(worse)):
            return candidate
    return best


def _held_out(
    model: Candidate, scale: Scale, inputs: Floats, target: Floats, unit: Ints, block: Ints, signals: int
) -> Floats:
    design = scale.design(inputs, model.terms)
    cells = Cells.of(design, target, unit, block)
    free = free_terms(model.terms, signals)
    found = np.empty(len(target))
    for learned, held in _FOLDS:
        coefficients = linear.solve(cells, learned, free, model.penalty, model.pull)
        rows = block == held
        found[rows] = np.einsum("np,np->n", design[rows], coefficients[unit[rows]])
    return found


def _with_trees(
    model: Candidate, held_out: Floats, inputs: Floats, target: Floats, block: Ints, scale: Scale, unit: Ints,
    signals: int,
) -> tuple[Candidate, Floats]:  # fmt: skip
    """Trees on what the linear model leaves: beyond the training rows the line goes on; all units share them."""
    design = scale.design(inputs, model.terms)
    cells = Cells.of(design, target, unit, block)
    free = free_terms(model.terms, signals)
    values = {rounds: held_out.copy() for rounds in trees.ROUNDS}
    for learned, held in _FOLDS:
        coefficients = linear.solve(cells, learned, free, model.penalty, model.pull)
        rows, known = block == held, np.isin(block, learned)
        if not rows.any() or not known.any():
            continue
        rest = target[known] - np.einsum("np,np->n", design[known], coefficients[unit[known]])
        grown = trees.grow(inputs[known], rest, max(trees.ROUNDS))
        for rounds, value in values.items():
            value[rows] += grown.first(rounds).apply(inputs[rows])
    mse = {rounds: _by_block((value - target) ** 2, block) for rounds, value in values.items()}
    rounds = min(mse, key=lambda r: float(mse[r].mean()))
    name = f"{model.name}, and trees"
    return Candidate(name, model.terms, model.penalty, model.pull, rounds, mse[rounds], model.coefficients), values[
        rounds
    ]


def _by_block(values: Floats, block: Ints) -> Floats:
    rows = np.bincount(block, minlength=blocks.BLOCKS)
    return np.bincount(block, weights=values, minlength=blocks.BLOCKS) / np.maximum(rows, 1)
