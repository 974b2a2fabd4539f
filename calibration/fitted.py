"""A fitted record as a calibration of one kit."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import numpy as np

from calibration.applied import Applicable, Interval, passed_through
from calibration.fitting.interval import half
from calibration.inputs import MEAN, Input
from calibration.model import Model, values_of_each
from calibration.qc import Checked, Floats, Ints
from calibration.record import Record


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted record for one kit: the rows beyond what it was trained on are kept and suspect.

    `widths` are floor and growth of each of the record's widths.
    """

    record: Record
    unit: str
    widths: tuple[tuple[float, float], ...] = field(init=False, repr=False)
    _channels: tuple[str, ...] = field(init=False, repr=False)
    _family: str = field(default="", init=False, repr=False, compare=False)
    _model: Model | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        asked = dict.fromkeys(name for one in self.record.inputs for name in _channels(one))
        object.__setattr__(self, "_channels", tuple(asked))
        object.__setattr__(self, "widths", tuple((one.floor, one.growth) for one in self.record.widths))

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

    @property
    def family(self) -> Hashable:
        """Fits of the same inputs, terms and averaging times; made once, as text, which compares fast."""
        if not self._family:
            structure = self.record.inputs, self.model.structure, [one.averaging_s for one in self.record.widths]
            object.__setattr__(self, "_family", repr(structure))
        return self._family

    @property
    def model(self) -> Model:
        """What the record computes for the unit; looked up once."""
        if self._model is None:
            object.__setattr__(self, "_model", self.record.model(self.unit))
        return cast("Model", self._model)

    def joined(self, members: Sequence["Fitted"], counts: Ints) -> Applicable:
        """Return what calibrates rows of which the first `counts[0]` are of the first member, and so on."""
        model = self.model
        return self if all(one.model is model for one in members) else JoinedFits(members, counts)

    def apply(self, inputs: Mapping[str, Checked]) -> Checked:
        """Calibrate rows that went through quality control."""
        return passed_through(inputs, *self.model.values(_rows(self.record, inputs)))

    def half_width(self, value: Floats, averaging_s: Floats | float, time_s: Floats) -> Floats | None:  # noqa: ARG002
        """Half width of the 90 % interval, of values that are means over a time for which the record has one."""
        return _half_width(self.record, lambda i: self.widths[i], value, averaging_s)


@dataclass(frozen=True, slots=True)
class JoinedFits:
    """Fits of one family, each of some consecutive rows: all are computed together, each row by its own numbers."""

    members: Sequence[Fitted]
    counts: Ints

    def apply(self, inputs: Mapping[str, Checked]) -> Checked:
        """Calibrate rows that went through quality control."""
        rows = _rows(self.members[0].record, inputs)
        return passed_through(inputs, *values_of_each([one.model for one in self.members], self.counts, rows))

    def half_width(self, value: Floats, averaging_s: Floats | float, time_s: Floats) -> Floats | None:  # noqa: ARG002
        """Half width of the 90 % interval, as of one fit."""
        return _half_width(self.members[0].record, self._width, value, averaging_s)

    def _width(self, i: int) -> Floats:
        return np.repeat(np.array([one.widths[i] for one in self.members]).T, self.counts, axis=1)


def _rows(record: Record, inputs: Mapping[str, Checked]) -> list[Floats]:
    """Return the inputs of a record [n] each, in its order."""
    return [
        inputs[i.name].value if i.how == MEAN else i.values({name: inputs[name].value for name in i.columns})
        for i in record.inputs
    ]


def _half_width(
    record: Record, width: Callable[[int], Iterable[Floats | float]], value: Floats, averaging_s: Floats | float
) -> Floats | None:
    """Half widths at values [n], by floor and growth of each width of a record: one, or one for each value."""
    times_s = [one.averaging_s for one in record.widths]
    if isinstance(averaging_s, float):
        here = [i for i, time_s in enumerate(times_s) if abs(averaging_s - time_s) <= _NEAR * time_s]
        return half(value, *width(here[-1])) if here else None
    found = None
    longest_s = averaging_s.max()  # most often rows are means over a shorter time than any width is for
    for i, time_s in enumerate(times_s):
        if longest_s >= (1 - _NEAR) * time_s:
            near = np.abs(averaging_s - time_s) <= _NEAR * time_s
            found = np.where(near, half(value, *width(i)), np.nan if found is None else found)
    return found


_NEAR: Final = 0.1
"""Means over times this much apart, as a share, count as of one averaging time: a row's interval is not exact."""


def _channels(one: Input) -> tuple[str, ...]:
    """Return what an input is made of: two sensors of a kind come joined, by the name of the input."""
    return (one.name,) if one.how == MEAN else one.columns


def of_kit(record: Record, kit: str) -> Fitted:
    """Return a record for a kit: of several units the one of its name, else the only one.

    Raises
    ------
    RecordError
        It has several units and none of the kit's name.
    """
    return Fitted(record, kit if kit in record.units else record.of_unit().name)
