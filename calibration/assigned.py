"""A calibration that an operator gives to a kit, from its text: a cell's label or a fitted record."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from calibration.applied import Calibration
from calibration.quantities import CHANNELS, DERIVED

LABEL_KIND: Final = "no2-cell"
"""What the label of a cell calls itself; a fitted record has a `schema`."""

MAX_BYTES: Final = 256 * 1024
"""A longer text is refused: the largest record of trees is a fraction of it."""


class CalibrationError(ValueError):
    """Raised when a text is no calibration that a kit can have; says why."""


@lru_cache(maxsize=32)
def loads(text: str, kit: str) -> Calibration:
    """Read a calibration for a kit: a cell's label (`kind = "no2-cell"`) or a fitted record.

    Those read last are kept: a page asks for them again each minute, and trees take some time to read.

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
    if len(text.encode()) > MAX_BYTES:
        raise CalibrationError(f"it has more than {MAX_BYTES // 1024} KiB, which no calibration has")
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CalibrationError(f"it is not TOML: {error}") from error
    try:
        one = _label(found) if found.get("kind") == LABEL_KIND else _fitted(text, kit)
    except ValueError as error:  # of either: each says what is wrong
        raise CalibrationError(str(error)) from error
    if unknown := [name for name in one.inputs if name not in CHANNELS]:
        raise CalibrationError(f"{one.label} takes {', '.join(unknown)}, which no kit sends")
    if one.output not in DERIVED:
        raise CalibrationError(f"{one.label} gives {one.output!r}; the gateway derives {', '.join(DERIVED)}")
    return one


def _label(found: Mapping[str, Any]) -> Calibration:
    from calibration.no2_label import from_record  # here: a gateway whose kits have none starts without it

    return from_record(found)


def _fitted(text: str, kit: str) -> Calibration:
    from calibration.fitted import from_text

    return from_text(text, kit)
