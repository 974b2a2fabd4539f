"""Fixed corrections from the literature, as published: the registry (corrections.toml) and how one is applied."""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from calibration.applied import Alone, Interval, outside, passed_through
from calibration.equations import EQUATIONS
from calibration.qc import Checked, Floats
from calibration.quantities import CHANNELS, DERIVED, FOREIGN, Channel, Derived, Foreign, unit_registry

if TYPE_CHECKING:
    from pint import Quantity


class Input(StrEnum):
    """The output of a particle sensor that an equation is made for."""

    CF1 = "cf1"
    ATM = "atm"
    COUNTS = "counts"
    SDS011 = "sds011"


@dataclass(frozen=True, slots=True)
class Correction(Alone):
    """One published equation.

    `inputs` are the channels it takes, in canonical units; `averaging_s` is the averaging time it was developed on
    [s]; `valid_range` bounds its inputs; `jumps` says where it is not continuous; `unverified` which of these facts
    were not read in the source, `notes` what else a user should know.
    """

    id: str
    version: int
    title: str
    output: str
    input: Input
    inputs: tuple[str, ...]
    equation: str
    constants: Mapping[str, Any]
    units: Mapping[str, str]
    averaging_s: int
    valid_range: Mapping[str, tuple[float, float]]
    interval: Interval
    source: str
    unverified: tuple[str, ...]
    jumps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How a derived row names it: `barkjohn2021@1`."""
        return f"{self.id}@{self.version}"

    @property
    def is_for_kits(self) -> bool:
        """Whether kits send all it takes and the gateway derives what it gives."""
        return set(self.inputs) <= CHANNELS.keys() and self.output in DERIVED

    def apply(self, inputs: Mapping[str, Checked]) -> Checked:
        """Correct rows that went through quality control; see `apply`."""
        return apply(self, inputs)

    def half_width(self, value: Floats, averaging_s: Floats | float, time_s: Floats) -> Floats | None:  # noqa: ARG002
        """None: no published correction has an interval in numbers."""
        return None


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
    `find(name)` tells equation, constants, averaging time, range, source, and what of it is unverified.

    `barkjohn2021`: PM2.5 = 0.524 PA - 0.0862 RH + 5.75, PA the mean of the CF=1 outputs of both sensors, RH the
    humidity they report inside the enclosure; developed on 24 h means.

    References
    ----------
    Barkjohn, Gantt, Clements 2021, doi:10.5194/amt-14-4617-2021; the others in docs/corrections.md.
    """
    correction = find(name)
    bare = {channel: value.m_as(_unit_of(correction, channel)) for channel, value in inputs.items()}
    return unit_registry().Quantity(correct_nounit(correction, bare), quantity(correction.output).unit)


def _unit_of(correction: Correction, channel: str) -> str:
    if channel not in correction.inputs:
        raise WrongInputError(correction, (channel,))
    return quantity(channel).unit


def quantity(name: str) -> Channel | Derived | Foreign:
    """Return what an input or output of a correction is."""
    return CHANNELS.get(name) or DERIVED.get(name) or FOREIGN[name]


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
    result: Floats = equation(*(inputs[channel] for channel in correction.inputs), **correction.constants)
    return result


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
    value = correct_nounit(correction, {channel: checked.value for channel, checked in inputs.items()})
    return passed_through(inputs, value, outside(inputs, correction.valid_range))


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


_LISTS: Final = ("inputs", "unverified", "jumps", "notes")


def _entry(entry: dict[str, Any]) -> Correction:
    name = str(entry.get("id", "?"))
    try:
        bounds = {channel: (float(low), float(high)) for channel, (low, high) in entry.pop("range").items()}
        kind, interval = Input(entry.pop("input")), Interval(entry.pop("interval"))
        lists: dict[str, Any] = {name: tuple(entry.pop(name, ())) for name in _LISTS}
        correction = Correction(input=kind, interval=interval, valid_range=bounds, **lists, **entry)
    except (KeyError, TypeError, ValueError) as error:
        raise CorrectionTableError(name, f"{type(error).__name__}: {error}") from error
    for problem in _problems(correction):
        raise CorrectionTableError(name, problem)
    return correction


def _problems(correction: Correction) -> Iterator[str]:
    equation = EQUATIONS.get(correction.equation)
    unknown = [c for c in correction.inputs if c not in CHANNELS and c not in FOREIGN]
    yield from (f"unknown channel {c!r}" for c in unknown)
    yield from (f"range of {c!r}, which is not an input" for c in correction.valid_range if c not in correction.inputs)
    if correction.output not in DERIVED and correction.output not in FOREIGN:
        yield f"unknown output {correction.output!r}"
    particles = [c for c in correction.inputs if c in FOREIGN or (c in CHANNELS and CHANNELS[c].sensor == "pm")]
    if not _fits(correction.input, particles):
        yield f"inputs {particles} are not of the {correction.input} output"
    if not equation:
        yield f"unknown equation {correction.equation!r}, known: {', '.join(EQUATIONS)}"
    elif equation[1] != set(correction.constants):
        yield f"constants must be {set(equation[1])}"
    if set(_with_unit(correction.constants)) != set(correction.units):
        yield "each constant needs its unit"


def _fits(kind: Input, particles: list[str]) -> bool:
    if kind is Input.COUNTS:  # with the mass that it takes over from, where it does
        return any(c.startswith("n") for c in particles)
    ending = {Input.CF1: "_cf1", Input.ATM: "_atm", Input.SDS011: "_sds"}[kind]
    return all(c.endswith(ending) for c in particles)


_BOUNDS: Final = frozenset({"use", "low", "high", "below", "up_to"})
"""What `pieces` says of its parts beside constants: which polynomials, and up to which concentration."""


def _with_unit(constants: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of all numbers among the constants."""
    for name, value in constants.items():
        if isinstance(value, list):
            for part in value:
                yield from (n for n in _with_unit(part) if n not in _BOUNDS)
        elif isinstance(value, dict):
            yield from _with_unit(value)
        else:
            yield name


CORRECTIONS: Final[Mapping[str, Correction]] = load(
    resources.files(__package__).joinpath("corrections.toml").read_text("utf-8")
)
"""Every correction, by id (its newest version) and by `id@version`."""
