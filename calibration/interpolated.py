"""Between two calibrations of a kit: what the first gives becomes what the second gives, linearly in time."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np

from calibration.applied import TIME, Alone, Calibration, Interval, passed_through
from calibration.qc import Checked, Floats

KIND: Final = "interpolation"
"""What the text of one calls itself."""

_STAMP: Final = "%Y%m%dT%H"


@dataclass(frozen=True, slots=True)
class Between:
    """Labels of the calibration before and the one after, and between which times the one becomes the other [s]."""

    before: str
    after: str
    from_s: int
    to_s: int

    @property
    def label(self) -> str:
        """Names both calibrations and both hours: whoever has it can find all that a value was made with."""
        start, end = (datetime.fromtimestamp(t, UTC).strftime(_STAMP) for t in (self.from_s, self.to_s))
        return f"{self.before}~{self.after}:{start}-{end}"

    def weight(self, time_s: Floats) -> Floats:
        """Share of the calibration after in the values at some times [s]: 0 before the span, 1 after it."""
        return np.clip((time_s - self.from_s) / (self.to_s - self.from_s), 0.0, 1.0)


def dumps(between: Between) -> str:
    """Write it as TOML."""
    return (
        f'kind = "{KIND}"\nbefore = "{between.before}"\nafter = "{between.after}"\n'
        f"from_s = {between.from_s}\nto_s = {between.to_s}\n"
    )


def loads(text: str) -> Between | None:
    """Read one; None where the text is of another kind."""
    if f'kind = "{KIND}"' not in text[:40]:  # a record of trees is long
        return None
    found = tomllib.loads(text)
    return Between(found["before"], found["after"], found["from_s"], found["to_s"])


@dataclass(frozen=True, slots=True)
class Interpolated(Alone):
    """Both calibrations, and from when to when the one becomes the other.

    Of calibrations that are linear in their coefficients this is the calibration whose coefficients are interpolated
    linearly in time.

    References
    ----------
    Mijling et al. 2018, doi:10.5194/amt-11-1297-2018: calibrated before and after, interpolated.
    """

    between: Between
    before: Calibration
    after: Calibration

    @property
    def label(self) -> str:
        """How a derived row names it."""
        return self.between.label

    @property
    def title(self) -> str:
        """What it is, in a line."""
        return f"{self.before.label} becoming {self.after.label}, linearly in time"

    @property
    def output(self) -> str:
        """Name of the quantity that both make."""
        return self.before.output

    @property
    def inputs(self) -> tuple[str, ...]:
        """Channels of both, and the time."""
        return (*dict.fromkeys((*self.before.inputs, *self.after.inputs)), TIME)

    @property
    def interval(self) -> Interval:
        """What is known of both."""
        return self.before.interval if self.before.interval == self.after.interval else Interval.NONE

    @property
    def unverified(self) -> tuple[str, ...]:
        """What of either is."""
        return tuple(dict.fromkeys((*self.before.unverified, *self.after.unverified)))

    def apply(self, inputs: Mapping[str, Checked]) -> Checked:
        """Calibrate rows: a row has a value where both give one."""
        weight = self.between.weight(inputs[TIME].value)
        first, second = (one.apply({name: inputs[name] for name in one.inputs}) for one in (self.before, self.after))
        value = _moved(first.value, second.value, weight)
        return passed_through({"before": first, "after": second}, value, None)

    def half_width(self, value: Floats, averaging_s: Floats | float, time_s: Floats) -> Floats | None:
        """Half width of the 90 % interval: where both have one it moves as the value."""
        first, second = (one.half_width(value, averaging_s, time_s) for one in (self.before, self.after))
        return None if first is None or second is None else _moved(first, second, self.between.weight(time_s))


def _moved(first: Floats, second: Floats, weight: Floats) -> Floats:
    found: Floats = first + weight * (second - first)
    return found
