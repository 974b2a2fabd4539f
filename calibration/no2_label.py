"""The label of an Alphasense NO2 cell on its ISB board, as a calibration record: TOML in, NO2 out."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from calibration.applied import Alone, Interval, outside, passed_through
from calibration.no2 import CELLS, PLAUSIBLE, REVISION, Cell, Zeros, mixing_ratio, sensitivity_of_current
from calibration.qc import Checked, Floats

UV_PER_MV: Final = 1000.0
_TEMPERATURES: Final = ("temp_gas", "temp_amb", "temp")

EXAMPLE: Final = """\
kind = "no2-cell"
id = "no2-202751234"                  # a name for this record: the cell's serial number is a good one
version = 1
cell = "NO2-B43F"                     # as printed on the cell; NO2-A43F is another
algorithm = 1                         # of AAN 803; 1 is the first choice for both
we_electronic_zero_mv = 224.0         # of the ISB board, without a cell
ae_electronic_zero_mv = 231.0
we_sensor_zero_mv = -21.0             # of the cell in clean air; or give we_total_zero_mv = 203.0
ae_sensor_zero_mv = -12.0
sensitivity_mv_ppb = 0.259            # or sensitivity_na_ppm = -355.0 and gain_mv_na = -0.73
temperature = "temp_gas"              # the channel that tells the cell's temperature: temp_gas, temp_amb or temp
"""
"""A whole record, for messages and documents; the zeros and the sensitivity are medians of 85 real boards."""

_NUMBERS: Final = (
    "we_electronic_zero_mv", "ae_electronic_zero_mv", "we_sensor_zero_mv", "ae_sensor_zero_mv", "we_total_zero_mv",
    "ae_total_zero_mv", "sensitivity_mv_ppb", "sensitivity_na_ppm", "gain_mv_na",
)  # fmt: skip
_KNOWN: Final = ("kind", "id", "version", "cell", "algorithm", *_NUMBERS, "temperature", "serial", "board", "notes")
_AGREE_MV: Final = 1.0
_AGREE_SHARE: Final = 0.03


class LabelError(ValueError):
    """Raised when a record is no label that can be used; says which key and what would be right."""


@dataclass(frozen=True, slots=True)
class CellLabel(Alone):
    """A cell with its board: makes `no2_ppb` from `no2_we`, `no2_ae` [µV] and a temperature [°C]; not clamped."""

    id: str
    version: int
    cell: Cell
    algorithm: int
    zeros: Zeros
    sensitivity_mv_ppb: float
    temperature: str

    @property
    def label(self) -> str:
        """How a derived row names it: `no2-202751234@1`."""
        return f"{self.id}@{self.version}"

    @property
    def title(self) -> str:
        """What it is, in a line."""
        return f"{self.cell.name}, algorithm {self.algorithm} of {REVISION}, from its label"

    @property
    def output(self) -> str:
        """Name of the quantity that it makes."""
        return "no2_ppb"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Channels it takes."""
        return ("no2_we", "no2_ae", self.temperature)

    @property
    def interval(self) -> Interval:
        """Nothing is known: a label is a first step, a field calibration gives an interval."""
        return Interval.NONE

    @property
    def unverified(self) -> tuple[str, ...]:
        """What of its tables was not seen in two independent sources."""
        if self.cell.is_verified(self.algorithm):
            return ()
        return (f"temperature factors of algorithm {self.algorithm} for {self.cell.name}: from one source alone",)

    def apply(self, inputs: Mapping[str, Checked]) -> Checked:
        """NO2 of rows that went through quality control; beyond the cell's temperatures it is suspect."""
        we, ae, temp = (inputs[name].value for name in self.inputs)
        value = mixing_ratio(
            we / UV_PER_MV, ae / UV_PER_MV, temp, cell=self.cell, algorithm=self.algorithm, zeros=self.zeros,
            sensitivity_mv_ppb=self.sensitivity_mv_ppb,
        )  # fmt: skip
        return passed_through(inputs, value, outside(inputs, {self.temperature: self.cell.temp_range_c}))

    def half_width(self, value: Floats, averaging_s: Floats | float, time_s: Floats) -> Floats | None:  # noqa: ARG002
        """None: nothing is known."""
        return None


