"""What an index scheme is: breakpoint tables, categories, validity. Types only; `scheme.load` reads them from files."""

import datetime as dt
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.aqi.days import LocalDay
from gateway.aqi.kernels import Mean

Ints = NDArray[np.int64]

LANGUAGES: Final = ("en", "zh-Hant", "es", "vi")
SHAPES: Final = ("circle", "square", "triangle", "diamond", "pentagon", "hexagon", "star", "cross")

EVIDENCE: Final[Mapping[str, str]] = {
    "D": "reproduced from official records", "S2": "two independent sources", "S1": "one source", "?": "unverified",
}  # fmt: skip
"""Marks of how well a table or a date is known."""

UNVERIFIED: Final = "?"
"""The mark of what is unverified; after a table's name it says that so is the date by which the table was chosen."""


class Rounding(StrEnum):
    """How an index that is not whole becomes whole."""

    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    CEILING = "ceiling"


class Keep(StrEnum):
    """What is kept of a concentration: cut or rounded to the decimals of its table, or compared as it is."""

    TRUNCATE = "truncate"
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    EXACT = "exact"


class Above(StrEnum):
    """What a concentration above the last band gives: its line goes on, its last index stays, or there is none."""

    CONTINUE = "continue"
    HOLD = "hold"
    NONE = "none"


class Negative(StrEnum):
    """What a negative concentration gives: the index of zero, or none."""

    ZERO = "zero"
    NONE = "none"


class Table(msgspec.Struct, frozen=True, eq=False):
    """Breakpoints of one pollutant and averaging time.

    `low`, `high` are int64 [bands], in whole steps of the last decimal kept (`decimals`) of `unit`; `index_low`,
    `index_high` int64 [bands]. A concentration belongs to the first band that it is not above. `factor` takes the
    canonical unit of the pollutant to `unit`. `averaging_h` is the averaging time the table is made for [h].
    `realtime` is the mean it is applied to each hour and `day` the value of a local day; each is `None` where the
    agency has no such method or it is not built. `open_top` says that the last band has no upper end.
    `reproduced_to` is the concentration [`unit`] up to which official records prove the table.
    """

    name: str
    pollutant: str
    unit: str
    factor: float
    decimals: int
    keep: Keep
    averaging_h: float
    realtime: Mean | None
    day: LocalDay | None
    above: Above
    negative: Negative
    rounding: Rounding
    evidence: str
    reproduced_to: float | None
    note: str
    low: Ints
    high: Ints
    index_low: Ints
    index_high: Ints
    open_top: bool


class Category(msgspec.Struct, frozen=True):
    """A category of the index, up to and including `up_to` (`None`: without end)."""

    key: str
    up_to: int | None
    colour: str
    shape: str
    names: Mapping[str, str]


class Needs(msgspec.Struct, frozen=True):
    """What a site must measure for an index: so many pollutants, `one_of` these among them (empty: any)."""

    pollutants: int = 1
    one_of: tuple[str, ...] = ()


class Validity(msgspec.Struct, frozen=True):
    """Days from which and to which a table is in force, both included; `to` is `None` while it is.

    `evidence` marks how well the first day is known. Where it is unverified, `certain_from` is the day from which
    records show the table in force. Days are those of the offset `utc_offset_h` [h].
    """

    start: dt.date
    to: dt.date | None
    evidence: str
    certain_from: dt.date | None
    utc_offset_h: int

    @property
    def certain_from_day(self) -> int:
        """`certain_from` as days since 1970, far away where there is none."""
        return _NEVER if self.certain_from is None else _day(self.certain_from)


