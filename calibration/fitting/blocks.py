"""Blocks of time: what is learned from and what is predicted, never with rows on both sides of what is predicted."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from calibration.table import Bools, Floats, Ints, Names, Table

BLOCKS: Final = 6
"""Blocks of each unit's training period: three to learn from at the least, and six errors to compare models by."""


def number(names: Names) -> Ints:
    """Return the number of each row's unit [n], in the order of their names."""
    found: Ints = np.unique(names, return_inverse=True)[1].astype(np.int64)
    return found


def split(table: Table, share: float) -> Bools:
    """Mark the first `share` of each unit's rows in time order [n]; rows of one time stay on one side."""
    first = np.zeros(len(table), np.bool_)
    for unit in table.units:
        rows = np.flatnonzero(table.unit == unit)
        cut = int(share * len(rows))
        first[rows[:cut]] = True
        if 0 < cut < len(rows):
            first[rows[table.time_s[rows] == table.time_s[rows[cut]]]] = False
    return first


def cut(unit: Ints) -> Ints:
    """Block of each row [n]: each unit's rows, which are in time order, in `BLOCKS` parts of equal length."""
    block = np.zeros(len(unit), np.int64)
    for u in np.unique(unit):
        rows = np.flatnonzero(unit == u)
        block[rows] = np.arange(len(rows)) * BLOCKS // len(rows)
    return block


def folds() -> Iterator[tuple[Ints, int]]:
    """Yield (blocks to learn from, block to predict).

    A block of the second half is predicted from all before it, as in service; one of the first half from all after it,
    so that every row is predicted once. Nothing is interpolated between neighbours: that would reward what bends.
    """
    for held in range(BLOCKS):
        yield (np.arange(held) if held >= BLOCKS // 2 else np.arange(held + 1, BLOCKS)), held


def by_window(values: Floats, window: Ints, least: int) -> tuple[Floats, Ints]:
    """Return means of the values [n] of each window that has at least `least`, and the first row of each of these."""
    _, first, back, counts = np.unique(window, return_index=True, return_inverse=True, return_counts=True)
    means = np.bincount(back, weights=values) / counts
    kept = counts >= least
    return means[kept], first[kept].astype(np.int64)
