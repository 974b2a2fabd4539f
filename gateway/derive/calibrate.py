"""The steps from raw rows to calibrated rows: quality control, voided rows, calibrations, doubts of time."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from calibration import qc
from calibration.applied import TIME, Calibration, Interval
from calibration.flags import Flag, Reason
from calibration.qc import Bools, Checked
from calibration.quantities import CHANNELS, DERIVED
from calibration.screen import screen
from gateway.derive.rows import Rows
from gateway.records import Floats, Void

MAIN_QUANTITY: Final = "pm25_ugm3"

DOUBTFUL_S: Final = 1800
"""A row whose time may be wrong by more than half an hour says nothing about the hour in which it stands."""


def check_channels(rows: Rows) -> Rows:
    """Say of every raw channel which rows can be used; each counts by its own sensor's counters."""
    readings = rows.readings
    screened = screen(readings.columns, time_s=readings.time_ms / 1000.0, starts=rows.starts)
    return _screened(replace(rows, screened=screened))


def void_channels(rows: Rows, voids: Sequence[Void]) -> Rows:
    """Take out what an operator has voided of raw channels, so that a second sensor can stand in for the first."""
    screened = rows.screened
    for void in voids:
        names = [name for name in screened.names if void.what in ("", name)]
        if names and (inside := _inside(rows, void)).any():
            screened = screened.without(names, inside, Reason.VOIDED)
    return rows if screened is rows.screened else _screened(replace(rows, screened=screened))


def calibrate(rows: Rows, calibration: Calibration) -> Rows:
    """Add the quantity that a calibration gives, from both sensors of a kind where there are two.

    PM2.5 is a quantity of every hour, another of those hours in which its sensor sent anything at all.
    """
    inputs = {
        name: rows.screened.pair(name, rows.starts) if name != TIME else _times(rows) for name in calibration.inputs
    }
    found = calibration.apply(inputs)
    if calibration.interval is not Interval.NONE:
        half = calibration.half_width(found.value, rows.seconds, _middle_ms(rows) / 1000.0)
        found = found if half is None else replace(found, lo=found.value - half, hi=found.value + half)
    if any(name in CHANNELS and CHANNELS[name].sensor == "pm" for name in calibration.inputs):
        humid = qc.humid(inputs["rh"] if "rh" in inputs else rows.screened.pair("rh", rows.starts))
        found = found.suspected(humid, Reason.HUMID) if humid.any() else found
    present = np.ones(len(rows.hours), bool)
    if calibration.output != MAIN_QUANTITY:
        main = inputs[calibration.inputs[0]]
        present = np.logical_or.reduceat((main.flags != Flag.MISSING) | (main.reasons != 0), rows.starts)
        if not present.all():  # hours of a kit that has no such sensor
            here = np.repeat(present, np.diff([*rows.starts, len(rows.readings)]))
            found = replace(found, reasons=np.where(here, found.reasons, 0))
    name = calibration.output
    return replace(
        rows, derived={**rows.derived, name: found}, present={**rows.present, name: present},
        calibrations={**rows.calibrations, name: calibration},
    )  # fmt: skip


def void_quantities(rows: Rows, voids: Sequence[Void]) -> Rows:
    """Take out what an operator has voided of calibrated quantities."""
    derived = dict(rows.derived)
    for void in voids:
        names = [name for name in derived if void.what in ("", name)]
        if names and (inside := _inside(rows, void)).any():
            derived |= {name: derived[name].without(inside, Reason.VOIDED) for name in names}
    return replace(rows, derived=derived)


def check_times(rows: Rows) -> Rows:
    """Take out rows whose time is too uncertain for their hour, and say which rows were moved to a free millisecond."""
    doubtful = rows.readings.time_error_s > DOUBTFUL_S
    shifted = rows.readings.time_ms % 1000 != 0
    if not (doubtful.any() or shifted.any()):
        return rows
    derived = {name: _timed(checked, doubtful, shifted) for name, checked in rows.derived.items()}
    usable = {name: mask & ~doubtful for name, mask in rows.usable.items()}
    return replace(rows, derived=derived, usable=usable)


def _timed(checked: Checked, doubtful: Bools, shifted: Bools) -> Checked:
    found = checked.without(doubtful, Reason.TIME_DOUBTFUL, flag=False)
    return replace(found, reasons=found.reasons | shifted * int(Reason.TIME_SHIFTED))


def _screened(rows: Rows) -> Rows:
    screened = rows.screened
    usable = dict(zip(screened.names, ~np.isnan(screened.value), strict=True))
    return replace(rows, usable={name: usable[name] for name in sorted(usable)})  # records list channels in one order


def _inside(rows: Rows, void: Void) -> Bools:
    """Which rows lie in a voided span, by the middle of their interval: as they belong to an hour."""
    middle_ms = _middle_ms(rows)
    return (middle_ms >= void.from_ms) & (middle_ms < void.to_ms)


def _times(rows: Rows) -> Checked:
    """Return the middle of each row's interval as an input [s since 1970]."""
    length = len(rows.readings)
    return Checked(_middle_ms(rows) / 1000.0, np.full(length, int(Flag.GOOD)), np.zeros(length, np.int64))


def _middle_ms(rows: Rows) -> Floats:
    middle_ms: Floats = rows.readings.time_ms - 500.0 * rows.seconds
    return middle_ms


KNOWN_TO_VOID: Final = (*CHANNELS, *DERIVED)
"""What an operator can void by name."""
