"""The collocation report: an evaluation as one HTML file that needs nothing else, and as JSON."""

import json
import math
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import jinja2

from calibration.evaluation.evaluate import Evaluation
from calibration.evaluation.verdict import TARGETS
from calibration.quantities import CHANNELS
from gateway.report.pictures import pictures

_TEMPLATES: Final = Path(__file__).parent / "templates"
_TEXT: Final = {c.unit: c.text for c in CHANNELS.values()} | {"ppb": "ppb"}


def as_html(found: Evaluation, *, title: str, source: str, now: datetime) -> str:
    """Return the page: words first, then pictures, then numbers and how they were come by."""
    unit = unit_text(found.measure)
    return _environment().get_template("collocation.html").render(
        found=found, title=title, source=source, unit=unit, pictures=pictures(found, unit),
        verdict=in_words(found), now=now, version=metadata.version("lichen-air"), targets=TARGETS,
        first=_day(int(found.predictions.time_s.min())), last=_day(int(found.predictions.time_s.max())),
    )  # fmt: skip


def as_json(found: Evaluation, *, title: str, source: str, now: datetime) -> str:
    """Return what the page says, and every row judged, for machines."""
    rows = found.predictions
    columns = {
        "time": [_iso(t) for t in rows.time_s.tolist()], "unit": rows.unit.tolist(),
        **{n: _numbers(getattr(rows, n)) for n in ("reference", "value", "lo", "hi")},
        "outside_domain": rows.outside.tolist(), **{name: _numbers(v) for name, v in rows.inputs.items()},
    }  # fmt: skip
    head = {"title": title, "source": source, "created": now.isoformat(), "software": metadata.version("lichen-air")}
    return json.dumps({**head, **found.as_dict(), "rows": columns})


def in_words(found: Evaluation) -> list[str]:
    """Say what the numbers mean, for a reader who knows none of them."""
    unit, a = unit_text(found.measure), found.agreement
    rows = f"{a.n} rows" if found.split is None else f"{a.n} rows that the calibration had not seen"
    typically = f"a value is typically {a.rmse:.1f} {unit} off (RMSE); on average {_off(a.bias, unit)}"
    said = [f"On {rows}, {typically}."]
    best = min(found.fixed.items(), key=lambda item: item[1].rmse, default=None)
    if best and a.rmse < best[1].rmse:
        said.append(f"The best published correction, {best[0]}, is {best[1].rmse:.1f} {unit} off on these rows.")
    elif best:
        said.append(f"The published correction {best[0]} does better here: {best[1].rmse:.1f} {unit}. Use that one.")
    if not math.isnan(found.coverage):
        good = 0.85 <= found.coverage <= 0.95
        said.append(
            f"The 90 % interval holds the reference in {found.coverage:.0%} of the rows"
            + (", as it should." if good else ": it is " + ("too narrow." if found.coverage < 0.85 else "too wide."))
        )
    met = [p.met for p in found.epa if p.met is not None]
    if met:
        said.append(
            f"{sum(met)} of {len(met)} EPA targets that can be judged are met, on {_span(found.averaging_s)} means."
        )
    if found.cen:
        said.append(
            f"By CEN/TS 17660 it reaches class {found.cen.reached}." if found.cen.reached else
            "By CEN/TS 17660 it reaches no class."
        )  # fmt: skip
    if found.outside > 0.1:
        said.append(
            f"{found.outside:.0%} of the rows lie beyond what the sensor met in training: these are extrapolated."
        )
    return said


def _off(bias: float, unit: str) -> str:
    if abs(bias) < 0.05:
        return "neither too high nor too low"
    return f"{abs(bias):.1f} {unit} too {'high' if bias > 0 else 'low'}"


def unit_text(unit: str) -> str:
    """Return a unit as it is printed."""
    return _TEXT.get(unit, unit)


def _environment() -> jinja2.Environment:
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.filters["number"] = _number
    found.filters["span"] = _span
    found.filters["unit"] = unit_text
    return found


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}".replace("-", "−")  # noqa: RUF001 - as numbers are printed


def _span(seconds: int) -> str:
    for length, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds % length == 0:
            return "24 h" if seconds == 86_400 else f"{seconds // length} {name}"
    return f"{seconds} s"


def _numbers(values: Any) -> list[float | None]:
    return [None if math.isnan(v) else v for v in values.tolist()]


def _iso(time_s: int) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat().replace("+00:00", "Z")


def _day(time_s: int) -> str:
    at = datetime.fromtimestamp(time_s, UTC)
    return f"{at.day} {at:%B %Y}"
