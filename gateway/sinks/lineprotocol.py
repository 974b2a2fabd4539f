"""Records to InfluxDB line protocol, a column at a time, because an object a point costs ten times as much. No I/O.

Times are milliseconds. A field never changes its type: physical values are floats, counts and flags integers, names
strings. A value that is absent or not finite is left out, and a line without any field is not made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np

from calibration.quantities import CHANNELS, COUNTERS, DERIVED
from gateway.records import HOUR_MS, AirHour, Floats, HealthRecord, HourRecord, IndexRecord, Ints, Readings

_TEXTS: Final = 16_384
"""Values with a text that is made once: up to 1638.3 µg/m³, 163.83 °C or %; less than a MB for each scale."""

_FEW_ROWS: Final = 48
"""Below this, looking for constant and decimal columns costs more than it saves."""

_EXACT: Final = 2.0**53
"""Integers up to here are exact in float64."""

_UNIT_SUFFIX: Final = {d.pollutant: d.name.removeprefix(d.pollutant) for d in DERIVED.values()}
_COMPLETENESS: Final = {d.name: f"{d.pollutant}_valid_pct" for d in DERIVED.values()}

# A backslash cannot be written before a comma or at the end of a tag. No topic level holds a slash: kits stay distinct.
_TAG_TEXT: Final = str.maketrans({"\\": "/", "\n": " ", "\r": " ", "\t": " "})
_TAG_ESCAPES: Final = str.maketrans({",": "\\,", "=": "\\=", " ": "\\ "})
_STRING_TEXT: Final = str.maketrans({"\n": " ", "\r": " "})
_STRING_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"'})


@dataclass(frozen=True, slots=True)
class Column:
    """One field of many rows; `per_unit` is the wire's scale where the values are integers divided by it."""

    name: str
    values: Floats | Ints
    whole: bool = False
    per_unit: int = 0


Value = float | int | str
Tags = tuple[tuple[str, str], ...]


def raw_columns(readings: Readings) -> list[Column]:
    """Return the fields of `raw`: channels in canonical units, counters, boot, seq, time_error_s."""
    columns = [
        Column(name, values, whole=name in COUNTERS, per_unit=CHANNELS[name].per_unit if name in CHANNELS else 0)
        for name, values in readings.columns.items()
        if name in CHANNELS or name in COUNTERS
    ]
    facts = {"boot": readings.boot, "seq": readings.seq, "time_error_s": readings.time_error_s}
    return columns + [Column(name, values, whole=True) for name, values in facts.items()]


def air_columns(air: AirHour) -> list[Column]:
    """Return the fields of `air` but `cal`, which all rows have: calibrated values, their interval, qc."""
    columns = [
        Column(name + suffix, values)
        for suffix, group in (("", air.values), ("_lo", air.lo), ("_hi", air.hi))
        for name, values in group.items()
    ]
    return [*columns, Column("qc", air.qc, whole=True)]


def hour_fields(record: HourRecord) -> dict[str, Value]:
    """Return the fields of `hour`: means, completeness, qc, cal."""
    fields: dict[str, float | int | str | None] = {name: _float(value) for name, value in record.values.items()}
    fields |= {_COMPLETENESS.get(n, f"{n}_valid_pct"): _float(pct) for n, pct in record.valid_pct.items()}
    return _present(fields | {"qc": record.qc, "cal": record.cal})


def index_fields(record: IndexRecord) -> dict[str, Value]:
    """Return the fields of `index`."""
    fields: dict[str, float | int | str | None] = {
        "value": record.value, "category": record.category, "pollutant": record.pollutant,
    }  # fmt: skip
    for name, sub in record.subs.items():
        unit = _UNIT_SUFFIX.get(name, "_concentration")
        fields |= {
            f"{name}_index": sub.index,
            f"{name}{unit}": _float(sub.concentration),
            f"{name}_valid_pct": _float(sub.valid_pct),
            f"{name}_24h{unit}": _float(sub.mean_24h),
            f"{name}_24h_index": sub.index_24h,
            f"{name}_24h_valid_pct": _float(sub.valid_24h_pct),
        }
    return _present(fields | {"table": record.table})


def raw_tags(kit: str) -> Tags:
    """Return the tags of `raw` and `kit_health`, by name."""
    return _tags(kit=kit)


def air_tags(kit: str, site: str) -> Tags:
    """Return the tags of `air` and `hour`, by name."""
    return _tags(kit=kit, site=site)


