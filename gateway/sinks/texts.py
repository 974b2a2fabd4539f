"""Numbers as text, a column at a time: bytes [rows, width], zero where there is none, to be dropped in the end; pure.

Making an object of each number costs ten times as much. Digits come four at a time from a table; where there is
nothing, zero bytes stand, which no text holds, so that columns of different lengths stand side by side in one array.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.records import Floats, Ints

Texts = NDArray[np.uint8]

_json: Final = msgspec.json.Encoder().encode
"""Writes a float in a fifth of the time that `repr` takes, and the same digits: the fewest that tell it."""

_DIGITS: Final = 4
_GROUP: Final = 10**_DIGITS
_EXACT: Final = 10**15
"""Decimals of up to 15 digits are the shortest texts of their float64 (IEEE 754: DBL_DIG)."""

_PLAIN_FROM: Final = 1e-4
_PLAIN_TO: Final = 1e16
"""In between, Python and JSON write a float alike, without an exponent."""


def integers(values: Ints) -> list[Texts]:
    """Return the decimal texts of integers above -2**63, in parts that stand one after the other."""
    negative = values < 0
    if negative.any():
        return [_minus(negative), *_digits(np.abs(values))]
    return _digits(values)


def decimals(values: Ints, per_unit: int) -> list[Texts]:
    """Return the shortest texts of the float64 that are integers / per_unit (1, 10, 100 or 1000), in parts."""
    if max(int(values.max()), -int(values.min())) >= _EXACT:
        return [floats(values / float(per_unit))]
    negative = values < 0
    signed = bool(negative.any())
    size = np.abs(values) if signed else values
    whole = size // per_unit
    rest = _bytes(_fractions(per_unit)[size - whole * per_unit])[:, : max(2, len(str(per_unit)))]
    return [*([_minus(negative)] if signed else []), *_digits(whole), rest]


def floats(values: Floats) -> Texts:
    """Return the shortest texts that read back as the same finite float64, as `repr` writes them."""
    size = np.abs(values)
    if ((size < _PLAIN_TO) & ((size >= _PLAIN_FROM) | (size == 0))).all():
        texts = _json(values.tolist())[1:-1].split(b",")
    else:
        texts = [b"%a" % value for value in values.tolist()]
    return array_of(texts)


def float_text(value: float) -> str:
    """Return the text of one finite float64, as `floats` does."""
    return _json(value).decode() if _PLAIN_FROM <= abs(value) < _PLAIN_TO else repr(value)


def array_of(texts: Sequence[bytes]) -> Texts:
    """Return texts that have been made already."""
    return np.array(texts, dtype=bytes).view(np.uint8).reshape(len(texts), -1)


def scaled(values: Floats, per_unit: int) -> Ints | None:
    """Return the integers that give the values when they are divided by `per_unit`, None where there are none."""
    if np.abs(values).max() >= _EXACT:
        return None
    rounded = np.rint(values * per_unit)
    exact = np.abs(rounded).max() < _EXACT and (rounded / per_unit == values).all()
    return rounded.astype(np.int64) if exact and not np.signbit(values[rounded == 0]).any() else None


def beside(parts: Sequence[bytes | Texts], rows: int) -> NDArray[Any]:
    """Return the parts of each row side by side, one that is the same in all rows given once; an item is a row."""
    joined: list[bytes | Texts] = []
    for part in parts:
        if isinstance(part, bytes) and joined and isinstance(before := joined[-1], bytes):
            joined[-1] = before + part
        else:
            joined.append(part)
    widths = [len(part) if isinstance(part, bytes) else part.shape[1] for part in joined]
    kinds = np.dtype([(f"f{i}", f"V{width}") for i, width in enumerate(widths)])
    pattern = b"".join(part if isinstance(part, bytes) else bytes(part.shape[1]) for part in joined)
    made = np.repeat(np.frombuffer(pattern, kinds), rows)
    for i, part in enumerate(joined):
        if not isinstance(part, bytes):
            made[f"f{i}"] = part.view(f"V{widths[i]}")[:, 0]
    return made


def text_of(made: NDArray[Any]) -> bytes:
    """Return the rows one after the other, without what stands for nothing."""
    return made.tobytes().replace(b"\0", b"")


def _digits(values: Ints) -> list[Texts]:
    """Return the texts of integers from 0 on, without what is empty in all of them."""
    highest = len(str(int(values.max())))
    groups: list[Texts] = []
    rest, width = values, highest
    while width > _DIGITS:
        left = rest // _GROUP
        at = rest - left * _GROUP
        at[left > 0] += _GROUP
        if not groups:
            at[values == 0] = 2 * _GROUP
        groups.append(_bytes(_four()[at]))
        rest, width = left, width - _DIGITS
    groups.append(_bytes((_four() if groups else _last())[rest])[:, _DIGITS - width :])
    return groups[::-1]


@cache
def _four() -> NDArray[np.uint32]:
    """Return four digits as four bytes: 0 to 9999 without leading zeros (and 0 as nothing), with them, and `0`."""
    number = np.arange(_GROUP)
    digits = np.stack([number // 1000, number // 100 % 10, number // 10 % 10, number % 10], axis=1) + ord("0")
    short = np.where(number[:, None] >= np.array([1000, 100, 10, 1]), digits, 0)
    zero = np.array([[0, 0, 0, ord("0")]])
    return np.concatenate([short, digits, zero]).astype(np.uint8).view(np.uint32).ravel()


@cache
def _last() -> NDArray[np.uint32]:
    """Return 0 to 9999 without leading zeros, and 0 as `0`."""
    return np.concatenate([_four()[-1:], _four()[1:_GROUP]])


@cache
def _fractions(per_unit: int) -> NDArray[np.uint32]:
    """Return `.0`, `.1` … of 0, 1 … / per_unit in four bytes."""
    texts = [repr(i / per_unit)[1:].encode().ljust(4, b"\0") for i in range(per_unit)]
    return np.frombuffer(b"".join(texts), np.uint32)


def _minus(negative: NDArray[np.bool_]) -> Texts:
    return np.where(negative, ord("-"), 0).astype(np.uint8)[:, None]


def _bytes(items: NDArray[np.uint32]) -> Texts:
    return items.view(np.uint8).reshape(len(items), _DIGITS)
