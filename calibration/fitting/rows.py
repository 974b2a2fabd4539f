"""Which rows of a table can be learned from: complete ones, by enough readings, of sensors that agree."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from calibration.inputs import Input
from calibration.qc import RULES
from calibration.table import Bools, Floats, Table

READINGS: Final = "n_readings"
LEAST_READINGS: Final = 20
"""Of the 30 that a PurpleAir makes in an hour: AirSensor's rule AB_01."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Rows to learn from: sorted by (unit, time), the target and each input by its name, none of them NaN.

    `left_out` counts rows by why they are not among them.
    """

    table: Table
    target: str
    inputs: tuple[Input, ...]
    left_out: dict[str, int]

    @property
    def y(self) -> Floats:
        """The reference [n]."""
        return self.table.columns[self.target]

    @property
    def x(self) -> Floats:
        """The inputs [n, m]."""
        return np.stack([self.table.columns[i.name] for i in self.inputs], axis=1)

    def where(self, rows: Bools) -> "Prepared":
        """Return only some rows."""
        return replace(self, table=self.table.where(rows))


def prepare(table: Table, target: str, inputs: Sequence[Input]) -> Prepared:
    """Keep the rows that can be learned from.

    Left out are rows without the target or an input, rows of fewer than 20 readings where there is a column
    `n_readings`, rows in which two particle sensors `_a` and `_b` disagree (rule `agreement` of quality control), and
    rows that say the same as one before.

    Raises
    ------
    TableError
        A column that is not there, or holds no numbers.
    """
    columns = {name: table.column(name) for i in inputs for name in i.columns}
    y = table.column(target)
    values = {i.name: i.values(columns) for i in inputs}
    reasons = {
        "no reference": np.isnan(y),
        "an input is blank": np.isnan(np.stack(list(values.values()))).any(axis=0),
        "fewer than 20 readings": _few(table),
        "the two sensors disagree": _apart(table, inputs),
        "the same row twice": _repeated(table, np.stack([y, *values.values()])),
    }
    left = np.zeros(len(table), np.bool_)
    counts = {}
    for reason, rows in reasons.items():
        if new := int((rows & ~left).sum()):
            counts[reason] = new
        left |= rows
    kept = replace(table, columns={**values, target: y}, text={}).where(~left)
    return Prepared(kept, target, tuple(inputs), counts)


def groups(table: Table, target: str, inputs: Sequence[Input]) -> list[tuple[tuple[str, ...], tuple[Input, ...]]]:
    """Return the units that have the same inputs together, the largest group first.

    A unit does not have an input that is blank in more than half of its rows with a reference; an input that no unit
    has belongs to none, a unit without any neither.
    """
    columns = {name: table.column(name) for i in inputs for name in i.columns}
    blank = {i.name: np.isnan(i.values(columns)) for i in inputs}
    there = ~np.isnan(table.column(target))
    found: dict[tuple[Input, ...], list[str]] = {}
    for unit in table.units:
        rows = there & (table.unit == unit)
        has = tuple(i for i in inputs if rows.any() and blank[i.name][rows].mean() <= 0.5)
        if has:
            found.setdefault(has, []).append(unit)
    return sorted(((tuple(units), has) for has, units in found.items()), key=lambda g: -len(g[0]))


def _few(table: Table) -> Bools:
    if READINGS not in table.columns:
        return np.zeros(len(table), np.bool_)
    found: Bools = table.columns[READINGS] < LEAST_READINGS
    return found


def _apart(table: Table, inputs: Sequence[Input]) -> Bools:
    rule = RULES["agreement"]
    found = np.zeros(len(table), np.bool_)
    for name in {
        name.removesuffix("_mean").removesuffix("_a").removesuffix("_b") for i in inputs for name in i.columns
    }:
        a, b = table.columns.get(f"{name}_a"), table.columns.get(f"{name}_b")
        if a is not None and b is not None and name.startswith("pm"):
            gap = np.abs(a - b)
            found |= (gap > rule["above_ugm3"]) & (2 * gap > rule["above_share"] * (a + b))
    return found


def _repeated(table: Table, values: Floats) -> Bools:
    """Rows with the unit, the time and all values of the row before."""
    found = np.zeros(len(table), np.bool_)
    same = (values[:, 1:] == values[:, :-1]) | (np.isnan(values[:, 1:]) & np.isnan(values[:, :-1]))
    found[1:] = (table.time_s[1:] == table.time_s[:-1]) & (table.unit[1:] == table.unit[:-1]) & same.all(axis=0)
    return found
