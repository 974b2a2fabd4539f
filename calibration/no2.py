"""Alphasense four-electrode cells after AAN 803: algorithms and their tables (no2_cells.toml), ozone from OX.

Voltages are those of Alphasense's ISB board. Terms: WEu, AEu measured; WEe, AEe its electronic zeros, without
a cell; WEo, AEo the cell's zeros in clean air. Alphasense calls the result a first step: it wants a field calibration.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from calibration.qc import Floats
from calibration.quantities import unit_registry

if TYPE_CHECKING:
    from pint import Quantity


@dataclass(frozen=True, slots=True)
class Cell:
    """A kind of cell: factors at the knots, the board's usual gain, and the temperatures it is for."""

    name: str
    gas: str
    gain_mv_na: float
    algorithms: tuple[int, ...]
    temp_range_c: tuple[float, float]
    nt: tuple[float, ...]
    kt: tuple[float, ...]
    k1t: tuple[float, ...]
    k2t: tuple[float, ...]
    unverified: tuple[str, ...]

    def factors(self, algorithm: int) -> tuple[float, ...]:
        """Return the factors of an algorithm at the knots: [1], of algorithm 4 [mV]."""
        tables: tuple[tuple[float, ...], ...] = (self.nt, self.kt, self.k1t, self.k2t)
        return tables[algorithm - 1]

    def is_verified(self, algorithm: int) -> bool:
        """Whether the factors of an algorithm were seen in two independent sources."""
        return TABLES[algorithm - 1] not in self.unverified


_DATA: Final = tomllib.loads(resources.files(__package__).joinpath("no2_cells.toml").read_text("utf-8"))

TABLES: Final = ("nt", "kt", "k1t", "k2t")
"""Names of the tables of algorithms 1 to 4."""
KNOTS_C: Final[Floats] = np.array(_DATA["knots_c"])
"""Temperatures of the tables' knots [°C]."""
REVISION: Final[str] = _DATA["revision"]
PLAUSIBLE: Final[Mapping[str, tuple[float, float]]] = {
    name: (low, high) for name, (low, high) in _DATA["plausible"].items()
}
"""What a label can say, lowest and highest."""


def _cell(entry: Mapping[str, Any]) -> Cell:
    values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in entry.items()}
    return Cell(**values)


CELLS: Final[Mapping[str, Cell]] = {entry["name"]: _cell(entry) for entry in _DATA["cell"]}
"""Every kind of cell by name."""


