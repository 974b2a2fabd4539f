"""A calibration that an operator gives to a kit, from its text: a cell's label or a fitted record."""

import tomllib
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final

from calibration.applied import Calibration
from calibration.quantities import CHANNELS, DERIVED

LABEL_KIND: Final = "no2-cell"
"""What the label of a cell calls itself; a fitted record has a `schema`."""

MAX_BYTES: Final = 256 * 1024
"""A longer text is refused: the largest record of trees is a fraction of it."""


class CalibrationError(ValueError):
    """Raised when a text is no calibration that a kit can have; says why."""


def loads(text: str, kit: str) -> Calibration:
    """Read a calibration for a kit: a cell's label (`kind = "no2-cell"`) or a fitted record.

    Parameters
    ----------
    text
        TOML.
    kit
        For which kit; of a record of several units the one of this name is taken.

    Raises
    ------
    CalibrationError
        It is neither, cannot be used, or does not take what kits send or give what the gateway derives.
    """
    try:
        one = _read(text)(kit)
    except ValueError as error:  # of either: each says what is wrong
        raise error if isinstance(error, CalibrationError) else CalibrationError(str(error)) from error
    if unknown := [name for name in one.inputs if name not in CHANNELS]:
        raise CalibrationError(f"{one.label} takes {', '.join(unknown)}, which no kit sends")
    if one.output not in DERIVED:
        raise CalibrationError(f"{one.label} gives {one.output!r}; the gateway derives {', '.join(DERIVED)}")
    return one


@lru_cache(maxsize=32)
def _read(text: str) -> Callable[[str], Calibration]:
    """Return what gives the calibration of a kit.

    Those read last are kept: kits may have one text in common, and a page asks for them again each minute; trees take
    some time to read and some memory.
    """
    if len(text.encode()) > MAX_BYTES:
        raise CalibrationError(f"it has more than {MAX_BYTES // 1024} KiB, which no calibration has")
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CalibrationError(f"it is not TOML: {error}") from error
    return _label(found) if found.get("kind") == LABEL_KIND else _fitted(text)


def _label(found: Mapping[str, Any]) -> Callable[[str], Calibration]:
    from calibration.no2_label import from_record  # here: a gateway whose kits have none starts without it

    cell = from_record(found)
    return lambda _: cell


def _fitted(text: str) -> Callable[[str], Calibration]:
    from calibration.fitted import of_kit
    from calibration.record import loads as read

    return partial(of_kit, read(text))
