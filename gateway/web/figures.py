"""What is shown of one kit: the newest value, the last hour and the last 24 hours of each quantity; from the store."""

import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from calibration.applied import Calibration, Interval
from calibration.flags import Flag, reason_names
from calibration.quantities import CHANNELS, DERIVED, SECOND, Derived
from gateway.derive.methods import find_calibration
from gateway.errors import LichenError
from gateway.records import HOUR_MS, HOUR_S, AirHour, HourRecord, Readings
from gateway.store import derived, readings
from gateway.store.readings import KitState

HOUR_LEAST_MIN: Final = 45
"""Minutes that a valid hour covers at least; `derive` decides by the 2,700 s, this is for words only."""

DAY_HOURS: Final = 24
DAY_LEAST: Final = 18
"""Hours that a mean of 24 needs: 75 %, as the agencies ask."""

CHART_HOURS: Final = 48

STALE_AFTER_S: Final = 900
"""Kits send each minute or two: after this without one a reading is no longer *now*, and its kit counts as silent."""

MAIN_QUANTITY: Final = "pm25_ugm3"


@dataclass(frozen=True, slots=True)
class RawValue:
    """What the sensor itself gave, beside a corrected value."""

    name: str
    title: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with what belongs to it; `value` is `None` where there is not enough data and `missing` says of what.

    `complete` says how much it was made from, `interval` what is known of its uncertainty and for which averaging time,
    `low` and `high` bound the 90 % interval where there is one, `note` says why it is not plainly good. `from_ms` to
    `to_ms` is the time it stands for.
    """

    value: float | None
    from_ms: int | None
    to_ms: int | None
    complete: str = ""
    missing: str = ""
    valid_pct: float | None = None
    interval: str = "none"
    low: float | None = None
    high: float | None = None
    raw: tuple[RawValue, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class QuantityFigures:
    """The three figures of one quantity."""

    quantity: Derived
    correction: str
    now: Figure
    hour: Figure
    day: Figure


@dataclass(frozen=True, slots=True)
class KitData:
    """What one kit's figures and chart are made from: its newest rows, its hours by number, its calibrations by label.

    A calibration that this program cannot read has no entry.
    """

    state: KitState
    air: AirHour | None
    raw: Readings | None
    hours: dict[int, HourRecord]
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)

    @property
    def site(self) -> str:
        """Where its newest record says it stands; at a site named after itself where there is none."""
        newest = self.air or (self.hours[max(self.hours)] if self.hours else None)
        return newest.site if newest else self.state.name

    def mean(self, name: str, hour: int) -> float | None:
        """Mean of a quantity or channel in an hour, `None` where it is not valid."""
        record = self.hours.get(hour)
        return record.values.get(name) if record else None

    def calibration(self, name: str, record: AirHour | HourRecord | None) -> Calibration | None:
        """Return what made a quantity of a record."""
        found = (self.calibrations.get(label) for label in record.cal.split("|")) if record else ()
        return next((one for one in found if one is not None and one.output == name), None)


def load_kit(db: sqlite3.Connection, state: KitState, now_ms: int) -> KitData:
    """Read what is needed of one kit, and no more."""
    now_hour = now_ms // HOUR_MS
    hours = derived.read_hours(db, kit=state.name, hour_from=now_hour - CHART_HOURS, hour_to=now_hour + 1)
    air = raw = None
    if state.last_hour is not None:
        # The newest hour may not be derived yet; then the one before it holds the newest value.
        found = list(derived.read_air(db, kit=state.name, hour_from=state.last_hour - 1))
        air = found[-1] if found else None
    if air is not None:
        raw = readings.read(db, state.name, air.hour, air.hour + 1)
    by_hour = {record.hour: record for record in hours}
    named = [record.cal for record in (air, *by_hour.values()) if record is not None]
    return KitData(state, air, raw, by_hour, _calibrations(db, state.name, named))


def _calibrations(db: sqlite3.Connection, kit: str, named: Iterable[str]) -> dict[str, Calibration]:
    found = {}
    for label in dict.fromkeys(label for cal in dict.fromkeys(named) for label in cal.split("|")):
        with suppress(LichenError):  # of another program: its rows are shown, its title is not known
            found[label] = find_calibration(db, label, kit)
    return found


def quantities_of(kit: KitData) -> list[Derived]:
    """Return the quantities to show: PM2.5 always, others where there is a value."""
    present = {name for record in kit.hours.values() for name in record.values}
    if kit.air is not None:
        present |= {name for name, values in kit.air.values.items() if not all(map(math.isnan, values.tolist()))}
    return [quantity for name, quantity in DERIVED.items() if name == MAIN_QUANTITY or name in present]


def figures(kit: KitData, quantity: Derived, *, now_ms: int, last_hour: int) -> QuantityFigures:
    """Return the figures of one quantity; `last_hour` is the hour that counts as the last one."""
    newest = kit.air or next(reversed(kit.hours.values()), None)
    calibration = kit.calibration(quantity.name, newest)
    channels = _raw_channels(calibration)
    return QuantityFigures(
        quantity,
        calibration.title if calibration else "",
        _now(kit, quantity.name, calibration, channels, now_ms),
        _hour(kit, quantity.name, channels, last_hour),
        _day(kit, quantity.name, channels, last_hour),
    )


def _raw_channels(calibration: Calibration | None) -> tuple[str, ...]:
    """Return the channel that is calibrated, and that of a second sensor; others only help to calibrate it."""
    main = calibration.inputs[0] if calibration else ""
    return tuple(n for n in (main, main + SECOND) if n in CHANNELS)


def _interval(calibration: Calibration | None, averaging_s: float, low: float | None) -> str:
    """Say what is known of a mean's uncertainty; what is known for another averaging time does not hold for it."""
    if calibration is None or calibration.interval is Interval.NONE:
        return Interval.NONE.value
    how_long = f"{averaging_s / HOUR_S:g} h" if averaging_s % HOUR_S == 0 else f"{averaging_s:g} s"
    return f"{Interval.NONE} for {how_long} means" if low is None else f"{calibration.interval}, {how_long} means"


