"""Which column of a table is which concentration: by its name, its unit, and what the scheme has tables for."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import numpy as np

from gateway.aqi import units
from gateway.aqi.csvtable import CsvError, CsvTable, name_key, vocabulary
from gateway.aqi.tables import Scheme, Table

_HOURS: Final = re.compile(r"(?<![a-z0-9])(\d+)[ _-]?(?:h|hr|hrs|hour|hours)(?![a-z])")
_BRACKETS: Final = re.compile(r"[(\[]([^)\]]*)[)\]]")
_FAR_ABOVE: Final = 4.0
"""A column without a unit whose median is so many times the end of its table is in another unit than the table's."""


Values = Literal["given", "hours", "days"]
"""What values without an averaging time are: what tables are made for, hours, or hours of which days are made."""


@dataclass(frozen=True, slots=True)
class Found:
    """A column of concentrations as its name tells it: `hours` it is a mean of, 0 where it says only that it is one.

    `hours` is `None` for values as they are; `unit` is `None` where the name has none.
    """

    column: str
    pollutant: str
    hours: int | None
    unit: str | None


@dataclass(frozen=True, slots=True)
class Use:
    """What a table of the scheme is applied to: a column, its unit, whether hours are averaged first.

    `assumed` says that nothing tells the unit, so that the table's own is taken.
    """

    table: Table
    column: str
    unit: str
    factor: float
    average: bool
    assumed: bool


def recognise(name: str) -> Found | None:
    """Read the name of a column; `None` where it is no concentration of a known pollutant.

    Examples
    --------
    >>> recognise("pm2_5_avg").hours, recognise("o3_8hr").hours, recognise("no2_ppb").unit
    (0, 8, 'ppb')
    >>> recognise("pm25_valid_pct") is None
    True
    """
    words = vocabulary()["words"]
    text = name_key(name)
    unit = None
    for inside in _BRACKETS.findall(text):
        unit = units.plain(inside)
    text = _BRACKETS.sub(" ", text)
    for pollutant, pattern in _patterns().items():
        rest, count = pattern.subn(" ", text, count=1)
        if not count:
            continue
        window = _HOURS.search(rest)
        left = _HOURS.sub(" ", rest)
        averaged = False
        for word in re.split(r"[ _.:,/-]+", left):
            if word in words["units"]:
                unit = units.plain(word)
            elif word in words["averaged"]:
                averaged = True
            elif word not in words["plain"]:
                return None
        hours = int(window.group(1)) if window else 0 if averaged else None
        return Found(name, pollutant, hours, unit)
    return None


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    return {name: re.compile(pattern) for name, pattern in vocabulary()["pollutants"].items()}


def plan(
    table: CsvTable, scheme: Scheme, values: Values, *, given: Mapping[str, str] | None = None
) -> tuple[list[Use], list[str]]:
    """Find a column for each table of the scheme.

    A column whose name tells its averaging time serves the table of that time as it is. One that tells none is hours
    to be averaged, where rows are hours, and else the value that the pollutant's first table is made for.

    Parameters
    ----------
    table
        The file.
    scheme
        The scheme.
    values
        What values without an averaging time are.
    given
        Units by column or pollutant, which go before all else.

    Returns
    -------
    tuple
        What is used, in the scheme's order, and which pollutants have no column.

    Raises
    ------
    CsvError
        No column serves, a unit cannot be converted, or a unit that nothing tells cannot be the table's.
    """
    found = [f for f in map(recognise, table.columns) if f]
    uses: list[Use] = []
    for pollutant in scheme.pollutants:
        mine = [f for f in found if f.pollutant == pollutant]
        tables = scheme.tables_of(pollutant)
        named = {} if values == "days" else {t.name: f for t in tables if (f := _named(t, tables, mine))}
        plain = next((f for f in mine if f.hours in {None, 1}), None)
        for t in tables:
            if t.name in named:
                uses.append(_use(t, named[t.name], table, scheme, given or {}, average=False))
            elif plain is not None and _serves(t, values, _first_free(tables, named)):
                uses.append(_use(t, plain, table, scheme, given or {}, average=values != "given"))
    missing = [p for p in scheme.pollutants if p not in {use.table.pollutant for use in uses}]
    if not uses:
        raise CsvError(
            f"no column holds a concentration of {', '.join(scheme.pollutants)}; there are "
            f"{', '.join(table.columns)}. Name columns such as pm25_ugm3, no2_ppb or o3_8h_ppb"
        )
    return uses, missing


def _serves(table: Table, values: Values, first_free: Table | None) -> bool:
    if values == "given":
        return table is first_free
    return (table.realtime if values == "hours" else table.day) is not None


def _named(table: Table, tables: Sequence[Table], columns: Sequence[Found]) -> Found | None:
    """Return the column whose name tells the averaging time of this table, or that it is a mean where only one is."""
    exact = next((f for f in columns if f.hours and f.hours == table.averaging_h), None)
    if exact:
        return exact
    means = [t for t in tables if 1 < t.averaging_h <= 24]
    if not means and all(f.hours == 0 for f in columns):
        means = list(tables)  # means of hours
    if means and table is means[0]:
        return next((f for f in columns if f.hours == 0), None)
    return None


def _first_free(tables: Sequence[Table], named: Mapping[str, Found]) -> Table | None:
    """Return the table that a value without an averaging time is for: that from zero, or else the next free one."""
    free = [t for t in tables if t.name not in named]
    return next((t for t in free if t.low[0] == 0), free[0] if free else None)


def _use(table: Table, found: Found, rows: CsvTable, scheme: Scheme, given: Mapping[str, str], *, average: bool) -> Use:
    unit = given.get(found.column) or given.get(found.pollutant) or found.unit or _unit_of_rows(rows, found)
    assumed = unit is None
    unit = units.plain(unit or table.unit)
    try:
        factor = units.factor(unit, table.unit, pollutant=table.pollutant, condition=scheme.gas_condition)
    except units.UnitError as error:
        raise CsvError(f"column {found.column!r}, unit {unit!r}: {error}; known are ug/m3, mg/m3, ppb, ppm") from error
    if assumed:
        values = rows.numbers(found.column)
        median = float(np.nanmedian(values)) if np.isfinite(values).any() else 0.0
        end = table.high[-1] / 10.0**table.decimals
        if median > _FAR_ABOVE * end:
            raise CsvError(
                f"column {found.column!r} tells no unit, and half its values are above {median:g}, far above the "
                f"table of {scheme.name}, which ends at {end:g} {units.text(table.unit)}; "
                f"give the unit, such as --unit {found.pollutant}=ppb"
            )
    return Use(table, found.column, unit, factor, average, assumed)


def _unit_of_rows(table: CsvTable, found: Found) -> str | None:
    """Return the unit that a column of units tells, where there is one pollutant, or that a known source has."""
    present = {name_key(name) for name in table.columns}
    for source in vocabulary()["source"]:
        if present >= set(source["columns"]) and found.pollutant in source["units"]:
            return str(source["units"][found.pollutant])
    column = table.find(vocabulary()["rows"]["unit"])
    if column is None or len({f.pollutant for f in map(recognise, table.columns) if f}) > 1:
        return None
    told = {cell.strip() for cell in table.columns[column]} - {""}
    if len(told) > 1:
        raise CsvError(
            f"column {column!r} tells several units: {', '.join(sorted(told))}; a table has one for each column"
        )
    return told.pop() if told else None
