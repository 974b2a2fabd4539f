"""Records to InfluxDB line protocol, a column at a time, because an object a point costs ten times as much. No I/O.

Times are milliseconds. A field never changes its type: physical values are floats, counts and flags integers, names
strings. A value that is absent or not finite is left out, and a line without any field is not made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from calibration.quantities import CHANNELS, COUNTERS, DERIVED
from gateway.records import HOUR_MS, AirHour, Floats, HourRecord, IndexRecord, Ints, Readings

_FEW_ROWS: Final = 128
"""Below this, looking for constant and decimal columns costs more than it saves."""

_EXACT: Final = 2.0**53
"""Integers up to here are exact in float64."""

_UNIT_SUFFIX: Final = {d.pollutant: d.name.removeprefix(d.pollutant) for d in DERIVED.values()}
_COMPLETENESS: Final = {d.name: f"{d.pollutant}_valid_pct" for d in DERIVED.values()}

# A backslash cannot be written before a comma or at the end of a tag. No topic level holds a slash: kits stay distinct.
_TAG_ESCAPES: Final = str.maketrans(
    {"\\": "/", "\n": "\\ ", "\r": "\\ ", "\t": "\\ ", ",": "\\,", "=": "\\=", " ": "\\ "}
)  # fmt: skip
_STRING_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": " ", "\r": " "})


@dataclass(frozen=True, slots=True)
class _Column:
    """One field of many rows; `per_unit` is the wire's scale where the values are integers divided by it."""

    name: str
    values: Floats | Ints
    whole: bool = False
    per_unit: int = 0


def raw_lines(readings: Readings) -> list[bytes]:
    """Return a line of `raw` for each reading: channels in canonical units, counters, boot, seq, time_error_s."""
    columns = [
        _Column(name, values, whole=name in COUNTERS, per_unit=CHANNELS[name].per_unit if name in CHANNELS else 0)
        for name, values in readings.columns.items()
        if name in CHANNELS or name in COUNTERS
    ]
    facts = {"boot": readings.boot, "seq": readings.seq, "time_error_s": readings.time_error_s}
    columns += [_Column(name, values, whole=True) for name, values in facts.items()]
    return _lines(_series("raw", kit=readings.kit), columns, "", readings.time_ms)


def air_lines(air: AirHour) -> list[bytes]:
    """Return a line of `air` for each row: calibrated values, their interval, qc, cal."""
    columns = [
        _Column(name + suffix, values)
        for suffix, group in (("", air.values), ("_lo", air.lo), ("_hi", air.hi))
        for name, values in group.items()
    ]
    columns.append(_Column("qc", air.qc, whole=True))
    return _lines(_series("air", kit=air.kit, site=air.site), columns, f"cal={_string(air.cal)}", air.time_ms)


def hour_lines(record: HourRecord) -> list[bytes]:
    """Return the line of `hour`: means, completeness, qc, cal, at the start of the hour."""
    fields = [_float(name, value) for name, value in record.values.items()]
    fields += [_float(_COMPLETENESS.get(n, f"{n}_valid_pct"), pct) for n, pct in record.valid_pct.items()]
    fields += [f"qc={record.qc}i", f"cal={_string(record.cal)}"]
    return _line(_series("hour", kit=record.kit, site=record.site), fields, record.hour * HOUR_MS)


def index_lines(record: IndexRecord) -> list[bytes]:
    """Return the line of `index`, at the start of the last hour it includes."""
    fields = [_int("value", record.value), _text("category", record.category), _text("pollutant", record.pollutant)]
    for name, sub in record.subs.items():
        unit = _UNIT_SUFFIX.get(name, "_concentration")
        fields += [
            _int(f"{name}_index", sub.index),
            _float(f"{name}{unit}", sub.concentration),
            _float(f"{name}_valid_pct", sub.valid_pct),
            _float(f"{name}_24h{unit}", sub.mean_24h),
            _int(f"{name}_24h_index", sub.index_24h),
            _float(f"{name}_24h_valid_pct", sub.valid_24h_pct),
        ]
    fields.append(_text("table", record.table))
    return _line(_series("index", scheme=record.scheme, site=record.site), fields, record.hour * HOUR_MS)


