"""Measured agreement against the EPA's targets and the classes of CEN/TS 17660: what is met, point by point."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import numpy as np

from calibration.evaluation.metrics import Agreement
from calibration.evaluation.uncertainty import Orthogonal, expanded_pct, orthogonal
from calibration.physics import ugm3_per_ppb
from calibration.table import Floats

TARGETS: Final[Mapping[str, Any]] = tomllib.loads(
    resources.files(__package__).joinpath("targets.toml").read_text("utf-8")
)
"""The targets, as in targets.toml."""

EU_CONDITION: Final = "20c"
"""Gases are stated at 20 °C where EU limit values are meant."""


@dataclass(frozen=True, slots=True)
class Point:
    """One target: what was measured, what is asked in words, and whether it is met; None where it cannot be said."""

    name: str
    value: float
    asked: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class CenClass:
    """Class of CEN/TS 17660 (1 best, 3; 0 none), and what it rests on, at `limit_value` in `unit`.

    `capture_pct` is the share of the rows due that have a value; `beyond` says that the limit value lies above all
    that was measured, so that the uncertainty there is extrapolated.
    """

    reached: int
    uncertainty_pct: float
    slope: float
    intercept: float
    limit_value: float
    unit: str
    capture_pct: float
    beyond: bool


def epa(pollutant: str, found: Agreement, sd: float, cv_pct: float) -> tuple[Point, ...]:
    """Return the EPA's targets for a pollutant, empty where it has none: see targets.toml.

    Parameters
    ----------
    pollutant
        `pm25`, `pm10`, `no2` or `o3`.
    found
        Agreement of means over the target's averaging time, in its unit.
    sd, cv_pct
        Between units [its unit] and [%]; NaN with fewer than three units.
    """
    asked = TARGETS["epa"].get(pollutant)
    if asked is None or not found.n:
        return ()
    unit = "µg/m³" if asked["unit"] == "ug/m**3" else asked["unit"]
    low, high = asked["slope"]
    least, most = asked["intercept"]
    rmse_ok = found.rmse <= asked["rmse_most"]
    rmse_text = f"at most {asked['rmse_most']:g} {unit}"
    if "nrmse_most_pct" in asked:
        rmse_ok = rmse_ok or found.nrmse_pct <= asked["nrmse_most_pct"]
        rmse_text += f" or {asked['nrmse_most_pct']:g} %"
    between = None if np.isnan(sd) else sd <= asked["sd_most"] or cv_pct <= asked["cv_most_pct"]
    return (
        Point("slope", found.slope, f"{low:g} to {high:g}", low <= found.slope <= high),
        Point("intercept", found.intercept, f"{least:g} to {most:g} {unit}", least <= found.intercept <= most),
        Point("R²", found.r2, f"at least {asked['r2_least']:g}", found.r2 >= asked["r2_least"]),
        Point("RMSE", found.rmse, rmse_text, rmse_ok),
        Point("SD between units", sd, f"at most {asked['sd_most']:g} {unit} or {asked['cv_most_pct']:g} %", between),
    )


def cen(pollutant: str, sensor: Floats, reference: Floats, unit: str, capture_pct: float) -> CenClass | None:
    """Return the class of CEN/TS 17660 that values reach, None where there is none for the pollutant or no line.

    Parameters
    ----------
    pollutant
        `pm25`, `pm10` or `no2`.
    sensor, reference
        Means over the class's averaging time [n] [`unit`]; ppb is brought to µg/m³ at 20 °C.
    unit
        `ug/m**3` or `ppb`.
    capture_pct
        Share of the rows due that have a value [%].
    """
    asked = TARGETS["cen"].get(pollutant)
    if asked is None or len(sensor) < 3:
        return None
    factor = ugm3_per_ppb(pollutant, EU_CONDITION) if unit == "ppb" and asked["unit"] == "ug/m**3" else 1.0
    try:
        line = orthogonal(factor * sensor, factor * reference)
    except ValueError:
        return None
    uncertainty = expanded_pct(line, asked["limit_value"])
    reached = next((c + 1 for c in range(3) if _reaches(c, asked, line, uncertainty, capture_pct)), 0)
    return CenClass(
        reached, uncertainty, line.slope, line.intercept, asked["limit_value"], asked["unit"],
        capture_pct, bool(asked["limit_value"] > factor * np.nanmax(reference)),
    )  # fmt: skip


def _reaches(c: int, asked: Mapping[str, Any], line: Orthogonal, uncertainty_pct: float, capture_pct: float) -> bool:
    low, high = TARGETS["cen"]["slope"][c]
    return bool(
        uncertainty_pct <= asked["uncertainty_pct"][c] and low <= line.slope <= high
        and abs(line.intercept) <= asked["intercept"][c] and capture_pct >= TARGETS["cen"]["capture_pct"][c]
    )  # fmt: skip
