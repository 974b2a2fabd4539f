"""Measurement science of low-cost air sensors: quantities, quality control, corrections, fitting, evaluation.

What a notebook uses is here by name (`calibration.fit`, `calibration.correct`, ...) and read when first used, so that
`import calibration` costs nothing; the modules hold the rest.
"""

from importlib import import_module
from typing import Any, Final

_PLACES: Final = {
    "absolute_humidity": "physics", "agreement": "evaluation.metrics", "apply": "notebook",
    "between_units": "evaluation.metrics",
    "correct": "corrections", "coverage": "evaluation.metrics", "dew_point": "physics", "dumps": "record",
    "evaluate": "notebook", "expanded_pct": "evaluation.uncertainty", "fit": "notebook", "kohler_growth": "physics",
    "loads": "record", "orthogonal": "evaluation.uncertainty", "to_mass": "physics", "to_mixing_ratio": "physics",
    "ugm3_per_ppb": "physics",
}  # fmt: skip
"""Module of each name."""

__all__ = sorted(_PLACES)  # noqa: PLE0605 - a list, made from the table above


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
