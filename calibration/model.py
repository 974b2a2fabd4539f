"""A fitted model as numbers: linear terms, bounds of its inputs, trees; of one unit, or of rows that each have others.

Every step works on each row by itself, so a row has the same value to the last bit whatever rows stand beside it.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np

from calibration.table import Bools, Floats, Ints

CHUNK: Final = 16_384
"""Rows worked on at once, so that what is in between stays in the processor's cache."""

Number = float | Floats
"""One for all rows, or one for each row [n]."""


class Addable(Protocol):
    """What is added to the value of rows."""

    def add_to(self, out: Floats, inputs: list[Floats]) -> None:
        """Add it to `out` [n], for inputs [n] each."""


class TreeSum(Addable, Protocol):
    """A sum of trees."""

    @property
    def structure(self) -> Hashable:
        """Sums of equal structures differ in numbers alone and can be `joined`."""

    def joined(self, members: Sequence[Self], counts: Ints) -> Addable:
        """Return the sum of rows of which the first `counts[0]` are the first member's, and so on."""


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Where the numbers of a linear model stand: y = c + sum_i v_i (a_i + sum_j b_ij v_j), by numbers of inputs.

    The numbers come in one order: the intercept, of each factor its own and those of its products, then the bounds of
    each input, low and high. `only_bounds` are inputs in no term.
    """

    factors: tuple[tuple[int, tuple[int, ...]], ...]
    only_bounds: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """Terms, their numbers [p] and trees, of one unit."""

    terms: Terms
    numbers: Floats
    trees: TreeSum | None

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        intercept: float,
        coefficients: Mapping[str, float],
        domain: Mapping[str, tuple[float, float]],
        trees: TreeSum | None,
    ) -> "Model":
        """Make the model of one unit; `coefficients` are by products of names, as in a record."""
        single = dict.fromkeys(range(len(names)), 0.0)
        pairs: dict[int, list[tuple[int, float]]] = {i: [] for i in single}
        for term, factor in coefficients.items():
            first, *rest = (names.index(part) for part in term.split("*"))
            if rest:
                pairs[first].append((rest[0], factor))
            else:
                single[first] = factor
        factors = [i for i in single if single[i] or pairs[i]]
        used = {*factors, *(j for i in factors for j, _ in pairs[i])}
        numbers = [
            intercept,
            *(number for i in factors for number in (single[i], *(product for _, product in pairs[i]))),
            *(bound for name in names for bound in domain[name]),
        ]
        terms = Terms(
            tuple((i, tuple(j for j, _ in pairs[i])) for i in factors), tuple(i for i in single if i not in used)
        )
        return cls(terms, np.array(numbers), trees)

    @property
    def structure(self) -> Hashable:
        """Models of one structure differ in numbers and trees alone."""
        return self.terms.factors, self.terms.only_bounds, self.trees and self.trees.structure

    def values(self, inputs: list[Floats]) -> tuple[Floats, Bools]:
        """Return the value of each row, and whether an input lies beyond its bounds [n]."""
        n = len(inputs[0])
        value, outside = np.empty(n), np.empty(n, np.bool_)
        numbers = self.numbers.tolist()
        for start in range(0, n, CHUNK):
            part = slice(start, start + CHUNK)
            _compute([column[part] for column in inputs], self, numbers, self.trees, (value[part], outside[part]))
        return value, outside


def values_of_each(models: Sequence[Model], counts: Ints, inputs: list[Floats]) -> tuple[Floats, Bools]:
    """Return values and `outside` as of one model, of rows of which the first `counts[0]` are the first's, and so on.

    The models are of one structure; rows are worked on all at once.
    """
    first = models[0]
    numbers = np.concatenate([one.numbers for one in models]).reshape(len(models), -1)
    of_rows = np.repeat(numbers.T, counts, axis=1)
    trees = [one.trees for one in models if one.trees is not None]
    value, outside = np.empty(len(inputs[0])), np.empty(len(inputs[0]), np.bool_)
    _compute(inputs, first, of_rows, first.trees and first.trees.joined(trees, counts), (value, outside))
    return value, outside


def _compute(
    rows: list[Floats], model: Model, numbers: Iterable[Number], trees: Addable | None, out: tuple[Floats, Bools]
) -> None:
    """Compute values and `outside` of rows by the terms of a model with some numbers."""
    value, outside = out
    taken = iter(numbers)
    value[:] = next(taken)
    for i, products in model.terms.factors:
        factor = next(taken)
        if products:
            slope = rows[products[0]] * next(taken)
            slope += factor
            for j in products[1:]:
                slope += rows[j] * next(taken)
            slope *= rows[i]
            value += slope
        else:
            value += rows[i] * factor
    for i in model.terms.only_bounds:
        value[np.isnan(rows[i])] = np.nan  # an input that was fitted with is one the record rests on
    if trees is not None:
        trees.add_to(value, rows)
    outside[:] = False
    for column in rows:
        outside |= column < next(taken)
        outside |= column > next(taken)