def _line(series: str, fields: Sequence[str], time_ms: int) -> list[bytes]:
    present = ",".join(field for field in fields if field)
    return [_encode(f"{series} {present} {time_ms}")] if present else []


def _lines(series: str, columns: Sequence[_Column], constant: str, time_ms: Ints) -> list[bytes]:
    """Return a line a row; rows that have the same columns share a template."""
    masked = [(column, np.isfinite(column.values)) for column in columns]
    present = [(column, mask) for column, mask in masked if mask.any()]
    partial = [mask for _, mask in present if not mask.all()]
    if not partial:
        return _fill(series, [column for column, _ in present], constant, time_ms)
    lines: list[bytes] = []
    patterns, group = np.unique(np.packbits(np.column_stack(partial), axis=1), axis=0, return_inverse=True)
    for number in range(len(patterns)):
        rows = np.flatnonzero(group.ravel() == number)
        some = [
            _Column(column.name, column.values[rows], column.whole, column.per_unit)
            for column, mask in present
            if mask[rows[0]]
        ]
        lines += _fill(series, some, constant, time_ms[rows])
    return lines


def _fill(series: str, columns: Sequence[_Column], constant: str, time_ms: Ints) -> list[bytes]:
    """Format rows that have a value in each column."""
    fields: list[str] = [constant.replace("%", "%%")] if constant else []
    lists: list[Sequence[object]] = []
    for column in columns:
        pattern, values = _pattern(column)
        fields.append(f"{_name(column.name).replace('%', '%%')}={pattern}")
        lists += values
    if not fields:
        return []
    template = _encode(f"{series.replace('%', '%%')} {','.join(fields)} %d")
    return [template % row for row in zip(*lists, time_ms.tolist(), strict=True)]


def _pattern(column: _Column) -> tuple[str, list[Sequence[object]]]:
    """Return how a column is formatted and the values to put in; a constant stands in the pattern itself."""
    values = column.values
    if column.whole:
        values = values.astype(np.int64)
    if len(values) >= _FEW_ROWS and (values == values[0]).all() and (column.whole or values[0] != 0):  # 0.0 == -0.0
        first = values[0].item()
        return f"{first}i" if column.whole else repr(first), []
    if column.whole:
        return "%di", [values.tolist()]
    if column.per_unit and len(values) >= _FEW_ROWS and (decimal := _decimal(values, column.per_unit)):
        return decimal
    return "%a", [values.tolist()]  # %a is repr() in bytes: the shortest text that reads back as the same float64


def _decimal(values: Floats | Ints, per_unit: int) -> tuple[str, list[Sequence[object]]] | None:
    """Format integers / per_unit by integer arithmetic, a third of the cost of repr; None where they are not that."""
    digits = len(str(per_unit)) - 1
    scaled = np.rint(values * per_unit)
    exact = per_unit == 10**digits and scaled.max() < _EXACT and not np.signbit(values).any()
    if not exact or (scaled / per_unit != values).any():
        return None
    integers = scaled.astype(np.int64)
    if not digits:
        return "%d.0", [integers.tolist()]
    whole, rest = np.divmod(integers, per_unit)
    return f"%d.%0{digits}d", [whole.tolist(), rest.tolist()]


def _series(measurement: str, **tags: str) -> str:
    """Return measurement and tags; an empty tag does not exist in line protocol and is left out."""
    return ",".join([measurement, *(f"{key}={_escape(value)}" for key, value in tags.items() if value)])


def _escape(text: str) -> str:
    return text.translate(_TAG_ESCAPES)


@cache
def _name(field: str) -> str:
    return _escape(field)


def _float(name: str, value: float | None) -> str:
    return f"{_name(name)}={float(value)!r}" if value is not None and np.isfinite(value) else ""


def _int(name: str, value: int | None) -> str:
    return f"{_name(name)}={value}i" if value is not None else ""


def _text(name: str, value: str | None) -> str:
    return f"{_name(name)}={_string(value)}" if value is not None else ""


def _string(text: str) -> str:
    return f'"{text.translate(_STRING_ESCAPES)}"'


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")
