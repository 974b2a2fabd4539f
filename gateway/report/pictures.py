"""The pictures of a collocation report: what was measured, as axes and marks."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from calibration.evaluation.evaluate import Evaluation
from calibration.evaluation.metrics import Agreement
from calibration.evaluation.predictions import Predictions
from calibration.table import Floats
from gateway.report.axes import Axes, Label, span

MOST_DOTS: Final = 4000
"""More would make a page of megabytes and a black cloud."""
_WIDE: Final = 960.0


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture, its title, and a sentence that says what to see in it."""

    id: str
    title: str
    says: str
    axes: Axes


def pictures(found: Evaluation, unit_text: str) -> list[Picture]:
    """Return every picture of a report, in its order."""
    rows = found.predictions
    drawn = [_scatter(found, rows, unit_text), _target(found)]
    drawn += [_series(rows, u, unit_text) for u in rows.units]
    drawn += [_residuals(rows, name, unit_text) for name in _conditions(rows)]
    if found.drift:
        drawn.append(_drift(found, unit_text))
    drawn.append(_bland_altman(rows, unit_text))
    if found.learning:
        drawn.append(_learning(found, unit_text))
    return drawn


def thinned(n: int) -> np.ndarray:
    """Row numbers to draw: all, or so many evenly spread."""
    return np.arange(n) if n <= MOST_DOTS else np.linspace(0, n - 1, MOST_DOTS).astype(np.int64)


def _scatter(found: Evaluation, rows: Predictions, unit: str) -> Picture:
    both = span(rows.reference, rows.value, least=1.0)
    axes = Axes(f"reference [{unit}]", f"sensor, calibrated [{unit}]", both, both, width=460, height=450)
    at = thinned(len(rows))
    axes.straight(1.0, 0.0, "ideal", "sensor = reference")
    axes.dots(rows.reference[at], rows.value[at], "dots", f"{len(at)} rows")
    a = found.agreement
    axes.straight(a.slope, a.intercept, "fit", f"regression: {a.slope:.2f} × reference {a.intercept:+.2f}")  # noqa: RUF001
    says = (
        f"Each dot is a row. On the dashed line sensor and reference agree; R² is {a.r2:.2f}, a typical error (RMSE) "
        f"{a.rmse:.2f} {unit}."
    )
    return Picture("scatter", "Sensor against reference", says, axes)


def _series(rows: Predictions, unit: str, measure: str) -> Picture:
    part = rows.of_unit(unit)
    time, reference, value, lo, hi = _with_gaps(part)
    axes = Axes(
        "", measure, span(part.time_s.astype(float)), span(part.reference, part.value, part.lo, part.hi, least=1.0),
        width=_WIDE, height=300, is_time=True,
    )  # fmt: skip
    for piece in _pieces(time):
        axes.band(time[piece], lo[piece], hi[piece], "band", "90 % interval" if piece.start == 0 else "")
    axes.line(zip(time.tolist(), reference.tolist(), strict=True), "reference", "reference")
    axes.line(zip(time.tolist(), value.tolist(), strict=True), "value", "sensor, calibrated")
    name = f" {unit}" if unit else ""
    inside = float(((part.reference >= part.lo) & (part.reference <= part.hi)).mean())
    says = f"The reference lies within the sensor's 90 % interval in {inside:.0%} of the rows. Times are UTC."
    if np.isnan(part.lo).all():
        says = "The calibration has no interval for this averaging time. Times are UTC."
    return Picture(f"series-{unit}", f"Sensor{name} and reference over time", says, axes)


def _with_gaps(part: Predictions) -> tuple[Floats, ...]:
    """Columns with a NaN wherever rows are missing, so that no line is drawn over what was not measured."""
    time = part.time_s.astype(float)
    broken = np.flatnonzero(np.diff(time) > 1.5 * max(part.step_s, 1)) + 1
    columns = (time, part.reference, part.value, part.lo, part.hi)
    return tuple(np.insert(c, broken, np.nan) for c in columns)


def _pieces(time: Floats) -> list[slice]:
    ends = [*np.flatnonzero(np.isnan(time)).tolist(), len(time)]
    starts = [0, *(e + 1 for e in ends[:-1])]
    return [slice(a, b) for a, b in zip(starts, ends, strict=True) if b > a]


def _conditions(rows: Predictions) -> list[str]:
    words = ("rh", "hum", "temp", "dew")
    return [n for n in rows.inputs if any(w in n.lower() for w in words) and not np.isnan(rows.inputs[n]).all()]


def _residuals(rows: Predictions, name: str, unit: str) -> Picture:
    error, x = rows.value - rows.reference, rows.inputs[name]
    axes = Axes(name, f"sensor - reference [{unit}]", span(x), span(error, around=0.0, least=1.0))
    at = thinned(len(rows))
    axes.level(0.0, "ideal")
    axes.dots(x[at], error[at], "dots", "rows")
    middle, mean = _by_tenth(x, error)
    axes.line(zip(middle.tolist(), mean.tolist(), strict=True), "fit", "mean of each tenth of the rows")
    steepest = float(np.ptp(mean)) if len(mean) else math.nan
    says = (
        f"A calibration that has taken {name} into account leaves a level line; here it moves by {steepest:.2f} {unit}."
    )
    return Picture(f"residuals-{name}", f"What is left, against {name}", says, axes)


