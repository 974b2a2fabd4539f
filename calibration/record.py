"""A calibration record: all that a fitted calibration is and rests on, written as TOML, applied with numpy alone."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np

from calibration.fitting.interval import LEVEL, Width
from calibration.fitting.tree_tables import TreeTables
from calibration.fitting.trees import Trees
from calibration.inputs import Input
from calibration.table import ONLY_UNIT, Bools, Floats

SCHEMA: Final = 1
_CHUNK: Final = 16_384
"""Rows worked on at once, so that what is in between stays in the processor's cache."""


class RecordError(ValueError):
    """Raised when a text is no calibration record, or a record is asked for what it does not hold."""


@dataclass(frozen=True, slots=True)
class UnitFit:
    """What was fitted for one unit.

    `coefficients` maps products of inputs such as `pm25_cf1` or `pm25_cf1*rh` to factors; `domain` holds what each
    input was during training, its 0.5 % and 99.5 % quantile; valid from a time on, until another if that is known.
    """

    name: str
    valid_from: datetime
    valid_to: datetime | None
    rows: int
    intercept: float
    coefficients: Mapping[str, float]
    domain: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Applied:
    """Calibrated values [n] [the record's unit]: `lo` and `hi` bound the 90 % interval, NaN where there is none.

    `outside` says where an input lies beyond what it was in training.
    """

    value: Floats
    lo: Floats
    hi: Floats
    outside: Bools


