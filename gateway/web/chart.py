"""The chart of hourly means as shapes for an SVG: what is there without JavaScript; pure."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from gateway.records import HOUR_S

WIDTH: Final = 720
HEIGHT: Final = 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 12, 30
_ROWS: Final = 4
_LEAST_TOP: Final = 10.0
"""The axis reaches at least this far, so that clean air does not look wild."""
_TICK_HOURS: Final = 6


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid: where it is and what it says."""

    at: float
    text: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Steps of hourly means as an SVG path, and the grid behind them, in a box of `WIDTH` by `HEIGHT`."""

    path: str
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


def steps_chart(values: Sequence[float | None], first_hour: int) -> Chart:
    """Lay out consecutive hours as steps; an hour without a value is a gap.

    Parameters
    ----------
    values
        Mean of each hour [any unit], `None` where it is not valid.
    first_hour
        Hours since 1970 of the first one.
    """
    present = [v for v in values if v is not None]
    least, most = min([*present, 0.0]), max([*present, _LEAST_TOP])
    step = _nice((most - least) / _ROWS)
    low, high = math.floor(least / step) * step, math.ceil(most / step) * step

    def x(hours: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * hours / max(len(values), 1), 1)

    def y(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low), 1)

    path = []
    for i, value in enumerate(values):
        if value is not None:
            joined = i > 0 and values[i - 1] is not None
            path.append(f"{'V' if joined else f'M{x(i)} '}{y(value)}H{x(i + 1)}")
    rows = tuple(Tick(y(low + i * step), f"{low + i * step:g}") for i in range(round((high - low) / step) + 1))
    return Chart("".join(path), rows, tuple(_columns(len(values), first_hour, x)))


def _columns(count: int, first_hour: int, x: Callable[[float], float]) -> Iterator[Tick]:
    for i in range(count + 1):
        at = datetime.fromtimestamp((first_hour + i) * HOUR_S, UTC)
        if at.hour % _TICK_HOURS == 0:
            midnight = at.hour == 0
            yield Tick(x(i), f"{at.day} {at:%b}" if midnight else f"{at:%H}:00", strong=midnight)


def _nice(raw: float) -> float:
    """Return the smallest of 1, 2, 2.5 or 5 times a power of ten that is not below `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * (1 - 1e-9))
