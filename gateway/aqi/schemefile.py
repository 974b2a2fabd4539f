"""One scheme's TOML file, taken apart and checked: whatever is wrong is said with its file and its place."""

import datetime as dt
import json
import math
import tomllib
import zlib
from collections.abc import Sequence
from typing import Any, Final, Literal, cast

import numpy as np

from calibration.quantities import CONDITIONS
from gateway.aqi import units
from gateway.aqi.days import LocalDay
from gateway.aqi.kernels import FIXED_KERNELS, Mean
from gateway.aqi.tables import (
    EVIDENCE,
    LANGUAGES,
    SHAPES,
    UNVERIFIED,
    Above,
    Category,
    Ints,
    Keep,
    Needs,
    Negative,
    Rounding,
    Scheme,
    Table,
    Validity,
)

LONGEST_WINDOW_H: Final = 24
"""No mean of a scheme looks back further; what a changed hour touches is found from this."""


_TEXTS: Final = {
    "titles", "source", "note", "names", "colour", "shape", "evidence", "reproduced_to"
}  # fmt: skip


class SchemeError(ValueError):
    """Raised when a scheme's file cannot be used; says which file, where in it, and what is wrong."""

    def __init__(self, file: str, where: str, problem: str) -> None:
        self.file = file
        self.where = where
        super().__init__(f"{file}: {where}: {problem}" if where else f"{file}: {problem}")


