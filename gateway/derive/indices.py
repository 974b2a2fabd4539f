"""Indices of a site: real-time means and 24 h means of its hours, their sub-indices, and the index they give."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from calibration.qc import Bools
from gateway.aqi.days import LocalDay
from gateway.aqi.index import NO_INDEX, kept, sub_index_nounit
from gateway.aqi.kernels import Mean, count
from gateway.aqi.overall import enough
from gateway.aqi.scheme import LONGEST_WINDOW_H, Keep, Scheme, Table
from gateway.derive.sites import SiteHours, site_hours
from gateway.records import Floats, HourRecord, IndexRecord, Ints, SubIndex

LOOKBACK_HOURS: Final = LONGEST_WINDOW_H
"""Hours an index of any scheme is made from, its own included."""


class _Part(msgspec.Struct, frozen=True, eq=False):
    """The mean that was used, its sub-index (`NO_INDEX`: none) and its completeness [%], [n] each."""

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
        The index scheme; a series of dated ones applies to each hour the table in force then.
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
        By hour. A pollutant is in `subs` where its look-back has a valid hour. An hour at which no table of a series
        was in force has no record.
    """
    at = np.unique(want) - first_hour
    hours = first_hour + np.arange(len(present))
    line = _Line(first_hour, [site] * len(hours), hours, present, concentrations)
    return [record for _, record in _records(line, scheme, at[(at >= 0) & (at < len(present))])]


class _Applied(msgspec.Struct, frozen=True):
    """What is applied to some hours: the name asked for, the scheme, what names its table, the offset of its days."""

    name: str
    scheme: Scheme
    label: str
    utc_offset_h: int | None


class _Line(msgspec.Struct, frozen=True, eq=False):
    """Hours of one site, or of several one after the other and far apart; of each place the site and the hour.

    Places count hours of a day as `first_hour` does, so that local days begin where they should.
    """

    first_hour: int
    sites: Sequence[str]
    hours: Ints
    present: Bools
    concentrations: Mapping[str, Floats]


def _records(line: _Line, scheme: Scheme, at: Ints) -> list[tuple[int, IndexRecord]]:
    """Return places of the line and the records there, by place."""
    found = []
    for mine, dated, label in scheme.at(line.hours[at]):
        found += _of_table(line, _Applied(scheme.name, dated, label, scheme.utc_offset_h), at[mine])
    return sorted(found, key=lambda pair: pair[0])


def _of_table(line: _Line, applied: _Applied, at: Ints) -> list[tuple[int, IndexRecord]]:
    known = [p for p in applied.scheme.pollutants if p in line.concentrations]
    subs = {p: _subs(applied, p, line.concentrations[p], line.first_hour, at) for p in known}
    present = line.present
    lookback = applied.scheme.lookback_hours
    followed = count(np.where(present, 1.0, np.nan)[::-1], lookback)[::-1] > 0  # by one, or is one
    found = []
    for i, place in enumerate(at.tolist()):
        if not followed[place]:
            continue
        mine = {p: sub for p in known if (sub := subs[p][i]) is not None}
        record = _record(line.sites[place], applied, int(line.hours[place]), mine)
        if present[place] or record.value is not None:
            found.append((place, record))
    return found


class Wanted(NamedTuple):
    """Hours of a site, and of which of them indices are wanted, both included."""

    hours: SiteHours
    first: int
    last: int


def derive_sites(schemes: Iterable[Scheme], wanted: Sequence[Wanted]) -> list[list[IndexRecord]]:
    """Derive the indices of several sites together: a live hour of fifty costs hardly more than that of one.

    Parameters
    ----------
    wanted
        Each with whatever the site has within `LOOKBACK_HOURS - 1` hours before and after.

    Returns
    -------
    list
        For each of `wanted` its records, by scheme and hour.
    """
    line, at, owner = _laid_out(wanted)
    found: list[list[IndexRecord]] = [[] for _ in wanted]
    for scheme in schemes:
        for place, record in _records(line, scheme, at):
            found[owner[place]].append(record)
    return found


