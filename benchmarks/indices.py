"""Time of an index a value beside other libraries, and of a NowCast a window beside the plain loop of its formula.

    .venv/bin/python benchmarks/indices.py [--record]

Everything in one process and one thread, by CPU time, the best of several rounds: others on the machine make it no
faster. Each peer gets the values it takes one by one, as its documentation calls it. With --record the figures are
kept.
"""

import argparse
import platform
import sys
import time
import warnings
from importlib import metadata

import numpy as np
from project import record

from gateway.aqi.index import sub_index_nounit
from gateway.aqi.kernels import nowcast
from gateway.aqi.scheme import load

VALUES = 1_000_000
PEER_VALUES = 20_000
SITES, HOURS = 1_000, 8_760
LOOP_WINDOWS = 20_000
ROUNDS, OURS_A_ROUND, LOOP_ROUNDS = 12, 8, 5
GOAL_NS, GOAL_PEER, GOAL_WINDOW_NS, GOAL_LOOP = 10, 100, 100, 100


def best_s(work, rounds):
    """Return the least CPU time of a call [s]."""
    times = []
    for _ in range(rounds):
        started_s = time.process_time()
        work()
        times.append(time.process_time() - started_s)
    return min(times)


def air(n):
    """Return PM2.5 as it occurs, in tenths [µg/m³]."""
    return np.random.default_rng(20260101).lognormal(2.5, 0.8, n).round(1)


def peers():
    """Return the function of one concentration of PM2.5 of each peer, by its name and version."""
    import aqi
    import aqicalc
    from aqi_hub.aqi_usa.aqi import cal_iaqi_usa
    from aqipy.aqi_us import get_aqi_pm25_24h
    from AQIPython import calculate_aqi
    from pyairnow.conv import concentration_to_aqi

    calls = {
        "python-aqi": lambda x: aqi.to_iaqi(aqi.POLLUTANT_PM25, str(x)),
        "pyairnow": lambda x: concentration_to_aqi(x, "PM2.5"),
        "aqi-hub": lambda x: cal_iaqi_usa(x, "PM25_24H"),
        "aqipy-atmotech": get_aqi_pm25_24h,
        "aqicalc": lambda x: aqicalc.to_iaqi(aqicalc.POLLUTANT_PM25, x),
        "AQIPython": lambda x: calculate_aqi("US", "PM25", x),
    }
    return {f"{name} {metadata.version(name)}": call for name, call in calls.items()}


def correct_pct(call, values, official):
    """Return how many of a peer's results are the official index [%]; what it refuses is none."""
    right = 0
    for value, expected in zip(values, official, strict=True):
        try:
            found = call(value)
        except Exception:  # noqa: BLE001, S112 - whatever a peer raises is no index
            continue
        number = found[0] if isinstance(found, tuple) else found
        right += number is not None and float(number) == expected
    return 100.0 * right / len(values)


def measure_index():
    """Measure all in turn, round by round, so that others on the machine disturb all alike; the best round counts."""
    table = load("us-2024").table("pm25")
    values = air(VALUES)
    gaps = values.copy()
    gaps[::50] = np.nan
    gaps[::97] *= -1
    some = values[:PEER_VALUES].tolist()
    official = sub_index_nounit(table, values[:PEER_VALUES]).tolist()
    calls = peers()
    times = dict.fromkeys(("ours", "gaps", *calls), float("inf"))
    for _ in range(ROUNDS):
        for name, array in (("ours", values), ("gaps", gaps)):
            once_s = best_s(lambda array=array: sub_index_nounit(table, array), OURS_A_ROUND)
            times[name] = min(times[name], once_s / VALUES * 1e9)
        for name, call in calls.items():
            times[name] = min(times[name], best_s(lambda call=call: _each(call, some), 1) / PEER_VALUES * 1e9)
    ours_ns, gaps_ns = times.pop("ours"), times.pop("gaps")
    print(f"concentration to index, {VALUES:,} values at once, one thread, CPU time, best of {ROUNDS} rounds")
    print(f"  {'Lichen':<24} {ours_ns:9.2f} ns a value   (2 % missing, 1 % negative: {gaps_ns:.2f} ns)")
    for name, call in calls.items():
        right = correct_pct(call, some, official)
        print(f"  {name:<24} {times[name]:9.1f} ns a value   {times[name] / ours_ns:6.0f} x   {right:5.1f} % official")
    fastest = min(times, key=times.get)
    return ours_ns, fastest, times[fastest] / ours_ns


