"""The chain from readings to indices: pure steps over arrays, the same for one live hour and for years at once.

readings -> rows of hours -> quality control -> calibration -> hours of a kit -> hours of a site -> indices of a site
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

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
from gateway.derive.rows import Rows, Stretch, cut
from gateway.derive.sites import SiteHours, site_hours
from gateway.records import AirHour, HourRecord

__all__ = [
    "LOOKBACK_HOURS",
    "Hours",
    "SiteHours",
    "Stretch",
    "Wanted",
    "derive_hours",
    "derive_index",
    "derive_indices",
    "derive_sites",
    "load_schemes",
    "site_hours",
    "touched_by",
    "touched_hours",
]

MOST_ROWS: Final = 16_384
"""Rows of several kits that are worked on together: arrays of them stay in the processor's cache, or nearly."""

STEPS: Final[tuple[Callable[[Rows], Rows], ...]] = (
    check_channels, void_channels, calibrate, void_quantities, check_times,
)  # fmt: skip
"""What every row goes through, in order."""

Hours = list[tuple[AirHour, HourRecord]]


def derive_hours(stretches: Sequence[Stretch], *, correction: str = "barkjohn2021") -> list[Hours]:
    """Calibrate readings of kits and average them by hour, of all kits together.

    Parameters
    ----------
    stretches
        Readings of one kit each, in any order; a reading belongs to the hour of the middle of its sampling interval.
    correction
        Correction of PM2.5, by id (its newest version) or `id@version`, where a stretch has no calibration of it.

    Returns
    -------
    list
        For each stretch a pair for each hour present, by hour. A pair depends on the rows of that hour of that stretch
        alone, bit for bit, whatever stands beside it.

    Raises
    ------
    UnknownCorrectionError
        With the nearest known name.
    """
    main = find(correction)
    found: list[Hours] = [[] for _ in stretches]
    for numbers in _tables(stretches):
        rows = cut([_with(stretches[number], main) for number in numbers])
        for step in STEPS:
            rows = step(rows)
        for whose, *pair in zip(rows.whose.tolist(), air_hours(rows), hour_records(rows), strict=True):
            found[numbers[whose]].append((pair[0], pair[1]))
    return found


def _with(stretch: Stretch, main: Calibration) -> Stretch:
    given = {one.output: one for one in stretch.calibrations}
    calibrations = tuple({main.output: main, **given}.values())
    return Stretch(stretch.readings, stretch.site, calibrations, stretch.voids)


def _tables(stretches: Sequence[Stretch]) -> Iterator[list[int]]:
    """Yield numbers of stretches with the same columns and quantities, of some rows together."""
    tables: dict[Hashable, list[int]] = {}
    sizes: dict[Hashable, int] = {}
    for number, one in enumerate(stretches):
        if not len(one.readings):
            continue
        key = tuple(one.readings.columns), tuple([each.output for each in one.calibrations])
        if key in tables and sizes[key] + len(one.readings) > MOST_ROWS:
            yield tables.pop(key)
        if key not in tables:
            tables[key], sizes[key] = [], 0
        tables[key].append(number)
        sizes[key] += len(one.readings)
    yield from tables.values()


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
