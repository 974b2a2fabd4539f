"""Tables of other people from files, and a kit's hours beside a reference: what calibrations are made of."""

import hashlib
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from calibration import table as tables
from calibration.quantities import CHANNELS, SECOND
from calibration.table import Floats, Table, TableError
from gateway.errors import LichenError
from gateway.records import HOUR_S, HourRecord
from gateway.store import derived


class TableFileError(LichenError):
    """A table cannot be read or used."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A table, and which file its rows came from, as a record tells."""

    table: Table
    told: dict[str, Any]


def read_csv(path: Path, *, time: str | None = None, unit: str | None = None) -> Source:
    """Read a CSV file.

    Raises
    ------
    TableFileError
        It is not there, is no text, or cannot be read as a table.
    """
    try:
        content = path.read_bytes()
        table = tables.parse_csv(content.decode("utf-8-sig"), time=time, unit=unit)
    except FileNotFoundError as error:
        raise TableFileError(path, "there is no such file") from error
    except UnicodeDecodeError as error:
        raise TableFileError(path, f"it is no UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from error
    except TableError as error:
        raise TableFileError(path, str(error)) from error
    return Source(table, {"file": path.name, "file_sha256": hashlib.sha256(content).hexdigest()})


def shifted(table: Table, columns: Iterable[str], seconds: int) -> Table:
    """Return a table in which some columns of each unit are taken from rows `seconds` earlier [s]: a lag undone."""
    moved = {}
    for name in columns:
        values = np.full(len(table), np.nan)
        for unit in table.units:
            rows = np.flatnonzero(table.unit == unit)
            at = np.searchsorted(table.time_s[rows], table.time_s[rows] - seconds)
            at = np.minimum(at, len(rows) - 1)
            there = table.time_s[rows][at] == table.time_s[rows] - seconds
            values[rows[there]] = table.column(name)[rows[at[there]]]
        moved[name] = values
    return table.having(moved)


def beside_reference(db: sqlite3.Connection, kit: str, reference: Table, target: str) -> Table:
    """Return a kit's hours beside a reference: raw channels as its hours hold them, two sensors of a kind joined.

    The reference is brought to hours where its rows are shorter; hours are brought to its rows where they are longer.

    Raises
    ------
    LichenError
        The kit has no hours within the reference's time.
    """
    step_s = max(reference.step_s(), HOUR_S)
    first, last = int(reference.time_s.min()) // HOUR_S, int(reference.time_s.max()) // HOUR_S
    hours = list(derived.read_hours(db, kit=kit, hour_from=first, hour_to=last + step_s // HOUR_S))
    if not hours:
        raise LichenError(f"kit {kit} has no hours between the first and the last row of the reference")
    names = sorted({name.removesuffix(SECOND) for hour in hours for name in hour.values if name in CHANNELS})
    columns = {name: _joined(hours, name) for name in names}
    time_s = np.array([hour.hour * HOUR_S for hour in hours])
    table = _averaged(Table(time_s, np.full(len(hours), kit), columns, {}), step_s, HOUR_S)
    there = _averaged(replace(reference, columns={target: reference.column(target)}), step_s, reference.step_s())
    at = np.minimum(np.searchsorted(there.time_s, table.time_s), len(there) - 1)
    found = np.where(there.time_s[at] == table.time_s, there.columns[target][at], np.nan)
    return table.having({target: found})


def hourly(reference: Table, target: str) -> Table:
    """Return one column of a reference as means of whole hours, of at least 75 % of the rows due."""
    alone = replace(reference, columns={target: reference.column(target)}, text={})
    return _averaged(alone, HOUR_S, reference.step_s())


def _joined(hours: list[HourRecord], name: str) -> Floats:
    """One channel of all hours; the mean of two sensors where both have a value."""
    both = np.array([[hour.values.get(n, np.nan) for n in (name, name + SECOND)] for hour in hours])
    count = (~np.isnan(both)).sum(axis=1)
    found: Floats = np.divide(np.nansum(both, axis=1), count, out=np.full(len(hours), np.nan), where=count > 0)
    return found


def _averaged(table: Table, to_s: int, step_s: int) -> Table:
    """Means over spans of `to_s` that begin at whole ones since 1970, of at least 75 % of the rows due."""
    if not 0 < step_s < to_s:  # 0: of one row nothing is known
        return table
    number, back = np.unique(table.time_s // to_s, return_inverse=True)
    columns = {}
    for name, values in table.columns.items():
        there = ~np.isnan(values)
        counts = np.bincount(back, weights=there, minlength=len(number))
        sums = np.bincount(back, weights=np.where(there, values, 0.0), minlength=len(number))
        enough = counts >= 0.75 * to_s / step_s
        columns[name] = np.divide(sums, counts, out=np.full(len(number), np.nan), where=enough)
    first = np.searchsorted(table.time_s // to_s, number)
    return Table(number * to_s, table.unit[first], columns, table.text)
