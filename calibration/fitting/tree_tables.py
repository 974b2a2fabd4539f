"""A sum of trees as tables: a row is looked up once for each three inputs that a path of some tree asks for.

A leaf adds its value wherever up to three inputs lie between two thresholds each. All leaves that ask for the same
inputs together are one table over the intervals between their thresholds; 120 trees so cost what a few look-ups do.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from calibration.fitting.trees import DEPTH, Trees
from calibration.table import Floats, Ints

MOST_CELLS: Final = 2_000_000
"""Of all tables together, 16 MB; trees on more inputs are walked."""

FEW_ROWS: Final = 256
"""So few rows are searched for: each step of the grid costs more than they do."""

MOST_GRID: Final = 65_536
"""Cells of a grid over one input; thresholds closer to each other than a cell are searched for."""

Box = dict[int, tuple[int, int]]
"""Of each input asked for, the first interval and the one after the last."""


@dataclass(frozen=True, slots=True, eq=False)
class _Edges:
    """Thresholds of one input, rising, and an even grid over them with at most one threshold a cell, if that can be.

    `base` says how many thresholds lie below each cell, `edge` which one lies within it (inf: none).
    """

    edges: Floats
    low: float
    scale: float
    base: Ints
    edge: Floats

    @classmethod
    def of(cls, edges: Floats) -> "_Edges":
        """Make the grid; where it would be too fine there is none, and `base` is empty."""
        none = cls(edges, 0.0, 0.0, np.zeros(0, np.intp), np.zeros(0))
        if len(edges) < 2:
            return none
        cells = 4 * (edges[-1] - edges[0]) / np.diff(edges).min()
        if cells > MOST_GRID:
            return none
        low, scale = float(edges[0]), float(cells / (edges[-1] - edges[0]))
        where = ((edges - low) * scale).astype(np.intp)
        numbers = np.arange(where[-1] + 2)
        edge = np.full(len(numbers), np.inf)
        edge[where] = edges
        return cls(edges, low, scale, np.searchsorted(where, numbers), edge)

    def interval(self, values: Floats) -> Ints:
        """How many thresholds lie below each value [n]."""
        if len(values) <= FEW_ROWS or not len(self.base):
            found: Ints = self.edges.searchsorted(values)
            return found
        place = (values - self.low) * self.scale
        np.clip(place, 0.0, float(len(self.base) - 1), out=place)
        with np.errstate(invalid="ignore"):  # NaN
            cell = place.astype(np.intp)
        found = self.base.take(cell, mode="clip")
        found += values > self.edge.take(cell, mode="clip")
        return found


@dataclass(frozen=True, slots=True, eq=False)
class TreeTables:
    """Thresholds of each input, and for each set of inputs a flat table, with how many cells a step of each is."""

    edges: tuple[_Edges, ...]
    tables: tuple[tuple[tuple[tuple[int, int], ...], Floats], ...]

    @classmethod
    def of(cls, grown: Trees, inputs: int) -> "TreeTables | None":
        """Make tables of trees; None where they would be too large."""
        edges = tuple(
            np.unique(grown.threshold[(grown.feature == j) & np.isfinite(grown.threshold)]) for j in range(inputs)
        )
        boxes = [(box, value) for t in range(len(grown.leaf)) for box, value in _leaves(grown, t, edges)]
        groups = _groups([tuple(sorted(box)) for box, _ in boxes])
        shapes = {group: tuple(len(edges[j]) + 1 for j in group) for group in set(groups.values())}
        if sum(int(np.prod(shape)) for shape in shapes.values()) > MOST_CELLS:
            return None
        tables = {group: np.zeros(shape) for group, shape in shapes.items()}
        for box, value in boxes:
            group = groups[tuple(sorted(box))]
            tables[group][tuple(slice(*box[j]) if j in box else slice(None) for j in group)] += value
        return cls(
            tuple(map(_Edges.of, edges)),
            tuple((_steps(group, shapes[group]), table.ravel()) for group, table in sorted(tables.items())),
        )

    def add_to(self, out: Floats, inputs: list[Floats]) -> None:
        """Add the trees' sum to `out` [n]; of a row with a NaN it says nothing."""
        place: dict[int, Ints] = {}
        for steps, table in self.tables:
            for j, _ in steps:
                if j not in place:
                    place[j] = self.edges[j].interval(inputs[j])
            index, *others = (place[j] if step == 1 else place[j] * step for j, step in steps)
            for one in others:
                index = index + one
            out += table.take(index)


def _leaves(grown: Trees, t: int, edges: tuple[Floats, ...]) -> Iterator[tuple[Box, float]]:
    """Yield each leaf that some row can reach: where, and what it adds."""
    for leaf in range(2**DEPTH):
        box: Box = {}
        node = leaf + 2**DEPTH - 1
        while node:
            second, node = node % 2 == 0, (node - 1) // 2
            if not np.isfinite(grown.threshold[t, node]):
                if second:
                    break  # all rows go to the first child
                continue
            j = int(grown.feature[t, node])
            cut = int(np.searchsorted(edges[j], grown.threshold[t, node])) + 1
            low, high = box.get(j, (0, len(edges[j]) + 1))
            box[j] = (max(low, cut), high) if second else (low, min(high, cut))
        else:
            if all(low < high for low, high in box.values()):
                yield box, float(grown.leaf[t, leaf])


def _groups(asked: list[tuple[int, ...]]) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Put inputs asked for together with a larger set that holds them, so that there are few tables."""
    found: dict[tuple[int, ...], tuple[int, ...]] = {}
    for key in sorted(set(asked), key=lambda k: (-len(k), k)):
        found[key] = next((g for g in found.values() if set(key) <= set(g)), key)
    return found


def _steps(group: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((j, int(np.prod(shape[i + 1 :]))) for i, j in enumerate(group))
