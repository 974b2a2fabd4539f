"""Calibrated rows of an hour as bytes, and back; no I/O."""

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from gateway.records import HOUR_MS, AirHour, Ints


class _PackedAir(msgspec.Struct, array_like=True, frozen=True):
    """An AirHour as bytes, little-endian: values as float64, the other arrays as whole numbers of some width.

    Where `newest` is given times count from the hour's start and revisions back from the newest, and what is the same
    in all rows stands once.
    """

    site: str
    cal: str
    time_ms: bytes
    values: dict[str, bytes]
    lo: dict[str, bytes]
    hi: dict[str, bytes]
    qc: bytes
    reasons: bytes
    rev: bytes
    newest: int | None = None


_WIDE: Final = ("<i8", "<i8", "<i8", "<i8")
_NARROW: Final = ("<i4", "<u1", "<u4", "<u4")
"""Of times, qc, reasons and revisions; an hour is written again with each round of its rows."""

_encode_air: Final = msgspec.msgpack.Encoder().encode
_decode_air: Final = msgspec.msgpack.Decoder(_PackedAir).decode


def _floats(columns: dict[str, np.ndarray]) -> dict[str, bytes]:
    return {name: np.asarray(values, "<f8").tobytes() for name, values in columns.items()}


def pack_air(air: AirHour, rev: Ints) -> bytes:
    """Return an hour with the revision of each row [n] as bytes."""
    newest: int | None = int(rev.max(initial=0))
    arrays: Sequence[Ints] = (air.time_ms - air.hour * HOUR_MS, air.qc, air.reasons, rev.max(initial=0) - rev)
    widths = _NARROW
    if any(((a < np.iinfo(w).min) | (a > np.iinfo(w).max)).any() for a, w in zip(arrays, widths, strict=True)):
        newest, arrays, widths = None, (air.time_ms, air.qc, air.reasons, rev), _WIDE
    else:
        arrays = [arrays[0], *(a[:1] if (a == a[:1]).all() else a for a in arrays[1:])]
    times, qc, reasons, revisions = (a.astype(width).tobytes() for a, width in zip(arrays, widths, strict=True))
    columns = _floats(air.values), _floats(air.lo), _floats(air.hi)
    return _encode_air(_PackedAir(air.site, air.cal, times, *columns, qc, reasons, revisions, newest))


def unpack_air(kit: str, hour: int, blob: bytes) -> AirHour:
    """Return the stored record."""
    p = _decode_air(blob)
    columns = [{n: np.frombuffer(v, "<f8") for n, v in group.items()} for group in (p.values, p.lo, p.hi)]
    packed = zip((p.time_ms, p.qc, p.reasons, p.rev), _WIDE if p.newest is None else _NARROW, strict=True)
    times, qc, reasons, rev = (np.frombuffer(b, width).astype(np.int64) for b, width in packed)
    if p.newest is not None:
        times = times + hour * HOUR_MS
        qc, reasons, rev = (np.broadcast_to(a, times.shape) for a in (qc, reasons, p.newest - rev))
    return AirHour(
        kit=kit, site=p.site, hour=hour, time_ms=times, values=columns[0], lo=columns[1], hi=columns[2],
        qc=qc, reasons=reasons, cal=p.cal, rev=rev,
    )  # fmt: skip


def air_content(air: AirHour) -> list[bytes]:
    """Return each row's whole content as bytes, to tell changed rows from unchanged ones, NaN included."""
    names = [sorted(group) for group in (air.values, air.lo, air.hi)]
    label = repr((air.site, air.cal, names)).encode()
    columns = [group[n] for group, ns in zip((air.values, air.lo, air.hi), names, strict=True) for n in ns]
    matrix = np.column_stack([air.time_ms, air.qc, air.reasons, *(np.asarray(c, "<f8").view("<i8") for c in columns)])
    return [label + row.tobytes() for row in matrix]
