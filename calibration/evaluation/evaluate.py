"""Judging a calibration against a reference: agreement, targets, classes, coverage, drift, other corrections."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from calibration import corrections
from calibration.evaluation import drift, metrics, verdict
from calibration.evaluation.metrics import Agreement
from calibration.evaluation.predictions import Predictions, hold_out, predict
from calibration.evaluation.verdict import CenClass, Point
from calibration.fitting.findings import Finding
from calibration.inputs import Input
from calibration.physics import ugm3_per_ppb
from calibration.record import Record
from calibration.table import Floats, Table, TableError

LEARNING: Final = (0.5, 0.7, 0.8)
"""Shares of the rows that the learning curve learns from."""
US_CONDITION: Final = "25c"
POLLUTANTS: Final = ("pm25", "pm10", "no2", "o3")


@dataclass(frozen=True, slots=True)
class UnitResult:
    """One unit: rows learned from, agreement on those judged, coverage and share beyond the training rows [0-1]."""

    unit: str
    first_rows: int
    agreement: Agreement
    coverage: float
    outside: float


@dataclass(frozen=True, slots=True)
class Learned:
    """One point of the learning curve: errors on the rows after the first `share`, which alone were learned from."""

    share: float
    rows: int
    rmse: float
    rmse_median: float
    coverage: float
    model: str


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What was found; `as_dict` gives it for machines.

    `agreement` is of all judged rows, `rmse_median` the median of the units' RMSE, `coverage` that of the 90 %
    interval. `raw` and `fixed` are the sensor's own value and published corrections on the same rows. `mean` holds
    means over the targets' averaging time: `epa`, `cen` judge them. `learning` is empty where a record was given.
    """

    target: str
    measure: str
    pollutant: str
    split: float | None
    records: tuple[Record, ...]
    predictions: Predictions
    units: tuple[UnitResult, ...]
    agreement: Agreement
    rmse_median: float
    coverage: float
    outside: float
    raw: Agreement | None
    fixed: Mapping[str, Agreement]
    averaging_s: int
    mean: Agreement
    epa: tuple[Point, ...]
    cen: CenClass | None
    drift: tuple[drift.Part, ...]
    drift_per_30_days: float
    learning: tuple[Learned, ...]
    left_out: Mapping[str, int]
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        """All but the rows, as JSON may hold it: NaN as None."""
        found = {
            "target": self.target, "unit": self.measure, "pollutant": self.pollutant, "split": self.split,
            "records": [_of_record(r) for r in self.records], "units": [asdict(u) for u in self.units],
            "agreement": asdict(self.agreement), "rmse_median": self.rmse_median, "coverage90": self.coverage,
            "outside_domain": self.outside, "raw": asdict(self.raw) if self.raw else None,
            "fixed": {name: asdict(a) for name, a in self.fixed.items()}, "averaging_s": self.averaging_s,
            "mean": asdict(self.mean), "epa": [asdict(p) for p in self.epa],
            "cen": asdict(self.cen) if self.cen else None,
            "drift": [asdict(p) for p in self.drift], "drift_per_30_days": self.drift_per_30_days,
            "learning_curve": [asdict(p) for p in self.learning], "left_out": dict(self.left_out),
            "findings": [dict(f.as_dict()) for f in self.findings],
        }  # fmt: skip
        clean: dict[str, Any] = _without_nan(found)
        return clean


def evaluate_table(
    table: Table, *, target: str, inputs: Sequence[Input], split: float = 0.7, learning: bool = True
) -> Evaluation:
    """Fit to the first rows of each unit and judge on the rest; see `calibration.evaluate`.

    Raises
    ------
    TableError
        A column is not there, or nothing can be fitted or judged.
    """
    held = hold_out(table, target, inputs, split)
    curve = _learning(table, target, inputs) if learning else ()
    return _judge(
        held.predictions, target, held.records, split=split, first_rows=held.first_rows, learning=curve,
        left_out=held.left_out, findings=held.findings,
    )  # fmt: skip


def evaluate_record(table: Table, *, target: str, record: Record) -> Evaluation:
    """Judge a record on a table; as `evaluate_table`, without a learning curve.

    Raises
    ------
    TableError
        A column is not there, or no row has both a value and a reference.
    """
    found = predict(table, target, record)
    if np.isnan(found.value + found.reference).all():
        raise TableError(f"no row has both {target} and all that {record.id} takes")
    return _judge(found, target, (record,), split=None, first_rows={}, learning=(), left_out={}, findings=())