def parse(text: str, *, name: str, file: str) -> Scheme:
    """Read and validate a scheme.

    Raises
    ------
    SchemeError
        Bands with a gap or an overlap, an unknown unit, kernel or key, a missing name, or no TOML at all.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SchemeError(file, "", str(error)) from error
    digest = f"{zlib.crc32(json.dumps(_deciding(data), sort_keys=True, default=str).encode()):08x}"
    entry = _Entry(file, "scheme", data)
    rounding = Rounding(entry.one_of("rounding", tuple(Rounding)))
    condition = entry.one_of("gases_at", tuple(CONDITIONS)) if "gases_at" in data else None
    negative = Negative(entry.one_of("negative", tuple(Negative)))
    tables = tuple(
        _table(_Entry(file, f"table {i + 1}", t), rounding, negative, condition)
        for i, t in enumerate(entry.take("table", list))
    )
    bands = [_category(_Entry(file, f"category {i + 1}", c)) for i, c in enumerate(entry.take("category", list))]
    scheme = Scheme(
        name=name, version=entry.take("version", int), family=entry.maybe("family", str),
        titles=entry.in_languages("titles"), validity=_validity(entry),
        evidence=entry.one_of("evidence", tuple(EVIDENCE)),
        source=entry.take("source", str), rounding=rounding, mean_24h=_mean(entry, entry.take("mean_24h", dict)),
        leading_above=entry.maybe("leading_above", int) or -1, needs=_needs(entry), gas_condition=condition,
        tables=tables, categories=tuple(bands), digest=digest,
    )  # fmt: skip
    entry.refuse_rest()
    _check_whole(entry, scheme)
    return scheme


def _deciding(data: Any) -> Any:
    """Leave out what changes no index: texts and looks."""
    if isinstance(data, dict):
        return {key: _deciding(value) for key, value in data.items() if key not in _TEXTS}
    return [_deciding(value) for value in data] if isinstance(data, list) else data


def _check_whole(entry: "_Entry", scheme: Scheme) -> None:
    if not scheme.tables or len({t.name for t in scheme.tables}) != len(scheme.tables):
        raise entry.error("needs tables, each with a name of its own")
    tops = [c.up_to for c in scheme.categories]
    rising = [t for t in tops if t is not None]
    if not tops or tops[-1] is not None or tops.count(None) != 1 or rising != sorted(set(rising)):
        raise entry.error("up_to of the categories must rise, and the last one must have none")
    if scheme.family == scheme.name:
        raise entry.error(f"the family {scheme.family!r} has the name of the scheme itself")
    if missing := [p for p in scheme.needs.one_of if p not in scheme.pollutants]:
        raise entry.error(f"'needs' names {missing[0]!r}, of which there is no table")


def _validity(entry: "_Entry") -> Validity:
    start, to = entry.take("valid_from", dt.date), entry.maybe("valid_to", dt.date)
    certain = entry.maybe("certain_from", dt.date)
    evidence = entry.one_of("valid_from_evidence", tuple(EVIDENCE))
    if to is not None and to < start:
        raise entry.error(f"'valid_to' {to} is before 'valid_from' {start}")
    if certain is not None and (certain < start or evidence != UNVERIFIED):
        raise entry.error("'certain_from' follows an unverified ('?') 'valid_from'")
    offset_h = entry.maybe("dates_utc_offset_h", int) or 0
    if not -12 <= offset_h <= 14:
        raise entry.error(f"'dates_utc_offset_h' must be from -12 to 14, not {offset_h}")
    return Validity(start, to, evidence, certain, offset_h)


def _needs(entry: "_Entry") -> Needs:
    asked = entry.maybe("needs", dict)
    if asked is None:
        return Needs()
    least, one_of = asked.get("pollutants", 1), asked.get("one_of", [])
    if set(asked) - {"pollutants", "one_of"} or not isinstance(least, int) or not isinstance(one_of, list) or least < 1:
        raise entry.error(f"'needs' is {{pollutants = 3, one_of = ['pm25', 'pm10']}}, not {asked}")
    return Needs(least, tuple(map(str, one_of)))


def _category(entry: "_Entry") -> Category:
    entry.where = f"category {entry.take('key', str, keep=True)!r}"
    category = Category(
        key=entry.take("key", str), up_to=entry.maybe("up_to", int), colour=entry.take("colour", str),
        shape=entry.one_of("shape", SHAPES), names=entry.in_languages("names"),
    )  # fmt: skip
    digits = category.colour.removeprefix("#")
    if len(digits) != 6 or len(category.colour) != 7 or not all(c in "0123456789abcdefABCDEF" for c in digits):
        raise entry.error(f"'colour' must be #rrggbb, not {category.colour!r}")
    entry.refuse_rest()
    return category


def _table(entry: "_Entry", rounding: Rounding, negative: Negative, condition: str | None) -> Table:
    entry.where = f"table {entry.take('name', str, keep=True)!r}"
    pollutant, unit = entry.take("pollutant", str), entry.take("unit", str)
    decimals, mean, day = entry.take("decimals", int), entry.maybe("realtime", dict), entry.maybe("day", dict)
    keep = Keep(entry.one_of("keep", tuple(Keep)))
    if not 0 <= decimals <= 6:
        raise entry.error(f"'decimals' must be from 0 to 6, not {decimals}")
    shared = entry.one_of("edges", ("step", "shared")) == "shared" if "edges" in entry.data else keep is Keep.EXACT
    columns, open_top = _bands(entry, entry.take("bands", list), decimals, shared=shared, exact=keep is Keep.EXACT)
    above = Above(entry.one_of("above", tuple(Above)))
    if above is Above.CONTINUE and columns[2][-1] == columns[3][-1]:
        raise entry.error("'above' cannot be 'continue': the index of the last band does not rise")
    table = Table(
        name=entry.take("name", str), pollutant=pollutant, unit=unit, factor=_factor(entry, pollutant, unit, condition),
        decimals=decimals, keep=keep, averaging_h=_number(entry, "averaging_h"),
        realtime=_mean(entry, mean) if mean else None, day=_day(entry, day) if day else None,
        above=above, negative=negative, rounding=rounding, evidence=entry.one_of("evidence", tuple(EVIDENCE)),
        reproduced_to=_number(entry, "reproduced_to") if "reproduced_to" in entry.data else None,
        note=entry.maybe("note", str) or "",
        low=columns[0], high=columns[1], index_low=columns[2], index_high=columns[3], open_top=open_top,
    )  # fmt: skip
    entry.refuse_rest()
    return table


def _number(entry: "_Entry", key: str) -> float:
    value: float = entry.take(key, (int, float))
    if not (math.isfinite(value) and value > 0):
        raise entry.error(f"{key!r} must be above zero, not {value!r}")
    return value


def _factor(entry: "_Entry", pollutant: str, unit: str, condition: str | None) -> float:
    """From the canonical unit; a pollutant that Lichen does not know is taken in the table's own."""
    canonical = units.CANONICAL.get(pollutant, unit)
    try:
        return units.factor(canonical, unit, pollutant=pollutant, condition=condition)
    except units.UnitError as error:
        raise entry.error(f"unit {unit!r}: {error}") from error


def _bands(entry: "_Entry", bands: list[Any], decimals: int, *, shared: bool, exact: bool) -> tuple[Ints, bool]:
    """Columns (low, high, index low, index high), concentrations in whole steps of the last decimal kept.

    A last band without an upper end (`inf`) holds one index; it is kept with an end one step above its begin, and
    what is above that holds the same.
    """
    rows: list[list[int]] = []
    open_top = False
    for i, band in enumerate(bands):
        if not (isinstance(band, list) and len(band) == 4 and all(_is_number(x) for x in band)):
            raise entry.error(f"band {i + 1} must be [low, high, index low, index high]")
        low, high, index_low, index_high = band
        if math.isinf(high):
            if i != len(bands) - 1 or index_low != index_high:
                raise entry.error(f"band {i + 1} has no end: only the last band may, and with one index: {band}")
            open_top, high = True, low + 10**-decimals
        steps = [x * 10**decimals for x in (low, high)]
        if any(abs(s - round(s)) > 1e-6 for s in steps):
            raise entry.error(f"band {i + 1}: {band[:2]} has more than the {decimals} decimals that are kept")
        if index_low != int(index_low) or index_high != int(index_high):
            raise entry.error(f"band {i + 1}: an index is a whole number: {band[2:]}")
        rows.append([round(steps[0]), round(steps[1]), int(index_low), int(index_high)])
    if not rows:
        raise entry.error("needs bands")
    _check_bands(entry, bands, rows, shared=shared, exact=exact)
    return np.array(rows, np.int64).T, open_top


