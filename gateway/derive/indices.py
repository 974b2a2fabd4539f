"""Indices of a site: real-time means and 24 h means of its hours, their sub-indices, and the index they give."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from calibration.qc import Bools
from gateway.aqi.index import NO_INDEX, sub_index_nounit, truncate
from gateway.aqi.kernels import Mean, count
from gateway.aqi.scheme import LONGEST_WINDOW_H, Scheme, Table
from gateway.derive.sites import site_hours
from gateway.records import Floats, HourRecord, IndexRecord, Ints, SubIndex

LOOKBACK_HOURS: Final = LONGEST_WINDOW_H
"""Hours an index of any scheme is made from, its own included."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A truncated mean, its sub-index (`NO_INDEX`: none) and its completeness [%], [n] each."""

    mean: Floats
    index: Ints
    valid_pct: Floats


def derive_index(
    site: str, scheme: Scheme, first_hour: int, concentrations: Mapping[str, Floats], present: Bools, want: Ints
) -> list[IndexRecord]:
    """Derive the indices of one site by one scheme, for the wanted hours that have one.

    An hour has a record where the site has an hour record, or where a value is valid without one (NowCast needs 2 of
    the last 3 hours, not the current one) and an hour record follows within the look-back: a gap is bridged once it
    is known to be one, and no index runs ahead of the data. So a record depends on the hours within the look-back on
    both sides and on nothing else, whatever else is in the arrays.

    Parameters
    ----------
    site
        Name of the site.
    scheme
        The index scheme.
    first_hour
        Hour since 1970 of the first element of the arrays. They must hold whatever there is within
        `scheme.lookback_hours - 1` hours before and after the wanted hours.
    concentrations
        Each pollutant's consecutive hours, float64 [n] [canonical unit], NaN where invalid.
    present
        Where the site has an hour record, bool [n].
    want
        Hours since 1970, int64 [m].

    Returns
    -------
    list
        By hour. A pollutant is in `subs` where its look-back has a valid hour.
    """
    at = np.unique(want) - first_hour
    at = at[(at >= 0) & (at < len(present))]
    known = [p for p in scheme.pollutants if p in concentrations]
    subs = {p: _subs(scheme, p, concentrations[p], at) for p in known}
    followed = count(np.where(present, 1.0, np.nan)[::-1], scheme.lookback_hours)[::-1] > 0  # by one, or is one
    records = []
    for i, place in enumerate(at.tolist()):
        mine = {p: sub for p in known if (sub := subs[p][i]) is not None}
        record = _record(site, scheme, first_hour + place, mine)
        if present[place] or (followed[place] and record.value is not None):
            records.append(record)
    return records


def derive_indices(
    site: str, schemes: Iterable[Scheme], records: Sequence[HourRecord], first: int, last: int
) -> list[IndexRecord]:
    """Derive the indices of one site by several schemes for the hours `first` to `last`, both included.

    Parameters
    ----------
    records
        Hour records of the site's kits, from `LOOKBACK_HOURS - 1` hours before `first` to as many after `last`;
        more change nothing.
    """
    hours = site_hours([record for record in records if record.site == site]).get(site)
    if hours is None:
        return []
    want = np.arange(first, last + 1)
    return [
        record
        for scheme in schemes
        for record in derive_index(site, scheme, hours.first_hour, hours.concentrations, hours.present, want)
    ]


def touched_hours(hours: Iterable[int]) -> list[int]:
    """Hours whose index a change in these hours can change: within the look-back on both sides, rising."""
    return sorted({near for h in hours for near in range(h - LOOKBACK_HOURS + 1, h + LOOKBACK_HOURS)})


def _record(site: str, scheme: Scheme, hour: int, subs: dict[str, SubIndex]) -> IndexRecord:
    valid = {p: sub.index for p, sub in subs.items() if sub.index is not None}
    leading = max(valid, key=lambda p: valid[p]) if valid else None  # the first of equals, in the scheme's order
    value = valid[leading] if leading else None
    return IndexRecord(
        site=site, scheme=scheme.name, hour=hour, value=value,
        category=None if value is None else scheme.category_of(value).key,
        pollutant=leading, table=scheme.label, subs=subs,
    )  # fmt: skip


def _subs(scheme: Scheme, pollutant: str, hours: Floats, at: Ints) -> list[SubIndex | None]:
    """Build one pollutant's part at each place; `None` where the look-back holds nothing."""
    tables = scheme.tables_of(pollutant)
    live = _largest([_part(table, table.realtime, hours) for table in tables if table.realtime], len(hours))
    whole_day = next((table for table in tables if table.averaging_h == scheme.daily.window), None)
    daily = _part(whole_day or tables[0], scheme.daily, hours)
    has_any = count(hours, scheme.lookback_hours) > 0
    columns = (
        has_any, live.mean, live.index, live.valid_pct, daily.mean,
        daily.index if whole_day else np.full(len(hours), NO_INDEX), daily.valid_pct,
    )  # fmt: skip
    rows = zip(*(column[at].tolist() for column in columns), strict=True)
    return [_sub(*row) if found else None for found, *row in rows]


def _sub(mean: float, index: int, valid_pct: float, mean_24h: float, index_24h: int, valid_24h_pct: float) -> SubIndex:
    return SubIndex(
        concentration=_number(mean), index=None if index == NO_INDEX else index, valid_pct=valid_pct,
        mean_24h=_number(mean_24h), index_24h=None if index_24h == NO_INDEX else index_24h,
        valid_24h_pct=valid_24h_pct,
    )  # fmt: skip


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _part(table: Table, mean: Mean, hours: Floats) -> _Part:
    averaged = mean.of(hours) * table.factor
    valid_pct = 100.0 * count(hours, mean.window) / mean.window
    return _Part(truncate(averaged, table.decimals), sub_index_nounit(table, averaged), valid_pct)


def _largest(parts: list[_Part], n: int) -> _Part:
    """Of each hour the part with the largest sub-index, the first of equals; nothing where there is no part."""
    if not parts:
        return _Part(np.full(n, np.nan), np.full(n, NO_INDEX), np.zeros(n))
    best = np.argmax([part.index for part in parts], axis=0)
    pick = np.arange(n)
    return _Part(
        np.array([part.mean for part in parts])[best, pick],
        np.array([part.index for part in parts])[best, pick],
        np.array([part.valid_pct for part in parts])[best, pick],
    )
