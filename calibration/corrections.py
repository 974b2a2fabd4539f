"""Fixed corrections from the literature: the registry (corrections.toml) and the equations it names, as published."""

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from calibration.flags import Flag, Reason
from calibration.qc import Checked, Floats
from calibration.quantities import CHANNELS, DERIVED, unit_registry

if TYPE_CHECKING:
    from pint import Quantity


class Input(StrEnum):
    """The output of a particle sensor that an equation is made for."""

    CF1 = "cf1"
    ATM = "atm"
    COUNTS = "counts"


class Interval(StrEnum):
    """What is known of the uncertainty of a corrected value."""

    NONE = "none"
    PUBLISHED = "published"
    FITTED = "fitted"


@dataclass(frozen=True, slots=True)
class Correction:
    """One published equation.

    `inputs` are the channels it takes, in canonical units; `averaging_s` is the averaging time it was developed on
    [s]; `valid_range` bounds its inputs; `unverified` says which of these facts were not read in the source.
    """

    id: str
    version: int
    title: str
    output: str
    input: Input
    inputs: tuple[str, ...]
    equation: str
    constants: Mapping[str, float]
    units: Mapping[str, str]
    averaging_s: int
    valid_range: Mapping[str, tuple[float, float]]
    interval: Interval
    source: str
    unverified: tuple[str, ...]

    @property
    def label(self) -> str:
        """How a derived row names it: `barkjohn2021@1`."""
        return f"{self.id}@{self.version}"


class UnknownCorrectionError(LookupError):
    """Raised when no correction has the name asked for."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.name = name
        self.nearest = next(iter(difflib.get_close_matches(name, known, n=1)), None)
        hint = f"did you mean {self.nearest!r}?" if self.nearest else f"known: {', '.join(known)}"
        super().__init__(f"no correction is called {name!r}; {hint}")


class WrongInputError(ValueError):
    """Raised when a correction is given another channel than the one it was made for."""

    def __init__(self, correction: Correction, given: tuple[str, ...]) -> None:
        self.correction = correction.id
        self.wanted = correction.inputs
        self.given = given
        super().__init__(
            f"{correction.id} is made for {', '.join(correction.inputs)} ({correction.input} output), "
            f"not for {', '.join(given) or 'nothing'}"
        )


class CorrectionTableError(ValueError):
    """Raised when an entry of the registry cannot be used; says which and why."""

    def __init__(self, entry: str, problem: str) -> None:
        self.entry = entry
        super().__init__(f"correction {entry!r}: {problem}")


def linear_rh(pm: Floats, rh: Floats, *, slope: float, per_rh: float, offset: float) -> Floats:
    """`slope * pm + per_rh * rh + offset`.

    Parameters
    ----------
    pm
        Particle mass concentration [µg/m³].
    rh
        Relative humidity inside the sensor's enclosure [%].
    slope, per_rh, offset
        Published constants [1], [µg/m³/%], [µg/m³].
    """
    return slope * pm + per_rh * rh + offset


EQUATIONS: Final[Mapping[str, tuple[Callable[..., Floats], frozenset[str]]]] = {
    "linear_rh": (linear_rh, frozenset({"slope", "per_rh", "offset"})),
}
"""Each equation by name, with the constants it needs; it takes the inputs in the order the registry lists them."""

ABSENT_REASON: Final[Mapping[str, Reason]] = {"rh": Reason.NO_HUMIDITY}
"""What a row without this input says, in place of the input's own reasons."""


def correct(name: str, inputs: "Mapping[str, Quantity[Any]]") -> "Quantity[Any]":
    """Apply a correction to quantities with units; converts them with pint first.

    Parameters
    ----------
    name
        Id of a correction, alone (its newest version) or as `id@version`.
    inputs
        Exactly the channels it takes, by name, any unit of the channel's dimension, any one shape.

    Returns
    -------
    Quantity
        The corrected value [canonical unit of the correction's output], not clamped.

    Raises
    ------
    UnknownCorrectionError
        No correction has this name.
    WrongInputError
        Other channels than it was made for.
    pint.DimensionalityError
        A unit that cannot be converted.

    Notes
    -----
    `barkjohn2021`: PM2.5 = 0.524 PA - 0.0862 RH + 5.75, PA the mean of the CF=1 outputs of both sensors, RH the
    humidity they report inside the enclosure; developed on 24 h means.

    References
    ----------
    Barkjohn, Gantt, Clements 2021, doi:10.5194/amt-14-4617-2021.
    """
    correction = find(name)
    bare = {channel: value.m_as(_unit_of(correction, channel)) for channel, value in inputs.items()}
    return unit_registry().Quantity(correct_nounit(correction, bare), DERIVED[correction.output].unit)


def _unit_of(correction: Correction, channel: str) -> str:
    if channel not in correction.inputs:
        raise WrongInputError(correction, (channel,))
    return CHANNELS[channel].unit


def correct_nounit(correction: Correction, inputs: Mapping[str, Floats]) -> Floats:
    """Bare twin of `correct`: float64 arrays in canonical units, NaN in gives NaN out.

    Raises
    ------
    WrongInputError
        Other channels than it was made for.
    """
    if set(inputs) != set(correction.inputs):
        raise WrongInputError(correction, tuple(inputs))
    equation, _ = EQUATIONS[correction.equation]
    return equation(*(inputs[channel] for channel in correction.inputs), **correction.constants)


