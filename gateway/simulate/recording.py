"""A recording of a sensor as a signal that a simulated kit can sample: reading, checking, spans with power."""

import csv
import io
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final

from gateway.errors import RecordingError

TIME_COLUMN: Final = "datetime_utc"
GAP_INTERVALS: Final = 1.5
"""A longer gap than this many usual intervals means that the kit had no power."""

_MISSING: Final = frozenset({"", "nan", "na", "n/a", "null", "none"})
_MAX_FRAME: Final = 65_535.0  # a Plantower frame carries unsigned 16-bit integers
_MAX_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class _Column:
    """How a column of the recording becomes one of the signal; the signal holds hundredths of the canonical unit."""

    source: str
    signal: str
    unit: str
    low: float
    high: float
    optional: bool = False
    fahrenheit: bool = False


_COLUMNS: Final = (
    _Column("pm2_5_cf_1", "cf1_a", "µg/m³", 0, _MAX_FRAME),
    _Column("pm2_5_atm", "atm_a", "µg/m³", 0, _MAX_FRAME),
    _Column("p_0_3_um", "n03_a", "per 0.1 L", 0, _MAX_FRAME, optional=True),
    _Column("p_0_5_um", "n05_a", "per 0.1 L", 0, _MAX_FRAME, optional=True),
    _Column("p_1_0_um", "n10_a", "per 0.1 L", 0, _MAX_FRAME, optional=True),
    _Column("p_2_5_um", "n25_a", "per 0.1 L", 0, _MAX_FRAME, optional=True),
    _Column("p_5_0_um", "n50_a", "per 0.1 L", 0, _MAX_FRAME, optional=True),
    _Column("p_10_0_um", "n100_a", "per 0.1 L", 0, _MAX_FRAME, optional=True),
    _Column("pm2_5_cf_1_b", "cf1_b", "µg/m³", 0, _MAX_FRAME),
    _Column("pm2_5_atm_b", "atm_b", "µg/m³", 0, _MAX_FRAME),
    _Column("p_0_3_um_b", "n03_b", "per 0.1 L", 0, _MAX_FRAME, optional=True),
    _Column("p_2_5_um_b", "n25_b", "per 0.1 L", 0, _MAX_FRAME, optional=True),
    _Column("current_temp_f", "temp", "°F", -40, 257, fahrenheit=True),  # what an SHT31 can report
    _Column("current_humidity", "rh", "%", 0, 100),
)

SIGNAL_HEADER: Final = ",".join(("end_s", *(c.signal for c in _COLUMNS)))


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time with power [s since 1970]."""

    start_s: int
    end_s: int


@dataclass(frozen=True, slots=True)
class Recording:
    """A checked recording: each row's values, in hundredths, hold until its time."""

    end_s: list[int]
    rows: list[tuple[int | None, ...]]
    interval_s: int
    has_counts: bool
    blank_count: int

    def spans(self, hours: float | None) -> list[Span]:
        """Return the stretches with power within the first `hours`: a long gap is one without."""
        starts = [self.end_s[0] - self.interval_s]
        ends = []
        for before, after in pairwise(self.end_s):
            if after - before > GAP_INTERVALS * self.interval_s:
                ends.append(before)
                starts.append(after - self.interval_s)
        ends.append(self.end_s[-1])
        limit_s = starts[0] + round(hours * 3600) if hours is not None else ends[-1]
        return [Span(s, min(e, limit_s)) for s, e in zip(starts, ends, strict=True) if s < limit_s]

    def write_signal(self, path: Path) -> None:
        """Write the file that the simulated sensors read."""
        with path.open("w", encoding="ascii") as out:
            out.write(SIGNAL_HEADER + "\n")
            for end_s, row in zip(self.end_s, self.rows, strict=True):
                out.write(",".join("" if v is None else str(v) for v in (end_s, *row)) + "\n")


def read(path: Path) -> Recording:
    """Read and check a recording.

    Blank and `nan` cells are kept as such: the sensor is silent while they hold. Anything else that is no plausible
    number, and times that do not rise, are refused: a recording is never changed to fit.

    Raises
    ------
    RecordingError
        With the line number and the reason.
    """
    end_s: list[int] = []
    rows: list[tuple[int | None, ...]] = []
    columns: Sequence[_Column] = ()
    for line, record in _records(path):
        if not columns:
            columns = [c for c in _COLUMNS if c.source in record or not c.optional]
        time_s = _time(path, line, record[TIME_COLUMN])
        if end_s and time_s <= end_s[-1]:
            problem = "repeats the time before it" if time_s == end_s[-1] else "is earlier than the row before it"
            raise RecordingError(
                path, line, f"{record[TIME_COLUMN]} {problem}; sort the recording, keep each time once"
            )
        end_s.append(time_s)
        rows.append(tuple(_value(path, line, c, record[c.source]) if c in columns else None for c in _COLUMNS))
    if len(end_s) < 2:
        raise RecordingError(path, None, f"has {len(end_s)} rows; a signal needs two at least")
    return Recording(
        end_s=end_s,
        rows=rows,
        interval_s=max(1, round(statistics.median(b - a for a, b in pairwise(end_s)))),
        has_counts=any(c.optional for c in columns),
        blank_count=sum(v is None for row in rows for c, v in zip(_COLUMNS, row, strict=True) if c in columns),
    )


def _records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise RecordingError(path, None, f"is larger than {_MAX_BYTES >> 20} MiB; cut it into parts")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise RecordingError(path, None, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RecordingError(path, None, f"is not UTF-8 text ({error.reason} at byte {error.start})") from error
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(path, header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise RecordingError(path, reader.line_num, f"has {len(cells)} cells for {len(header)} columns")
            yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise RecordingError(path, reader.line_num, f"is not CSV ({error})") from error


def _check_header(path: Path, header: Sequence[str]) -> None:
    if not header:
        raise RecordingError(path, None, "is empty")
    needed = (TIME_COLUMN, *(c.source for c in _COLUMNS if not c.optional))
    missing = [name for name in needed if name not in header]
    if missing:
        raise RecordingError(path, 1, f"lacks the columns {', '.join(missing)}; the first line must name the columns")
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise RecordingError(path, 1, f"names {', '.join(doubled)} twice")


def _time(path: Path, line: int, cell: str) -> int:
    try:
        moment = datetime.fromisoformat(cell.strip())
    except ValueError as error:
        raise RecordingError(path, line, f"{TIME_COLUMN} is {cell!r}, not a time like 2023-09-01 00:00:52") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if moment.microsecond:
        raise RecordingError(path, line, f"{TIME_COLUMN} is {cell!r}; a kit's clock has whole seconds")
    seconds = round(moment.timestamp())
    if not 0 < seconds < 2**32:
        raise RecordingError(path, line, f"{TIME_COLUMN} is {cell!r}, outside 1970 to 2106")
    return seconds


def _value(path: Path, line: int, column: _Column, cell: str) -> int | None:
    if cell.strip().lower() in _MISSING:
        return None
    try:
        value = math.inf if "_" in cell else float(cell)  # Python's own digit grouping is nobody's notation
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise RecordingError(path, line, f"{column.source} is {cell!r}, not a number")
    if not column.low <= value <= column.high:
        within = f"{column.low:g} to {column.high:g} {column.unit}"
        raise RecordingError(path, line, f"{column.source} is {cell}; the sensor can only report {within}")
    if column.fahrenheit:
        value = (value - 32) * 5 / 9
    return round(value * 100)
