"""Records as InfluxDB line protocol: which measurement, tags and fields each becomes. No I/O.

Times are milliseconds. A value that is absent or not finite is left out, and a line without any field is not made.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np

from calibration.quantities import CHANNELS, COUNTERS, DERIVED
from gateway.records import HOUR_MS, AirHour, HealthRecord, HourRecord, IndexRecord, Readings
from gateway.sinks.lines import Column, Lines, Ready, Rows, escape, name_of, tag_text
from gateway.sinks.texts import float_text
from gateway.store.changes import Changes
from gateway.store.rawtable import RawTable

_SERIES: Final = 4096
"""Series whose text is kept."""

_UNIT_SUFFIX: Final = {d.pollutant: d.name.removeprefix(d.pollutant) for d in DERIVED.values()}
_COMPLETENESS: Final = {d.name: f"{d.pollutant}_valid_pct" for d in DERIVED.values()}

_STRING_TEXT: Final = str.maketrans({"\n": " ", "\r": " ", "\0": " "})
_STRING_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"'})

Value = float | int | str
Tags = tuple[tuple[str, str], ...]


def raw_columns(rows: Readings | RawTable) -> list[Column]:
    """Return the fields of `raw`: channels in canonical units, counters, boot, seq, time_error_s."""
    columns = [
        Column(name, values, whole=name in COUNTERS, per_unit=CHANNELS[name].per_unit if name in CHANNELS else 0)
        for name, values in rows.columns.items()
        if name in CHANNELS or name in COUNTERS
    ]
    facts = {"boot": rows.boot, "seq": rows.seq, "time_error_s": rows.time_error_s}
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
    """Return the fields of `hour`: means, their interval, completeness, qc, cal."""
    fields: dict[str, Value | None] = {
        name + suffix: float(value)
        for suffix, group in (("", record.values), ("_lo", record.lo), ("_hi", record.hi))
        for name, value in group.items()
    }
    fields.update({_completeness(name): float(pct) for name, pct in record.valid_pct.items()})
    fields["qc"], fields["cal"] = record.qc, record.cal
    return _present(fields)


def index_fields(record: IndexRecord) -> dict[str, Value]:
    """Return the fields of `index`."""
    fields: dict[str, Value | None] = {
        "value": record.value, "category": record.category, "pollutant": record.pollutant,
    }  # fmt: skip
    for name, sub in record.subs.items():
        hour = sub.index, _float(sub.concentration), float(sub.valid_pct)
        day = _float(sub.mean_24h), sub.index_24h, float(sub.valid_24h_pct)
        fields.update(zip(_of_sub_index(name), (*hour, *day), strict=True))
    fields["table"], fields["equivalent"] = record.table, record.equivalent if record.subs else None
    return _present(fields)


@lru_cache(_SERIES)
def _completeness(name: str) -> str:
    return _COMPLETENESS.get(name, f"{name}_valid_pct")


@lru_cache(_SERIES)
def _of_sub_index(name: str) -> tuple[str, ...]:
    """Return the fields of a pollutant's part in an index: of the hour, and of 24 hours."""
    unit = _UNIT_SUFFIX.get(name, "_concentration")
    hour = f"{name}_index", f"{name}{unit}", f"{name}_valid_pct"
    return *hour, f"{name}_24h{unit}", f"{name}_24h_index", f"{name}_24h_valid_pct"


@lru_cache(_SERIES)
def raw_tags(kit: str) -> Tags:
    """Return the tags of `raw` and `kit_health`, by name."""
    return _tags(kit=kit)


@lru_cache(_SERIES)
def air_tags(kit: str, site: str) -> Tags:
    """Return the tags of `air` and `hour`, by name."""
    return _tags(kit=kit, site=site)


@lru_cache(_SERIES)
def index_tags(site: str, scheme: str) -> Tags:
    """Return the tags of `index`, by name."""
    return _tags(scheme=scheme, site=site)


def health_measurement(record: HealthRecord) -> str:
    """Return where numbers stand: those of a kit in `kit_health`, the gateway's own in `gateway`."""
    return "kit_health" if record.kit else "gateway"


def changed(found: Changes, mine: Callable[[str], bool]) -> list[Lines]:
    """Return the lines of all that was found of kits and sites that are `mine`; those of a series together."""
    air = [hour for hour in found.air if mine(hour.kit) and len(hour)]
    hours = [line for record in found.hours if mine(record.kit) for line in hour_lines(record)]
    indices = [line for record in found.indices if mine(record.site) for line in index_lines(record)]
    health = [line for record in found.health if mine(record.kit) for line in health_lines(record)]
    parts: list[Lines] = [_table_lines(table, mine) for table in found.raw]
    return [part for part in (*parts, *_air_lines(air), Ready(hours), Ready(indices), Ready(health)) if len(part)]


