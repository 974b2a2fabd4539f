"""Boosted regression trees of fixed depth, grown with numpy on binned inputs and applied by numpy alone."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from calibration.table import Floats, Ints

DEPTH: Final = 3
BINS: Final = 32
ROUNDS: Final = (40, 120)
"""Numbers of trees tried."""
LEARNING_RATE: Final = 0.1
LEAST_ROWS: Final = 20
"""A leaf with fewer rows is not made."""


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """A sum of trees of depth 3; node 0 is the root, the children of node k are 2k + 1 and 2k + 2.

    `feature` int64 [t, 7] is the number of the input a node asks, `threshold` float64 [t, 7] what it compares with (a
    value not above it goes to the first child; +inf: all do), `leaf` float64 [t, 8] what each leaf adds.
    """

    feature: Ints
    threshold: Floats
    leaf: Floats

    def apply(self, inputs: Floats) -> Floats:
        """Sum of the leaves that rows [n, m] end in [n]; NaN inputs go to the second child."""
        total = np.zeros(len(inputs))
        rows = np.arange(len(inputs))
        for feature, threshold, leaf in zip(self.feature, self.threshold, self.leaf, strict=True):
            node = np.zeros(len(inputs), np.int64)
            for _ in range(DEPTH):
                node = 2 * node + 1 + ~(inputs[rows, feature[node]] <= threshold[node])
            total += leaf[node - (2**DEPTH - 1)]
        return total

    def add_to(self, out: Floats, inputs: list[Floats]) -> None:
        """Add their sum to `out` [n], for inputs [n] each."""
        out += self.apply(np.stack(inputs, axis=1))

    @property
    def structure(self) -> Hashable:
        """Its own: trees that are walked are not joined with others."""
        return id(self)

    def joined(self, members: Sequence["Trees"], counts: Ints) -> "Trees":  # noqa: ARG002
        """Return itself, which all members are."""
        return self

    def first(self, rounds: int) -> "Trees":
        """Only the first trees."""
        return Trees(self.feature[:rounds], self.threshold[:rounds], self.leaf[:rounds])

    def as_lists(self) -> dict[str, list[list[Any]]]:
        """Arrays as a record may hold them."""
        return {n: getattr(self, n).tolist() for n in ("feature", "threshold", "leaf")}

    @classmethod
    def from_lists(cls, found: dict[str, list[list[Any]]], inputs: int) -> "Trees":
        """Undo `as_lists`.

        Raises
        ------
        ValueError
            Arrays of another shape, or an input that is not there.
        """
        feature = np.array(found["feature"], np.int64).reshape(-1, 2**DEPTH - 1)
        threshold = np.array(found["threshold"], np.float64).reshape(feature.shape)
        leaf = np.array(found["leaf"], np.float64).reshape(len(feature), 2**DEPTH)
        if feature.size and not (feature.min() >= 0 and feature.max() < inputs):
            raise ValueError(f"a tree asks for an input that is not among the {inputs}")
        return cls(feature, threshold, leaf)


def grow(inputs: Floats, target: Floats, rounds: int) -> Trees:
    """Grow trees on rows [n, m] and what is to be explained [n], each on what the ones before it leave (squared error).

    References
    ----------
    Friedman 2001, Greedy function approximation: a gradient boosting machine, doi:10.1214/aos/1013203451.
    """
    edges = [_edges(column) for column in inputs.T]
    binned = np.stack([np.searchsorted(e, c, side="left") for e, c in zip(edges, inputs.T, strict=True)], axis=1)
    rest = target.astype(np.float64).copy()
    nodes = 2**DEPTH - 1
    feature = np.zeros((rounds, nodes), np.int64)
    threshold, leaf = np.full((rounds, nodes), np.inf), np.zeros((rounds, nodes + 1))
    for t in range(rounds):
        node = np.zeros(len(rest), np.int64)
        for depth in range(DEPTH):
            start = 2**depth - 1
            best, cut = _best_splits(binned, rest, node - start, 2**depth)
            for k in range(2**depth):
                if cut[k] >= 0:
                    feature[t, start + k], threshold[t, start + k] = best[k], edges[best[k]][cut[k]]
            last = np.where(cut >= 0, cut, BINS)[node - start]
            node = 2 * node + 1 + (binned[np.arange(len(rest)), best[node - start]] > last)
        ends = node - nodes
        counts = np.bincount(ends, minlength=nodes + 1)
        sums = np.bincount(ends, weights=rest, minlength=nodes + 1)
        leaf[t] = LEARNING_RATE * sums / np.maximum(counts, 1)
        rest -= leaf[t][ends]
    return Trees(feature, threshold, leaf)


def _edges(column: Floats) -> Floats:
    """Values between which a tree may cut: at most `BINS` - 1, as many rows between each two."""
    found: Floats = np.unique(np.quantile(column, np.linspace(0, 1, BINS + 1)[1:-1]))
    return found


def _best_splits(binned: Ints, rest: Floats, node: Ints, nodes: int) -> tuple[Ints, Ints]:
    """Return the input and the last bin of the first child that lower the squared error of each node most; -1: none."""
    best, cut, gain = np.zeros(nodes, np.int64), np.full(nodes, -1), np.full(nodes, 1e-12)
    for j in range(binned.shape[1]):
        key = node * BINS + binned[:, j]
        n = np.bincount(key, minlength=nodes * BINS).reshape(nodes, BINS).cumsum(axis=1)
        s = np.bincount(key, weights=rest, minlength=nodes * BINS).reshape(nodes, BINS).cumsum(axis=1)
        right_n, right_s = n[:, -1:] - n, s[:, -1:] - s
        total = s[:, -1:] ** 2 / np.maximum(n[:, -1:], 1)
        better = s**2 / np.maximum(n, 1) + right_s**2 / np.maximum(right_n, 1) - total
        better = np.where((n >= LEAST_ROWS) & (right_n >= LEAST_ROWS), better, -np.inf)
        at = better.argmax(axis=1)
        found = better[np.arange(nodes), at]
        improves = found > gain
        best, cut, gain = np.where(improves, j, best), np.where(improves, at, cut), np.where(improves, found, gain)
    return best, cut
