"""The steps from raw rows to calibrated rows: quality control of every raw channel, a correction, doubts of time."""

from dataclasses import replace
from typing import Final

import numpy as np

from calibration import qc
from calibration.corrections import Correction, apply
from calibration.flags import Flag, Reason
from calibration.qc import Bools, Checked
from calibration.quantities import CHANNELS, SECOND
from gateway.derive.rows import Rows

DOUBTFUL_S: Final = 1800
"""A row whose time may be wrong by more than half an hour says nothing about the hour in which it stands."""


def check_channels(rows: Rows) -> Rows:
    """Say of every raw channel which rows can be used; each counts by its own sensor's counters."""
    enough: dict[str, Bools] = {}
    usable: dict[str, Bools] = {}
    for name in sorted(CHANNELS.keys() & rows.readings.columns.keys()):  # records list channels in one order
        channel = CHANNELS[name]
        used, rejected = channel.counters
        if used not in enough:
            enough[used] = qc.enough_samples(rows.column(used), rows.column(rejected))
        usable[name] = qc.in_range(rows.column(name), channel.low, channel.high) & enough[used]
    return replace(rows, usable=usable)


def calibrate(rows: Rows, correction: Correction) -> Rows:
    """Add the quantity that a correction gives, from both sensors of a kind where there are two."""
    inputs = {name: qc.combine(_checked(rows, name), _checked(rows, name + SECOND)) for name in correction.inputs}
    derived = {**rows.derived, correction.output: apply(correction, inputs)}
    return replace(rows, derived=derived, corrections=(*rows.corrections, correction.label))


def check_times(rows: Rows) -> Rows:
    """Take out rows whose time is too uncertain for their hour, and say which rows were moved to a free millisecond."""
    doubtful = rows.readings.time_error_s > DOUBTFUL_S
    shifted = rows.readings.time_ms % 1000 != 0
    if not (doubtful.any() or shifted.any()):
        return rows
    reasons = doubtful * int(Reason.TIME_DOUBTFUL) + shifted * int(Reason.TIME_SHIFTED)
    derived = {
        name: Checked(
            np.where(doubtful, np.nan, checked.value),
            np.where(doubtful & checked.valid, int(Flag.FAIL), checked.flags),
            checked.reasons | reasons,
        )
        for name, checked in rows.derived.items()
    }
    usable = {name: mask & ~doubtful for name, mask in rows.usable.items()}
    return replace(rows, derived=derived, usable=usable)


def _checked(rows: Rows, name: str) -> Checked:
    channel = CHANNELS.get(name)
    if channel is None:  # a kind of which there is never a second: as if missing without a reason
        nothing = rows.column(name)
        return qc.check(nothing, low=0.0, high=0.0, used=nothing, rejected=nothing)
    used, rejected = (rows.column(counter) for counter in channel.counters)
    return qc.check(rows.column(name), low=channel.low, high=channel.high, used=used, rejected=rejected)