def _check_bands(entry: "_Entry", bands: list[Any], rows: list[list[int]], *, shared: bool, exact: bool) -> None:
    """Bands rise, and each begins where the one before ends."""
    for i, (low, high, index_low, index_high) in enumerate(rows):
        level = index_low == index_high
        if low > high or index_low > index_high or (low == high and not level) or (exact and not level):
            wrong = "must have one index, since edges are compared exactly" if exact and not level else "does not rise"
            raise entry.error(f"band {i + 1} {wrong}: {bands[i]}")
        if i:
            step, rise = (0 if shared else 1), (0 if shared and not level else 1)
            if low != rows[i - 1][1] + step or index_low != rows[i - 1][3] + rise:
                where = "at the end" if shared else "one step above the end"
                raise entry.error(f"band {i + 1} must begin {where} of band {i}: {bands[i - 1]}, {bands[i]}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _mean(entry: "_Entry", asked: dict[str, Any]) -> Mean:
    kernel = str(asked.get("kernel"))
    if kernel == "trailing" and set(asked) == {"kernel", "hours", "least"}:
        window, least = asked["hours"], asked["least"]
        if isinstance(window, int) and isinstance(least, int) and 1 <= least <= window <= LONGEST_WINDOW_H:
            return Mean(kernel, window, least)
    elif kernel in FIXED_KERNELS and set(asked) == {"kernel"}:
        return Mean(kernel, *FIXED_KERNELS[kernel][1:])
    known = ", ".join(FIXED_KERNELS)
    raise entry.error(
        f"a mean is {{kernel = 'trailing', hours, least}} with least <= hours <= {LONGEST_WINDOW_H}, "
        f"or one of {known} alone, not {asked}"
    )


def _day(entry: "_Entry", asked: dict[str, Any]) -> LocalDay:
    kernel, label = asked.get("kernel"), asked.get("label", "start")
    keys = ("hours", "least_hours", "first", "last", "least")
    numbers = [asked.get(key, default) for key, default in zip(keys, (1, 1, 0, 23, 18), strict=True)]
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in numbers)
    if (
        whole
        and kernel in {"mean", "max"}
        and label in {"start", "end"}
        and not set(asked) - {"kernel", "label", *keys}
    ):
        hours, least_hours, first, last, least = cast("list[int]", numbers)
        if (
            1 <= least_hours <= hours <= LONGEST_WINDOW_H
            and 0 <= first <= last <= 23
            and 1 <= least <= last - first + 1
        ):
            how = cast("Literal['mean', 'max']", kernel)
            end = cast("Literal['start', 'end']", label)
            return LocalDay(how, hours, least_hours, first, last, end, least)
    raise entry.error(
        "a day is {kernel = 'mean' or 'max', least} of hours, or of windows {hours, least_hours, first, last, label = "
        f"'start' or 'end'}}, with least_hours <= hours and at most 24 windows, not {asked}"
    )


class _Entry:
    """A table of the file that is taken apart key by key, so that errors say where and no key is left over."""

    def __init__(self, file: str, where: str, data: Any) -> None:
        self.file, self.where = file, where
        if not isinstance(data, dict):
            raise self.error("must be a table")
        self.data: dict[str, Any] = data

    def error(self, problem: str) -> SchemeError:
        return SchemeError(self.file, self.where, problem)

    def take(self, key: str, kind: type | tuple[type, ...], *, keep: bool = False) -> Any:
        if key not in self.data:
            raise self.error(f"{key!r} is missing")
        value = self.data[key] if keep else self.data.pop(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            name = kind.__name__ if isinstance(kind, type) else "a number"
            raise self.error(f"{key!r} must be {name}, not {value!r}")
        return value

    def maybe(self, key: str, kind: type) -> Any:
        return self.take(key, kind) if key in self.data else None

    def one_of(self, key: str, known: Sequence[str]) -> str:
        value = str(self.take(key, str))
        if value not in known:
            raise self.error(f"{key!r} must be one of {', '.join(known)}, not {value!r}")
        return value

    def in_languages(self, key: str) -> dict[str, str]:
        found: dict[str, str] = self.take(key, dict)
        missing = [language for language in LANGUAGES if not isinstance(found.get(language), str)]
        if missing:
            raise self.error(f"{key!r} lacks {', '.join(missing)}")
        return found

    def refuse_rest(self) -> None:
        if self.data:
            raise self.error(f"unknown key {next(iter(self.data))!r}")
