"""A table of collocated rows: times, which unit, and columns of numbers; from CSV text, a mapping or a data frame."""

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Names = NDArray[np.str_]

TIME_PREFIXES: Final = ("datetime", "time", "date")
UNIT_NAMES: Final = ("unit", "box", "kit", "sensor", "sensor_id", "sensor_index", "device", "device_id", "serial")
_EPOCHS_S: Final = (1e8, 1e11)
"""A number within is seconds since 1970 (from 1973 on), not a date written without dashes."""
ONLY_UNIT: Final = ""
"""Name of the unit in a table that holds one."""


class TableError(ValueError):
    """Raised when rows cannot be read as a table; says where, and what would help."""

    def __init__(self, problem: str, *, line: int | None = None) -> None:
        self.line = line
        super().__init__(f"line {line}: {problem}" if line else problem)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows of one or more units beside a reference, sorted by (unit, time); all arrays have the same length n.

    `time_s` is int64 [n] [s since 1970, UTC], `unit` str [n], `columns` float64 [n] each, NaN where blank. `text` names
    columns that hold no numbers, and how each begins.
    """

    time_s: Ints
    unit: Names
    columns: Mapping[str, Floats]
    text: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def units(self) -> tuple[str, ...]:
        """The units present, in order."""
        return tuple(str(u) for u in np.unique(self.unit))

    def where(self, rows: NDArray[Any]) -> "Table":
        """Return only some rows, by mask or number."""
        columns = {name: values[rows] for name, values in self.columns.items()}
        return replace(self, time_s=self.time_s[rows], unit=self.unit[rows], columns=columns)

    def having(self, columns: Mapping[str, Floats]) -> "Table":
        """Return it with more columns, or other ones of the same names."""
        return replace(self, columns={**self.columns, **columns})

    def column(self, name: str) -> Floats:
        """One column.

        Raises
        ------
        TableError
            There is none of this name; says which there are.
        """
        if name in self.columns:
            return self.columns[name]
        if name in self.text:
            raise TableError(f"column {name!r} does not hold numbers: it begins with {self.text[name]!r}")
        raise TableError(f"there is no column {name!r}; there are {', '.join(self.columns)}")

    def step_s(self) -> int:
        """Return the usual time between two rows of a unit [s]: the median; 0 where no unit has two rows."""
        steps = np.diff(self.time_s)[self.unit[1:] == self.unit[:-1]]
        steps = steps[steps > 0]
        return int(np.median(steps)) if len(steps) else 0

    def sha256(self, columns: Iterable[str]) -> str:
        """Hash of times, units and some columns: names the rows that a result came from."""
        found = hashlib.sha256(self.time_s.astype("<i8").tobytes())
        found.update("\0".join(self.unit.tolist()).encode())
        for name in sorted(columns):
            found.update(name.encode() + b"\0" + self.columns[name].astype("<f8").tobytes())
        return found.hexdigest()


def of(data: Any, *, time: str | None = None, unit: str | None = None) -> Table:
    """Make a table of columns.

    Parameters
    ----------
    data
        A mapping of names to sequences, or a pandas DataFrame: numbers, and blanks as NaN, None or "".
    time
        Column of times: ISO 8601 text, datetime64, or seconds since 1970; text without an offset is UTC. Default: the
        first whose name begins with `datetime`, `time` or `date`.
    unit
        Column that names the unit each row belongs to. Default: the first of `unit`, `box`, `kit`, `sensor`,
        `sensor_index`, `device`, `serial` that is there.

    Returns
    -------
    Table
        Sorted by (unit, time); rows without a time are left out.

    Raises
    ------
    TableError
        No time column, a time that cannot be read, or columns of different lengths.
    """
    columns = {str(name): np.asarray(data[name]) for name in (data.columns if hasattr(data, "columns") else data)}
    if len({len(values) for values in columns.values()}) > 1:
        raise TableError("the columns have different lengths")
    time = time or _first(columns, [n for n in columns if n.lower().startswith(TIME_PREFIXES)])
    if time is None or time not in columns:
        raise TableError(
            f"there is no column {time!r}" if time else f"no column of times among {', '.join(columns)}; name it"
        )
    unit = unit or _first(columns, UNIT_NAMES)
    if unit is not None and unit not in columns:
        raise TableError(f"there is no column {unit!r}; there are {', '.join(columns)}")
    time_s, timed = _times(columns.pop(time), time)
    units = np.full(len(time_s), ONLY_UNIT) if unit is None else _texts(columns.pop(unit))
    numbers, text = _numbers(columns)
    order = np.lexsort((time_s, units))
    return Table(time_s, units, numbers, text).where(order[timed[order]])


def parse_csv(content: str, *, time: str | None = None, unit: str | None = None) -> Table:
    """Read a table from CSV text with a line of names; otherwise as `of`.

    Raises
    ------
    TableError
        No rows, a line with another number of cells, a name twice, or as `of`.
    """
    reader = csv.reader(io.StringIO(content.removeprefix("\ufeff")))
    names = next(reader, None)
    if not names:
        raise TableError("it is empty; a table begins with a line of column names")
    if len(set(names)) < len(names):
        raise TableError(f"column {next(n for n in names if names.count(n) > 1)!r} is there twice", line=1)
    rows = []
    for row in reader:
        if not row:
            continue
        if len(row) != len(names):
            raise TableError(f"{len(row)} cells where the first line names {len(names)}", line=reader.line_num)
        rows.append(row)
    if not rows:
        raise TableError("it has a line of names and no rows")
    return of(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)), time=time, unit=unit)


def _first(columns: Mapping[str, Any], wanted: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in columns), None)


def _texts(values: NDArray[Any]) -> Names:
    """Names of units; a number that a data frame made a float of is written as the integer it was."""
    if values.dtype.kind == "f" and np.all(values == np.round(values)):
        values = values.astype(np.int64)
    return values.astype(str)


def _numbers(columns: Mapping[str, NDArray[Any]]) -> tuple[dict[str, Floats], dict[str, str]]:
    numbers: dict[str, Floats] = {}
    text: dict[str, str] = {}
    for name, values in columns.items():
        try:
            numbers[name] = _floats(values)
        except (TypeError, ValueError):
            text[name] = next(str(v) for v in values if str(v).strip() and not _is_number(v))
    return numbers, text


def _floats(values: NDArray[Any]) -> Floats:
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    if values.dtype.kind in "mM":
        raise TypeError
    return np.array([np.nan if v is None or not str(v).strip() else float(v) for v in values.tolist()])


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _times(values: NDArray[Any], name: str) -> tuple[Ints, Bools]:
    """Return times [s since 1970], and which rows have one."""
    if values.dtype.kind in "iuf":
        there = np.isfinite(values.astype(np.float64))
        return np.where(there, values, 0).astype(np.int64), there
    if values.dtype.kind == "M":
        there = ~np.isnat(values)
        return np.where(there, values, np.datetime64(0, "s")).astype("datetime64[s]").astype(np.int64), there
    found = np.zeros(len(values), np.int64)
    there = np.zeros(len(values), np.bool_)
    for i, value in enumerate(values.tolist()):
        if value is None or value != value or not str(value).strip():  # noqa: PLR0124 - NaN, NaT
            continue
        found[i], there[i] = _time_s(value, name, i), True
    return found, there


def _time_s(value: Any, name: str, row: int) -> int:
    if _is_number(value) and _EPOCHS_S[0] <= float(value) < _EPOCHS_S[1]:
        return int(float(value))
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
    except ValueError as error:
        raise TableError(f"column {name!r}, row {row + 1}: {value!r} is no ISO 8601 time") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
