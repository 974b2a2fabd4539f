"""The chain from readings to indices: pure steps over arrays, the same for one live hour and for years at once.

readings -> rows of hours -> quality control -> calibration -> hours of a kit -> hours of a site -> indices of a site
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from calibration.applied import Calibration
from calibration.corrections import find
from gateway.aqi.scheme import Scheme, load_all
from gateway.derive.calibrate import calibrate, check_channels, check_times, void_channels, void_quantities
from gateway.derive.indices import (
    LOOKBACK_HOURS,
    Wanted,
    derive_index,
    derive_indices,
    derive_sites,
    touched_by,
    touched_hours,
)
from gateway.derive.means import air_hours, hour_records
from gateway.derive.rows import Rows, cut
from gateway.derive.sites import SiteHours, site_hours
from gateway.records import AirHour, HourRecord, Readings, Void

__all__ = [
    "LOOKBACK_HOURS",
    "SiteHours",
    "Step",
    "Wanted",
    "derive_hours",
    "derive_index",
    "derive_indices",
    "derive_sites",
    "load_schemes",
    "row_steps",
    "site_hours",
    "touched_by",
    "touched_hours",
]

Step = Callable[[Rows], Rows]


def row_steps(calibrations: Sequence[Calibration], voids: Sequence[Void] = ()) -> tuple[Step, ...]:
    """Return the steps that every row goes through, in order; a further calibrated quantity is a further step."""
    return (
        check_channels,
        *((partial(void_channels, voids=voids),) if voids else ()),
        *(partial(calibrate, calibration=one) for one in calibrations),
        *((partial(void_quantities, voids=voids),) if voids else ()),
        check_times,
    )


def derive_hours(
    readings: Readings,
    *,
    site: str,
    correction: str = "barkjohn2021",
    calibrations: Sequence[Calibration] = (),
    voids: Sequence[Void] = (),
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
    calibrations
        Those of this kit, at most one a quantity; one of PM2.5 stands in place of the correction.
    voids
        What an operator has voided of this kit.

    Returns
    -------
    list
        A pair for each hour present, by hour. It depends on the rows of that hour alone, bit for bit.

    Raises
    ------
    UnknownCorrectionError
        With the nearest known name.
    """
    main = find(correction)
    given = {one.output: one for one in calibrations}
    steps = row_steps(tuple({main.output: main, **given}.values()), voids)
    if not len(readings):
        return []
    rows = cut(readings)
    for step in steps:
        rows = step(rows)
    return list(zip(air_hours(rows, site), hour_records(rows, site), strict=True))


def load_schemes(names: Iterable[str], directory: Path | None = None, zone: str | None = None) -> tuple[Scheme, ...]:
    """Load index schemes by name, those that come with Lichen and those of an operator's directory.

    `zone` is the site's, which those that end with `-daily` need.

    Raises
    ------
    UnknownSchemeError
        With the nearest known name.
    SchemeError
        A scheme's file cannot be used.
    ZoneError
        Local days cannot be made in the zone.
    """
    return load_all(tuple(names), directory, zone)
