"""What a calibration takes: columns, means of two sensors, absolute humidity; and what names say of units."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from calibration.physics import absolute_humidity
from calibration.quantities import CHANNELS, DERIVED
from calibration.table import Floats, TableError

UNIT_SUFFIXES: Final[Mapping[str, str]] = {
    "ugm3": "ug/m**3", "ppb": "ppb", "ppm": "ppm", "pct": "percent", "c": "degC", "f": "degF", "na": "nA", "mv": "mV",
    "uv": "uV", "v": "V", "pa": "Pa", "hpa": "hPa", "gm3": "g/m**3",
}  # fmt: skip
"""Units, as pint reads them, by how the names of columns end."""

_CONDITION: Final = re.compile(r"(^|_)(rh|hum|humidity|temp|temperature|t|dewpoint|dew|pressure|hpa|ah)(_|$)")
MEAN: Final = "mean"
_FUNCTIONS: Final = {"absolute_humidity": ("g/m**3", 2)}
_SPEC: Final = re.compile(r"^(?:(?P<name>\w+)=)?(?P<of>[\w+]+|(?P<function>\w+)\((?P<args>[\w,\s]+)\))$")


@dataclass(frozen=True, slots=True)
class Input:
    """One input: its name (a raw channel's where the calibration is for kits), the columns it is made of, its unit.

    `how` is `mean`, of the columns that have a value in a row, or `absolute_humidity`, of a temperature [°C] and a
    relative humidity [%].
    """

    name: str
    columns: tuple[str, ...]
    unit: str = ""
    how: str = MEAN

    @property
    def is_condition(self) -> bool:
        """Whether it says the conditions (humidity, temperature, pressure) and is no signal of the sensor itself."""
        return self.how != MEAN or bool(_CONDITION.search(self.name.lower()))

    def values(self, columns: Mapping[str, Floats]) -> Floats:
        """Compute it from columns [n]; NaN where any it is made of is."""
        parts = [columns[name] for name in self.columns]
        if self.how == "absolute_humidity":
            return absolute_humidity(parts[0], parts[1])
        total: Floats = np.sum(parts, axis=0)
        return total / len(parts)


def unit_of(name: str) -> str:
    """Return the unit of a name, as pint reads it: of a channel or quantity, else by how it ends; "" unknown."""
    known = CHANNELS.get(name) or DERIVED.get(name)
    if known:
        return known.unit
    base = name.lower().removesuffix("_raw").removesuffix("_mean").removesuffix("_a").removesuffix("_b")
    if base.startswith(("pm1_", "pm25_", "pm10_")) and base.endswith(("_cf1", "_atm")):
        return "ug/m**3"
    if base.startswith("abs_hum"):
        return UNIT_SUFFIXES["gm3"]
    return UNIT_SUFFIXES.get(base.rsplit("_", 1)[-1], "")


def parse(specs: Iterable[str]) -> tuple[Input, ...]:
    """Read inputs as written on a command line.

    `rh_pct` is a column, `pm25_cf1=a+b` the mean of two by another name, `ah=absolute_humidity(temp_c,rh_pct)`
    computed. The columns of two sensors, `x_a` and `x_b`, become their mean `x`.

    Raises
    ------
    TableError
        One that cannot be read, or a name twice.
    """
    found = [_one(spec.strip()) for spec in specs if spec.strip()]
    inputs = tuple(_paired(found))
    names = [i.name for i in inputs]
    if len(set(names)) < len(names):
        raise TableError(f"input {next(n for n in names if names.count(n) > 1)!r} is there twice")
    if not inputs:
        raise TableError("no input is named")
    return inputs


def split_specs(text: str) -> list[str]:
    """Cut a list of inputs at its commas, but not at those within brackets."""
    return re.split(r",(?![^(]*\))", text)


def signals_first(inputs: Sequence[Input]) -> tuple[tuple[Input, ...], int]:
    """Return the inputs with the sensor's own signals first, and how many these are: at least one."""
    signals = [i for i in inputs if not i.is_condition] or list(inputs[:1])
    return (*signals, *(i for i in inputs if i not in signals)), len(signals)


def _one(spec: str) -> Input:
    match = _SPEC.match(spec)
    if match is None:
        raise TableError(
            f"input {spec!r} cannot be read; write COLUMN, NAME=COLUMN+COLUMN or NAME=absolute_humidity(T,RH)"
        )
    name, function = match["name"], match["function"]
    if function is None:
        columns = tuple(match["of"].split("+"))
        name = name or "_".join(columns)
        return Input(name, columns, unit_of(name) or unit_of(columns[0]))
    if function not in _FUNCTIONS:
        raise TableError(f"input {spec!r}: there is no function {function!r}; known: {', '.join(_FUNCTIONS)}")
    unit, wanted = _FUNCTIONS[function]
    columns = tuple(part.strip() for part in match["args"].split(","))
    if len(columns) != wanted:
        raise TableError(f"input {spec!r}: {function} takes {wanted} columns")
    return Input(name or function, columns, unit, function)


def _paired(inputs: Sequence[Input]) -> list[Input]:
    names = {i.name for i in inputs}
    found = []
    for given in inputs:
        base, end = given.name[:-2], given.name[-2:]
        if given.how == MEAN and {f"{base}_a", f"{base}_b"} <= names and end in {"_a", "_b"}:
            if end == "_a":
                found.append(Input(base, (f"{base}_a", f"{base}_b"), given.unit))
        else:
            found.append(given)
    return found
