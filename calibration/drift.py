"""Drift watch: whether a series moves away from a proxy that measures about the same air; it says so, and no more."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import numpy as np

from calibration.table import Floats, Ints

RULES: Final[Mapping[str, Any]] = tomllib.loads(resources.files(__package__).joinpath("drift.toml").read_text("utf-8"))
"""Thresholds and where each comes from, as in drift.toml."""

WINDOW_H: Final = int(RULES["window_hours"])
LASTING_H: Final = 24 * int(RULES["lasting_days"])
SPAN_H: Final = WINDOW_H + LASTING_H
"""Hours that are looked at."""

_STEP_H: Final = int(RULES["step_hours"])
_TERMS: Final = 100
_TESTS: Final = ("gain", "offset", "ks")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A series against its proxy: what would make mean and standard deviation of the one those of the other.

    Proxy = gain x value + offset [offset: the values' unit]; `ks_d` is the largest distance between both distributions
    and `ks_p` how likely one at least as large is by chance; `n` hours have both.
    """

    n: int
    gain: float
    offset: float
    ks_d: float
    ks_p: float


NOTHING: Final = Comparison(0, np.nan, np.nan, np.nan, np.nan)
"""Of a window with too few hours."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The newest window (None: too few hours) and, of each test, since how many hours it has failed without a break.

    `alarms` are the tests (`gain`, `offset`, `ks`) that have failed in every window of five days.
    """

    newest: Comparison | None
    failing_h: Mapping[str, int]
    alarms: tuple[str, ...]


def compare(value: Floats, proxy: Floats) -> Comparison:
    """Compare a series with its proxy.

    Parameters
    ----------
    value, proxy
        Hourly means of the same hours [n] [one unit], NaN where there is none.

    Returns
    -------
    Comparison
        Of the hours that have both. The gain is infinite where the series does not vary, NaN with fewer than two hours.

    References
    ----------
    Miskell and Williams 2018, doi:10.1021/acssensors.8b00074 (mean-variance matching).
    """
    both = ~(np.isnan(value) | np.isnan(proxy))
    value, proxy = value[both], proxy[both]
    if len(value) < 2:
        return Comparison(len(value), np.nan, np.nan, np.nan, np.nan)
    spread, wanted = float(value.std()), float(proxy.std())
    gain = wanted / spread if spread > 0 else (1.0 if wanted == 0 else np.inf)
    offset = float(proxy.mean()) - gain * float(value.mean())
    independent = min(_independent(value), _independent(proxy))
    ks_d, ks_p = kolmogorov_smirnov(value, proxy, independent)
    return Comparison(len(value), gain, offset, ks_d, ks_p)


def _independent(values: Floats) -> float:
    """Return how many independent values say as much as these: hours follow each other, here as AR(1).

    (1 - r)/(1 + r) of them, r the correlation of neighbours: Bayley and Hammersley 1946, doi:10.2307/2983560.
    """
    step = values - values.mean()
    power = float((step * step).sum())
    r = float((step[1:] * step[:-1]).sum()) / power if power > 0 else 0.0
    return len(values) * (1 - max(r, 0.0)) / (1 + max(r, 0.0))


def kolmogorov_smirnov(first: Floats, second: Floats, independent: float | None = None) -> tuple[float, float]:
    """Return the two-sample Kolmogorov-Smirnov distance, and its asymptotic two-sided p.

    Parameters
    ----------
    first, second
        Samples [n], [m], without NaN, in one unit; p is good to some per cent of itself from 4 independent ones each.
    independent
        How many independent values each is worth; default: as many as there are.

    References
    ----------
    Stephens 1970, doi:10.1111/j.2517-6161.1970.tb00821.x (the effective number).
    """
    every = np.sort(np.concatenate([first, second]))
    steps = [np.searchsorted(np.sort(one), every, side="right") / len(one) for one in (first, second)]
    distance = float(np.abs(steps[0] - steps[1]).max())
    n, m = (len(first), len(second)) if independent is None else (independent, independent)
    root = (n * m / (n + m)) ** 0.5
    x = (root + 0.12 + 0.11 / root) * distance
    if x < 0.2:  # the series converges too slowly, and p is 1 to ten digits
        return distance, 1.0
    k = np.arange(1, _TERMS + 1)
    terms = 2 * (-1.0) ** (k - 1) * np.exp(-2.0 * (k * x) ** 2)
    return distance, float(np.clip(terms.sum(), 0.0, 1.0))


def watch(hour: Ints, value: Floats, proxy: Floats, *, quantity: str, now_hour: int) -> Drift:
    """Look at the windows that end within the five days before an hour.

    Parameters
    ----------
    hour
        Hours since 1970 [n], rising; what lies outside the eight days before `now_hour` is not used.
    value, proxy
        Means of these hours [n] [the quantity's unit], NaN where there is none.
    quantity
        Which one, for the threshold of its offset.
    now_hour
        The first hour that is not used.

    Notes
    -----
    An alarm is a question, not a finding: air differs between two places too.
    """
    rows = (hour >= now_hour - SPAN_H) & (hour < now_hour)
    line = np.full((2, SPAN_H), np.nan)
    line[:, hour[rows] - (now_hour - SPAN_H)] = value[rows], proxy[rows]
    newest, failing, lasting = None, frozenset(_TESTS), dict.fromkeys(_TESTS, 0)
    for step, end in enumerate(range(SPAN_H, WINDOW_H - 1, -_STEP_H)):  # the newest first
        one = compare(*line[:, end - WINDOW_H : end])
        if one.n < RULES["least_share"] * WINDOW_H:
            if newest is None:  # of a kit or proxy that is away now nothing is said
                break
            continue
        newest, failing = newest or one, failing & _failing(one, quantity)
        if not failing:
            break
        lasting |= dict.fromkeys(failing, step * _STEP_H)
    alarms = tuple(test for test, hours in lasting.items() if hours >= LASTING_H)
    return Drift(newest, lasting, alarms)


def _failing(one: Comparison, quantity: str) -> frozenset[str]:
    gain = not RULES["gain_low"] <= one.gain <= RULES["gain_high"]
    offset = not abs(one.offset) <= RULES["offset_beyond"][quantity]["value"]
    tests = {"gain": gain, "offset": offset, "ks": one.ks_p < RULES["ks_p_below"]}
    return frozenset(test for test, fails in tests.items() if fails)
