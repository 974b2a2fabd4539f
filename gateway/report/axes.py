"""Axes of a picture and marks on them, as numbers for an SVG; pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np

from calibration.table import Floats

_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 12.0, 12.0, 42.0
_TICKS: Final = 5
_DAY_S: Final = 86_400
_STEPS_D: Final = (1, 2, 5, 7, 14, 30, 61, 91, 182, 365)


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the grid: where it is, and what it says."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something drawn: a path, and how it looks (a class of the page's style); `text` is its line in the legend."""

    path: str
    look: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """Words within a picture."""

    x: float
    y: float
    text: str
    anchor: str = "start"


@dataclass(slots=True)
class Axes:
    """A picture's box [px], what its axes span, and what is drawn; x may be a time [s since 1970, UTC]."""

    x_text: str
    y_text: str
    x_span: tuple[float, float]
    y_span: tuple[float, float]
    width: float = 460.0
    height: float = 340.0
    is_time: bool = False
    marks: list[Mark] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the plane [px]."""
        return _LEFT, _TOP, self.width - _RIGHT, self.height - _BOTTOM

    def x(self, value: float) -> float:
        """Place of a value on the x axis [px]."""
        low, high = self.x_span
        return _LEFT + (self.width - _LEFT - _RIGHT) * (value - low) / (high - low)

    def y(self, value: float) -> float:
        """Place of a value on the y axis [px]."""
        low, high = self.y_span
        return self.height - _BOTTOM - (self.height - _TOP - _BOTTOM) * (value - low) / (high - low)

    @property
    def x_ticks(self) -> list[Tick]:
        """The grid's upright lines."""
        if self.is_time:
            return [Tick(self.x(at), text) for at, text in _days(*self.x_span)]
        return [Tick(self.x(v), f"{v:g}") for v in ticks(*self.x_span)]

    @property
    def y_ticks(self) -> list[Tick]:
        """The grid's level lines."""
        return [Tick(self.y(v), f"{v:g}") for v in ticks(*self.y_span)]

    def dots(self, x: Floats, y: Floats, look: str, text: str = "") -> None:
        """Draw a dot for each row in which both are numbers and within the axes."""
        low, high = self.y_span
        here = ~(np.isnan(x) | np.isnan(y)) & (y >= low) & (y <= high)
        points = zip(x[here].tolist(), y[here].tolist(), strict=True)
        self.marks.append(Mark("".join(f"M{self.x(a):.1f} {self.y(b):.1f}h0" for a, b in points), look, text))

    def line(self, points: Iterable[tuple[float, float]], look: str, text: str = "") -> None:
        """Draw a line through points; a NaN leaves a gap."""
        path, joined = [], False
        for a, b in points:
            if math.isnan(a) or math.isnan(b):
                joined = False
                continue
            path.append(f"{'L' if joined else 'M'}{self.x(a):.1f} {self.y(b):.1f}")
            joined = True
        self.marks.append(Mark("".join(path), look, text))

    def straight(self, slope: float, intercept: float, look: str, text: str = "") -> None:
        """Draw y = intercept + slope x as far as the axes go."""
        if math.isfinite(slope) and math.isfinite(intercept):
            low, high = self.x_span
            self.line([(low, intercept + slope * low), (high, intercept + slope * high)], look, text)

    def level(self, y: float, look: str, text: str = "", *, says: str = "") -> None:
        """Draw a level line, with words at its right end."""
        self.line([(self.x_span[0], y), (self.x_span[1], y)], look, text)
        if says:
            self.labels.append(Label(self.width - _RIGHT - 4, self.y(y) - 4, says, "end"))

    def band(self, x: Floats, low: Floats, high: Floats, look: str, text: str = "") -> None:
        """Fill between two lines."""
        rows = zip(x.tolist(), low.tolist(), high.tolist(), strict=True)
        there = [(a, lo, hi) for a, lo, hi in rows if not math.isnan(a + lo + hi)]
        if there:
            forth = [f"{self.x(a):.1f} {self.y(hi):.1f}" for a, _, hi in there]
            back = [f"{self.x(a):.1f} {self.y(lo):.1f}" for a, lo, _ in reversed(there)]
            self.marks.append(Mark("M" + "L".join(forth + back) + "Z", look, text))


def span(*values: Floats, least: float = 0.0, around: float | None = None) -> tuple[float, float]:
    """Return the span of all values, a twentieth wider, at least `least` long, symmetric about `around` if given."""
    there = np.concatenate([v[np.isfinite(v)] for v in values])
    low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 1.0)
    if around is not None:
        reach = max(abs(high - around), abs(low - around))
        low, high = around - reach, around + reach
    pad = max(0.05 * (high - low), (least - (high - low)) / 2, 1e-9)
    return low - pad, high + pad


def ticks(low: float, high: float) -> list[float]:
    """Round numbers within a span, about five."""
    step = nice((high - low) / _TICKS)
    return [round(k * step, 12) + 0.0 for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def nice(raw: float) -> float:
    """Return the smallest of 1, 2, 2.5 or 5 times a power of ten that is not below `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= raw * (1 - 1e-9))


def _days(low: float, high: float) -> Iterable[tuple[float, str]]:
    """Midnights (UTC) within a span, about six, and their dates."""
    days = max((high - low) / _DAY_S, 1e-6)
    step = next((s for s in _STEPS_D if days / s <= 7), _STEPS_D[-1])
    first = math.ceil(low / _DAY_S)
    for k in range(first + (-first) % step, math.floor(high / _DAY_S) + 1, step):
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=k)
        yield float(k * _DAY_S), f"{at.day} {at:%b}" if days < 300 else f"{at:%b %Y}"
