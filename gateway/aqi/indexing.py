"""A whole table indexed: each row's sub-indices and index, by hours or by local days, in the order of the file."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from gateway.aqi import units
from gateway.aqi.columns import Use, Values, plan, recognise
from gateway.aqi.csvtable import CsvError, CsvTable, Floats, Times, name_key, read_times, vocabulary
from gateway.aqi.days import standard_offset_h
from gateway.aqi.index import NO_INDEX, Ints, kept, sub_index_nounit
from gateway.aqi.kernels import Mean
from gateway.aqi.overall import Overall, combine
from gateway.aqi.tables import Scheme

_LONGEST_SPAN_H: Final = 24 * 366 * 200
"""Hours between the first and the last row of a site; more is a mistyped year."""


_MOST_DOUBLES: Final = 0.01
"""Of all rows: more that share an hour are no slip but shorter means, or sites that nothing tells apart."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the result: where and when, the index, and of each pollutant its sub-index and what it came from.

    `value` is `None` where there is not enough data. `table` names the version of the table that was applied, `?` after
    it that the date that chose it is unverified; it is empty where no table was in force.
    """

    keys: Mapping[str, str]
    value: int | None
    category: str | None
    pollutant: str | None
    subs: Mapping[str, int | None]
    used: Mapping[str, float | None]
    table: str


@dataclass(frozen=True, slots=True)
class Indexed:
    """What was made of a table: rows, which columns served for what, which pollutants are missing, and what to know."""

    scheme: str
    uses: list[Use]
    missing: list[str]
    notes: list[str]
    rows: list[Row] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Asked:
    """How a table is to be indexed.

    `hourly` says that values are hours to be averaged (True), or the means that tables are made for (False); `None`
    lets the times decide. `daily` asks for local days from hours. `zone` is the site's; times without an offset are its
    standard time. `units` are by column or pollutant, `time` and `site` name columns.
    """

    hourly: bool | None = None
    daily: bool = False
    zone: str | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    time: str | None = None
    site: str | None = None


def index_table(table: CsvTable, scheme: Scheme, asked: Asked | None = None) -> Indexed:
    """Index a table of concentrations.

    Raises
    ------
    CsvError
        The columns do not suffice or a cell cannot be read; says what would help.
    ZoneError
        Local days cannot be made in the zone.
    """
    asked = asked or Asked()
    times = _times(table, asked)
    hourly = asked.daily or (asked.hourly if asked.hourly is not None else bool(times and times.hourly))
    if hourly and times is None:
        raise CsvError("hours are averaged by their times, and there is no column of times; name it with --time COLUMN")
    offset_h = standard_offset_h(asked.zone, _year(times)) if asked.zone else None
    newest = scheme.members[-1]
    if asked.daily and not any(t.day for t in newest.tables):
        raise CsvError(
            f"{newest.name} has no rule for days: none is published that could be verified; leave --daily out"
        )
    values_are: Values = "days" if asked.daily else "hours" if hourly else "given"
    uses, missing = plan(table, newest, values_are, given=asked.units)
    notes = _notes(table, newest, uses, missing, values_are)
    sites = _sites(table, asked)
    values = _values(table, uses, notes)
    found = Indexed(scheme.name, uses, missing, notes)
    if asked.daily and times is not None:
        found.rows.extend(_by_day(table, scheme, uses, values, times, sites, offset_h, notes))
    else:
        found.rows.extend(_by_row(table, scheme, uses, values, times, sites, offset_h, notes))
    return found


def _times(table: CsvTable, asked: Asked) -> Times | None:
    column = asked.time or table.find(vocabulary()["rows"]["time"])
    if column is None:
        return None
    if column not in table.columns:
        raise CsvError(f"there is no column {column!r}; there are {', '.join(table.columns)}")
    return read_times(table, column)


def _year(times: Times | None) -> int:
    hour = int(times.hours.max()) if times is not None else 0
    return (dt.datetime(1970, 1, 1) + dt.timedelta(hours=hour)).year if hour else 2026  # noqa: DTZ001 - a year alone


def _sites(table: CsvTable, asked: Asked) -> list[str]:
    """Columns that tell rows of one time apart."""
    if asked.site is not None:
        if missing := [name for name in asked.site.split(",") if name not in table.columns]:
            raise CsvError(f"there is no column {missing[0]!r}; there are {', '.join(table.columns)}")
        return asked.site.split(",")
    rows = vocabulary()["rows"]
    return [name for name in (table.find(rows["site"]), table.find(rows["instrument"])) if name]


def _values(table: CsvTable, uses: Sequence[Use], notes: list[str]) -> dict[str, Floats]:
    """Read each column that serves, in its own unit; hours that the file calls invalid are missing."""
    found = {use.column: table.numbers(use.column) for use in uses}
    quality = table.find(vocabulary()["rows"]["quality"])
    if quality is not None and any(use.average for use in uses):
        marks = frozenset(vocabulary()["rows"]["quality_missing"])
        bad = np.array([name_key(cell) in marks for cell in table.columns[quality]])
        if bad.any():
            notes.append(
                f"{int(bad.sum())} rows that column {quality!r} calls {', '.join(sorted(marks))} are not averaged"
            )
            for use in uses:
                if use.average:
                    found[use.column] = np.where(bad, np.nan, found[use.column])
    return found


def _notes(
    table: CsvTable, scheme: Scheme, uses: Sequence[Use], missing: Sequence[str], values_are: Values
) -> list[str]:
    said = []
    for use in uses:
        how = "as it is"
        if use.average and values_are == "days":
            how = "hours, from midnight to midnight of standard time"
        elif use.average and use.table.realtime:
            how = "hours, " + (
                f"mean by {use.table.realtime.text}" if use.table.realtime.window > 1 else "each by itself"
            )
        doubt = ", assumed: nothing tells the unit" if use.assumed else ""
        said.append(f"{use.table.name}: column {use.column!r} [{units.text(use.unit)}{doubt}], {how}")
    for pollutant in missing:
        there = next((f.column for f in map(recognise, table.columns) if f and f.pollutant == pollutant), None)
        note = scheme.tables_of(pollutant)[0].note
        said.append(f"{pollutant}: " + (f"column {there!r} does not serve. {note}".rstrip() if there else "no column"))
    return said


def _by_row(
    table: CsvTable, scheme: Scheme, uses: Sequence[Use], values: Mapping[str, Floats], times: Times | None,
    sites: Sequence[str], offset_h: int | None, notes: list[str],
) -> list[Row]:  # fmt: skip
    windows = (u.table.realtime.window for u in uses if u.average and u.table.realtime)
    averaged, grouped = values, []
    hours = times.hours if times is not None else np.zeros(len(table), np.int64)
    if any(window > 1 for window in windows) and times is not None:
        grouped, averaged = _groups(table, times, sites), {name: found.copy() for name, found in values.items()}
        _without_doubles(table, times, grouped, averaged, notes)
    keys = [*([times.column] if times else []), *sites]
    rows: list[Row | None] = [None] * len(table)
    for mask, member, label in _dated(scheme, times, len(table), offset_h):
        used, subs = {}, {}
        for use in _of_member(uses, member):
            means = values[use.column] * use.factor
            if use.average and use.table.realtime and use.table.realtime.window > 1:
                means = _averaged(use.table.realtime, averaged[use.column] * use.factor, hours, grouped)
            used[use.table.name] = kept(use.table, means)
            subs[use.table.name] = sub_index_nounit(use.table, means)
        whole = combine(member, _by_pollutant(member, subs))
        at = np.flatnonzero(mask).tolist()
        made = _rows(at, whole, used, label, lambda i: {key: table.columns[key][i] for key in keys})
        for i, row in zip(at, made, strict=True):
            rows[i] = row
    return [row or _nothing({key: table.columns[key][i] for key in keys}) for i, row in enumerate(rows)]


def _nothing(keys: Mapping[str, str]) -> Row:
    return Row(keys, None, None, None, {}, {}, "")


def _of_member(uses: Sequence[Use], member: Scheme) -> list[Use]:
    """Return what is used with the tables of one dated scheme, which have the names of the newest one's."""
    known = {table.name: table for table in member.tables}
    return [
        Use(known[u.table.name], u.column, u.unit, u.factor, u.average, u.assumed)
        for u in uses
        if u.table.name in known and known[u.table.name].unit == u.table.unit
    ]


