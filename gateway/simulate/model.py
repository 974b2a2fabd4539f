"""An invented signal for demonstrations: a plausible day of fine particles, never mistaken for a record."""

import math
import random
from typing import Final

from gateway.simulate.recording import Recording

INTERVAL_S: Final = 120
_DAY_S: Final = 86_400


def invent(seed: int, start_s: int, end_s: int) -> Recording:
    """Return two-minute values from start to end [s since 1970]: rush hours, a humid night, weather, noise.

    The two particle sensors differ by a few per cent, as real pairs do.
    """
    rng = random.Random(seed)  # noqa: S311 - repeatable, not secret
    level, gain_b = 8.0 + 4 * rng.random(), 1 + rng.gauss(0, 0.04)
    times, rows = [], []
    weather = 0.0
    for time_s in range(start_s + INTERVAL_S, end_s + INTERVAL_S, INTERVAL_S):
        hour = time_s % _DAY_S / 3600
        weather = 0.999 * weather + rng.gauss(0, 0.02)
        rush = 9 * math.exp(-(((hour - 8) / 1.6) ** 2)) + 12 * math.exp(-(((hour - 19) / 2.2) ** 2))
        mass = max(0.2, (level + rush) * math.exp(weather) + rng.gauss(0, 0.8))
        day = math.sin((hour - 9) / 24 * 2 * math.pi)
        temp_c, rh = 17 + 6 * day + rng.gauss(0, 0.1), min(97.0, max(15.0, 62 - 22 * day + rng.gauss(0, 0.6)))
        mass_b = max(0.1, mass * gain_b + rng.gauss(0, 0.3))
        times.append(time_s)
        rows.append((*_plantower(mass), mass_b, _atmospheric(mass_b), 160 * mass_b, mass_b * 0.3, temp_c, rh))
    hundredths: list[tuple[int | None, ...]] = [tuple(round(100 * v) for v in row) for row in rows]
    return Recording(times, hundredths, INTERVAL_S, has_counts=True, blank_count=0)


def _plantower(mass: float) -> tuple[float, ...]:
    """CF=1 and atmospheric mass, then counts above 0.3, 0.5, 1, 2.5, 5 and 10 µm in proportions seen in the field."""
    return (mass, _atmospheric(mass), *(mass * share for share in (160, 47, 9, 0.3, 0.08, 0.04)))


def _atmospheric(mass: float) -> float:
    """Return the sensor's second scale: equal to CF=1 when low, two thirds of it when high."""
    return mass if mass < 25 else max(25.0, mass * 2 / 3)