@dataclass(frozen=True, slots=True)
class Record:
    """A fitted calibration and what it rests on.

    `widths` are the interval's, for each averaging time. `data`, `split`, `choice` and `metrics` are facts for readers:
    which rows, how they were divided, which models were compared, how well the chosen one did on held-out blocks.
    `findings` are what was found wrong, and `forced` is why it was made all the same, empty where it needed no force.
    """

    id: str
    output: str
    unit: str
    averaging_s: int
    created: datetime
    software: str
    inputs: tuple[Input, ...]
    units: Mapping[str, UnitFit]
    widths: tuple[Width, ...]
    trees: Trees | None
    data: Mapping[str, Any]
    split: Mapping[str, Any]
    choice: Mapping[str, Any]
    metrics: Mapping[str, float]
    findings: tuple[Mapping[str, str], ...] = ()
    forced: str = ""
    _compiled: dict[str, "_Compiled"] = field(default_factory=dict, init=False, repr=False, compare=False)

    def of_unit(self, unit: str | None = None) -> UnitFit:
        """Return the fit of a unit, which need not be named where there is one only.

        Raises
        ------
        RecordError
            No such unit, or several and none named.
        """
        if unit is None and len(self.units) == 1:
            return next(iter(self.units.values()))
        if unit is None or unit not in self.units:
            raise RecordError(f"{self.id} has no unit {unit!r}; it has {', '.join(map(repr, self.units))}")
        return self.units[unit]

    def width(self, averaging_s: int) -> Width | None:
        """Return the interval's width for means over so many seconds, None where none was found."""
        return next((w for w in self.widths if w.averaging_s == averaging_s), None)

    def apply(
        self, inputs: Mapping[str, Floats], *, unit: str | None = None, averaging_s: int | None = None
    ) -> Applied:
        """Calibrate rows: float64 [n] per input in the record's units, NaN in gives NaN out; not clamped.

        Parameters
        ----------
        inputs
            Each input by name [its unit].
        unit
            Which unit's coefficients; may be left out where the record has one.
        averaging_s
            What the rows are means over [s]; default: what the record was made with. An interval is given only for an
            averaging time for which the record has one.

        Raises
        ------
        RecordError
            An input is missing, or the unit is not in the record.
        """
        if missing := [i.name for i in self.inputs if i.name not in inputs]:
            raise RecordError(f"{self.id} needs {', '.join(missing)}")
        return self._compile(unit).apply(
            [np.asarray(inputs[i.name], np.float64) for i in self.inputs], self.width(averaging_s or self.averaging_s)
        )

    def values(self, inputs: list[Floats], *, unit: str | None = None) -> tuple[Floats, Bools]:
        """Return values and `outside`, as of `apply`, for inputs in the record's order; for rows as they arrive."""
        return self._compile(unit).values(inputs)

    def _compile(self, unit: str | None) -> "_Compiled":
        name = self.of_unit(unit).name
        if name not in self._compiled:
            self._compiled[name] = _Compiled.of(self, self.units[name])
        return self._compiled[name]


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A unit's coefficients as numbers: y = c + sum_i v_i (a_i + sum_j b_ij v_j); `only_bounds` are in no term."""

    intercept: float
    factors: tuple[tuple[int, float, tuple[tuple[int, float], ...]], ...]
    only_bounds: tuple[int, ...]
    bounds: tuple[tuple[float, float], ...]
    trees: Trees | None
    tables: TreeTables | None

    @classmethod
    def of(cls, record: Record, fit: UnitFit) -> "_Compiled":
        names = [i.name for i in record.inputs]
        single = dict.fromkeys(range(len(names)), 0.0)
        pairs: dict[int, list[tuple[int, float]]] = {i: [] for i in single}
        for term, factor in fit.coefficients.items():
            first, *rest = (names.index(part) for part in term.split("*"))
            if rest:
                pairs[first].append((rest[0], factor))
            else:
                single[first] = factor
        factors = tuple((i, single[i], tuple(pairs[i])) for i in single if single[i] or pairs[i])
        tables = None if record.trees is None else TreeTables.of(record.trees, len(names))
        used = {i for i, _, _ in factors} | {j for _, _, products in factors for j, _ in products}
        only_bounds = tuple(i for i in single if i not in used)
        return cls(fit.intercept, factors, only_bounds, tuple(fit.domain[n] for n in names), record.trees, tables)

    def apply(self, inputs: list[Floats], width: Width | None) -> Applied:
        n = len(inputs[0])
        value, outside = self.values(inputs)
        if width is None:
            return Applied(value, np.full(n, np.nan), np.full(n, np.nan), outside)
        lo, hi = np.empty(n), np.empty(n)
        for start in range(0, n, _CHUNK):
            part = slice(start, start + _CHUNK)
            half = width.half(value[part])
            np.subtract(value[part], half, out=lo[part])
            np.add(value[part], half, out=hi[part])
        return Applied(value, lo, hi, outside)

    def values(self, inputs: list[Floats]) -> tuple[Floats, Bools]:
        n = len(inputs[0])
        value, outside = np.empty(n), np.empty(n, np.bool_)
        if n <= _CHUNK:
            self._value(inputs, value)
            self._outside(inputs, outside)
            return value, outside
        for start in range(0, n, _CHUNK):
            part = slice(start, start + _CHUNK)
            rows = [column[part] for column in inputs]
            self._value(rows, value[part])
            self._outside(rows, outside[part])
        return value, outside

    def _value(self, rows: list[Floats], out: Floats) -> None:
        out[:] = self.intercept
        for i, factor, pairs in self.factors:
            if pairs:
                slope = rows[pairs[0][0]] * pairs[0][1]
                slope += factor
                for j, product in pairs[1:]:
                    slope += rows[j] * product
                slope *= rows[i]
                out += slope
            else:
                out += rows[i] * factor
        for i in self.only_bounds:
            out[np.isnan(rows[i])] = np.nan  # an input that was fitted with is one the record rests on
        if self.tables is not None:
            self.tables.add_to(out, rows)
        elif self.trees is not None:
            out += self.trees.apply(np.stack(rows, axis=1))

    def _outside(self, rows: list[Floats], out: Bools) -> None:
        np.less(rows[0], self.bounds[0][0], out=out)
        out |= rows[0] > self.bounds[0][1]
        for column, (low, high) in zip(rows[1:], self.bounds[1:], strict=True):
            out |= column < low
            out |= column > high