def _each(call, values):
    for value in values:
        call(value)


def plain_loop(hours):
    """Return the NowCast of the last hour, by the formula as it is written."""
    present = [(i, c) for i, c in enumerate(reversed(hours)) if c == c]  # noqa: PLR0124 - NaN differs from itself
    if sum(i < 3 for i, _ in present) < 2:
        return None
    low, high = min(c for _, c in present), max(c for _, c in present)
    weight = 1.0 if high <= 0 else min(1.0, max(0.5, low / high))
    return sum(weight**i * c for i, c in present) / sum(weight**i for i, _ in present)


def measure_nowcast():
    hours = air(SITES * HOURS).reshape(SITES, HOURS)
    hours[np.random.default_rng(1).random(hours.shape) < 0.03] = np.nan
    ours_ns = best_s(lambda: nowcast(hours), 3) / hours.size * 1e9
    row = hours[0].tolist() * (LOOP_WINDOWS // HOURS + 1)
    windows = [row[i : i + 12] for i in range(LOOP_WINDOWS)]
    loop_ns = best_s(lambda: [plain_loop(window) for window in windows], LOOP_ROUNDS) / LOOP_WINDOWS * 1e9
    print(f"NowCast, a year of hours of {SITES:,} sites, 3 % missing, CPU time, best of 3 rounds")
    print(f"  {'Lichen':<24} {ours_ns:9.1f} ns a window")
    print(f"  {'plain loop (Python)':<24} {loop_ns:9.1f} ns a window   {loop_ns / ours_ns:6.0f} x")
    return ours_ns, loop_ns / ours_ns


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="keep the figures in build/figures.json")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    try:
        peers()
    except ImportError as error:
        sys.exit(f"{error.name} is absent; make bench installs it (requirements-bench.lock)")
    print(f"Python {platform.python_version()}, numpy {np.__version__}")
    value_ns, fastest, ratio = measure_index()
    window_ns, loop_ratio = measure_nowcast()
    for name, value, goal, good in (
        ("ns a value", value_ns, f"<= {GOAL_NS}", value_ns <= GOAL_NS),
        (f"times the fastest peer ({fastest})", ratio, f">= {GOAL_PEER}", ratio >= GOAL_PEER),
        ("ns a window", window_ns, f"about {GOAL_WINDOW_NS}", window_ns <= GOAL_WINDOW_NS),
        ("times the plain loop", loop_ratio, f">= {GOAL_LOOP}", loop_ratio >= GOAL_LOOP),
    ):
        print(f"{'reached' if good else 'NOT REACHED':<12} {value:8.1f} {name}, goal {goal}")
    if arguments.record:
        how = "make bench (benchmarks/indices.py --record)"
        record("aqi.ns_per_value", round(value_ns, 2), unit="ns", goal=f"<= {GOAL_NS}", how=how)
        record("aqi.peer_ratio", round(ratio), unit=f"x {fastest}", goal=f">= {GOAL_PEER}", how=how)
        record("aqi.nowcast_ns_per_window", round(window_ns, 1), unit="ns", goal=f"<= {GOAL_WINDOW_NS}",
               how=f"{how}; {loop_ratio:.0f} x the plain loop in the same run")  # fmt: skip


if __name__ == "__main__":
    main()