def _judge(
    rows: Predictions, target: str, records: tuple[Record, ...], *, split: float | None, first_rows: Mapping[str, int],
    learning: tuple[Learned, ...], left_out: Mapping[str, int], findings: tuple[Finding, ...],
) -> Evaluation:  # fmt: skip
    pollutant = next((p for p in POLLUTANTS if p in target.lower().replace(".", "")), "")
    units = tuple(_unit(rows.of_unit(u), u, first_rows.get(u, 0)) for u in rows.units)
    fixed = _fixed(rows, pollutant)
    averaging_s, means = _means(rows, pollutant)
    sd, cv = metrics.between_units(_beside_each_other(rows))
    found = metrics.agreement(*means)
    error = rows.value - rows.reference
    parts = drift.parts(rows.time_s, error)
    factor = 1 / ugm3_per_ppb(pollutant, US_CONDITION) if pollutant in {"no2", "o3"} and rows.measure != "ppb" else 1.0
    in_us_units = found if factor == 1.0 else metrics.agreement(factor * means[0], factor * means[1])
    return Evaluation(
        target=target, measure=rows.measure, pollutant=pollutant, split=split, records=records, predictions=rows,
        units=units,
        agreement=metrics.agreement(rows.value, rows.reference),
        rmse_median=float(np.median([u.agreement.rmse for u in units])),
        coverage=metrics.coverage(rows.reference, rows.lo, rows.hi), outside=float(rows.outside.mean()),
        raw=_raw(rows), fixed=fixed, averaging_s=averaging_s, mean=found,
        epa=verdict.epa(pollutant, in_us_units, factor * sd, cv),
        cen=verdict.cen(pollutant, *means, rows.measure, _capture_pct(rows)),
        drift=parts, drift_per_30_days=drift.per_30_days(parts), learning=learning, left_out=left_out,
        findings=findings,
    )  # fmt: skip


def _unit(rows: Predictions, unit: str, first_rows: int) -> UnitResult:
    return UnitResult(
        unit, first_rows, metrics.agreement(rows.value, rows.reference),
        metrics.coverage(rows.reference, rows.lo, rows.hi), float(rows.outside.mean()),
    )  # fmt: skip


def _learning(table: Table, target: str, inputs: Sequence[Input]) -> tuple[Learned, ...]:
    found = []
    for share in LEARNING:
        held = hold_out(table, target, inputs, share)
        rows = held.predictions
        by_unit = [metrics.agreement(p.value, p.reference).rmse for p in map(rows.of_unit, rows.units)]
        found.append(
            Learned(
                share,
                len(rows),
                metrics.agreement(rows.value, rows.reference).rmse,
                float(np.median(by_unit)),
                metrics.coverage(rows.reference, rows.lo, rows.hi),
                str(held.records[0].choice["model"]),
            )
        )
    return tuple(found)


def _means(rows: Predictions, pollutant: str) -> tuple[int, tuple[Floats, Floats]]:
    """Values and references over the averaging time of the targets, the rows' own where there is no target."""
    asked = verdict.TARGETS["epa"].get(pollutant, {}).get("averaging_s", rows.step_s)
    averaging_s = max(int(asked), rows.step_s)
    parts = [
        metrics.windows(p.time_s, rows.step_s, averaging_s, p.value, p.reference)[1]
        for p in map(rows.of_unit, rows.units)
    ]
    return averaging_s, (np.concatenate([v for v, _ in parts]), np.concatenate([r for _, r in parts]))


def _beside_each_other(rows: Predictions) -> Floats:
    """Values [units, n] of the times at which all units stand at one reference; no column where they do not."""
    parts = [rows.of_unit(u) for u in rows.units]
    shared = parts[0].time_s
    for part in parts[1:]:
        shared = np.intersect1d(shared, part.time_s)
    at = [np.searchsorted(p.time_s, shared) for p in parts]
    references = np.stack([p.reference[i] for p, i in zip(parts, at, strict=True)])
    values = np.stack([p.value[i] for p, i in zip(parts, at, strict=True)])
    return values[:, np.ptp(references, axis=0) < 1e-9] if len(shared) else values


def _capture_pct(rows: Predictions) -> float:
    """Share of the rows due, from each unit's first to its last, that have a value [%]."""
    if not rows.step_s:
        return 100.0
    due = sum(int(np.ptp(p.time_s)) // rows.step_s + 1 for p in map(rows.of_unit, rows.units))
    return min(100.0, 100.0 * float((~np.isnan(rows.value)).sum()) / max(due, 1))


def _raw(rows: Predictions) -> Agreement | None:
    """Return the sensor's own value, where an input of it has the reference's unit."""
    if rows.measure != "ug/m**3":
        return None
    own = next((v for n, v in rows.inputs.items() if n.startswith("pm")), None)
    return None if own is None else metrics.agreement(own, rows.reference)


def _fixed(rows: Predictions, pollutant: str) -> dict[str, Agreement]:
    """Every published correction that the inputs suffice for, by its label."""
    channels = {c: v for n, v in rows.inputs.items() if (c := _channel(n))}
    found = {}
    for label, correction in corrections.CORRECTIONS.items():
        fits = correction.output == f"{pollutant}_ugm3" and rows.measure == "ug/m**3"
        if label == correction.label and fits and set(correction.inputs) <= channels.keys():
            value = corrections.correct_nounit(correction, {c: channels[c] for c in correction.inputs})
            found[label] = metrics.agreement(value, rows.reference)
    return found


def _channel(name: str) -> str:
    """Raw channel that an input is by its name, "" where it is none a published correction takes."""
    lower = name.lower()
    words = lower.split("_")
    for size in ("pm25", "pm10"):
        for kind in ("cf1", "atm"):
            if size in words and kind in words:
                return f"{size}_{kind}"
    if "rh" in words or "humidity" in words:
        return "rh"
    if "temp" in words and "f" not in words:
        return "temp"
    return ""


def _of_record(record: Record) -> dict[str, Any]:
    return {
        "id": record.id, "inputs": [i.name for i in record.inputs], "choice": dict(record.choice),
        "held_out": dict(record.metrics), "interval": [asdict(w) for w in record.widths], "forced": record.forced,
    }  # fmt: skip


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value
