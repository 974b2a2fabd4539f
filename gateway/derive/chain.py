"""The chain from readings to indices: pure steps over arrays, the same for one live hour and for years at once.

readings -> rows of hours -> quality control -> calibration -> hours of a kit -> hours of a site -> indices of a site
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from calibration.corrections import find
from gateway.aqi.scheme import Scheme, load
from gateway.derive.calibrate import calibrate, check_channels, check_times
from gateway.derive.indices import LOOKBACK_HOURS, derive_index, derive_indices, touched_hours
from gateway.derive.means import air_hours, hour_records
from gateway.derive.rows import Rows, cut
from gateway.derive.sites import SiteHours, site_hours
from gateway.records import AirHour, HourRecord, Readings

__all__ = [
    "LOOKBACK_HOURS",
    "SiteHours",
    "Step",
    "derive_hours",
    "derive_index",
    "derive_indices",
    "load_schemes",
    "row_steps",
    "site_hours",
    "touched_hours",
]

Step = Callable[[Rows], Rows]


def row_steps(correction: str) -> tuple[Step, ...]:
    """Return the steps that every row goes through, in order; a further calibrated quantity is a further step.

    Raises
    ------
    UnknownCorrectionError
        With the nearest known name.
    """
    return (check_channels, partial(calibrate, correction=find(correction)), check_times)


def derive_hours(
    readings: Readings, *, site: str, correction: str = "barkjohn2021"
) -> list[tuple[AirHour, HourRecord]]:
    """Calibrate the readings of one kit and average them by hour.

    Parameters
    ----------
    readings
        Readings of one kit, in any order; each belongs to the hour of the middle of its sampling interval.
    site
        Where the kit stood.
    correction
        Correction of PM2.5, by id (its newest version) or `id@version`.

    Returns
    -------
    list
        A pair for each hour present, by hour. It depends on the rows of that hour alone, bit for bit.

    Raises
    ------
    UnknownCorrectionError
        With the nearest known name.
    """
    steps = row_steps(correction)
    if not len(readings):
        return []
    rows = cut(readings)
    for step in steps:
        rows = step(rows)
    return list(zip(air_hours(rows, site), hour_records(rows, site), strict=True))


def load_schemes(names: Iterable[str], directory: Path | None = None) -> tuple[Scheme, ...]:
    """Load index schemes by name, those that come with Lichen and those of an operator's directory.

    Raises
    ------
    UnknownSchemeError
        With the nearest known name.
    SchemeError
        A scheme's file cannot be used.
    """
    return tuple(load(name, directory) for name in names)
