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
from calibration.model import CHUNK, Model, TreeSum
from calibration.table import ONLY_UNIT, Bools, Floats

SCHEMA: Final = 1


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
    _models: dict[str, Model] = field(default_factory=dict, init=False, repr=False, compare=False)

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
        value, outside = self.model(unit).values([np.asarray(inputs[i.name], np.float64) for i in self.inputs])
        width = self.width(averaging_s or self.averaging_s)
        if width is None:
            return Applied(value, np.full(len(value), np.nan), np.full(len(value), np.nan), outside)
        lo, hi = np.empty((2, len(value)))
        for start in range(0, len(value), CHUNK):
            part = slice(start, start + CHUNK)
            half = width.half(value[part])
            np.subtract(value[part], half, out=lo[part])
            np.add(value[part], half, out=hi[part])
        return Applied(value, lo, hi, outside)

    def model(self, unit: str | None = None) -> Model:
        """Return what is computed for a unit, made once; the units of a record have its trees in common."""
        fit = self.of_unit(unit)
        if fit.name not in self._models:
            self._models[fit.name] = Model.of(
                [i.name for i in self.inputs], fit.intercept, fit.coefficients, fit.domain, self._tree_sum()
            )
        return self._models[fit.name]

    def _tree_sum(self) -> TreeSum | None:
        if self.trees is None:
            return None
        for model in self._models.values():
            return model.trees
        return TreeTables.of(self.trees, len(self.inputs)) or self.trees


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
