"""What a changed record no longer has: InfluxDB merges fields, so such a point has to go before it is written; pure."""

from collections.abc import Mapping

import msgspec
import numpy as np

from gateway.records import AirHour, Floats, Ints


def lost_rows(old: AirHour, new: AirHour) -> Ints:
    """Return the times [ms] of calibrated rows that are gone, or have lost a value; all where the site has changed."""
    if old.site != new.site:
        return old.time_ms
    _, at_old, at_new = np.intersect1d(old.time_ms, new.time_ms, return_indices=True)
    lost = np.ones(len(old), bool)
    lost[at_old] = False
    for before, after in ((old.values, new.values), (old.lo, new.lo), (old.hi, new.hi)):
        for name, values in before.items():
            lost[at_old] |= ~np.isnan(values[at_old]) & np.isnan(_column(after, name, len(new))[at_new])
    return old.time_ms[lost]


def _column(columns: Mapping[str, Floats], name: str, length: int) -> Floats:
    return columns[name] if name in columns else np.full(length, np.nan)


def loses_fields(old: msgspec.Struct, new: msgspec.Struct) -> bool:
    """Tell whether a record has no longer a value for something that the old one had."""
    return bool(_names(msgspec.to_builtins(old)) - _names(msgspec.to_builtins(new)))


def _names(value: object, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {name for key, inner in value.items() for name in _names(inner, f"{path}/{key}")}
    return set() if value is None else {path}
