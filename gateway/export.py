"""Exports of the store as CSV: RFC 4180 with line feeds, times in UTC, numbers that read back bit for bit."""

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TextIO

from calibration.flags import reason_names
from calibration.quantities import CHANNELS, COUNTERS, DERIVED
from gateway.records import (
    HOUR_MS,
    POLLUTANT_NAMES,
    AirHour,
    Floats,
    HourRecord,
    IndexRecord,
    Readings,
    SubIndex,
    TimeSource,
)
from gateway.store import derived, readings
from gateway.store.database import snapshot

KindName = Literal["raw", "air", "hour", "index"]
Cell = str | float | int | None

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FACTS: Final = ("up", "t", "q", "dt")
_SOURCES: Final = {source.value: source.name.lower() for source in TimeSource}
_POLLUTANTS: Final = {quantity.pollutant: name for name, quantity in DERIVED.items()}
"""Name, with its unit, of the concentration of each pollutant."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an export; `unit` is empty where a column has none."""

    name: str
    unit: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of export: what a row is, which end of the hour its time labels, and every column it may have."""

    row: str
    label: str
    columns: tuple[Column, ...]


def iso_time(time_ms: int) -> str:
    """Return a time in ms since 1970 as ISO 8601 in UTC; milliseconds only where they are not zero."""
    seconds, rest_ms = divmod(time_ms, 1000)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest_ms:03d}Z" if rest_ms else f"{text}Z"


def iso_hour(hour: int) -> str:
    """Return the start of an hour, counted since 1970, as ISO 8601 in UTC."""
    return iso_time(hour * HOUR_MS)


def write_csv(
    connection: sqlite3.Connection,
    kind: KindName,
    out: TextIO,
    *,
    kit: str | None = None,
    hour_from: int | None = None,
    hour_to: int | None = None,
) -> int:
    """Write one kind of record as CSV, an hour at a time, from one state of the store.

    Parameters
    ----------
    connection
        A connection that is in no transaction.
    kind
        `raw`, `air`, `hour` or `index`; `kinds` documents their columns.
    out
        Where the text goes; open it with `newline=""`, so that line ends stay as they are.
    kit
        Only this kit; for `index` only this site.
    hour_from, hour_to
        UTC hours since 1970, the second one exclusive. Raw readings that are not placed in time are in no hour: they
        come, with an empty time, where neither bound is given.

    Returns
    -------
    int
        Rows written, without the header.
    """
    header: Sequence[str]
    rows: Iterable[Sequence[Cell]]
    with snapshot(connection):
        if kind == "raw":
            names = raw_columns(connection)
            header, rows = _raw_header(names), _raw_rows(connection, names, kit, hour_from, hour_to)
        elif kind == "air":
            header, rows = _air(connection, kit, hour_from, hour_to)
        elif kind == "hour":
            header, rows = _hours(connection, kit, hour_from, hour_to)
        else:
            indices = derived.read_indices(connection, site=kit, hour_from=hour_from, hour_to=hour_to)
            header, rows = INDEX_COLUMNS, (tuple(index_row(record).values()) for record in indices)
        out.write(csv_line(header))
        count = 0
        for row in rows:
            out.write(csv_line(row))
            count += 1
    return count


def csv_line(cells: Iterable[Cell]) -> str:
    """Return one CSV line: text quoted where it must be, numbers as their shortest exact decimals, nothing for None."""
    return ",".join(map(_cell, cells)) + "\n"


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        # csv.writer of Python 3.11 and 3.12 leaves a lone carriage return bare, which readers take for a line end.
        return '"' + value.replace('"', '""') + '"' if any(c in value for c in '",\r\n') else value
    return "" if math.isnan(value) else repr(value)


def raw_columns(connection: sqlite3.Connection) -> list[str]:
    """Return the channels and counters that any stored reading has, in the order of `calibration.quantities`."""
    present = readings.column_names(connection)
    return [name for name in (*CHANNELS, *COUNTERS) if name in present]


def _raw_header(names: Sequence[str]) -> tuple[str, ...]:
    return ("time", "kit", "boot", "seq", *_FACTS, "time_source", "time_error_s", *names)


def _raw_rows(
    connection: sqlite3.Connection, names: Sequence[str], kit: str | None, hour_from: int | None, hour_to: int | None
) -> Iterator[Sequence[Cell]]:
    for found in readings.each_hour(connection, kit=kit, hour_from=hour_from, hour_to=hour_to):
        yield from _placed_rows(found, names)
    if hour_from is None and hour_to is None:
        yield from _waiting_rows(connection, names, kit)


def _placed_rows(found: Readings, names: Sequence[str]) -> Iterator[Sequence[Cell]]:
    columns = [_numbers(name, found.columns.get(name), len(found)) for name in (*_FACTS, *names)]
    return zip(
        map(iso_time, found.time_ms.tolist()), [found.kit] * len(found), found.boot.tolist(), found.seq.tolist(),
        *columns[: len(_FACTS)], map(_SOURCES.__getitem__, found.time_source.tolist()), found.time_error_s.tolist(),
        *columns[len(_FACTS) :], strict=True,
    )  # fmt: skip


def _waiting_rows(connection: sqlite3.Connection, names: Sequence[str], kit: str | None) -> Iterator[Sequence[Cell]]:
    for found in readings.waiting(connection, kit=kit):
        n = len(found.seq)
        columns = [_numbers(name, found.columns.get(name), n) for name in (*_FACTS, *names)]
        yield from zip(
            [None] * n, [found.kit] * n, [found.boot] * n, found.seq.tolist(), *columns[: len(_FACTS)],
            [None] * n, [None] * n, *columns[len(_FACTS) :], strict=True,
        )  # fmt: skip


def _per_unit(name: str) -> float:
    channel = CHANNELS.get(name)
    return float(channel.per_unit if channel else 1)


def _numbers(name: str, values: Floats | None, count: int) -> list[Cell]:
    """Cells of a raw column; one that is whole on the wire and inside stays whole."""
    if values is None:
        return [None] * count
    whole = _per_unit(name) == 1
    return [None if math.isnan(v) else int(v) if whole else v for v in values.tolist()]


def _air(
    connection: sqlite3.Connection, kit: str | None, hour_from: int | None, hour_to: int | None
) -> tuple[Sequence[str], Iterator[Sequence[Cell]]]:
    """Header and rows; a first pass finds which quantities have an interval anywhere in the export."""
    bounded: set[str] = set()
    for hour in derived.read_air(connection, kit=kit, hour_from=hour_from, hour_to=hour_to):
        bounded.update(hour.lo, hour.hi)
    columns = [c for name in DERIVED for c in ((name, f"{name}_lo", f"{name}_hi") if name in bounded else (name,))]
    hours = derived.read_air(connection, kit=kit, hour_from=hour_from, hour_to=hour_to)
    rows = (row for hour in hours for row in _air_rows(hour, bounded))
    return ("time", "kit", "site", *columns, "qc", "qc_reason", "cal"), rows


def _air_rows(hour: AirHour, bounded: set[str]) -> Iterator[Sequence[Cell]]:
    n = len(hour)
    columns: list[list[float] | list[None]] = []
    for name in DERIVED:
        groups = (hour.values, hour.lo, hour.hi) if name in bounded else (hour.values,)
        columns += [group[name].tolist() if name in group else [None] * n for group in groups]
    return zip(
        map(iso_time, hour.time_ms.tolist()), [hour.kit] * n, [hour.site] * n, *columns, hour.qc.tolist(),
        map(reason_names, hour.reasons.tolist()), [hour.cal] * n, strict=True,
    )  # fmt: skip


def _hours(
    connection: sqlite3.Connection, kit: str | None, hour_from: int | None, hour_to: int | None
) -> tuple[Sequence[str], Iterator[Sequence[Cell]]]:
    """Header and rows; a first pass finds which means have an interval anywhere in the export."""
    bounded: set[str] = set()
    for record in derived.read_hours(connection, kit=kit, hour_from=hour_from, hour_to=hour_to):
        bounded.update(record.lo, record.hi)
    means = [*(n for n in raw_columns(connection) if n in CHANNELS), *DERIVED]
    columns = [c for name in means for c in ((name, f"{name}_lo", f"{name}_hi") if name in bounded else (name,))]
    found = derived.read_hours(connection, kit=kit, hour_from=hour_from, hour_to=hour_to)
    header = ("hour_start", "kit", "site", *columns, *map(completeness, means), "qc", "qc_reason", "cal")
    return header, (_hour_row(record, means, bounded) for record in found)


def completeness(name: str) -> str:
    """Return the name of a quantity's or channel's completeness: `pm25_valid_pct`, `pm25_cf1_valid_pct`."""
    return f"{DERIVED[name].pollutant if name in DERIVED else name}_valid_pct"


def _hour_row(record: HourRecord, names: Sequence[str], bounded: set[str]) -> tuple[Cell, ...]:
    values = (
        group.get(name)
        for name in names
        for group in ((record.values, record.lo, record.hi) if name in bounded else (record.values,))
    )
    return (
        iso_hour(record.hour), record.kit, record.site, *values,
        *map(record.valid_pct.get, names), record.qc, reason_names(record.reasons), record.cal,
    )  # fmt: skip


def index_row(record: IndexRecord) -> dict[str, Cell]:
    """Return an index under the names that exports and the JSON interface share, in their order."""
    row: dict[str, Cell] = {
        "hour_start": iso_hour(record.hour), "site": record.site, "scheme": record.scheme, "value": record.value,
        "category": record.category, "pollutant": record.pollutant,
    }  # fmt: skip
    for pollutant, concentration in _POLLUTANTS.items():
        sub = record.subs.get(pollutant)
        row |= zip(_sub_columns(pollutant, concentration), _sub_values(sub), strict=True)
    return row | {"table": record.table, "equivalent": record.equivalent}


def _sub_columns(pollutant: str, concentration: str) -> tuple[str, ...]:
    unit = concentration.removeprefix(f"{pollutant}_")
    return (
        f"{pollutant}_index", concentration, f"{pollutant}_valid_pct",
        f"{pollutant}_24h_{unit}", f"{pollutant}_24h_index", f"{pollutant}_24h_valid_pct",
    )  # fmt: skip


def _sub_values(sub: SubIndex | None) -> tuple[Cell, ...]:
    if sub is None:
        return (None,) * 6
    return (sub.index, sub.concentration, sub.valid_pct, sub.mean_24h, sub.index_24h, sub.valid_24h_pct)


INDEX_COLUMNS: Final = tuple(
    index_row(IndexRecord(site="", scheme="", hour=0, value=None, category=None, pollutant=None, table="", subs={}))
)

_TIME: Final = Column("time", "", "end of the sampling interval, UTC; empty while a reading waits to be placed in time")
_KIT: Final = Column("kit", "", "id of the kit")
_SITE: Final = Column("site", "", "where the kit stands; a kit without a deployment is at a site named after itself")
_QC: Final = (
    Column("qc", "", "QARTOD flag: 1 good, 2 not evaluated, 3 suspect, 4 fail, 9 missing"),
    Column("qc_reason", "", "why it is not plainly good, names joined by |"),
    Column("cal", "", "correction or calibration used, and its version"),
)


def _channel_columns() -> Iterator[Column]:
    for name, channel in CHANNELS.items():
        yield Column(name, channel.text, f"{channel.title}, as the sensor gave it")


def _air_columns() -> Iterator[Column]:
    for name, quantity in DERIVED.items():
        yield Column(name, quantity.text, quantity.title)
        yield from _interval_columns(name, quantity.text)


def _interval_columns(name: str, unit: str) -> Iterator[Column]:
    """Which a calibration has for some averaging times: rows can have one and hours none, or the other way round."""
    yield Column(f"{name}_lo", unit, "lower end of its 90 % interval; only where a calibration has one")
    yield Column(f"{name}_hi", unit, "upper end of its 90 % interval; only where a calibration has one")


def _hour_columns() -> Iterator[Column]:
    named = {
        **{n: (c.text, c.title) for n, c in CHANNELS.items()},
        **{n: (d.text, d.title) for n, d in DERIVED.items()},
    }
    for name, (unit, title) in named.items():
        yield Column(name, unit, f"mean over the hour: {title}; empty where less than 75 % of the hour is covered")
        if name in DERIVED:
            yield from _interval_columns(name, unit)
    for name in named:
        yield Column(completeness(name), "%", f"share of the hour covered by good rows of {name}")


def _index_columns() -> Iterator[Column]:
    for pollutant, concentration in _POLLUTANTS.items():
        unit, name = DERIVED[concentration].text, POLLUTANT_NAMES[pollutant]
        columns = _sub_columns(pollutant, concentration)
        yield Column(columns[0], "", f"sub-index of {name}")
        yield Column(columns[1], unit, f"{name} the sub-index was made from: the real-time mean of the scheme")
        yield Column(columns[2], "%", "share of the hours of that mean that are valid")
        yield Column(columns[3], unit, f"mean of {name} over the 24 h that end with this hour")
        yield Column(columns[4], "", "sub-index of the 24 h mean")
        yield Column(columns[5], "%", "share of the 24 hours that are valid")


kinds: Final[Mapping[KindName, Kind]] = {
    "raw": Kind(
        "a reading of a kit, unchanged", "the end of the sampling interval",
        (
            _TIME, _KIT,
            Column("boot", "", "number that the kit drew at its start"),
            Column("seq", "", "number of the reading within the boot"),
            Column("up", "s", "time since the start of the kit"),
            Column("t", "s", "the kit's own clock, since 1970 UTC; empty where it had none"),
            Column("q", "", "quality of that clock: 0 none, 1 held over from an earlier start, 2 set in this boot"),
            Column("dt", "s", "length of the sampling interval"),
            Column("time_source", "", "where `time` comes from: kit, anchor (uptime and another row's clock), receipt"),
            Column("time_error_s", "s", "how far `time` may be off"),
            *_channel_columns(),
            *(Column(name, "", title) for name, title in COUNTERS.items()),
        ),
    ),
    "air": Kind(
        "a reading of a kit, corrected", "the end of the sampling interval",
        (_TIME, _KIT, _SITE, *_air_columns(), *_QC),
    ),
    "hour": Kind(
        "the means of a kit over an hour", "the start of the hour",
        (Column("hour_start", "", "start of the hour, UTC"), _KIT, _SITE, *_hour_columns(), *_QC),
    ),
    "index": Kind(
        "an air-quality index of a site", "the start of the last hour included",
        (
            Column("hour_start", "", "start of the last hour that the index includes, UTC"), _SITE,
            Column("scheme", "", "index scheme, such as us-2024"),
            Column("value", "", "the index; empty where there is not enough data"),
            Column("category", "", "key of its category"),
            Column("pollutant", "", "pollutant with the largest sub-index; empty where the scheme names none"),
            *_index_columns(),
            Column("table", "", "scheme and version of its table"),
            Column("equivalent", "", "pollutants it is made from; an equivalent, never an official value"),
        ),
    ),
}  # fmt: skip
"""Every kind of export with the columns it may have, in their order; raw channels come where a reading has them."""