def _by_tenth(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    there = ~(np.isnan(x) | np.isnan(y))
    order = np.argsort(x[there], kind="stable")
    parts = [p for p in np.array_split(order, 10) if len(p)]
    return np.array([x[there][p].mean() for p in parts]), np.array([y[there][p].mean() for p in parts])


def _bland_altman(rows: Predictions, unit: str) -> Picture:
    mean, error = (rows.value + rows.reference) / 2, rows.value - rows.reference
    bias, sd = float(np.nanmean(error)), float(np.nanstd(error, ddof=1))
    axes = Axes(
        f"mean of sensor and reference [{unit}]", f"sensor - reference [{unit}]", span(mean),
        span(error, np.array([bias - 2.2 * sd, bias + 2.2 * sd])),
    )  # fmt: skip
    at = thinned(len(rows))
    axes.level(0.0, "ideal")
    axes.dots(mean[at], error[at], "dots", "rows")
    axes.level(bias, "fit", f"mean difference {bias:+.2f}", says=f"{bias:+.2f}")
    for k in (-1.96, 1.96):
        axes.level(
            bias + k * sd, "limit", "limits of agreement, ±1.96 SD" if k < 0 else "", says=f"{bias + k * sd:+.2f}"
        )
    says = f"95 of 100 differences are expected between {bias - 1.96 * sd:+.2f} and {bias + 1.96 * sd:+.2f} {unit}."
    return Picture("bland-altman", "Bland-Altman: differences against level", says, axes)


def _target(found: Evaluation) -> Picture:
    spread = float(np.nanstd(found.predictions.reference))
    points = {f"{u.unit or 'calibrated'}": (u.agreement, "value") for u in found.units}
    points |= {name: (a, "other") for name, a in found.fixed.items()}
    placed = {name: (*_on_target(a, spread), look) for name, (a, look) in points.items() if a.n > 1 and spread > 0}
    reach = 1.15 * max([1.0, *(max(abs(x), abs(y)) for x, y, _ in placed.values())])
    axes = Axes("random error / spread of the reference", "bias / spread of the reference", (-reach, reach),
                (-reach, reach),                 width=460, height=450)  # fmt: skip
    for radius, look in ((1.0, "limit"), (0.5, "ideal")):
        turn = [2 * math.pi * k / 72 for k in range(73)]
        text = "RMSE = spread of the reference: no better than its mean" if radius == 1.0 else "half of it"
        axes.line([(radius * math.cos(t), radius * math.sin(t)) for t in turn], look, text)
    axes.level(0.0, "axis")
    axes.line([(0.0, -reach), (0.0, reach)], "axis")
    for x, y, look in placed.values():
        axes.dots(np.array([x]), np.array([y]), f"{look} point")
    axes.labels += _apart([(axes.x(x), axes.y(y), name) for name, (x, y, _) in placed.items()], axes.width / 2)
    says = (
        "The nearer the middle the better: distance is RMSE, height is bias. Left: the values vary less than the "
        "reference, right: more. Published corrections stand beside."
    )
    return Picture("target", "Target plot", says, axes)


def _apart(points: list[tuple[float, float, str]], middle: float) -> list[Label]:
    """Names of points, on the side where there is room, moved down where they would lie on each other."""
    found: list[Label] = []
    for x, y, name in sorted(points, key=lambda p: p[1]):
        right = x > middle
        at = y + 4
        for other in found:
            if (other.anchor == "end") == right and abs(other.x - x) < 120:
                at = max(at, other.y + 13)
        found.append(Label(x - 8 if right else x + 8, at, name, "end" if right else "start"))
    return found


def _on_target(a: Agreement, spread: float) -> tuple[float, float]:
    random = math.sqrt(max(a.rmse**2 - a.bias**2, 0.0))
    varies_more = a.r2 > 0 and abs(a.slope) / math.sqrt(a.r2) > 1
    return (random if varies_more else -random) / spread, a.bias / spread


def _drift(found: Evaluation, unit: str) -> Picture:
    biases = np.array([p.bias for p in found.drift])
    errors = np.array([p.rmse for p in found.drift])
    middle = np.array([(p.from_s + p.to_s) / 2 for p in found.drift])
    times = np.array([found.drift[0].from_s, found.drift[-1].to_s], float)
    axes = Axes(
        "", unit, span(times), span(biases, errors, np.zeros(1), least=1.0), width=_WIDE, height=240, is_time=True
    )
    axes.level(0.0, "ideal")
    axes.line(zip(middle.tolist(), errors.tolist(), strict=True), "reference", "RMSE of each part")
    axes.line(zip(middle.tolist(), biases.tolist(), strict=True), "value", "bias of each part")
    slope = found.drift_per_30_days
    says = (
        "Too short a time for a trend." if math.isnan(slope) else f"The bias changes by {slope:+.2f} {unit} in 30 days."
    )
    return Picture("drift", "Drift: bias and error over time", says, axes)


def _learning(found: Evaluation, unit: str) -> Picture:
    shares = np.array([100 * p.share for p in found.learning])
    errors = np.array([p.rmse for p in found.learning])
    axes = Axes("rows learned from [%]", f"RMSE on the rest [{unit}]", (45.0, 85.0), span(errors, np.zeros(1)))
    axes.line(zip(shares.tolist(), errors.tolist(), strict=True), "value")
    axes.dots(shares, errors, "value point")
    for share, p in zip(shares.tolist(), found.learning, strict=True):
        axes.labels.append(Label(axes.x(share), axes.y(p.rmse) - 9, f"{p.rmse:.2f}", "middle"))
    says = "What learning from more rows brings. Each point is judged on the rows after those it learned from."
    return Picture("learning", "Learning curve", says, axes)
