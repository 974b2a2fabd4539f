"""What is wrong with the rows of a fit, in words: what was found, and what to do about it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import numpy as np

from calibration.fitting import lag
from calibration.fitting.rows import Prepared
from calibration.inputs import Input
from calibration.table import Bools, Floats, Table

LEAST_ROWS: Final = 60
"""Of a whole table: ten for each of six blocks."""
LEAST_DAYS: Final = 5
"""Less is one kind of weather."""
GOOD_DAYS: Final = 30
"""What EPA's base testing asks for."""
MIXED_GAIN: Final = 1.7
"""ppb and µg/m³ of NO2 are 1.88 to 1.91 apart, of O3 1.96 to 2.0; a sensor's own gain changes by less at once."""
MIXED_AGREE: Final = 1.4
"""The factor seen from before and that seen from after the change differ by no more."""
MIXED_SCALE: Final = 100.0
"""µg and mg are 1000 apart; what one row in ten exceeds does not change so for good."""
MIXED_TEMP: Final = 25.0
"""Seasons do not part the medians of a temperature so [°C]; room temperature in °F is 48 more than in °C."""
CUTS: Final = 24
"""Moments looked at: each at the end of so many equal parts of the rows, but the first and the last ones."""
STUCK_ROWS: Final = 12


class Severity(StrEnum):
    """How much a finding weighs."""

    ERROR = "error"
    """A fit on such rows is not to be trusted: it is refused unless forced."""
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found; `code` names its kind, `unit` where it was, empty for the whole table."""

    code: str
    severity: Severity
    text: str
    unit: str = ""

    def as_dict(self) -> Mapping[str, str]:
        """As a record holds it."""
        return {"code": self.code, "severity": self.severity.value, "text": self.text, "unit": self.unit}


def of_table(table: Table, target: str, inputs: tuple[Input, ...]) -> Iterator[Finding]:
    """Yield what is wrong with a table before rows are left out: blank columns, times that are there twice, units."""
    y = table.column(target)
    columns = {name: table.column(name) for i in inputs for name in i.columns}
    for name, values in {target: y, **{i.name: i.values(columns) for i in inputs}}.items():
        if np.isnan(values).all():
            yield _error("all_blank", f"{name} is blank in all {len(table)} rows; nothing can be fitted with it")
        elif np.nanmax(values) == np.nanmin(values):
            yield _error("constant", f"{name} is {np.nanmax(values):g} in every row: it says nothing; leave it out")
        elif problem := _implausible(name, values):
            yield _error("implausible_unit", problem)
    for unit in table.units:
        rows = table.unit == unit
        times = table.time_s[rows]
        twice = np.flatnonzero(np.diff(times) == 0)
        same = np.flatnonzero(rows)[twice]
        conflicting = [i for i in same if not _equal(table, i, i + 1, [target, *columns])]
        if conflicting:
            yield _error(
                "duplicate_times", f"{len(conflicting)} times are there twice with different values, the first "
                f"{_day(table.time_s[conflicting[0]])}; decide which row holds", unit)  # fmt: skip
        elif len(same):
            yield Finding("repeated_rows", Severity.NOTE, f"{len(same)} rows are there twice and were used once", unit)


def of_rows(rows: Prepared) -> Iterator[Finding]:
    """Yield what is wrong with the rows left: too few, a lag, a shifted clock, mixed units, a stuck reference."""
    table = rows.table
    days = len(np.unique(table.time_s // 86_400))
    if len(table) < LEAST_ROWS or days < LEAST_DAYS:
        why = "; ".join(f"{n} rows: {reason}" for reason, n in rows.left_out.items())
        yield _error(
            "too_few_rows", f"{len(table)} complete rows on {days} days; at least {LEAST_ROWS} on {LEAST_DAYS} "
            "days are needed" + (f" (left out: {why})" if why else ""))  # fmt: skip
        return
    if days < GOOD_DAYS:
        yield Finding(
            "short", Severity.WARNING,
            f"{days} days; less than {GOOD_DAYS} leave out weather that will come: "
            "expect values beyond the training rows",
        )  # fmt: skip
    for unit in table.units:
        here = rows.where(table.unit == unit)
        yield from _of_clock(here, unit)
        yield from _of_gain(here, unit)
        yield from _of_reference(here, unit)


def of_skill(rmse: float, constant_rmse: float, target: str) -> Iterator[Finding]:
    """Yield that a model does not explain the reference: less than a fifth of what its mean leaves open."""
    skill = 1 - (rmse / constant_rmse) ** 2 if constant_rmse else 0.0
    if skill < 0.2:
        yield _error(
            "no_skill", f"on held-out blocks the best model errs by {rmse:.3g}, the mean alone by {constant_rmse:.3g}: "
            f"the sensor does not follow {target}; look at the picture of both before anything else")  # fmt: skip


def _error(code: str, text: str, unit: str = "") -> Finding:
    return Finding(code, Severity.ERROR, text, unit)


def _day(time_s: float) -> str:
    return datetime.fromtimestamp(float(time_s), UTC).isoformat(timespec="minutes").replace("+00:00", "Z")


def _equal(table: Table, one: int, other: int, names: list[str]) -> bool:
    pairs = [(table.columns[n][one], table.columns[n][other]) for n in names]
    return all(a == b or (np.isnan(a) and np.isnan(b)) for a, b in pairs)


def _implausible(name: str, values: Floats) -> str | None:
    """Say where values cannot be in the unit that their name stands for."""
    lower, high, low = name.lower(), float(np.nanquantile(values, 0.95)), float(np.nanquantile(values, 0.05))
    if ("rh" in lower.split("_") or "hum" in lower) and "abs" not in lower:
        if high <= 1.0:
            return f"{name} lies between {low:.2g} and {high:.2g}: as if a share and not %; multiply it by 100"
        if low < 1.0 and high > 20.0:
            return f"{name} has values below 1 and of {high:.0f}: as if a share and % were mixed"
    if "temp" in lower and not lower.endswith("_f") and high > 60:
        return f"{name} reaches {high:.0f}: as if °F and not °C; convert it"
    return None


def _of_clock(rows: Prepared, unit: str) -> Iterator[Finding]:
    step_s = rows.table.step_s()
    found = lag.find(rows.table.time_s, rows.y, rows.x, step_s)
    if found is None:
        return
    hours = found.seconds / 3600
    gain = f"explains {found.best_r2:.0%} of the reference instead of {found.r2:.0%}"
    if found.changed_s is None:
        yield _error(
            "lag", f"with the sensor's rows taken {hours:+g} h the sensor {gain}: one of the two clocks or "
            f"labels is off; shift the reference with --lag-s {found.seconds}", unit)  # fmt: skip
    else:
        yield _error(
            "shifted_clock", f"near {_day(found.changed_s)} a clock was shifted: on one side of it, taking the "
            f"sensor's rows {hours:+g} h {gain}; correct the times of that part", unit)  # fmt: skip


def _of_gain(rows: Prepared, unit: str) -> Iterator[Finding]:
    """Columns whose scale changes at one moment for good, as if units were mixed."""
    n = len(rows.y)
    if n < LEAST_ROWS:
        return
    columns = {rows.target: rows.y, **dict(zip((i.name for i in rows.inputs), rows.x.T, strict=True))}
    cuts = [n * k // CUTS for k in range(2, CUTS - 1)]
    for name, values in columns.items():
        changes = [_change(name, values, at) for at in cuts]
        if max(changes) > 1:
            at = cuts[int(np.argmax(changes))]
            parts = [float(np.median(part)) for part in (values[:at], values[at:])]
            yield _mixed(rows, at, unit, f"{name} changes from about {parts[0]:.3g} to about {parts[1]:.3g}")
            return
    late = np.arange(n)
    factors = {at: _factor(rows.y, rows.x, late >= at) for at in cuts}
    seen = {at: f for at, f in factors.items() if f is not None}
    if seen:
        at = max(seen, key=lambda k: abs(np.log(seen[k])))
        yield _mixed(
            rows, at, unit, f"{rows.target} becomes {seen[at]:.2g} times what the same readings stood for before"
        )


def _mixed(rows: Prepared, at: int, unit: str, what: str) -> Finding:
    when = _day(rows.table.time_s[at])
    return _error("mixed_units", f"near {when} {what}: as if units were mixed; bring all rows to one unit", unit)


def _change(name: str, values: Floats, at: int) -> float:
    """How far the scale changes at a row, in what would be too much: above 1 it is not the air that changed."""
    if "temp" in name.lower():
        part = max(len(values) // CUTS, 5)  # neighbours only, so that no season comes in
        return abs(float(np.median(values[at : at + part]) - np.median(values[max(at - part, 0) : at]))) / MIXED_TEMP
    small, large = sorted(float(np.quantile(np.abs(part), 0.9)) for part in (values[:at], values[at:]))
    return large / small / MIXED_SCALE if small > 0 else 0.0


def _factor(y: Floats, x: Floats, late: Bools) -> float | None:
    """Factor between the reference and what the other side's line predicts, where both sides say the same of it."""
    if min(late.sum(), (~late).sum()) < LEAST_ROWS // 2:
        return None
    forth, back = _against(y, x, ~late, late), _against(y, x, late, ~late)
    if forth is None or back is None:
        return None
    size = float(np.sqrt(forth / back))
    agree = max(forth * back, 1 / (forth * back)) < MIXED_AGREE
    return size if agree and max(size, 1 / size) > MIXED_GAIN else None


def _against(y: Floats, x: Floats, learned: Bools, told: Bools) -> float | None:
    """How many times the reference is what a line learned elsewhere predicts; None where it does not follow it."""
    design = np.column_stack([np.ones(len(x)), x])
    predicted = design[told] @ np.linalg.lstsq(design[learned], y[learned], rcond=None)[0]
    if predicted.std() == 0 or y[told].std() == 0 or float(np.corrcoef(predicted, y[told])[0, 1]) < 0.7:
        return None
    factor = float((y[told] * predicted).sum() / (predicted**2).sum())
    return factor if factor > 0 else None


def _of_reference(rows: Prepared, unit: str) -> Iterator[Finding]:
    changes = np.flatnonzero(np.diff(rows.y) != 0)
    runs = np.diff(np.concatenate([[-1], changes, [len(rows.y) - 1]]))
    if runs.max() >= STUCK_ROWS:
        at = int(np.argmax(runs))
        start = 0 if at == 0 else int(changes[at - 1]) + 1
        yield Finding(
            "stuck_reference", Severity.WARNING,
            f"the reference repeats {rows.y[start]:g} for {runs.max()} rows from {_day(rows.table.time_s[start])}",
            unit,
        )  # fmt: skip