def _raw_values(values: Sequence[tuple[str, float | None]]) -> tuple[RawValue, ...]:
    return tuple(
        RawValue(name, CHANNELS[name].title, value, CHANNELS[name].text)
        for name, value in values
        if value is not None and not math.isnan(value)
    )


def _now(kit: KitData, name: str, calibration: Calibration | None, channels: Sequence[str], now_ms: int) -> Figure:
    air, raw = kit.air, kit.raw
    if air is None or raw is None or not len(air):
        return Figure(None, None, None, missing="no reading yet")
    at_ms = int(air.time_ms[-1])
    at = int(raw.time_ms.searchsorted(at_ms))
    row = {n: float(values[at]) for n, values in raw.columns.items()} if at < len(raw) else {}
    dt_s = max(np.nan_to_num(row.get("dt", 0.0)), 0.0)
    from_ms = at_ms - int(dt_s * 1000)
    raw_values = _raw_values([(n, row.get(n)) for n in channels])
    note = reason_names(int(air.reasons[-1])).replace("_", " ").replace("|", ", ")
    value = float(air.values[name][-1]) if name in air.values else math.nan
    if now_ms - at_ms > STALE_AFTER_S * 1000:
        return Figure(None, from_ms, at_ms, missing=f"no reading in the last {STALE_AFTER_S // 60} minutes")
    complete = _samples(row, channels)
    if math.isnan(value):
        why = f"the newest reading has no valid value ({note or 'nothing measured'})"
        return Figure(None, from_ms, at_ms, complete=complete, missing=why, raw=raw_values)
    low, high = (_number(group[name][-1]) if name in group else None for group in (air.lo, air.hi))
    suspect = int(air.qc[-1]) == Flag.SUSPECT
    return Figure(
        value, from_ms, at_ms, complete=complete, interval=_interval(calibration, dt_s, low), low=low, high=high,
        raw=raw_values, note=f"suspect: {note}" if suspect else note,
    )  # fmt: skip


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _samples(row: dict[str, float], channels: Sequence[str]) -> str:
    """Say how many of the samples due the newest reading was made from."""
    used = due = 0.0
    for counter, bad in dict.fromkeys(CHANNELS[channel].counters for channel in channels):
        pair = row.get(counter, math.nan), row.get(bad, math.nan)
        if not any(map(math.isnan, pair)):
            used, due = used + pair[0], due + sum(pair)
    return f"{used:.0f} of {due:.0f} samples" if due else ""


