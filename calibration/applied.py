"""What a calibration is to whoever applies it, and how quality flags pass through an equation."""

from collections.abc import Hashable, Mapping, Sequence
from enum import StrEnum
from typing import Final, Protocol, Self

import numpy as np

from calibration.flags import Flag, Reason
from calibration.qc import Bools, Checked, Floats, Ints

TIME: Final = "time_s"
"""Input of what changes with time: the middle of each row's interval [s since 1970], beside the channels."""


class Interval(StrEnum):
    """What is known of the uncertainty of a calibrated value."""

    NONE = "none"
    PUBLISHED = "published"
    FITTED = "fitted"


class Applicable(Protocol):
    """What computes a quantity and its interval, of rows that may each be of another calibration of a family."""

    def apply(self, inputs: Mapping[str, Checked]) -> Checked:
        """Calibrate rows that went through quality control; exactly its inputs, [n] each [canonical units]."""

    def half_width(self, value: Floats, averaging_s: Floats | float, time_s: Floats) -> Floats | None:
        """Half width of the 90 % interval of values [n] [the output's unit]; NaN where none is known, None: nowhere.

        `averaging_s` is what each is a mean over [s], `time_s` the middle of that time [n] [s since 1970].
        """


class Calibration(Applicable, Protocol):
    """Anything that makes one quantity from raw channels: a fixed correction, a cell's label, a fitted record."""

    @property
    def label(self) -> str:
        """How a derived row names it, its version included."""

    @property
    def title(self) -> str:
        """What it is, in a line."""

    @property
    def output(self) -> str:
        """Name of the quantity that it makes."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Channels it takes, the main one first; of two sensors of a kind it is given one joined channel."""

    @property
    def interval(self) -> Interval:
        """What is known of the uncertainty of its values."""

    @property
    def unverified(self) -> tuple[str, ...]:
        """What was not read in its source; shown wherever it is."""

    @property
    def family(self) -> Hashable:
        """Calibrations of equal families take the same inputs, differ in numbers alone and can be `joined`."""

    def joined(self, members: Sequence[Self], counts: Ints) -> Applicable:
        """Return what calibrates rows of which the first `counts[0]` are of the first of its family, and so on."""


class Alone:
    """A calibration that is joined with no other."""

    __slots__ = ()

    @property
    def family(self) -> Hashable:
        """Nothing but itself."""
        return id(self)

    def joined(self, members: Sequence[Self], counts: Ints) -> Self:  # noqa: ARG002
        """Return itself, of which all members are."""
        return self


ABSENT_REASON: Final[Mapping[str, Reason]] = {
    "rh": Reason.NO_HUMIDITY,
    "rh_amb": Reason.NO_HUMIDITY,
    "temp": Reason.NO_TEMPERATURE,
    "temp_amb": Reason.NO_TEMPERATURE,
    "temp_gas": Reason.NO_TEMPERATURE,
}
"""What a row without this input says, in place of the input's own reasons."""


def passed_through(inputs: Mapping[str, Checked], value: Floats, beyond: Bools | None) -> Checked:
    """Give a computed value the flags and reasons of what it was computed from.

    A row has a value where all inputs have one; its flag is the worst of theirs. Without one it failed if an input
    failed, else it is missing. Where `beyond` the value is kept, suspect, `EXTRAPOLATED`; where an equation gives no
    value for valid inputs the row fails so.

    Parameters
    ----------
    inputs
        What went in, [n] each.
    value
        What came out [n], NaN wherever an input is.
    beyond
        Where an input lies beyond what the equation was made for [n]; None: nowhere.
    """
    parts = list(inputs.values())
    absent = np.isnan(value)
    some_absent = np.count_nonzero(absent) > 0  # a fifth of the time of any(), at each hour of each kit
    found = [_reasons(*one) for one in inputs.items()] if some_absent else [part.reasons for part in parts]
    flags, reasons = parts[0].flags, found[0]
    for part, why in zip(parts[1:], found[1:], strict=True):
        flags, reasons = np.maximum(flags, part.flags), reasons | why
    if beyond is not None and np.count_nonzero(beyond):
        flags = np.maximum(flags, beyond * int(Flag.SUSPECT))
        reasons = reasons | beyond * int(Reason.EXTRAPOLATED)
    if some_absent:
        flags, reasons = _absent(parts, absent, flags, reasons)
    return Checked(value, flags, reasons)


def _absent(parts: list[Checked], absent: Bools, flags: Ints, reasons: Ints) -> tuple[Ints, Ints]:
    missing = np.logical_or.reduce([np.isnan(part.value) for part in parts])
    failed = np.logical_or.reduce([part.flags == Flag.FAIL for part in parts]) | ~missing
    flags = np.where(absent, np.where(failed, int(Flag.FAIL), int(Flag.MISSING)), flags)
    return flags, np.where(absent & ~missing, reasons | int(Reason.EXTRAPOLATED), reasons)


def _reasons(name: str, checked: Checked) -> Ints:
    instead = ABSENT_REASON.get(name)
    if instead is None:
        return checked.reasons
    absent = np.isnan(checked.value)
    return np.where(absent, int(instead), checked.reasons) if absent.any() else checked.reasons


def outside(inputs: Mapping[str, Checked], bounds: Mapping[str, tuple[float, float]]) -> Bools | None:
    """Whether any input lies beyond its bounds, both included [n]; None where none does."""
    found = None
    for name, (low, high) in bounds.items():
        value = inputs[name].value
        beyond = (value < low) | (value > high)
        if beyond.any():
            found = beyond if found is None else found | beyond
    return found
