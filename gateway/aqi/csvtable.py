"""Other people's CSV: rows with their times, sites, units and numbers, as they stand in the file."""

import csv
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TIME_FORMATS: Final = (
    "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y",
    "%Y-%m-%d %I:%M %p", "%Y/%m/%d %I:%M %p", "%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M:%S %p", "%Y-%m-%d %H",
)  # fmt: skip
"""Beside ISO 8601; a month stands before its day, as agencies of the US write it."""


class CsvError(ValueError):
    """Raised when a file cannot be read as a table; says where, and what would help."""

    def __init__(self, problem: str, *, line: int | None = None) -> None:
        self.line = line
        super().__init__(f"line {line}: {problem}" if line else problem)


@dataclass(frozen=True, slots=True)
class CsvTable:
    """Columns of cells as they stand in the file, all of length n, and the line [n] of each row."""

    columns: Mapping[str, list[str]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.lines)

    def find(self, names: Sequence[str]) -> str | None:
        """Return the column whose name is the first of these that is there, however it is written."""
        plain = {name_key(name): name for name in reversed(list(self.columns))}
        return next((plain[key] for key in map(name_key, names) if key in plain), None)

    def numbers(self, name: str) -> Floats:
        """Cells as numbers [n], NaN where they stand for nothing.

        Raises
        ------
        CsvError
            A cell is no number; names its line.
        """
        cells = vocabulary()["cells"]
        empty, below = frozenset(cells["missing"]), float(cells["missing_below"])
        found = np.full(len(self), np.nan)
        for i, cell in enumerate(self.columns[name]):
            text = cell.strip()
            if text.lower() in empty:
                continue
            try:
                value = float(text)
            except ValueError:
                raise CsvError(f"column {name!r}: {text!r} is no number", line=self.lines[i]) from None
            if value > below:
                found[i] = value
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Times:
    """When rows were measured: `hours` int64 [n] since 1970, of UTC or, where `zoned` is not set, of the file's clock.

    `hourly` says that some time is not midnight: rows are hours and not days.
    """

    column: str
    hours: NDArray[np.int64]
    hourly: bool
    zoned: bool


@cache
def vocabulary() -> dict[str, Any]:
    """Return how columns are recognised (`columns.toml`)."""
    return tomllib.loads(resources.files(__package__).joinpath("columns.toml").read_text("utf-8"))


def name_key(name: str) -> str:
    """Return a name as names are compared."""
    return " ".join(unicodedata.normalize("NFKC", name).strip().lower().split())


def parse(lines: Iterable[str]) -> CsvTable:
    """Read CSV with a line of names; the separator may be a comma, a semicolon or a tab.

    Raises
    ------
    CsvError
        No rows, a name twice, or a line with another number of cells.
    """
    text = iter(lines)
    head = next(text, "").removeprefix("\ufeff")
    separator = max(",;\t", key=head.count)
    names = next(csv.reader([head], delimiter=separator), [])
    if not any(name.strip() for name in names):
        raise CsvError("it is empty; a table begins with a line of column names")
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise CsvError(f"column {twice[0]!r} is there twice", line=1)
    rows, numbers = [], []
    reader = csv.reader(text, delimiter=separator)
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(names):
            problem = f"{len(row)} cells where the first line names {len(names)}"
            raise CsvError(problem, line=reader.line_num + 1)
        rows.append(row)
        numbers.append(reader.line_num + 1)
    if not rows:
        raise CsvError("it has a line of names and no rows")
    return CsvTable(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)), numbers)


def read_times(table: CsvTable, name: str) -> Times:
    """Read a column of times: ISO 8601, or as `TIME_FORMATS`; all with an offset from UTC, or none.

    Raises
    ------
    CsvError
        A cell is no time; names its line.
    """
    utc_by_name = bool(re.search(r"(^|[_ ])utc$|^hour_start$", name_key(name)))
    hours = np.zeros(len(table), np.int64)
    known: dict[str, tuple[int, bool, bool]] = {}
    zoned, hourly, forms = set(), False, list(TIME_FORMATS)
    for i, cell in enumerate(table.columns[name]):
        if cell not in known:
            moment = _moment(cell.strip(), forms)
            if moment is None:
                raise CsvError(
                    f"column {name!r}: {cell!r} is no time; write 2026-11-21T14:00:00Z or 2026-11-21 14:00",
                    line=table.lines[i],
                )
            stamp = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            clock = bool(moment.hour or moment.minute or moment.second or "T" in cell or ":" in cell)
            known[cell] = int(stamp.timestamp() // 3600), moment.tzinfo is not None, clock
        hours[i], has_zone, clock = known[cell]
        zoned.add(has_zone)
        hourly |= clock
    if len(zoned) > 1:
        raise CsvError(f"column {name!r}: some times name an offset from UTC and some do not")
    if hourly and len(set(hours.tolist())) > 1 and not np.any(hours % 24 != hours[0] % 24):
        hourly = False  # each at the same hour of its day: days
    return Times(name, hours, hourly, zoned == {True} or utc_by_name)


def _moment(text: str, forms: list[str]) -> datetime | None:
    """Read a time; the form that fits is tried first at the next one."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for form in forms:
        try:
            found = datetime.strptime(text, form)  # noqa: DTZ007 - whether it has a zone is told to the reader
        except ValueError:
            continue
        forms.remove(form)
        forms.insert(0, form)
        return found
    return None