def _hour(kit: KitData, name: str, channels: Sequence[str], hour: int) -> Figure:
    record = kit.hours.get(hour)
    from_ms, to_ms = hour * HOUR_MS, (hour + 1) * HOUR_MS
    valid_pct = record.valid_pct.get(name, 0.0) if record else 0.0
    # Whole minutes, never rounded up to what would be enough.
    minutes = f"{math.floor(valid_pct * 0.6 + 1e-9)} of 60 minutes"
    if record is None or (value := record.values.get(name)) is None:
        missing = f"{minutes}, at least {HOUR_LEAST_MIN} are needed"
        return Figure(None, from_ms, to_ms, missing=missing, valid_pct=valid_pct)
    note = reason_names(record.reasons).replace("_", " ").replace("|", ", ")
    low, high = record.lo.get(name), record.hi.get(name)
    return Figure(
        value, from_ms, to_ms, complete=minutes, valid_pct=valid_pct,
        interval=_interval(kit.calibration(name, record), HOUR_S, low), low=low, high=high,
        raw=_raw_values([(n, record.values.get(n)) for n in channels]), note=note,
    )  # fmt: skip


def _day(kit: KitData, name: str, channels: Sequence[str], last_hour: int) -> Figure:
    hours = range(last_hour - DAY_HOURS + 1, last_hour + 1)
    used = [kit.hours[hour] for hour in hours if kit.mean(name, hour) is not None]
    values = [record.values[name] for record in used]
    span = hours[0] * HOUR_MS, (last_hour + 1) * HOUR_MS
    valid_pct = 100.0 * len(values) / DAY_HOURS
    complete = f"{len(values)} of {DAY_HOURS} hours"
    if len(values) < DAY_LEAST:
        return Figure(None, *span, missing=f"{complete}, at least {DAY_LEAST} are needed", valid_pct=valid_pct)
    raw = []
    for channel in channels:
        found = [mean for hour in hours if (mean := kit.mean(channel, hour)) is not None]
        raw.append((channel, math.fsum(found) / len(found) if len(found) >= DAY_LEAST else None))
    value = math.fsum(values) / len(values)
    calibrations = [kit.calibration(name, record) for record in used]
    half = _half_width(calibrations, value, span)
    low, high = (None, None) if half is None else (value - half, value + half)
    return Figure(
        value, *span, complete=complete, valid_pct=valid_pct,
        interval=_interval(calibrations[-1], DAY_HOURS * HOUR_S, low), low=low, high=high, raw=_raw_values(raw),
    )  # fmt: skip


def _half_width(calibrations: Sequence[Calibration | None], value: float, span: tuple[int, int]) -> float | None:
    """Half width of the interval of a day's mean, where one calibration made all of it."""
    first = calibrations[0]
    if first is None or any(one is None or one.label != first.label for one in calibrations):
        return None
    from_ms, to_ms = span
    found = first.half_width(np.array([value]), (to_ms - from_ms) / 1000, np.array([(from_ms + to_ms) / 2000]))
    return None if found is None else _number(found[0])