def apply(correction: Correction, inputs: Mapping[str, Checked]) -> Checked:
    """Correct rows that went through quality control.

    A row has a value where all inputs are valid; its flag is the worst of theirs. Beyond the range the value is kept,
    suspect, `EXTRAPOLATED`. Without a valid humidity there is no value, `NO_HUMIDITY`.

    Parameters
    ----------
    correction
        Which one.
    inputs
        Exactly the channels it takes, [n] each [canonical units].

    Returns
    -------
    Checked
        [n] [canonical unit of the correction's output].

    Raises
    ------
    WrongInputError
        Other channels than it was made for.
    """
    raw = correct_nounit(correction, {channel: checked.value for channel, checked in inputs.items()})
    parts = [inputs[channel] for channel in correction.inputs]
    valid = np.logical_and.reduce([part.valid for part in parts])
    flags = np.where(valid, np.maximum.reduce([part.flags for part in parts]), int(Flag.MISSING))
    failed = np.logical_or.reduce([part.flags == Flag.FAIL for part in parts])
    flags = np.where(~valid & failed, int(Flag.FAIL), flags)
    reasons = np.bitwise_or.reduce([_reasons(channel, inputs[channel]) for channel in correction.inputs])
    beyond = valid & _beyond(correction, inputs)
    flags = np.where(beyond, np.maximum(flags, Flag.SUSPECT), flags)
    return Checked(np.where(valid, raw, np.nan), flags, reasons | beyond * int(Reason.EXTRAPOLATED))


def _reasons(channel: str, checked: Checked) -> np.ndarray:
    absent = ABSENT_REASON.get(channel)
    return checked.reasons if absent is None else np.where(checked.valid, checked.reasons, int(absent))


def _beyond(correction: Correction, inputs: Mapping[str, Checked]) -> np.ndarray:
    bounds = correction.valid_range.items()
    outside = [(inputs[c].value < low) | (inputs[c].value > high) for c, (low, high) in bounds]
    return np.logical_or.reduce(outside) if outside else np.zeros(1, bool)


def find(name: str, registry: Mapping[str, Correction] | None = None) -> Correction:
    """Return a correction by id (its newest version) or by `id@version`.

    Raises
    ------
    UnknownCorrectionError
        With the nearest known name.
    """
    known = CORRECTIONS if registry is None else registry
    if name not in known:
        raise UnknownCorrectionError(name, tuple(known))
    return known[name]


def load(text: str) -> dict[str, Correction]:
    """Read a registry, by id and by `id@version`.

    Raises
    ------
    CorrectionTableError
        An entry names an unknown channel, equation or constant, or is incomplete.
    """
    found = [_entry(entry) for entry in tomllib.loads(text)["correction"]]
    by_label = {correction.label: correction for correction in found}
    if len(by_label) != len(found):
        raise CorrectionTableError(found[-1].id, "the same id and version twice")
    newest = {c.id: c for c in sorted(found, key=lambda c: c.version)}
    return {**newest, **by_label}


def _entry(entry: dict[str, Any]) -> Correction:
    name = str(entry.get("id", "?"))
    try:
        bounds = {channel: (float(low), float(high)) for channel, (low, high) in entry.pop("range").items()}
        kind, interval = Input(entry.pop("input")), Interval(entry.pop("interval"))
        inputs, unverified = tuple(entry.pop("inputs")), tuple(entry.pop("unverified", ()))
        correction = Correction(
            input=kind, interval=interval, inputs=inputs, unverified=unverified, valid_range=bounds, **entry
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorrectionTableError(name, f"{type(error).__name__}: {error}") from error
    for problem in _problems(correction):
        raise CorrectionTableError(name, problem)
    return correction


def _problems(correction: Correction) -> list[str]:
    equation = EQUATIONS.get(correction.equation)
    made_for = {Input.CF1: "_cf1", Input.ATM: "_atm", Input.COUNTS: "n"}[correction.input]
    particles = [c for c in correction.inputs if c in CHANNELS and CHANNELS[c].sensor == "pm"]
    fits = [c.startswith("n") if correction.input is Input.COUNTS else c.endswith(made_for) for c in particles]
    return [
        *(f"unknown channel {c!r}" for c in correction.inputs if c not in CHANNELS),
        *(f"range of {c!r}, which is not an input" for c in correction.valid_range if c not in correction.inputs),
        *([] if correction.output in DERIVED else [f"unknown output {correction.output!r}"]),
        *([] if all(fits) else [f"inputs {particles} are not of the {correction.input} output"]),
        *([] if equation else [f"unknown equation {correction.equation!r}, known: {', '.join(EQUATIONS)}"]),
        *(
            []
            if not equation or equation[1] == set(correction.constants)
            else [f"constants must be {set(equation[1])}"]
        ),
        *([] if set(correction.units) == set(correction.constants) else ["each constant needs its unit"]),
    ]


CORRECTIONS: Final[Mapping[str, Correction]] = load(
    resources.files(__package__).joinpath("corrections.toml").read_text("utf-8")
)
"""Every correction, by id (its newest version) and by `id@version`."""
