"""Values of a calibration beside the reference, row by row: of rows held out, or of a record made elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration.fitting import blocks, rows
from calibration.fitting.findings import Finding, Severity
from calibration.fitting.fit import FitRefusedError, fit_table
from calibration.inputs import Input
from calibration.record import Record
from calibration.table import Bools, Floats, Ints, Names, Table, TableError


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Rows [n] sorted by (unit, time): reference, value and interval [`measure`], and each input by its name.

    `lo` and `hi` are NaN where there is no interval; `outside` says where an input lies beyond the training rows;
    `step_s` is the usual time between rows of a unit [s].
    """

    time_s: Ints
    unit: Names
    reference: Floats
    value: Floats
    lo: Floats
    hi: Floats
    outside: Bools
    inputs: dict[str, Floats]
    measure: str
    step_s: int

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def units(self) -> tuple[str, ...]:
        """The units present, in order."""
        return tuple(str(u) for u in np.unique(self.unit))

    def of_unit(self, unit: str) -> "Predictions":
        """Only the rows of one unit."""
        here = self.unit == unit
        arrays = ("time_s", "unit", "reference", "value", "lo", "hi", "outside")
        return replace(
            self, inputs={n: v[here] for n, v in self.inputs.items()}, **{n: getattr(self, n)[here] for n in arrays}
        )


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """A split in time: what was fitted to the first rows of each unit, and what that says of the rest.

    Units with other inputs have a record of their own; `first_rows` counts the rows learned from, by unit.
    """

    records: tuple[Record, ...]
    predictions: Predictions
    first_rows: dict[str, int]
    left_out: dict[str, int]
    findings: tuple[Finding, ...]


def hold_out(table: Table, target: str, inputs: Sequence[Input], share: float) -> HeldOut:
    """Fit to the first `share` of each unit's complete rows and predict the rest, of which nothing was seen.

    A fit that `fit` would refuse is judged all the same; why it would be is among the findings.

    Raises
    ------
    TableError
        Nothing can be fitted, or nothing is left to predict.
    """
    if not 0 < share < 1:
        raise TableError(
            f"a split of {share:g} leaves nothing to learn from or nothing to predict; give one such as 0.7"
        )
    found = []
    groups = rows.groups(table, target, inputs) or [(table.units, tuple(inputs))]
    for units, kept in groups:
        prepared = rows.prepare(table.where(np.isin(table.unit, units)), target, kept)
        if not len(prepared.table):
            raise TableError(_nothing(prepared.left_out, len(table)))
        first = blocks.split(prepared.table, share)
        if first.all() or not first.any():
            raise TableError(f"{len(prepared.table)} complete rows cannot be divided at {share:g}")
        record, told = _fitted(prepared.where(first).table, target, kept)
        found.append((record, predict(prepared.where(~first).table, target, record), prepared, first, told))
    lacking = [
        Finding("other_inputs", Severity.NOTE, f"fitted without {_lacking(inputs, kept)}: blank", u)
        for units, kept in groups for u in units if len(kept) < len(inputs)
    ]  # fmt: skip
    counts: dict[str, int] = {}
    for _, _, prepared, _, _ in found:
        for reason, n in prepared.left_out.items():
            counts[reason] = counts.get(reason, 0) + n
    return HeldOut(
        tuple(record for record, *_ in found),
        _joined([predictions for _, predictions, *_ in found]),
        {u: int(first[p.table.unit == u].sum()) for _, _, p, first, _ in found for u in p.table.units},
        counts, (*lacking, *(f for *_, told in found for f in told)),
    )  # fmt: skip


def predict(table: Table, target: str, record: Record) -> Predictions:
    """Apply a record to a table that has its inputs, by their names or by the columns they are made of; and the target.

    Raises
    ------
    TableError
        A column is not there.
    RecordError
        A unit of the table is not in a record that has several.
    """
    inputs = {
        i.name: table.column(i.name) if i.name in table.columns else i.values({c: table.column(c) for c in i.columns})
        for i in record.inputs
    }
    reference, step_s = table.column(target), table.step_s()
    n = len(table)
    value, lo, hi, outside = np.full(n, np.nan), np.full(n, np.nan), np.full(n, np.nan), np.zeros(n, np.bool_)
    for unit in table.units:
        here = table.unit == unit
        name = None if len(record.units) == 1 else unit
        applied = record.apply({k: v[here] for k, v in inputs.items()}, unit=name, averaging_s=step_s or None)
        value[here], lo[here], hi[here], outside[here] = applied.value, applied.lo, applied.hi, applied.outside
    return Predictions(table.time_s, table.unit, reference, value, lo, hi, outside, inputs, record.unit, step_s)


def _fitted(table: Table, target: str, inputs: Sequence[Input]) -> tuple[Record, tuple[Finding, ...]]:
    columns = tuple(Input(i.name, (i.name,), i.unit) for i in inputs)  # they are computed already
    try:
        record = fit_table(table, target=target, inputs=columns)
        told = tuple(Finding(f["code"], Severity(f["severity"]), f["text"], f["unit"]) for f in record.findings)
    except FitRefusedError as error:
        record, told = fit_table(table, target=target, inputs=columns, forced="evaluation"), error.findings
    made_of = {i.name: i for i in inputs}
    return replace(record, inputs=tuple(made_of[i.name] for i in record.inputs)), told


def _lacking(inputs: Sequence[Input], kept: Sequence[Input]) -> str:
    return ", ".join(i.name for i in inputs if i not in kept)


def _joined(parts: Sequence[Predictions]) -> Predictions:
    if len(parts) == 1:
        return parts[0]
    names = {name for part in parts for name in part.inputs}
    inputs = {
        name: np.concatenate([part.inputs.get(name, np.full(len(part), np.nan)) for part in parts]) for name in names
    }
    arrays = ("time_s", "unit", "reference", "value", "lo", "hi", "outside")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    order = np.lexsort((joined["time_s"], joined["unit"]))
    return Predictions(
        **{name: values[order] for name, values in joined.items()},
        inputs={name: values[order] for name, values in inputs.items()},
        measure=parts[0].measure, step_s=max(part.step_s for part in parts),
    )  # fmt: skip


def _nothing(left_out: dict[str, int], rows_there: int) -> str:
    why = "; ".join(f"{n}: {reason}" for reason, n in left_out.items())
    return f"of {rows_there} rows none is complete ({why})"