def raw_lines(readings: Readings) -> list[bytes]:
    """Return a line of `raw` for each reading."""
    heads = [_encode(series("raw", raw_tags(readings.kit)) + " ")]
    return _all(Rows(heads, np.zeros(len(readings), np.int64), raw_columns(readings), readings.time_ms))


def air_lines(air: AirHour) -> list[bytes]:
    """Return a line of `air` for each row."""
    return [line for part in _air_lines([air]) for line in _all(part)]


def _all(part: Lines) -> list[bytes]:
    return part.text(0, len(part)).split(b"\n") if len(part) else []


def _table_lines(table: RawTable, mine: Callable[[str], bool]) -> Rows:
    heads = [_encode(series("raw", raw_tags(kit)) + " ") for kit in table.kits]
    chosen = np.array([mine(kit) for kit in table.kits])
    rows = table if chosen.all() else table.take(np.flatnonzero(chosen[table.kit]))
    return Rows(heads, rows.kit, raw_columns(rows), rows.time_ms)


def _air_lines(hours: Iterable[AirHour]) -> list[Rows]:
    """Return the lines of calibrated hours: those that have the same columns together, by series and hour."""
    alike: dict[tuple[tuple[str, ...], ...], list[AirHour]] = {}
    for air in hours:
        alike.setdefault((tuple(air.values), tuple(air.lo), tuple(air.hi)), []).append(air)
    return [_alike(sorted(some, key=lambda air: (air.kit, air.site, air.hour))) for some in alike.values()]


def _alike(hours: Sequence[AirHour]) -> Rows:
    alike = zip(*map(air_columns, hours), strict=True)
    columns = [Column(same[0].name, np.concatenate([c.values for c in same]), same[0].whole) for same in alike]
    heads: dict[str, int] = {}
    head = [heads.setdefault(_air_head(air.kit, air.site, air.cal), len(heads)) for air in hours]
    rows = np.repeat(np.array(head, np.int64), [len(air) for air in hours])
    return Rows([_encode(text) for text in heads], rows, columns, np.concatenate([air.time_ms for air in hours]))


@lru_cache(_SERIES)
def _air_head(kit: str, site: str, cal: str) -> str:
    return f"{series('air', air_tags(kit, site))} cal={_text(cal)},"


def hour_lines(record: HourRecord) -> list[bytes]:
    """Return the line of `hour`, at the start of the hour."""
    return _line(series("hour", air_tags(record.kit, record.site)), hour_fields(record), record.hour * HOUR_MS)


def index_lines(record: IndexRecord) -> list[bytes]:
    """Return the line of `index`, at the start of the last hour it includes."""
    return _line(series("index", index_tags(record.site, record.scheme)), index_fields(record), record.hour * HOUR_MS)


def health_lines(record: HealthRecord) -> list[bytes]:
    """Return the line of `kit_health` or `gateway`, at the time of the receipt."""
    return _line(series(health_measurement(record), raw_tags(record.kit)), _present(record.values), record.time_ms)


def predicate(measurement: str, tags: Tags) -> str:
    """Return what a deletion names one series by; a tag value stands there as the database holds it."""
    quoted = (f'"{name}"="{_quoted(value)}"' for name, value in tags)
    return " AND ".join([f'_measurement="{measurement}"', *quoted])


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _line(name: str, fields: Mapping[str, Value], time_ms: int) -> list[bytes]:
    present = ",".join([_name(field) + _TEXT_OF[type(value)](value) for field, value in fields.items()])
    return [_encode(f"{name} {present} {time_ms}")] if present else []


@lru_cache(_SERIES)
def series(measurement: str, tags: Tags) -> str:
    """Return measurement and tags as line protocol."""
    return ",".join([measurement, *(f"{name}={escape(value)}" for name, value in tags)])


def _tags(**tags: str) -> Tags:
    """Return tags as the database will hold them; an empty one does not exist in line protocol and is left out."""
    return tuple((name, tag_text(value)) for name, value in tags.items() if value)


@lru_cache(_SERIES)
def _name(field: str) -> str:
    return f"{name_of(field)}="


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _present(fields: Mapping[str, Value | None]) -> dict[str, Value]:
    """Leave out what is absent or not finite."""
    return {
        name: value
        for name, value in fields.items()
        if value is not None and (type(value) is not float or math.isfinite(value))
    }


@lru_cache(_SERIES)
def _text(text: str) -> str:
    return f'"{string_text(text).translate(_STRING_ESCAPES)}"'


def string_text(text: str) -> str:
    """Return a string as the database will hold it."""
    return text.translate(_STRING_TEXT)


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")


_TEXT_OF: Final[Mapping[type, Callable[[Any], str]]] = {float: float_text, int: "{}i".format, str: _text}