def from_record(found: Mapping[str, Any]) -> CellLabel:
    """Read a label.

    Raises
    ------
    LabelError
        A key is unknown, missing, of the wrong type, or says what no label can: most often another unit.
    """
    for key in found:
        if key not in _KNOWN:
            near = difflib.get_close_matches(key, _KNOWN, n=1)
            raise LabelError(f"{key!r} is not known" + (f"; did you mean {near[0]!r}?" if near else ""))
    name, version = found.get("id"), found.get("version", 1)
    if not isinstance(name, str) or not name or not set(name) <= _NAME_LETTERS or len(name) > 64:
        raise LabelError(f"id {name!r}: a name of 1 to 64 letters, digits, '-', '_' or '.'")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise LabelError(f"version {version!r}: a whole number from 1 on")
    cell = CELLS.get(str(found.get("cell")))
    if cell is None or cell.gas != "no2":
        raise LabelError(
            f"cell {found.get('cell')!r}: NO2-B43F or NO2-A43F, as printed on it; their tables differ much"
        )
    algorithm = found.get("algorithm", cell.algorithms[0])
    if algorithm not in (1, 2, 3, 4) or isinstance(algorithm, bool):
        raise LabelError(f"algorithm {algorithm!r}: 1, 2, 3 or 4 of AAN 803; 1 is the first choice")
    temperature = found.get("temperature", "temp_gas")
    if temperature not in _TEMPERATURES:
        raise LabelError(f"temperature {temperature!r}: one of {', '.join(_TEMPERATURES)}")
    numbers = {key: _number(key, found[key]) for key in _NUMBERS if key in found}
    zeros = _zeros(numbers, algorithm)
    return CellLabel(name, version, cell, algorithm, zeros, _sensitivity(numbers, cell), temperature)


_NAME_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        raise LabelError(f"{key} = {value!r}: a number, in the unit that the key names")
    return float(value)


def _plausible(key: str, value: float, bounds: str) -> float:
    low, high = PLAUSIBLE[bounds]
    if not low <= value <= high:
        raise LabelError(
            f"{key} = {value:g}: no label says that ({low:g} to {high:g}); is it in another unit or of another sign?"
        )
    return value


def _zeros(numbers: Mapping[str, float], algorithm: int) -> Zeros:
    zeros = {}
    for electrode in ("we", "ae"):
        key = f"{electrode}_electronic_zero_mv"
        if key not in numbers:
            raise LabelError(f"{key} is missing: the zero of the ISB board, on its label")
        electronic = _plausible(key, numbers[key], "electronic_zero_mv")
        total, sensor = numbers.get(f"{electrode}_total_zero_mv"), numbers.get(f"{electrode}_sensor_zero_mv")
        if total is not None and sensor is not None and abs(total - electronic - sensor) > _AGREE_MV:
            raise LabelError(
                f"{electrode}_total_zero_mv {total:g} is not the sum of {key} {electronic:g} and "
                f"{electrode}_sensor_zero_mv {sensor:g}; give one of total and sensor zero"
            )
        if sensor is None and total is not None:
            sensor = total - electronic
        if sensor is None and algorithm != 1:
            raise LabelError(f"{electrode}_sensor_zero_mv is missing: algorithm {algorithm} needs it")
        zeros[f"{electrode}_electronic_mv"] = electronic
        zeros[f"{electrode}_sensor_mv"] = _plausible(f"{electrode}_sensor_zero_mv", sensor or 0.0, "sensor_zero_mv")
    if algorithm == 2 and zeros["ae_sensor_mv"] == 0:
        raise LabelError("ae_sensor_zero_mv is 0, by which algorithm 2 divides: take algorithm 1 or 3")
    return Zeros(**zeros)


def _sensitivity(numbers: Mapping[str, float], cell: Cell) -> float:
    direct, current = numbers.get("sensitivity_mv_ppb"), numbers.get("sensitivity_na_ppm")
    gain = _plausible("gain_mv_na", numbers.get("gain_mv_na", cell.gain_mv_na), "gain_mv_na")
    if current is not None:
        computed = sensitivity_of_current(current, gain)
        if direct is not None and abs(direct - computed) > _AGREE_SHARE * abs(direct):
            raise LabelError(
                f"sensitivity_mv_ppb {direct:g} and sensitivity_na_ppm {current:g} at {gain:g} mV/nA "
                f"({computed:.4g} mV/ppb) do not agree; give one of them, or the board's gain_mv_na"
            )
        direct = computed if direct is None else direct
    if direct is None:
        raise LabelError("sensitivity_mv_ppb is missing, or sensitivity_na_ppm with the board's gain_mv_na")
    return _plausible("sensitivity_mv_ppb", direct, "sensitivity_mv_ppb")
