"""A sum of trees as tables: a row is looked up once for each three inputs that a path of some tree asks for.

A leaf adds its value wherever up to three inputs lie between two thresholds each. All leaves that ask for the same
inputs together are one table over the intervals between their thresholds; 120 trees so cost what a few look-ups do.
"""

from collections.abc import Hashable, Iterator, Sequence
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
    """Thresholds of each input, and for each set of inputs a flat table, with how many cells a step of each is.

    `padded` [i, s] holds the thresholds filled up with inf to a power of two, of which the last is inf; `strides` all
    steps one after the other.
    """

    edges: tuple[_Edges, ...]
    padded: Floats
    strides: Ints
    tables: tuple[tuple[tuple[tuple[int, int], ...], Floats], ...]

    @classmethod
    def of(cls, grown: Trees, inputs: int) -> "TreeTables | None":
        """Make tables of trees; None where they would be too large, or no tree asks for anything."""
        edges = tuple(
            np.unique(grown.threshold[(grown.feature == j) & np.isfinite(grown.threshold)]) for j in range(inputs)
        )
        boxes = list(_leaves(grown, edges))
        groups = _groups([tuple(sorted(box)) for box, _ in boxes])
        shapes = {group: tuple(len(edges[j]) + 1 for j in group) for group in set(groups.values())}
        if () in shapes or sum(int(np.prod(shape)) for shape in shapes.values()) > MOST_CELLS:
            return None
        tables = {group: np.zeros(shape) for group, shape in shapes.items()}
        for box, value in boxes:
            group = groups[tuple(sorted(box))]
            tables[group][tuple(slice(*box[j]) if j in box else slice(None) for j in group)] += value
        padded = np.full((inputs, 1 << max(len(one) for one in edges).bit_length()), np.inf)
        for to, one in zip(padded, edges, strict=True):
            to[: len(one)] = one
        found = tuple((_steps(group, shapes[group]), table.ravel()) for group, table in sorted(tables.items()))
        strides = np.array([step for steps, _ in found for _, step in steps], np.int64)
        return cls(tuple(map(_Edges.of, edges)), padded, strides, found)

    @property
    def structure(self) -> Hashable:
        """Of how many inputs, and which inputs each table is over."""
        return len(self.edges), tuple([tuple([j for j, _ in steps]) for steps, _ in self.tables])

    def joined(self, members: Sequence["TreeTables"], counts: Ints) -> "JoinedTables":
        """Return the sum of rows of which the first `counts[0]` are the first member's, and so on."""
        return JoinedTables.of(members, counts)

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


@dataclass(frozen=True, slots=True, eq=False)
class JoinedTables:
    """Tables of trees of one structure, each of some consecutive rows; all rows are searched for together.

    `edges` [r * i * s] holds the padded thresholds of r sums of i inputs, `first` [i, n] where those of a row begin;
    `steps` [n] are what those of `TreeTables` are, of each row.
    """

    edges: Floats
    size: int
    first: Ints
    steps: tuple[tuple[tuple[int, Ints], ...], ...]
    tables: tuple[tuple[Floats, ...], ...]
    ends: Sequence[int]

    @classmethod
    def of(cls, members: Sequence[TreeTables], counts: Ints) -> "JoinedTables":
        """Join sums of which the first has the first `counts[0]` rows, and so on."""
        inputs, size = len(members[0].edges), max(member.padded.shape[1] for member in members)
        edges = np.concatenate([_widened(member.padded, size) for member in members])
        first = size * np.repeat(np.arange(len(edges)).reshape(-1, inputs).T, counts, axis=1)
        strides = np.concatenate([member.strides for member in members]).reshape(len(members), -1)
        each = iter(np.repeat(strides.T, counts, axis=1))
        steps = tuple(tuple((j, next(each)) for j, _ in group) for group, _ in members[0].tables)
        tables = tuple(tuple(member.tables[g][1] for member in members) for g in range(len(steps)))
        return cls(edges.ravel(), size, first, steps, tables, np.cumsum(counts).tolist())

    def add_to(self, out: Floats, inputs: list[Floats]) -> None:
        """Add the sum of each row's trees to `out` [n]; of a row with a NaN it says nothing."""
        values, place = np.array(inputs), self.first
        step = self.size // 2
        while step:  # how many thresholds lie below each value, by halves
            place = place + step * (values > self.edges.take(place + (step - 1)))
            step //= 2
        place = place - self.first
        found = np.empty(len(out))
        for steps, tables in zip(self.steps, self.tables, strict=True):
            index = sum(place[j] * step for j, step in steps)
            start = 0
            for table, end in zip(tables, self.ends, strict=True):
                table.take(index[start:end], out=found[start:end], mode="clip")
                start = end
            out += found


def _widened(padded: Floats, size: int) -> Floats:
    """Return padded thresholds with more inf."""
    more = size - padded.shape[1]
    return np.pad(padded, ((0, 0), (0, more)), constant_values=np.inf) if more else padded


def _leaves(grown: Trees, edges: tuple[Floats, ...]) -> Iterator[tuple[Box, float]]:
    """Yield each leaf that some row can reach, tree by tree: where, and what it adds."""
    cuts: Ints = np.zeros(grown.feature.shape, np.int64)  # first interval of the second child; 0: all go to the first
    for j, thresholds in enumerate(edges):
        mine = (grown.feature == j) & np.isfinite(grown.threshold)
        cuts[mine] = np.searchsorted(thresholds, grown.threshold[mine]) + 1
    most = [len(thresholds) + 1 for thresholds in edges]
    for features, tree_cuts, values in zip(grown.feature.tolist(), cuts.tolist(), grown.leaf.tolist(), strict=True):
        for leaf, value in enumerate(values):
            box: Box = {}
            node = leaf + 2**DEPTH - 1
            while node:
                second, node = node % 2 == 0, (node - 1) // 2
                if not (cut := tree_cuts[node]):
                    if second:
                        break
                    continue
                j = features[node]
                low, high = box.get(j, (0, most[j]))
                box[j] = (max(low, cut), high) if second else (low, min(high, cut))
            else:
                if all(low < high for low, high in box.values()):
                    yield box, value


def _groups(asked: list[tuple[int, ...]]) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Put inputs asked for together with a larger set that holds them, so that there are few tables."""
    found: dict[tuple[int, ...], tuple[int, ...]] = {}
    for key in sorted(set(asked), key=lambda k: (-len(k), k)):
        found[key] = next((g for g in found.values() if set(key) <= set(g)), key)
    return found


def _steps(group: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    return tuple((j, int(np.prod(shape[i + 1 :]))) for i, j in enumerate(group))
