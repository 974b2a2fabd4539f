"""Index schemes: read from TOML, validated, frozen. A new scheme is a new file, never code."""

import datetime as dt
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from calibration.quantities import DERIVED, unit_factor
from gateway.aqi.kernels import FIXED_KERNELS, Mean

Ints = NDArray[np.int64]

LANGUAGES: Final = ("en", "zh-Hant", "es", "vi")
SHAPES: Final = ("circle", "square", "triangle", "diamond", "pentagon", "hexagon", "star", "cross")
EVIDENCE: Final = ("D", "S2", "S1", "?")
"""Reproduced from official records; two independent sources; one source; unverified."""


LONGEST_WINDOW_H: Final = 24
"""No mean of a scheme looks back further; what a changed hour touches is found from this."""


class Rounding(StrEnum):
    """How an index that is not whole becomes whole."""

    HALF_UP = "half_up"
    HALF_EVEN = "half_even"


class Above(StrEnum):
    """What a concentration above the last band gives."""

    CONTINUE = "continue"
    HOLD = "hold"
    NONE = "none"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Breakpoints of one pollutant and averaging time.

    `low`, `high` are int64 [bands], in whole steps of the last decimal kept (`decimals`) of `unit`; `index_low`,
    `index_high` int64 [bands]. `factor` takes the canonical unit of the pollutant to `unit`. `averaging_h` is the
    averaging time the table is made for [h]. `realtime` is the mean it is applied to each hour, `None` where the
    agency's real-time method is not built.
    """

    name: str
    pollutant: str
    unit: str
    factor: float
    decimals: int
    averaging_h: int
    realtime: Mean | None
    above: Above
    rounding: Rounding
    evidence: str
    low: Ints
    high: Ints
    index_low: Ints
    index_high: Ints


@dataclass(frozen=True, slots=True)
class Category:
    """A category of the index, up to and including `up_to` (`None`: without end)."""

    key: str
    up_to: int | None
    colour: str
    shape: str
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scheme:
    """An air-quality index; `daily` is the 24 h mean shown beside the real-time one."""

    name: str
    version: int
    titles: Mapping[str, str]
    valid_from: dt.date
    valid_to: dt.date | None
    evidence: str
    source: str
    rounding: Rounding
    daily: Mean
    tables: tuple[Table, ...]
    categories: tuple[Category, ...]

    @property
    def label(self) -> str:
        """How an index record names its table: `us-2024@1`."""
        return f"{self.name}@{self.version}"

    @property
    def lookback_hours(self) -> int:
        """Hours an index is made from, its own included: a change at hour h changes indices of h to h + this - 1."""
        return max(self.daily.window, *(t.realtime.window for t in self.tables if t.realtime))

    @property
    def pollutants(self) -> tuple[str, ...]:
        """Pollutants in the order of the file, which decides between equal sub-indices."""
        return tuple(dict.fromkeys(t.pollutant for t in self.tables))

    def tables_of(self, pollutant: str) -> tuple[Table, ...]:
        """Tables of one pollutant; empty where the scheme has none."""
        return tuple(t for t in self.tables if t.pollutant == pollutant)

    def table(self, name: str) -> Table:
        """Return the table of this name, such as `pm25` or `o3_8h`."""
        return next(t for t in self.tables if t.name == name)

    def category_of(self, index: int) -> Category:
        """Return the category an index falls in."""
        return next(c for c in self.categories if c.up_to is None or index <= c.up_to)


class SchemeError(ValueError):
    """Raised when a scheme's file cannot be used; says which file, where in it, and what is wrong."""

    def __init__(self, file: str, where: str, problem: str) -> None:
        self.file = file
        self.where = where
        super().__init__(f"{file}: {where}: {problem}" if where else f"{file}: {problem}")


class UnknownSchemeError(LookupError):
    """Raised when no scheme has the name asked for."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        self.nearest = next(iter(difflib.get_close_matches(name, known, n=1)), None)
        hint = f"did you mean {self.nearest!r}?" if self.nearest else f"known: {', '.join(known)}"
        super().__init__(f"no index scheme is called {name!r}; {hint}")


def names(directory: Path | None = None) -> list[str]:
    """Names of the schemes that come with Lichen and of those in an operator's directory."""
    own = (p.name for p in directory.glob("*.toml")) if directory else ()
    shipped = (p.name for p in _shipped().iterdir() if p.name.endswith(".toml"))
    return sorted({name.removesuffix(".toml") for name in (*own, *shipped)})


@cache
def load(name: str, directory: Path | None = None) -> Scheme:
    """Return a scheme by name: one that comes with Lichen, or `<name>.toml` of an operator's directory.

    Raises
    ------
    UnknownSchemeError
        With the nearest known name.
    SchemeError
        Its file cannot be used, or it has the name of one that comes with Lichen.
    """
    known = names(directory)
    if name not in known:
        raise UnknownSchemeError(name, known)
    shipped, own = _shipped() / f"{name}.toml", directory / f"{name}.toml" if directory else None
    if own and own.is_file():
        if shipped.is_file():
            raise SchemeError(str(own), "", "a scheme of this name comes with Lichen; give yours another")
        return parse(own.read_text("utf-8"), name=name, file=str(own))
    return parse(shipped.read_text("utf-8"), name=name, file=f"{name}.toml")


