"""What each quantity is: name, canonical unit, scale on the wire, plausible range (read from quantities.toml)."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pint import UnitRegistry


@dataclass(frozen=True, slots=True)
class Channel:
    """A raw channel as a sensor names it.

    A wire integer is the value in `unit` times `per_unit`; `low` and `high` bound, in `unit`, what the instrument can
    physically report. `sensor` is the kind of sensor it comes from.
    """

    name: str
    title: str
    unit: str
    text: str
    per_unit: int
    low: float
    high: float
    sensor: str

    @property
    def counters(self) -> tuple[str, str]:
        """Names of its own sensor's counters: samples used, samples rejected or missing."""
        second = SECOND if self.name.endswith(SECOND) else ""
        return f"{self.sensor}_n{second}", f"{self.sensor}_bad{second}"


@dataclass(frozen=True, slots=True)
class Derived:
    """A calibrated value; its name carries its unit."""

    name: str
    title: str
    unit: str
    text: str
    pollutant: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """A quantity of other people's records, which no kit sends and the gateway does not derive."""

    name: str
    title: str
    unit: str
    text: str


@dataclass(frozen=True, slots=True)
class Gas:
    """A gas and its molar mass [g/mol]."""

    name: str
    title: str
    molar_mass_g_mol: float


@dataclass(frozen=True, slots=True)
class Condition:
    """Temperature [°C] and pressure [Pa] at which a concentration is stated."""

    name: str
    title: str
    temp_c: float
    pressure_pa: float


SECOND: Final = "_b"
"""Suffix of the channels and counters of a second sensor of the same kind."""

ROW_COLUMNS: Final = ("seq", "up", "t", "q", "dt")
"""Columns that say which row it is and when: on the wire of every batch, integers without a unit but seconds."""


def _with_second(entry: dict[str, Any]) -> list[dict[str, Any]]:
    pair = entry.pop("second", False)
    twin = {**entry, "name": entry["name"] + SECOND, "title": entry["title"] + ", second sensor"}
    return [entry, twin] if pair else [entry]


def _channel(entry: dict[str, Any]) -> Channel:
    low, high = entry.pop("plausible")
    return Channel(low=float(low), high=float(high), **entry)


_TABLE: Final = tomllib.loads(resources.files(__package__).joinpath("quantities.toml").read_text("utf-8"))

CHANNELS: Final[Mapping[str, Channel]] = {
    c["name"]: _channel(c) for entry in _TABLE["channel"] for c in _with_second(entry)
}
"""Every raw channel by its name on the wire."""

COUNTERS: Final[Mapping[str, str]] = {c["name"]: c["title"] for entry in _TABLE["counter"] for c in _with_second(entry)}
"""Title of each sample counter by its name on the wire."""

DERIVED: Final[Mapping[str, Derived]] = {entry["name"]: Derived(**entry) for entry in _TABLE["derived"]}
"""Every calibrated quantity by name."""

FOREIGN: Final[Mapping[str, Foreign]] = {entry["name"]: Foreign(**entry) for entry in _TABLE["foreign"]}
"""Quantities that corrections know and the gateway does not, by name."""

GASES: Final[Mapping[str, Gas]] = {entry["name"]: Gas(**entry) for entry in _TABLE["gas"]}
"""Every gas whose units can be converted, by name."""

CONDITIONS: Final[Mapping[str, Condition]] = {entry["name"]: Condition(**entry) for entry in _TABLE["condition"]}
"""Every stated condition of a concentration, by name."""

WIRE_COLUMNS: Final[frozenset[str]] = frozenset((*ROW_COLUMNS, *CHANNELS, *COUNTERS))
"""Every column a version 1 batch may have."""


@cache
def unit_registry() -> "UnitRegistry[Any]":
    """Pint's units and `ppb`, the one registry whose quantities may be mixed; made at its first use."""
    import pint  # here: it costs a quarter of a second, which only the edges that read units pay

    registry: UnitRegistry[Any] = pint.UnitRegistry()
    registry.define("ppb = 1e-9")
    return registry


def unit_factor(unit: str, to: str) -> float:
    """Factor that takes a value in `unit` to `to`.

    Raises
    ------
    pint.UndefinedUnitError
        A unit pint does not know.
    pint.DimensionalityError
        One cannot be converted to the other.
    """
    registry = unit_registry()
    return float(registry.Quantity(1.0, unit).to(to).magnitude)
