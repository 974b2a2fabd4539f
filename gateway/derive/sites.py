"""Hours of a site: the median of its valid kits, as arrays of consecutive hours."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

import msgspec
import numpy as np

from calibration.qc import Bools
from calibration.quantities import DERIVED
from gateway.records import Floats, HourRecord


class SiteHours(msgspec.Struct, frozen=True, eq=False):
    """Consecutive hours of one site, from its first hour record to its newest.

    `present` bool [n] says where it has an hour record; `concentrations` maps a pollutant to float64 [n], in the
    canonical unit of its quantity, NaN where no kit is valid.
    """

    site: str
    first_hour: int
    present: Bools
    concentrations: dict[str, Floats]


def site_hours(records: Sequence[HourRecord]) -> dict[str, SiteHours]:
    """Median of the valid kits of each site, for each hour and calibrated quantity; the order of records is free.

    Parameters
    ----------
    records
        At most one record for each kit, site and hour.

    Returns
    -------
    dict
        Each site that has a record. A pollutant is there where any of its hours has a value.
    """
    by_site: dict[str, list[HourRecord]] = defaultdict(list)
    for record in records:
        by_site[record.site].append(record)
    return {site: _site(site, mine) for site, mine in sorted(by_site.items())}


def _site(site: str, records: list[HourRecord]) -> SiteHours:
    first, last = min(r.hour for r in records), max(r.hour for r in records)
    present = np.zeros(last - first + 1, bool)
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        present[record.hour - first] = True
        for name, quantity in DERIVED.items():
            if name in record.values:
                found[quantity.pollutant][record.hour - first].append(record.values[name])
    concentrations = {}
    for pollutant in sorted(found):
        hours = np.full(len(present), np.nan)
        for hour, values in found[pollutant].items():
            hours[hour] = median(values)
        concentrations[pollutant] = hours
    return SiteHours(site, first, present, concentrations)
