"""How long a fitted calibration takes: on a million rows, and on the rows of a thousand kits as they arrive.

The widest linear model, without and with trees, interval and domain included; the slowest is kept.
"""

import argparse
import gc
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import paced
from project import record as keep

from calibration import table
from calibration.fitted import Fitted
from calibration.fitting import fit, trees
from calibration.record import Record, dumps, loads

ROWS = 1_000_000
REPEATS = 9
GOAL_NS = 50.0
LIVE_GOAL_US = 20.0
LIVE_KITS = 1000
LIVE_RUNS = 3
"""One run differs from the next by a third: the median counts."""


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


def own(found: Record, number):
    """Return a record like another with numbers of its own, as each kit has that was fitted by itself."""
    unit, trees_of, factor = found.of_unit(), found.trees, 1 + 1e-4 * number
    coefficients = {name: factor * value for name, value in unit.coefficients.items()}
    fit_of = replace(unit, intercept=factor * unit.intercept, coefficients=coefficients)
    moved = replace(trees_of, leaf=factor * trees_of.leaf, threshold=trees_of.threshold + 1e-4 * number)
    return replace(found, id=f"kit-{number}", units={unit.name: fit_of}, trees=moved)


def live_us(found: Record):
    """What records add to deriving the rows of many kits as they arrive, an hour through [µs a reading].

    CPU with a record less CPU without, where the configured correction is: where all kits have one record in common,
    and where each has its own. Of the rounds of deriving those count that most readings were gathered for.
    """
    fitted = Fitted(found, found.of_unit().name)
    with tempfile.TemporaryDirectory() as folder:
        fleets = [
            paced.Fleet(Path(folder) / name, LIVE_KITS, calibrations)
            for name, calibrations in (
                ("none", {}),
                ("shared", dict.fromkeys(range(LIVE_KITS), fitted)),
                ("own", {n: Fitted(own(found, n), fitted.unit) for n in range(LIVE_KITS)}),
            )
        ]
        gc.collect()
        gc.freeze()  # what other fleets hold is nothing that a gateway's collections look at
        rounds = [one for one in paced.run(fleets, LIVE_KITS) if one[0] >= LIVE_KITS]  # the first are small
        gc.unfreeze()
        for fleet in fleets:
            fleet.close()
    gathered = sum(count for count, _ in rounds)
    us = [1e6 * sum(took_s[at] for _, took_s in rounds) / gathered for at in range(len(fleets))]
    print(f"live: {LIVE_KITS} kits, a row a minute, {len(rounds)} rounds of {gathered / len(rounds):.0f} readings, "
          f"{us[0]:.0f} µs a reading in all")  # fmt: skip
    return us[1] - us[0], us[2] - us[0]


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
    runs = [live_us(with_trees) for _ in range(LIVE_RUNS)]
    shared_us, added_us = (statistics.median(found) for found in zip(*runs, strict=True))
    print("of each run:", ", ".join(f"{own_us:.1f} and {all_us:.1f}" for all_us, own_us in runs))
    print(f"live, with {rounds} trees: {added_us:.1f} µs a reading more than without where each kit has its own record "
          f"(goal {LIVE_GOAL_US:g}), {shared_us:.1f} where all have one; medians")  # fmt: skip
    if options.record:
        keep("cal.live_us_per_reading", round(added_us, 1), unit="µs", goal=f"<= {LIVE_GOAL_US:g}",
             how=f"benchmarks/calibrations.py --record: each kit its own record, median of {LIVE_RUNS}")  # fmt: skip
        keep("cal.apply_ns_per_row", round(max(linear_ns, tree_ns), 1), unit="ns", goal=f"<= {GOAL_NS:g}",
             how="benchmarks/calibrations.py --record")  # fmt: skip


if __name__ == "__main__":
    main()