class Scheme(msgspec.Struct, frozen=True):
    """An air-quality index; `mean_24h` is the 24 h mean shown beside the real-time one.

    `gas_condition` names the state at which gases are converted between mole fraction and mass
    (`calibration.quantities.CONDITIONS`), `None` where the scheme has none.
    `leading_above` is the index above which the agency names the pollutant that
    leads. `digest` changes with anything that the file says.
    """

    name: str
    version: int
    family: str | None
    titles: Mapping[str, str]
    validity: Validity
    evidence: str
    source: str
    rounding: Rounding
    mean_24h: Mean
    leading_above: int
    needs: Needs
    gas_condition: str | None
    tables: tuple[Table, ...]
    categories: tuple[Category, ...]
    digest: str

    @property
    def label(self) -> str:
        """How an index record names its table: `us-2024@1`."""
        return f"{self.name}@{self.version}"

    @property
    def valid_from(self) -> dt.date:
        """The first day in force."""
        return self.validity.start

    @property
    def valid_to(self) -> dt.date | None:
        """The last day in force, `None` while it is."""
        return self.validity.to

    @property
    def recipe(self) -> str:
        """Names everything that an index by this scheme depends on."""
        return f"{self.label}#{self.digest}"

    @property
    def members(self) -> "tuple[Scheme, ...]":
        """The tables it applies, oldest first: itself, whatever the date."""
        return (self,)

    @property
    def utc_offset_h(self) -> int | None:
        """Offset of the standard time whose days it indexes [h], `None` where it indexes every hour."""
        return None

    @property
    def lookback_hours(self) -> int:
        """Hours an index is made from, its own included: a change at hour h changes indices of h to h + this - 1."""
        return max(self.mean_24h.window, *(t.realtime.window for t in self.tables if t.realtime), 1)

    @property
    def pollutants(self) -> tuple[str, ...]:
        """Pollutants in the order of the file, which decides between equal sub-indices."""
        return tuple(dict.fromkeys(t.pollutant for t in self.tables))

    def at(self, hours: Ints) -> "list[tuple[NDArray[np.bool_], Scheme, str]]":
        """Return which hours [n], hours since 1970, are indexed by which table, and what a record calls it."""
        return [(np.ones(len(hours), bool), self, self.label)]

    def tables_of(self, pollutant: str) -> tuple[Table, ...]:
        """Tables of one pollutant; empty where the scheme has none."""
        return tuple(t for t in self.tables if t.pollutant == pollutant)

    def table(self, name: str) -> Table:
        """Return the table of this name, such as `pm25` or `o3_8h`.

        Raises
        ------
        UnknownTableError
            With the nearest known name.
        """
        found = next((t for t in self.tables if t.name == name), None)
        if found is None:
            raise UnknownTableError(name, self.name, [t.name for t in self.tables])
        return found

    def category_of(self, index: int) -> Category:
        """Return the category an index falls in."""
        return next(c for c in self.categories if c.up_to is None or index <= c.up_to)


class Series(Scheme, frozen=True):
    """Successive tables of one agency, each hour indexed by the one in force then; the rest is that of the newest."""

    dated: tuple[Scheme, ...] = ()

    @property
    def label(self) -> str:
        """Names every table, oldest first."""
        return "/".join(scheme.label for scheme in self.dated)

    @property
    def recipe(self) -> str:
        """Names everything that an index by this series depends on."""
        return f"{self.name}({'/'.join(scheme.recipe for scheme in self.dated)})"

    @property
    def members(self) -> tuple[Scheme, ...]:
        """The tables, oldest first."""
        return self.dated

    @property
    def lookback_hours(self) -> int:
        """The longest of all tables."""
        return max(scheme.lookback_hours for scheme in self.dated)

    def at(self, hours: Ints) -> list[tuple[NDArray[np.bool_], Scheme, str]]:
        """Return which hours [n], hours since 1970, are indexed by which table, and what a record calls it.

        Hours at which none is known to be in force are in no part. A table chosen by an unverified date is called by
        its name and `?`.
        """
        parts = []
        for scheme in self.dated:
            validity = scheme.validity
            days = (hours + validity.utc_offset_h) // 24
            last = _NEVER if validity.to is None else _day(validity.to)
            mine = (days >= _day(validity.start)) & (days <= last)
            doubtful = mine & (days < (validity.certain_from_day if validity.evidence == UNVERIFIED else -_NEVER))
            for part, mark in ((doubtful, UNVERIFIED), (mine & ~doubtful, "")):
                if part.any():
                    parts.append((part, scheme, scheme.label + mark))
        return parts


class Daily(Scheme, frozen=True):
    """A scheme or a series applied to local days: one index a day, at its last hour; the rest is that of the scheme."""

    hourly: Scheme | None = None
    offset_h: int = 0

    @property
    def _whole(self) -> Scheme:
        assert self.hourly is not None  # noqa: S101 - for the type checker; a default is needed after the others
        return self.hourly

    @property
    def label(self) -> str:
        """Names the table, or every table of a series."""
        return self._whole.label

    @property
    def recipe(self) -> str:
        """Names everything that an index of a day depends on."""
        return f"{self.name}{self.offset_h:+}h({self._whole.recipe})"

    @property
    def members(self) -> tuple[Scheme, ...]:
        """Those of the scheme."""
        return self._whole.members

    @property
    def utc_offset_h(self) -> int | None:
        """Offset of the site's standard time [h]."""
        return self.offset_h

    @property
    def lookback_hours(self) -> int:
        """A day."""
        return 24

    def at(self, hours: Ints) -> list[tuple[NDArray[np.bool_], Scheme, str]]:
        """Return which hours [n] are the last of a local day, and which table indexes it."""
        last = (hours + self.offset_h) % 24 == 23
        return [(mine & last, scheme, label) for mine, scheme, label in self._whole.at(hours) if (mine & last).any()]


_NEVER: Final = 10**9
"""A day far after every other, since 1970."""


def _day(date: dt.date) -> int:
    return date.toordinal() - dt.date(1970, 1, 1).toordinal()


class UnknownTableError(LookupError):
    """Raised when a scheme has no table of the name asked for."""

    def __init__(self, name: str, scheme: str, known: list[str]) -> None:
        self.name = name
        super().__init__(f"{scheme} has no table {name!r}; it has {', '.join(known)}")