def _by_pollutant(scheme: Scheme, by_table: Mapping[str, Ints]) -> dict[str, Ints]:
    found: dict[str, Ints] = {}
    for name, subs in by_table.items():
        pollutant = scheme.table(name).pollutant
        found[pollutant] = np.maximum(found[pollutant], subs) if pollutant in found else subs
    return found


def _dated(scheme: Scheme, times: Times | None, n: int, offset_h: int | None) -> list[tuple[Any, Scheme, str]]:
    if times is None:
        if len(scheme.members) > 1:
            raise CsvError(
                f"{scheme.name!r} takes the table in force at each row's time, and there is no column of times; "
                f"name a table, such as {scheme.members[-1].name}"
            )
        return scheme.at(np.zeros(n, np.int64))
    # times of the file's own clock: its days are the days by which tables change
    own = scheme.validity.utc_offset_h if offset_h is None else offset_h
    return scheme.at(times.hours if times.zoned else times.hours - own)


def _groups(table: CsvTable, times: Times, sites: Sequence[str]) -> list[Ints]:
    """Rows of each site."""
    names = list(zip(*(table.columns[site] for site in sites), strict=True)) if sites else [()] * len(table)
    by_site: dict[tuple[str, ...], list[int]] = {}
    for i, name in enumerate(names):
        by_site.setdefault(name, []).append(i)
    found = [np.array(rows, np.int64) for rows in by_site.values()]
    for name, rows in zip(by_site, found, strict=True):
        hours = times.hours[rows]
        if hours.max() - hours.min() > _LONGEST_SPAN_H:
            last = int(rows[hours.argmax()])
            cell = table.columns[times.column][last]
            raise CsvError(f"{' '.join((*name, repr(cell)))} is centuries after the first row", line=table.lines[last])
    return found