def factor(cell: Cell, algorithm: int, temp: Floats) -> Floats:
    """Temperature factor of an algorithm: linear between the knots, that of the last knot beyond.

    Parameters
    ----------
    cell
        Which kind.
    algorithm
        1 (nT), 2 (kT), 3 (k'T) or 4 (k''T).
    temp
        Temperature of the cell [°C]; beyond -30 to 50 the factor of the nearest knot holds.

    Returns
    -------
    Floats
        The factor [1], of algorithm 4 [mV].
    """
    found: Floats = np.interp(temp, KNOTS_C, cell.factors(algorithm))
    return np.where(np.isnan(temp), np.nan, found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Zeros:
    """Zeros of a board and its cell, from the label [mV]: electronic (WEe, AEe) and of the cell (WEo, AEo)."""

    we_electronic_mv: float
    ae_electronic_mv: float
    we_sensor_mv: float = 0.0
    ae_sensor_mv: float = 0.0


def corrected_mv(we: Floats, ae: Floats, temp: Floats, *, cell: Cell, algorithm: int, zeros: Zeros) -> Floats:
    """Signal of the gas, WEc [mV].

    Parameters
    ----------
    we, ae
        Working and auxiliary electrode as measured [mV].
    temp
        Temperature of the cell [°C].
    cell
        Which kind; its tables give the temperature factor.
    algorithm
        1: `(WEu-WEe) - nT (AEu-AEe)`. 2: `(WEu-WEe) - kT (WEo/AEo) (AEu-AEe)`.
        3: `(WEu-WEe) - (WEo-AEo) - k'T (AEu-AEe)`. 4: `(WEu-WEe) - WEo - k''T`.
    zeros
        From the label [mV]; algorithm 2 needs an AEo that is not 0.

    Raises
    ------
    ValueError
        Another algorithm, or algorithm 2 with AEo = 0.

    References
    ----------
    Alphasense Application Note AAN 803, "Correcting for background currents in four electrode toxic gas sensors".
    """
    w, a = we - zeros.we_electronic_mv, ae - zeros.ae_electronic_mv
    by_temp = factor(cell, algorithm, temp) if algorithm in range(1, len(TABLES) + 1) else temp
    match algorithm:
        case 1:
            return w - by_temp * a
        case 2:
            if zeros.ae_sensor_mv == 0:
                raise ValueError("algorithm 2 divides by the auxiliary electrode's sensor zero, which is 0 here")
            return w - by_temp * (zeros.we_sensor_mv / zeros.ae_sensor_mv) * a
        case 3:
            return w - (zeros.we_sensor_mv - zeros.ae_sensor_mv) - by_temp * a
        case 4:
            return w - zeros.we_sensor_mv - by_temp
    raise ValueError(f"AAN 803 has algorithms 1 to 4, not {algorithm}")


def mixing_ratio(
    we: Floats, ae: Floats, temp: Floats, *, cell: Cell, algorithm: int, zeros: Zeros, sensitivity_mv_ppb: float
) -> Floats:
    """Mixing ratio of the cell's gas [ppb]: WEc over the sensitivity; not clamped, noise goes below zero.

    Parameters
    ----------
    we, ae, temp, cell, algorithm, zeros
        As in `corrected_mv`.
    sensitivity_mv_ppb
        From the label [mV/ppb]; see `sensitivity_of_current`.

    Notes
    -----
    For cells of -20 to 40 °C and 15 to 100 % RH. An NO2-B43F reads ozone once its filter is used up.
    """
    found: Floats = corrected_mv(we, ae, temp, cell=cell, algorithm=algorithm, zeros=zeros) / sensitivity_mv_ppb
    return found


def mixing_ratio_of(
    we: "Quantity[Any]", ae: "Quantity[Any]", temp: "Quantity[Any]", *, cell: str, algorithm: int, zeros: Zeros,
    sensitivity: "Quantity[Any]",
) -> "Quantity[Any]":  # fmt: skip
    """Twin of `mixing_ratio` with units: voltages, a temperature, a sensitivity such as mV/ppb.

    Raises
    ------
    KeyError
        An unknown kind of cell.
    pint.DimensionalityError
        A unit that cannot be converted.
    """
    bare = mixing_ratio(
        we.m_as("mV"), ae.m_as("mV"), temp.m_as("degC"), cell=CELLS[cell], algorithm=algorithm, zeros=zeros,
        sensitivity_mv_ppb=sensitivity.m_as("mV/ppb"),
    )  # fmt: skip
    return unit_registry().Quantity(bare, "ppb")


def sensitivity_of_current(sensitivity_na_ppm: float, gain_mv_na: float) -> float:
    """Sensitivity of a board [mV/ppb] from that of the cell [nA/ppm] and the board's gain [mV/nA].

    Both are negative for the reducing cells (NO2, OX: about -400 nA/ppm and -0.73 mV/nA), so that the voltage rises
    with the gas.
    """
    return sensitivity_na_ppm * gain_mv_na / 1000.0


def ozone(
    ox_mv: Floats, no2: Floats, *, no2_sensitivity_mv_ppb: float, o3_sensitivity_mv_ppb: float
) -> Floats:  # fmt: skip
    """Ozone from an OX cell, which reads both gases [ppb]: `(WEc_OX - NO2 S_NO2) / S_O3`.

    Parameters
    ----------
    ox_mv
        Signal of the OX cell, `corrected_mv` [mV].
    no2
        From the NO2 cell beside it [ppb].
    no2_sensitivity_mv_ppb, o3_sensitivity_mv_ppb
        Of the OX cell to each gas, from its label [mV/ppb].
    """
    found: Floats = (ox_mv - no2 * no2_sensitivity_mv_ppb) / o3_sensitivity_mv_ppb
    return found