def index_tags(site: str, scheme: str) -> Tags:
    """Return the tags of `index`, by name."""
    return _tags(scheme=scheme, site=site)


def health_measurement(record: HealthRecord) -> str:
    """Return where numbers stand: those of a kit in `kit_health`, the gateway's own in `gateway`."""
    return "kit_health" if record.kit else "gateway"


def raw_lines(readings: Readings) -> list[bytes]:
    """Return a line of `raw` for each reading."""
    return _lines(_series("raw", raw_tags(readings.kit)), raw_columns(readings), "", readings.time_ms)


def air_lines(air: AirHour) -> list[bytes]:
    """Return a line of `air` for each row."""
    return _lines(_series("air", air_tags(air.kit, air.site)), air_columns(air), f"cal={_text(air.cal)}", air.time_ms)


def hour_lines(record: HourRecord) -> list[bytes]:
    """Return the line of `hour`, at the start of the hour."""
    return _line(_series("hour", air_tags(record.kit, record.site)), hour_fields(record), record.hour * HOUR_MS)


def index_lines(record: IndexRecord) -> list[bytes]:
    """Return the line of `index`, at the start of the last hour it includes."""
    return _line(_series("index", index_tags(record.site, record.scheme)), index_fields(record), record.hour * HOUR_MS)


def health_lines(record: HealthRecord) -> list[bytes]:
    """Return the line of `kit_health` or `gateway`, at the time of the receipt."""
    return _line(_series(health_measurement(record), raw_tags(record.kit)), _present(record.values), record.time_ms)


def predicate(measurement: str, tags: Tags) -> str:
    """Return what a deletion names one series by; a tag value stands there as the database holds it."""
    quoted = (f'"{name}"="{_quoted(value)}"' for name, value in tags)
    return " AND ".join([f'_measurement="{measurement}"', *quoted])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _line(series: str, fields: Mapping[str, Value], time_ms: int) -> list[bytes]:
    present = ",".join(f"{_name(name)}={_field(value)}" for name, value in fields.items())
    return [_encode(f"{series} {present} {time_ms}")] if present else []


def _lines(series: str, columns: Sequence[Column], constant: str, time_ms: Ints) -> list[bytes]:
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
            Column(column.name, column.values[rows], column.whole, column.per_unit)
            for column, mask in present
            if mask[rows[0]]
        ]
        lines += _fill(series, some, constant, time_ms[rows])
    return lines


def _fill(series: str, columns: Sequence[Column], constant: str, time_ms: Ints) -> list[bytes]:
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


def _pattern(column: Column) -> tuple[str, list[Sequence[object]]]:
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
    """Format integers / per_unit without making a text of each; None where they are not that."""
    scaled = np.rint(values * per_unit)
    if not scaled.max() < _EXACT or np.signbit(values).any() or (scaled / per_unit != values).any():
        return None
    integers = scaled.astype(np.int64)
    if per_unit == 1:
        return "%d.0", [integers.tolist()]
    if integers.max() >= _TEXTS:
        return None
    return "%b", [_texts(per_unit)[integers].tolist()]


@cache
def _texts(per_unit: int) -> np.ndarray[Any, np.dtype[np.object_]]:
    """Return the texts of 0, 1, 2 … / per_unit: looking one up costs a tenth of making it."""
    return np.array([repr(i / per_unit).encode() for i in range(_TEXTS)], dtype=object)


def _series(measurement: str, tags: Tags) -> str:
    """Return measurement and tags as line protocol."""
    return ",".join([measurement, *(f"{name}={_escape(value)}" for name, value in tags)])


def _tags(**tags: str) -> Tags:
    """Return tags as the database will hold them; an empty one does not exist in line protocol and is left out."""
    return tuple((name, value.translate(_TAG_TEXT)) for name, value in tags.items() if value)


def _escape(text: str) -> str:
    return text.translate(_TAG_ESCAPES)


@cache
def _name(field: str) -> str:
    return _escape(field.translate(_TAG_TEXT))


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _present(fields: Mapping[str, Value | None]) -> dict[str, Value]:
    """Leave out what is absent or not finite."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and (isinstance(value, str) or np.isfinite(value))
    }


def _field(value: Value) -> str:
    if isinstance(value, str):
        return _text(value)
    return repr(value) if isinstance(value, float) else f"{value}i"


def _text(text: str) -> str:
    return f'"{string_text(text).translate(_STRING_ESCAPES)}"'


def string_text(text: str) -> str:
    """Return a string as the database will hold it."""
    return text.translate(_STRING_TEXT)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")
