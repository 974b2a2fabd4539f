"""The drift watch at work: hours of the store, or a station's file, beside those of each kit; reads only."""

import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from calibration import drift
from calibration.quantities import DERIVED, SECOND
from gateway.errors import LichenError
from gateway.records import HOUR_MS, HOUR_S, Floats
from gateway.settings import Drift as DriftSettings
from gateway.settings import Settings
from gateway.store import derived, numbers, standing
from gateway.tables import TableFileError, hourly, read_csv

SECOND_CHANNEL: Final = "second channel"
NEIGHBOURS: Final = "neighbours"
_PAIRED: Final = "pm25_cf1"

_Line = dict[int, float]


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """One kit beside one proxy: the newest window, None where it has too few hours, and which tests alarm.

    Proxy = gain x value + offset [the quantity's unit]; `failing_h` is since how many hours each test fails.
    """

    kit: str
    quantity: str
    against: str
    hours: int
    gain: float | None
    offset: float | None
    ks_d: float | None
    ks_p: float | None
    failing_h: dict[str, int]
    alarms: tuple[str, ...]


class DriftWatch(msgspec.Struct, frozen=True, kw_only=True):
    """Every comparison, alarms first, and which files of stations could not be used."""

    pairs: tuple[Watched, ...]
    unreadable: tuple[str, ...]


def read(db: sqlite3.Connection, settings: Settings) -> DriftWatch:
    """Compare each kit with its second channel, its neighbours and official stations; inside a snapshot.

    The eight days before the newest hour of any kit are looked at, whatever the clock says.
    """
    now_hour = newest_hour(db)
    lines = _lines(db, (now_hour - drift.SPAN_H, now_hour))
    found = [*_second_channels(lines, now_hour), *_neighbours(lines, settings.drift, now_hour)]
    unreadable = []
    for station in settings.drift.stations:
        try:
            official = _official(settings.beside(station.file))
        except LichenError as error:
            unreadable.append(f"station {station.name}: {error}")
            continue
        found += [
            _watched(kit, quantity, f"station {station.name}", line, official[quantity], now_hour)
            for (kit, quantity), line in lines.items() if quantity in official
        ]  # fmt: skip
    found.sort(key=lambda one: (not one.alarms, one.kit, one.quantity, one.against))
    return DriftWatch(pairs=tuple(found), unreadable=tuple(unreadable))


def newest_hour(db: sqlite3.Connection) -> int:
    """Return the hour of the newest placed reading, which is not over yet."""
    return max((ms for ms in numbers.newest_ms(db).values() if ms is not None), default=0) // HOUR_MS


def _lines(db: sqlite3.Connection, span: tuple[int, int]) -> dict[tuple[str, str], _Line]:
    """Hourly means by kit and name: quantities, and the channel that kits have two sensors of."""
    wanted = (*DERIVED, _PAIRED, _PAIRED + SECOND)
    found: dict[tuple[str, str], _Line] = {}
    for kit in standing.kits(db):
        for hour in derived.read_hours(db, kit=kit, hour_from=span[0], hour_to=span[1]):
            for name in wanted:
                if name in hour.values:
                    found.setdefault((kit, name), {})[hour.hour] = hour.values[name]
    return found


def _second_channels(lines: Mapping[tuple[str, str], _Line], now_hour: int) -> Iterator[Watched]:
    for (kit, name), line in lines.items():
        if name == _PAIRED and (other := lines.get((kit, _PAIRED + SECOND))):
            yield _watched(kit, name, SECOND_CHANNEL, line, other, now_hour)


def _neighbours(lines: Mapping[tuple[str, str], _Line], settings: DriftSettings, now_hour: int) -> Iterator[Watched]:
    """Compare each kit with the median of the others of its area."""
    kits = sorted({kit for kit, _ in lines})
    for area in settings.areas or (tuple(kits),):
        for quantity in DERIVED:
            here = {kit: lines[kit, quantity] for kit in area if (kit, quantity) in lines}
            if len(here) < 2:
                continue
            table = np.full((len(here), drift.SPAN_H), np.nan)
            for row, line in zip(table, here.values(), strict=True):
                row[np.array(list(line)) - (now_hour - drift.SPAN_H)] = list(line.values())
            for (kit, line), others in zip(here.items(), medians_of_others(table), strict=True):
                proxy = {now_hour - drift.SPAN_H + at: value for at, value in enumerate(others.tolist())}
                yield _watched(kit, quantity, NEIGHBOURS, line, proxy, now_hour)


def medians_of_others(table: Floats) -> Iterator[Floats]:
    """Yield for each row of a table [n, hours] the medians [hours] of the other rows; NaN where they have no value."""
    order = np.argsort(table, axis=0, kind="stable")
    ranks = np.argsort(order, axis=0, kind="stable")  # NaN comes last
    inorder = np.vstack([np.take_along_axis(table, order, axis=0), np.full((2, table.shape[1]), np.nan)])
    count, hours = (~np.isnan(table)).sum(axis=0), np.arange(table.shape[1])
    for row, rank in zip(table, ranks, strict=True):
        left = count - ~np.isnan(row)  # how many values the others have
        middle = [np.maximum(left - 1, 0) // 2, left // 2]
        low, high = (inorder[at + (at >= rank), hours] for at in middle)
        yield np.where(left > 0, (low + high) / 2, np.nan)


def _official(path: Path) -> dict[str, _Line]:
    """Return the hours of an official station by quantity.

    Raises
    ------
    LichenError
        The file cannot be read or has no column that kits have a quantity of.
    """
    table = read_csv(path).table
    found: dict[str, _Line] = {}
    for quantity in DERIVED:
        if quantity in table.columns:
            hours = hourly(table, quantity)
            found[quantity] = dict(
                zip((hours.time_s // HOUR_S).tolist(), hours.columns[quantity].tolist(), strict=True)
            )
    if not found:
        raise TableFileError(path, f"has none of the columns {', '.join(DERIVED)}")
    return found


def _watched(kit: str, quantity: str, against: str, line: _Line, proxy: _Line, now_hour: int) -> Watched:
    hours = np.array(sorted(line), np.int64)
    found = drift.watch(
        hours, np.array([line[h] for h in hours.tolist()]), np.array([proxy.get(h, np.nan) for h in hours.tolist()]),
        quantity=quantity, now_hour=now_hour,
    )  # fmt: skip
    one = found.newest or drift.NOTHING
    return Watched(
        kit=kit, quantity=quantity, against=against, hours=one.n, gain=_number(one.gain), offset=_number(one.offset),
        ks_d=_number(one.ks_d), ks_p=_number(one.ks_p), failing_h=dict(found.failing_h), alarms=found.alarms,
    )  # fmt: skip


def _number(value: float) -> float | None:
    """Round for people and JSON, which knows no infinity."""
    return float(f"{value:.4g}") if np.isfinite(value) else None
