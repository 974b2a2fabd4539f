"""A fitted record as a calibration of one kit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from calibration.applied import Interval, passed_through
from calibration.inputs import MEAN, Input
from calibration.qc import Checked, Floats
from calibration.record import Record, loads


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted record for one kit: the rows beyond what it was trained on are kept and suspect."""

    record: Record
    unit: str
    _channels: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        asked = dict.fromkeys(name for one in self.record.inputs for name in _channels(one))
        object.__setattr__(self, "_channels", tuple(asked))

    @property
    def label(self) -> str:
        """How a derived row names it; another fit has another id."""
        return self.record.id

    @property
    def title(self) -> str:
        """What it is, in a line."""
        name = f" of {self.unit}" if self.unit else ""
        return f"fitted beside a reference{name}, made {self.record.created:%Y-%m-%d}"

    @property
    def output(self) -> str:
        """Name of the quantity that it makes."""
        return self.record.output

    @property
    def inputs(self) -> tuple[str, ...]:
        """Channels it takes: those that inputs are computed from too, such as a humidity and a temperature."""
        return self._channels

    @property
    def interval(self) -> Interval:
        """Whether its rows carry one depends on the averaging times it has one for."""
        return Interval.FITTED if self.record.widths else Interval.NONE

    @property
    def unverified(self) -> tuple[str, ...]:
        """Why it was made against the advice of its checks, if it was."""
        return (f"forced: {self.record.forced}",) if self.record.forced else ()

    def apply(self, inputs: Mapping[str, Checked]) -> Checked:
        """Calibrate rows that went through quality control."""
        rows = [
            inputs[i.name].value if i.how == MEAN else i.values({name: inputs[name].value for name in i.columns})
            for i in self.record.inputs
        ]
        return passed_through(inputs, *self.record.values(rows, unit=self.unit))

    def half_width(self, value: Floats, averaging_s: Floats | float, time_s: Floats) -> Floats | None:  # noqa: ARG002
        """Half width of the 90 % interval, of values that are means over a time for which the record has one."""
        if isinstance(averaging_s, float):
            here = [w for w in self.record.widths if abs(averaging_s - w.averaging_s) <= _NEAR * w.averaging_s]
            return here[-1].half(value) if here else None
        found = None
        longest_s = averaging_s.max()  # most often rows are means over a shorter time than any width is for
        for width in self.record.widths:
            if longest_s >= (1 - _NEAR) * width.averaging_s:
                near = np.abs(averaging_s - width.averaging_s) <= _NEAR * width.averaging_s
                found = np.where(near, width.half(value), np.nan if found is None else found)
        return found


_NEAR: Final = 0.1
"""Means over times this much apart, as a share, count as of one averaging time: a row's interval is not exact."""


def _channels(one: Input) -> tuple[str, ...]:
    """Return what an input is made of: two sensors of a kind come joined, by the name of the input."""
    return (one.name,) if one.how == MEAN else one.columns


def from_text(text: str, kit: str) -> Fitted:
    """Read a record for a kit: of several units the one of its name, else the only one.

    Raises
    ------
    RecordError
        It cannot be used, or has several units and none of the kit's name.
    """
    record = loads(text)
    return Fitted(record, kit if kit in record.units else record.of_unit().name)