def _without_doubles(
    table: CsvTable, times: Times, groups: Sequence[Ints], values: dict[str, Floats], notes: list[str]
) -> None:
    """Take as missing what a site has twice for one hour, as some files do where summer time begins."""
    doubles: list[int] = []
    for rows in groups:
        _, place, counts = np.unique(times.hours[rows], return_inverse=True, return_counts=True)
        for again in np.flatnonzero(counts > 1):
            mine = rows[place == again]
            if any(len(np.unique(found[mine])) > 1 for found in values.values()):  # NaN equals NaN here
                doubles += mine.tolist()
    if not doubles:
        return
    example = repr(table.columns[times.column][doubles[0]])
    if len(doubles) > max(_MOST_DOUBLES * len(table), 4):
        raise CsvError(
            f"{len(doubles)} rows share an hour with another, such as {example}; one row an hour is needed: average "
            "shorter ones first, or name the columns that tell sites apart with --site COLUMN,COLUMN",
            line=table.lines[doubles[0]],
        )
    notes.append(f"{len(doubles)} rows share an hour with another, such as {example}: these hours are taken as missing")
    for found in values.values():
        found[doubles] = np.nan


def _series(values: Floats, hours: Ints) -> tuple[Floats, int]:
    """Consecutive hours from the first to the last, NaN where there is no row."""
    first = int(hours.min())
    whole = np.full(int(hours.max()) - first + 1, np.nan)
    whole[hours - first] = values
    return whole, first


def _averaged(mean: Mean, values: Floats, hours: Ints, groups: Sequence[Ints]) -> Floats:
    found = np.full(values.shape, np.nan)
    for rows in groups:
        whole, first = _series(values[rows], hours[rows])
        found[rows] = mean.of(whole)[hours[rows] - first]
    return found


def _rows(at: Sequence[int], whole: Overall, used: Mapping[str, Floats], label: str, keys: Any) -> list[Row]:
    leading, categories = whole.leading_names(), whole.categories()
    values = whole.value.tolist()
    subs = {name: found.tolist() for name, found in whole.subs.items()}
    means = {name: found.tolist() for name, found in used.items()}
    return [
        Row(
            keys(i), None if values[i] == NO_INDEX else values[i], categories[i], leading[i],
            {name: None if found[i] == NO_INDEX else found[i] for name, found in subs.items()},
            {name: None if found[i] != found[i] else found[i] for name, found in means.items()}, label,
        )
        for i in at
    ]  # fmt: skip


def _by_day(
    table: CsvTable, scheme: Scheme, uses: Sequence[Use], values: dict[str, Floats], times: Times,
    sites: Sequence[str], offset_h: int | None, notes: list[str],
) -> list[Row]:  # fmt: skip
    """Index local days, by site in the order of the file and by day."""
    if times.zoned and offset_h is None:
        raise CsvError("days run from midnight to midnight of the site's standard time; name its zone with --zone")
    to_local_h = offset_h if times.zoned and offset_h is not None else 0
    rows: list[Row] = []
    groups = _groups(table, times, sites)
    _without_doubles(table, times, groups, values, notes)
    for mine in groups:
        hours = times.hours[mine]
        days = np.unique((hours + to_local_h) // 24)
        names = {site: table.columns[site][mine[0]] for site in sites}
        of_site: dict[int, Row] = {}
        for mask, member, label in _dated(scheme, Times("", days * 24, hourly=False, zoned=False), len(days), None):
            used, subs = {}, {}
            for use in _of_member(uses, member):
                if use.table.day is None:
                    continue
                found = use.table.day.of(*_series(values[use.column][mine] * use.factor, hours), to_local_h)
                means = found.values[np.searchsorted(found.days, days)]
                used[use.table.name], subs[use.table.name] = kept(use.table, means), sub_index_nounit(use.table, means)
            whole = combine(member, _by_pollutant(member, subs))
            at = np.flatnonzero(mask).tolist()
            made = _rows(at, whole, used, label, lambda i, d=days, n=names: {"date": _date(int(d[i])), **n})
            of_site |= dict(zip(at, made, strict=True))
        rows += [of_site.get(i) or _nothing({"date": _date(day), **names}) for i, day in enumerate(days.tolist())]
    return rows


def _date(day: int) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()