def dumps(record: Record) -> str:
    """Write a record as TOML; `loads` gives the same one back, to the last bit."""
    import tomli_w  # here: only who makes a record writes one

    trees = {} if record.trees is None else {"trees": record.trees.as_lists()}
    return tomli_w.dumps({
        "schema": SCHEMA, "id": record.id, "output": record.output, "unit": record.unit,
        "averaging_s": record.averaging_s, "created": record.created, "software": record.software,
        **({"forced": record.forced} if record.forced else {}),
        "input": [
            {"name": i.name, "columns": list(i.columns), "unit": i.unit, "how": i.how} for i in record.inputs
        ],
        "data": dict(record.data), "split": dict(record.split), "choice": dict(record.choice),
        "metrics": dict(record.metrics),
        "interval": [
            {"level": LEVEL, "averaging_s": w.averaging_s, "floor": w.floor, "growth": w.growth, "windows": w.windows}
            for w in record.widths
        ],
        "unit_fit": [
            {"name": f.name, "valid_from": f.valid_from, **({"valid_to": f.valid_to} if f.valid_to else {}),
             "rows": f.rows, "intercept": f.intercept, "coefficients": dict(f.coefficients),
             "domain": {n: list(b) for n, b in f.domain.items()}}
            for f in record.units.values()
        ],
        "finding": [dict(f) for f in record.findings],
        **trees,
    })  # fmt: skip


def loads(text: str) -> Record:
    """Read a record.

    Raises
    ------
    RecordError
        It is no TOML, of another schema, incomplete, or its parts do not fit each other.
    """
    try:
        found = tomllib.loads(text)
        if found.get("schema") != SCHEMA:
            raise RecordError(f"schema {found.get('schema')!r} is not known; this program knows {SCHEMA}")
        record = _record(found)
    except tomllib.TOMLDecodeError as error:
        raise RecordError(f"not TOML: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"incomplete: {type(error).__name__} {error}") from error
    except ValueError as error:
        raise error if isinstance(error, RecordError) else RecordError(str(error)) from error
    _check(record)
    return record


def _record(found: dict[str, Any]) -> Record:
    inputs = tuple(Input(i["name"], tuple(i["columns"]), i["unit"], i["how"]) for i in found["input"])
    units = [
        UnitFit(
            f["name"], f["valid_from"], f.get("valid_to"), int(f["rows"]), float(f["intercept"]),
            {term: float(c) for term, c in f["coefficients"].items()},
            {name: (float(low), float(high)) for name, (low, high) in f["domain"].items()},
        )
        for f in found["unit_fit"]
    ]  # fmt: skip
    widths = tuple(
        Width(int(w["averaging_s"]), float(w["floor"]), float(w["growth"]), int(w["windows"]))
        for w in found.get("interval", ())
    )
    return Record(
        id=found["id"], output=found["output"], unit=found["unit"], averaging_s=int(found["averaging_s"]),
        created=found["created"], software=found["software"], inputs=inputs, units={f.name: f for f in units},
        widths=widths, trees=Trees.from_lists(found["trees"], len(inputs)) if "trees" in found else None,
        data=found["data"], split=found["split"], choice=found["choice"], metrics=found["metrics"],
        findings=tuple(found.get("finding", ())), forced=found.get("forced", ""),
    )  # fmt: skip


def _check(record: Record) -> None:
    names = {i.name for i in record.inputs}
    if not names or not record.units:
        raise RecordError(f"{record.id}: it has no {'unit' if names else 'input'}")
    for fit in record.units.values():
        terms = [term.split("*") for term in fit.coefficients]
        if unknown := {part for term in terms for part in term} - names:
            raise RecordError(f"{record.id}: a coefficient of {', '.join(sorted(unknown))}, which is no input")
        if any(len(term) > 2 for term in terms):
            raise RecordError(f"{record.id}: a product of more than two inputs")
        if names - set(fit.domain):
            raise RecordError(f"{record.id}: unit {fit.name or ONLY_UNIT!r} has no domain of an input")
        if not np.isfinite([fit.intercept, *fit.coefficients.values()]).all():
            raise RecordError(f"{record.id}: a coefficient is not a number")
