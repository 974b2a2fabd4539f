"""How long a fitted calibration takes: on a million rows, and on the rows of a live hour as they arrive.

The widest linear model, without and with trees, interval and domain included; the slowest is kept.
"""

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np
from project import record as keep

from calibration import table
from calibration.fitted import Fitted
from calibration.fitting import fit, trees
from calibration.record import Record, dumps, loads
from gateway.derive import chain
from gateway.records import Readings

ROWS = 1_000_000
REPEATS = 9
GOAL_NS = 50.0
LIVE_GOAL_US = 20.0
LIVE_ROUNDS = 40


def collocation(rng, rows):
    """Rows of a sensor that every product of the linear family says something about."""
    pm, rh, temp = columns(rng, rows)
    truth = 2 + 0.5 * pm - 0.05 * rh + 0.1 * temp - 0.003 * pm * rh + 0.004 * pm * temp + 0.001 * rh * temp
    return table.of({
        "time": np.arange(rows) * 3600, "ref_pm25_ugm3": truth + rng.normal(0, 0.5, rows), "pm25_cf1": pm, "rh": rh,
        "temp": temp,
    })  # fmt: skip


def columns(rng, rows):
    return rng.gamma(2, 6, rows), rng.uniform(20, 90, rows), rng.uniform(0, 30, rows)


def ns_per_row(found: Record, inputs):
    """Median CPU time of a row [ns]."""
    taken = []
    for _ in range(REPEATS):
        start = time.process_time_ns()
        found.apply(inputs)
        taken.append((time.process_time_ns() - start) / len(inputs["rh"]))
    return statistics.median(taken)


def live_hour(rng, rows=60):
    """Readings of a kit in one hour, one a minute."""
    pm, rh, temp = columns(rng, rows)
    zero, number, counted = np.zeros(rows), np.arange(rows), np.full(rows, 12.0)
    facts = {name: np.zeros(rows, np.int64) for name in ("boot", "time_source", "time_error_s", "rev")}
    sent = {
        "up": 60.0 * number, "t": 60.0 * number, "q": zero + 2, "dt": zero + 60, "pm_n": counted, "pm_bad": zero,
        "pm25_cf1": pm, "env_n": counted, "env_bad": zero, "rh": rh, "temp": temp,
    }  # fmt: skip
    return Readings("kit", 1_700_006_400_000 + 60_000 * (number + 1), seq=number, columns=sent, **facts)


def first_rows(hour, rows):
    part = {
        name: getattr(hour, name)[:rows] for name in ("time_ms", "boot", "seq", "time_source", "time_error_s", "rev")
    }
    return replace(hour, columns={name: values[:rows] for name, values in hour.columns.items()}, **part)


def live_us(found: Record, rng):
    """What a record adds to deriving an hour again when a reading arrives [µs]: mean over an hour's 60 readings.

    Of each reading the difference of the least CPU times with it and without one, where the configured correction is:
    other work on the machine only adds.
    """
    hour = live_hour(rng)
    given = (Fitted(found, found.of_unit().name),)
    added = []
    for rows in range(1, len(hour) + 1):
        part, least = first_rows(hour, rows), [float("inf")] * 2
        for _ in range(LIVE_ROUNDS):
            for which, calibrations in enumerate(((), given)):
                start = time.process_time_ns()
                chain.derive_hours(part, site="site", calibrations=calibrations)
                least[which] = min(least[which], time.process_time_ns() - start)
        added.append((least[1] - least[0]) / 1000)
    return statistics.mean(added)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="keep the figure in build/figures.json")
    options = parser.parse_args()
    rng = np.random.default_rng(1)
    made = fit.fit_table(collocation(rng, 3000), target="ref_pm25_ugm3", inputs=["pm25_cf1", "rh", "temp"])
    found = loads(dumps(made))
    terms = len(found.of_unit().coefficients)
    assert terms == 6, "the widest linear model was not chosen"
    inputs = dict(zip(("pm25_cf1", "rh", "temp"), columns(rng, ROWS), strict=True))
    linear_ns = ns_per_row(found, inputs)
    print(f"linear, {terms} terms, interval and domain: {linear_ns:.1f} ns a row (goal {GOAL_NS:g})")
    rows = np.stack([found_rows[:3000] for found_rows in inputs.values()], axis=1)
    for rounds in trees.ROUNDS:
        with_trees = replace(found, trees=trees.grow(rows, np.sin(rows[:, 0]) * rows[:, 1], rounds))
        tree_ns = ns_per_row(with_trees, inputs)
        print(f"with {rounds} trees on {len(inputs)} inputs: {tree_ns:.1f} ns a row")
    added_us = live_us(with_trees, rng)
    print(f"live, with {rounds} trees: {added_us:.1f} µs a reading more than without (goal {LIVE_GOAL_US:g})")
    if options.record:
        keep("cal.live_us_per_reading", round(added_us, 1), unit="µs", goal=f"<= {LIVE_GOAL_US:g}",
             how="benchmarks/calibrations.py --record")  # fmt: skip
        keep("cal.apply_ns_per_row", round(max(linear_ns, tree_ns), 1), unit="ns", goal=f"<= {GOAL_NS:g}",
             how="benchmarks/calibrations.py --record")  # fmt: skip


if __name__ == "__main__":
    main()
