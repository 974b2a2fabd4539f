"""The steps from raw rows to calibrated rows: quality control, voided rows, calibrations, doubts of time."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Final

import msgspec
import numpy as np

from calibration import qc
from calibration.applied import TIME, Interval
from calibration.flags import Flag, Reason
from calibration.qc import Bools, Checked, merged
from calibration.quantities import CHANNELS, DERIVED
from calibration.screen import screen
from gateway.derive.rows import Family, Rows

MAIN_QUANTITY: Final = "pm25_ugm3"

DOUBTFUL_S: Final = 1800
"""A row whose time may be wrong by more than half an hour says nothing about the hour in which it stands."""


def check_channels(rows: Rows) -> Rows:
    """Say of every raw channel which rows can be used; each counts by its own sensor's counters."""
    screened = screen(rows.columns, time_s=rows.time_ms / 1000.0, starts=rows.starts)
    return _screened(msgspec.structs.replace(rows, screened=screened))


def void_channels(rows: Rows) -> Rows:
    """Take out what an operator has voided of raw channels, so that a second sensor can stand in for the first."""
    screened = rows.screened
    for what, inside in _voided(rows).items():
        names = [name for name in screened.names if what in ("", name)]
        if names:
            screened = screened.without(names, inside, Reason.VOIDED)
    return rows if screened is rows.screened else _screened(msgspec.structs.replace(rows, screened=screened))


def calibrate(rows: Rows) -> Rows:
    """Add the quantities that calibrations give, from both sensors of a kind where there are two.

    PM2.5 is a quantity of every hour, another of those hours in which its sensor sent anything at all.
    """
    channel = cache(lambda name: _times(rows) if name == TIME else rows.screened.pair(name, rows.starts))
    derived, present = {}, {}
    for name, families in rows.families.items():
        parts = [_of_family(rows, family, channel) for family in families]
        found = parts[0] if len(parts) == 1 else merged(parts, [family.rows for family in families], len(rows))
        present[name] = np.ones(len(rows.hours), bool)
        if name != MAIN_QUANTITY:
            present[name] = np.logical_or.reduceat(_sent(rows, families, channel), rows.starts)
            if not present[name].all():  # hours of a kit that has no such sensor
                here = np.repeat(present[name], np.diff([*rows.starts, len(rows)]))
                found = replace(found, reasons=np.where(here, found.reasons, 0))
        derived[name] = found
    return msgspec.structs.replace(rows, derived=derived, present=present)


def _of_family(rows: Rows, family: Family, channel: Callable[[str], Checked]) -> Checked:
    """Calibrate the rows of a family from channels of all rows."""
    first, calibration = family.first, family.of_rows()
    found = calibration.apply({name: channel(name).part(family.rows) for name in first.inputs})
    if first.interval is not Interval.NONE:
        half = calibration.half_width(found.value, rows.seconds[family.rows], rows.middle_ms[family.rows] / 1000.0)
        found = found if half is None else replace(found, lo=found.value - half, hi=found.value + half)
    if any(name in CHANNELS and CHANNELS[name].sensor == "pm" for name in first.inputs):
        humid = qc.humid(channel("rh").part(family.rows))
        found = found.suspected(humid, Reason.HUMID) if humid.any() else found
    return found


def _sent(rows: Rows, families: Sequence[Family], channel: Callable[[str], Checked]) -> Bools:
    """Whether the sensor of a quantity sent anything at all in each row."""
    found = np.empty(len(rows), bool)
    for family in families:
        main = channel(family.first.inputs[0]).part(family.rows)
        found[family.rows] = (main.flags != Flag.MISSING) | (main.reasons != 0)
    return found


def void_quantities(rows: Rows) -> Rows:
    """Take out what an operator has voided of calibrated quantities."""
    derived = dict(rows.derived)
    for what, inside in _voided(rows).items():
        names = [name for name in derived if what in ("", name)]
        derived |= {name: derived[name].without(inside, Reason.VOIDED) for name in names}
    return msgspec.structs.replace(rows, derived=derived)


def check_times(rows: Rows) -> Rows:
    """Take out rows whose time is too uncertain for their hour, and say which rows were moved to a free millisecond."""
    doubtful = rows.time_error_s > DOUBTFUL_S
    shifted = rows.time_ms % 1000 != 0
    if not (doubtful.any() or shifted.any()):
        return rows
    derived = {name: _timed(checked, doubtful, shifted) for name, checked in rows.derived.items()}
    usable = {name: mask & ~doubtful for name, mask in rows.usable.items()}
    return msgspec.structs.replace(rows, derived=derived, usable=usable)


def _timed(checked: Checked, doubtful: Bools, shifted: Bools) -> Checked:
    found = checked.without(doubtful, Reason.TIME_DOUBTFUL, flag=False)
    return replace(found, reasons=found.reasons | shifted * int(Reason.TIME_SHIFTED))


def _screened(rows: Rows) -> Rows:
    screened = rows.screened
    usable = dict(zip(screened.names, ~np.isnan(screened.value), strict=True))
    return msgspec.structs.replace(
        rows, usable={name: usable[name] for name in sorted(usable)}
    )  # records list channels in one order


def _voided(rows: Rows) -> dict[str, Bools]:
    """Which rows are voided of each name, by the middle of their interval: as they belong to an hour."""
    found: dict[str, Bools] = {}
    for stretch, start, end in zip(rows.stretches, rows.edges[:-1], rows.edges[1:], strict=True):
        if not stretch.voids:
            continue
        middle_ms = rows.middle_ms[start:end]
        for void in stretch.voids:
            inside = (middle_ms >= void.from_ms) & (middle_ms < void.to_ms)
            if inside.any():
                found.setdefault(void.what, np.zeros(len(rows), bool))[start:end] |= inside
    return found


def _times(rows: Rows) -> Checked:
    """Return the middle of each row's interval as an input [s since 1970]."""
    length = len(rows)
    return Checked(rows.middle_ms / 1000.0, np.full(length, int(Flag.GOOD)), np.zeros(length, np.int64))


KNOWN_TO_VOID: Final = (*CHANNELS, *DERIVED)
"""What an operator can void by name."""