def _laid_out(wanted: Sequence[Wanted]) -> tuple[_Line, Ints, Ints]:
    """Return the line of these hours, the places that are wanted, and of each place to which of them it belongs."""
    starts, end = [], 0
    for one in wanted:
        starts.append(end + (one.hours.first_hour - end) % 24)  # counts the hours of a day as the site does
        end = starts[-1] + len(one.hours.present) + LOOKBACK_HOURS
    hours, owner, present = np.zeros(end, np.int64), np.zeros(end, np.int64), np.zeros(end, bool)
    concentrations = {name: np.full(end, np.nan) for one in wanted for name in one.hours.concentrations}
    at = []
    for number, (start, (site, first, last)) in enumerate(zip(starts, wanted, strict=True)):
        there = slice(start, start + len(site.present))
        hours[there] = site.first_hour + np.arange(len(site.present))
        owner[there], present[there] = number, site.present
        for name, values in site.concentrations.items():
            concentrations[name][there] = values
        begin = max(first, site.first_hour) - site.first_hour
        at.append(start + np.arange(begin, min(last + 1 - site.first_hour, len(site.present))))
    sites = [wanted[number].hours.site for number in owner.tolist()]
    return _Line(0, sites, hours, present, concentrations), np.concatenate([np.zeros(0, np.int64), *at]), owner


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
    return derive_sites(schemes, [Wanted(hours, first, last)])[0] if hours else []


def touched_by(hour: int, *, comes_or_goes: bool) -> range:
    """Hours whose index a site's record of this hour can change: of those before only where it comes or goes."""
    return range(hour - LOOKBACK_HOURS + 1 if comes_or_goes else hour, hour + LOOKBACK_HOURS)


def touched_hours(hours: Iterable[int]) -> list[int]:
    """Hours whose index a change in these hours can change: within the look-back on both sides, rising."""
    return sorted({near for h in hours for near in range(h - LOOKBACK_HOURS + 1, h + LOOKBACK_HOURS)})


def _record(site: str, applied: _Applied, hour: int, subs: dict[str, SubIndex]) -> IndexRecord:
    scheme = applied.scheme
    valid = {p: sub.index for p, sub in subs.items() if sub.index is not None}
    leading = max(valid, key=lambda p: valid[p]) if enough(scheme, valid) else None  # the first of equals
    value = valid[leading] if leading else None
    return IndexRecord(
        site=site, scheme=applied.name, hour=hour, value=value,
        category=None if value is None else scheme.category_of(value).key,
        pollutant=leading if value is not None and value > scheme.leading_above else None, table=applied.label,
        subs=subs,
    )  # fmt: skip


def _subs(applied: _Applied, pollutant: str, hours: Floats, first_hour: int, at: Ints) -> list[SubIndex | None]:
    """Build one pollutant's part at each place; `None` where the look-back holds nothing."""
    scheme, offset_h = applied.scheme, applied.utc_offset_h
    tables = scheme.tables_of(pollutant)
    if offset_h is None:
        live = _largest([_part(table, table.realtime, hours) for table in tables if table.realtime], len(hours))
    else:
        days = [_day_part(table, table.day, hours, first_hour, offset_h) for table in tables if table.day]
        live = _largest(days, len(hours))
    whole_day = next((table for table in tables if table.averaging_h == scheme.mean_24h.window), None)
    beside = _part(whole_day or tables[0], scheme.mean_24h, hours)
    has_any = count(hours, scheme.lookback_hours) > 0
    columns = (
        has_any, live.mean, live.index, live.valid_pct, beside.mean,
        beside.index if whole_day else np.full(len(hours), NO_INDEX), beside.valid_pct,
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
    averaged = mean.of(hours)
    index = sub_index_nounit(table, averaged * table.factor)
    return _Part(_used(table, averaged), index, 100.0 * count(hours, mean.window) / mean.window)


def _day_part(table: Table, day: LocalDay, hours: Floats, first_hour: int, utc_offset_h: int) -> _Part:
    """Values of local days, each at the last hour of its day."""
    found = day.of(hours, first_hour, utc_offset_h)
    places = found.days * 24 + 23 - utc_offset_h - first_hour
    inside = (places >= 0) & (places < len(hours))
    averaged, present = np.full(len(hours), np.nan), np.zeros(len(hours))
    averaged[places[inside]], present[places[inside]] = found.values[inside], found.present[inside]
    index = sub_index_nounit(table, averaged * table.factor)
    return _Part(_used(table, averaged), index, 100.0 * present / (day.last - day.first + 1))


def _used(table: Table, averaged: Floats) -> Floats:
    """Return what the scheme keeps of a mean, in the pollutant's canonical unit."""
    if table.keep is Keep.EXACT:
        return averaged
    used = kept(table, averaged * table.factor)
    return used if table.factor == 1.0 else np.round(used / table.factor, 9)  # the decimal number


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