def _shipped() -> Any:
    return resources.files(__package__) / "schemes"


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
    entry = _Entry(file, "scheme", data)
    rounding = Rounding(entry.one_of("rounding", tuple(Rounding)))
    tables = tuple(_table(_Entry(file, f"table {i + 1}", t), rounding) for i, t in enumerate(entry.take("table", list)))
    bands = [_category(_Entry(file, f"category {i + 1}", c)) for i, c in enumerate(entry.take("category", list))]
    scheme = Scheme(
        name=name, version=entry.take("version", int), titles=entry.in_languages("titles"),
        valid_from=entry.take("valid_from", dt.date), valid_to=entry.maybe("valid_to", dt.date),
        evidence=entry.one_of("evidence", EVIDENCE), source=entry.take("source", str), rounding=rounding,
        daily=_mean(entry, entry.take("daily", dict)), tables=tables, categories=tuple(bands),
    )  # fmt: skip
    entry.refuse_rest()
    _check_whole(entry, scheme)
    return scheme


def _check_whole(entry: "_Entry", scheme: Scheme) -> None:
    if not scheme.tables or len({t.name for t in scheme.tables}) != len(scheme.tables):
        raise entry.error("needs tables, each with a name of its own")
    tops = [c.up_to for c in scheme.categories]
    rising = [t for t in tops if t is not None]
    if not tops or tops[-1] is not None or tops.count(None) != 1 or rising != sorted(set(rising)):
        raise entry.error("up_to of the categories must rise, and the last one must have none")


def _category(entry: "_Entry") -> Category:
    entry.where = f"category {entry.take('key', str, keep=True)!r}"
    category = Category(
        key=entry.take("key", str), up_to=entry.maybe("up_to", int), colour=entry.take("colour", str),
        shape=entry.one_of("shape", SHAPES), names=entry.in_languages("names"),
    )  # fmt: skip
    entry.refuse_rest()
    return category


def _table(entry: "_Entry", rounding: Rounding) -> Table:
    entry.where = f"table {entry.take('name', str, keep=True)!r}"
    pollutant, unit = entry.take("pollutant", str), entry.take("unit", str)
    decimals, mean = entry.take("decimals", int), entry.maybe("realtime", dict)
    columns = _bands(entry, entry.take("bands", list), decimals)
    table = Table(
        name=entry.take("name", str), pollutant=pollutant, unit=unit, factor=_factor(entry, pollutant, unit),
        decimals=decimals, averaging_h=entry.take("averaging_h", int), realtime=_mean(entry, mean) if mean else None,
        above=Above(entry.one_of("above", tuple(Above))), rounding=rounding,
        evidence=entry.one_of("evidence", EVIDENCE),
        low=columns[0], high=columns[1], index_low=columns[2], index_high=columns[3],
    )  # fmt: skip
    entry.refuse_rest()
    return table


def _factor(entry: "_Entry", pollutant: str, unit: str) -> float:
    """From the canonical unit; a pollutant that Lichen does not derive yet is taken in the table's own."""
    canonical = next((d.unit for d in DERIVED.values() if d.pollutant == pollutant), unit)
    try:
        return unit_factor(canonical, unit)
    except (AttributeError, ValueError, TypeError) as error:  # pint's errors are of these kinds
        raise entry.error(f"unit {unit!r}: {error}") from error


def _bands(entry: "_Entry", bands: list[Any], decimals: int) -> Ints:
    """Columns (low, high, index low, index high), concentrations in whole steps of the last decimal kept."""
    rows = []
    for i, band in enumerate(bands):
        if not (isinstance(band, list) and len(band) == 4 and all(isinstance(x, (int, float)) for x in band)):
            raise entry.error(f"band {i + 1} must be [low, high, index low, index high]")
        steps = [x * 10**decimals for x in band[:2]]
        if any(abs(s - round(s)) > 1e-6 for s in steps):
            raise entry.error(f"band {i + 1}: {band[:2]} has more than the {decimals} decimals that are kept")
        rows.append([*(round(s) for s in steps), *band[2:]])
    for i, (low, high, index_low, index_high) in enumerate(rows):
        if low >= high or index_low >= index_high:
            raise entry.error(f"band {i + 1} does not rise: {bands[i]}")
        if i and (low != rows[i - 1][1] + 1 or index_low != rows[i - 1][3] + 1):
            raise entry.error(f"band {i + 1} must begin one step above the end of band {i}: {bands[i - 1]}, {bands[i]}")
    if not rows:
        raise entry.error("needs bands")
    return np.array(rows, np.int64).T


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


class _Entry:
    """A table of the file that is taken apart key by key, so that errors say where and no key is left over."""

    def __init__(self, file: str, where: str, data: Any) -> None:
        self.file, self.where = file, where
        if not isinstance(data, dict):
            raise self.error("must be a table")
        self.data: dict[str, Any] = data

    def error(self, problem: str) -> SchemeError:
        return SchemeError(self.file, self.where, problem)

    def take(self, key: str, kind: type, *, keep: bool = False) -> Any:
        if key not in self.data:
            raise self.error(f"{key!r} is missing")
        value = self.data[key] if keep else self.data.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.error(f"{key!r} must be {kind.__name__}, not {value!r}")
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
