"""Fitting a calibration: rows are looked at, models compared on held-out blocks, and what comes out is a record."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Final

import numpy as np

from calibration import inputs as naming
from calibration.fitting import blocks, findings, interval, linear, rows, trees
from calibration.fitting.choose import Candidate, Choice, choose, free_terms
from calibration.fitting.findings import Finding, Severity
from calibration.fitting.rows import Prepared
from calibration.inputs import Input
from calibration.physics import ugm3_to_ppb
from calibration.quantities import DERIVED
from calibration.record import Record, UnitFit
from calibration.table import Floats, Ints, Table, TableError

DOMAIN: Final = (0.005, 0.995)
"""Quantiles of an input during training that bound where a calibration holds: beyond, errors were 1.6 to 2.6 times."""
LEAST_TO_COMPUTE: Final = 12
OWN_DOMAIN_ROWS: Final = 100
"""A unit with fewer rows has the domain of all."""


class FitRefusedError(ValueError):
    """Raised when a fit is not to be trusted; carries every finding, the errors among them say why."""

    def __init__(self, found: Sequence[Finding]) -> None:
        self.findings = tuple(found)
        errors = [f for f in found if f.severity is Severity.ERROR]
        told = "; ".join((f"{f.unit}: " if f.unit else "") + f.text for f in errors)
        super().__init__(f"not fitted: {told}")


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """A chosen model fitted to all rows: coefficients of each unit for inputs as they are, and trees."""

    coefficients: list[dict[linear.Term, float]]
    grown: trees.Trees | None


@dataclass(frozen=True, slots=True)
class _Meant:
    """What the record is to be: its quantity and unit, its name, why it was forced, where its rows came from."""

    output: str
    unit: str
    name: str | None
    forced: str
    source: Mapping[str, Any]


def fit_table(
    table: Table, *, target: str, inputs: Iterable[str | Input], condition: str | None = None,
    output: str | None = None, name: str | None = None, forced: str = "",
    source: Mapping[str, Any] | None = None, now: datetime | None = None,
) -> Record:  # fmt: skip
    """Fit a calibration to a table; see `calibration.fit`, which takes other people's columns too.

    `source` says which file the rows came from, as the record shall tell.

    Raises
    ------
    FitRefusedError
        The rows or the result are not to be trusted, and `forced` gives no reason to do it all the same.
    TableError
        A column is not there, or nothing can be computed from what is.
    """
    wanted = _inputs(inputs)
    table, output, measure, found = _in_output_unit(table, target, output or _output(target), condition)
    found += findings.of_table(table, target, wanted)
    kept, units = _without_blank(table, target, wanted, found)
    prepared = rows.prepare(table.where(np.isin(table.unit, units)), target, kept)
    found += findings.of_rows(prepared)
    _refuse(found, forced)
    if len(prepared.table) < LEAST_TO_COMPUTE:
        raise TableError(
            f"{len(prepared.table)} complete rows; not even by force can a line be drawn through fewer than 12"
        )
    ordered, signals = naming.signals_first(prepared.inputs)
    prepared = Prepared(prepared.table, target, ordered, prepared.left_out)
    unit = blocks.number(prepared.table.unit)
    choice = choose(prepared.x, prepared.y, unit, signals=signals)
    found += findings.of_skill(choice.chosen.rmse, choice.constant_rmse, target)
    _refuse(found, forced)
    made = _Meant(output, measure, name, forced, {**(source or {}), **({"condition": condition} if condition else {})})
    return _record(prepared, choice, signals, found, made, now)


def _in_output_unit(
    table: Table, target: str, output: str, condition: str | None
) -> tuple[Table, str, str, list[Finding]]:
    """Bring the reference to the unit of the quantity it measures; else the calibration gives the target itself."""
    measure = naming.unit_of(target)
    wanted = DERIVED[output].unit if output in DERIVED else measure
    if measure in {wanted, ""}:
        return table, output, wanted, []
    if condition is None or (measure, wanted) != ("ug/m**3", "ppb"):
        text = f"{target} is in {measure}, {output} in {wanted}: the calibration gives {target}, which kits cannot use"
        if (measure, wanted) == ("ug/m**3", "ppb"):
            text += "; say at which condition it is stated (20c in the EU, 25c in the US) to have it converted"
        return table, target, measure, [Finding("other_unit", Severity.NOTE, text)]
    gas = DERIVED[output].pollutant
    return table.having({target: ugm3_to_ppb(table.column(target), gas, condition)}), output, wanted, []


def _inputs(given: Iterable[str | Input]) -> tuple[Input, ...]:
    given = list(given)
    if all(isinstance(i, Input) for i in given):
        return tuple(i for i in given if isinstance(i, Input))
    return naming.parse(str(i) for i in given)


def _without_blank(
    table: Table, target: str, wanted: tuple[Input, ...], found: list[Finding]
) -> tuple[tuple[Input, ...], tuple[str, ...]]:
    """Return inputs and units of the largest group that has the same inputs; says what was left out."""
    groups = rows.groups(table, target, wanted)
    if not groups:
        return wanted, table.units
    units, kept = groups[0]
    for i in wanted:
        if i not in kept and not any(i in has for _, has in groups):
            text = f"{i.name} is blank in more than half of the rows of every unit; it was left out"
            found.append(Finding("blank_input", Severity.WARNING, text))
            found[:] = [f for f in found if not (f.code == "all_blank" and f.text.startswith(f"{i.name} "))]
    for others, has in groups[1:]:
        lacking = ", ".join(i.name for i in kept if i not in has) or "no input of the others"
        text = f"units {', '.join(others)} lack {lacking} and were left out; fit them by themselves"
        found.append(Finding("other_inputs", Severity.WARNING, text))
    return kept, units


def _refuse(found: Sequence[Finding], forced: str) -> None:
    if not forced and any(f.severity is Severity.ERROR for f in found):
        raise FitRefusedError(found)


def _record(
    prepared: Prepared, choice: Choice, signals: int, found: Sequence[Finding], meant: "_Meant", now: datetime | None
) -> Record:
    table, target = prepared.table, prepared.target
    made = _fit(choice.chosen, prepared, signals)
    now = (now or datetime.now(UTC)).replace(microsecond=0)
    step_s = table.step_s()
    cell = blocks.number(table.unit) * blocks.BLOCKS + blocks.cut(blocks.number(table.unit))
    return Record(
        id=meant.name or f"{meant.output}-{now:%Y%m%d-%H%M}", output=meant.output, unit=meant.unit,
        averaging_s=step_s, created=now, software=f"lichen-air {metadata.version('lichen-air')}",
        inputs=prepared.inputs, units=_units(prepared, made),
        widths=interval.widths(choice.held_out, prepared.y - choice.held_out, table.time_s, cell, step_s),
        trees=made.grown,
        data={
            **meant.source, "target": target, "rows": len(table), "from": _time(table.time_s.min()),
            "to": _time(table.time_s.max()), "step_s": step_s, "left_out": prepared.left_out,
            "rows_sha256": table.sha256([target, *(i.name for i in prepared.inputs)]),
        },
        split={
            "blocks": blocks.BLOCKS,
            "how": "each unit's time in six blocks, each predicted from all before it, the first half from all after",
        },
        choice=_told(choice), metrics=_metrics(choice, prepared.y), findings=tuple(f.as_dict() for f in found),
        forced=meant.forced,
    )  # fmt: skip


def _fit(model: Candidate, prepared: Prepared, signals: int) -> _Model:
    unit, block = blocks.number(prepared.table.unit), blocks.cut(blocks.number(prepared.table.unit))
    scale = linear.Scale.of(prepared.x)
    design = scale.design(prepared.x, model.terms)
    cells = linear.Cells.of(design, prepared.y, unit, block)
    everything: Ints = np.arange(blocks.BLOCKS)
    found = linear.solve(cells, everything, free_terms(model.terms, signals), model.penalty, model.pull)
    grown = None
    if model.rounds:
        rest: Floats = prepared.y - np.einsum("np,np->n", design, found[unit])
        grown = trees.grow(prepared.x, rest, model.rounds)
    return _Model([linear.expand(scale, model.terms, c) for c in found], grown)


def _units(prepared: Prepared, made: _Model) -> dict[str, UnitFit]:
    table, names = prepared.table, [i.name for i in prepared.inputs]
    found = {}
    for unit, coefficients in zip(table.units, made.coefficients, strict=True):
        here = table.unit == unit
        x = prepared.x[here] if here.sum() >= OWN_DOMAIN_ROWS else prepared.x
        low, high = np.quantile(x, DOMAIN, axis=0)
        found[unit] = UnitFit(
            unit, _time(table.time_s[here].min()), None, int(here.sum()), coefficients[()],
            {"*".join(names[i] for i in sorted(term)): c for term, c in coefficients.items() if term},
            {n: (float(a), float(b)) for n, a, b in zip(names, low, high, strict=True)},
        )  # fmt: skip
    return found


def _told(choice: Choice) -> dict[str, Any]:
    def row(c: Candidate) -> dict[str, Any]:
        return {"model": c.name, "ridge": c.penalty, "pull_rows": c.pull, "trees": c.rounds,
                "coefficients": round(c.coefficients, 1), "rmse": c.rmse}  # fmt: skip

    best = {c.name: c for c in sorted(choice.compared, key=lambda c: -c.rmse)}
    return {**row(choice.chosen), "rule": "the simplest within one standard error of the best, block by block",
            "compared": [row(c) for c in best.values()]}  # fmt: skip


def _metrics(choice: Choice, y: Floats) -> dict[str, float]:
    error = choice.held_out - y
    varies = y.std() > 0 and choice.held_out.std() > 0
    return {
        "held_out_rmse": choice.chosen.rmse, "held_out_bias": float(error.mean()),
        "held_out_r2": float(np.corrcoef(choice.held_out, y)[0, 1] ** 2) if varies else 0.0,
        "mean_alone_rmse": choice.constant_rmse,
    }  # fmt: skip


def _output(target: str) -> str:
    """Quantity that a reference column measures, by its name; the name itself where no quantity is known for it."""
    lower = target.lower()
    for name, quantity in DERIVED.items():
        if quantity.pollutant.replace(".", "") in lower.replace(".", ""):
            return name
    return target


def _time(time_s: Any) -> datetime:
    return datetime.fromtimestamp(int(time_s), UTC)
