"""Made collocations: rows of a sensor that follows a reference as a stated equation says, for tests of fits."""

from datetime import UTC, datetime

import numpy as np

from calibration import table
from calibration.fitting.interval import Width
from calibration.inputs import MEAN, Input
from calibration.record import Record, UnitFit, dumps

MADE = datetime(2026, 11, 1, tzinfo=UTC)
START_S = 1_700_006_400  # 2023-11-15T00:00:00Z
TARGET = "ref_pm25_ugm3"
INPUTS = ("pm25_cf1", "rh", "temp")


def columns(rows=1200, *, seed=1, noise=0.5, step_s=3600, unit=None, offset=0.0):
    """A PurpleAir beside a station: weather with a day's swing, air that changes within hours."""
    rng = np.random.default_rng(seed)
    hours = np.arange(rows) * step_s / 3600
    day = np.sin(2 * np.pi * hours / 24)
    temp = 15 + 6 * day + 4 * np.sin(2 * np.pi * hours / 190) + rng.normal(0, 0.5, rows)
    rh = np.clip(60 - 15 * day + 8 * np.sin(2 * np.pi * hours / 130) + rng.normal(0, 2, rows), 10, 94)
    air = np.exp(np.convolve(rng.normal(0, 1, rows + 11), np.ones(12) / 12**0.5, "valid") * 0.6 + 2.2)
    reference = air + offset
    pm = (air - 5.75 + 0.0862 * rh) / 0.524 + rng.normal(0, noise / 0.524, rows)
    found = {
        "datetime_utc": START_S + step_s * np.arange(rows), TARGET: reference, "pm25_cf1": pm, "rh": rh, "temp": temp,
    }  # fmt: skip
    return found if unit is None else {**found, "unit": np.full(rows, unit)}


def made(rows=1200, **how):
    return table.of(columns(rows, **how))


def joined(*parts):
    """Several units in one table."""
    return table.of({name: np.concatenate([p[name] for p in parts]) for name in parts[0]})


def csv_text(found):
    """Columns as CSV text, NaN as blank."""
    rows = zip(*(list(v) for v in found.values()), strict=True)
    lines = [",".join("" if v != v else str(v) for v in row) for row in rows]  # noqa: PLR0124 - NaN differs from itself
    return "\n".join([",".join(found), *lines]) + "\n"


def record_text(name, terms, *, intercept=0.0, domain=None, widths=(), output="pm25_ugm3"):
    """A record as a fit writes it: `terms` by input or product of inputs, `widths` as (averaging_s, floor, growth)."""
    inputs = dict.fromkeys(part for term in terms for part in term.split("*"))
    unit = UnitFit("", MADE, None, 100, intercept, terms, {n: (domain or {}).get(n, (-1e9, 1e9)) for n in inputs})
    return dumps(Record(
        id=name, output=output, unit="ug/m^3", averaging_s=3600, created=MADE, software="test",
        inputs=tuple(Input(n, (n,), "", MEAN) for n in inputs), units={"": unit},
        widths=tuple(Width(*width, 100) for width in widths), trees=None, data={}, split={}, choice={}, metrics={},
    ))  # fmt: skip
