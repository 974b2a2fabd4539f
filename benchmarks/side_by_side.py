"""Lichen beside Telegraf: the same backlog of readings through real brokers into real InfluxDBs, in one run.

Each trial has a fresh mosquitto, InfluxDB and store. The backlog is queued in a persistent session before the consumer
starts; the time runs from the start of its process until InfluxDB has written every reading. The order turns from
round to round. `raw` stores and sends readings, as Telegraf does; `all` derives and sends air, hour and index too.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import profile_table
import trial
from machine import disturbed, wait_for_quiet
from project import REPO, need_influxd, record

TELEGRAF, RAW, ALL = "telegraf", "lichen raw", "lichen all"
GOALS = {(1, RAW): ("gw.telegraf_ratio_single", 0.5), (20, RAW): ("gw.telegraf_ratio_20", 1.8),
         (100, RAW): ("gw.telegraf_ratio_100", 1.8), (20, ALL): ("gw.telegraf_ratio_20_all", 0.9)}  # fmt: skip
CPU_GOAL_US = 6.0
RECIPE_LINES = 5000
"""Lines a write of Telegraf in the comparison that the goals are for."""


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000, help="readings; single rows are half as many")
    parser.add_argument("--kits", type=int, default=50)
    parser.add_argument("--shapes", default="20,100,1", help="rows a message, such as 20 or 20,100,1")
    parser.add_argument("--who", default=f"{TELEGRAF},{RAW},{ALL}", help="which of them; `all` only with 20 rows")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--patience", type=float, default=0, help="longest wait for a quiet machine before a trial [s]")
    parser.add_argument("--parser", default="json", choices=("json", "json_v2"), help="Telegraf's")
    parser.add_argument("--telegraf-lines", type=int, default=RECIPE_LINES, help="lines a write of Telegraf")
    parser.add_argument("--no-profile", action="store_true", help="leave out the runs that tell where the time goes")
    parser.add_argument("--only-profile", action="store_true", help="nothing but these")
    parser.add_argument("--folder", type=Path, default=REPO / "build" / "bench" / "side_by_side")
    parser.add_argument("--record", action="store_true", help="keep the figures in build/figures.json")
    return parser.parse_args(argv)


def main():
    options = arguments()
    influxd = need_influxd()
    who = options.who.split(",")
    shapes = [int(text) for text in options.shapes.split(",")]
    results = []
    for shape in [] if options.only_profile else shapes:
        plan = _plan(options, shape)
        contenders = [name for name in who if name != ALL or shape == 20]
        for number in range(options.rounds):
            for name in contenders if number % 2 == 0 else contenders[::-1]:
                wait_for_quiet(options.patience)
                results.append(trial.run(name, plan, options.folder, influxd))
                print(results[-1].line(), flush=True)
    ratios = _ratios(results)
    _print_ratios(ratios, results)
    if not options.no_profile:
        for shape in shapes:
            for name in who:
                if name == RAW or (name == ALL and shape == 20):
                    _profile(options, name, shape, influxd)
    options.folder.parent.mkdir(parents=True, exist_ok=True)
    (options.folder.parent / "side_by_side.json").write_text(json.dumps([result.row() for result in results], indent=1))
    if options.record:
        _record(ratios, results, options.telegraf_lines)


def _plan(options, shape):
    readings = options.rows // (2 if shape == 1 else 1)
    readings -= readings % (options.kits * shape)
    end_s = int(time.time()) // 3600 * 3600
    return trial.Plan(shape, readings, options.kits, end_s - readings // options.kits * 60, options.parser,
                      options.telegraf_lines)  # fmt: skip


def _ratios(results):
    """Return for each shape and contender the ratio of the median rates, the lowest and highest of any two, and of CPU.

    The last is that of all CPU spent, broker and InfluxDB included: on a busy machine it tells what a quiet one gives.
    """
    found = {}
    for shape, name in {(r.shape, r.who) for r in results if r.who != TELEGRAF}:
        ours = [r.rate for r in results if (r.shape, r.who) == (shape, name)]
        theirs = [r.rate for r in results if (r.shape, r.who) == (shape, TELEGRAF)]
        if theirs:
            cpu = _least_cpu_us(results, shape, TELEGRAF) / _least_cpu_us(results, shape, name)
            found[shape, name] = (median(ours) / median(theirs), min(ours) / max(theirs), max(ours) / min(theirs), cpu)
    return found


def _least_cpu_us(results, shape, name):
    return min(r.cpu_us + r.broker_us + r.influxd_us for r in results if (r.shape, r.who) == (shape, name))


def _print_ratios(ratios, results):
    busiest = max((r.others_cores for r in results), default=0)
    for (shape, name), (ratio, low, high, cpu) in sorted(ratios.items()):
        goal = GOALS.get((shape, name))
        text = f" (goal {goal[1]})" if goal else ""
        spread = f"spread {low:.2f} to {high:.2f}; by CPU {cpu:.2f}"
        print(f"{name}, {shape} rows a message: {ratio:.2f} x Telegraf{text}; {spread}")
    print(f"others used up to {busiest:.2f} of the cores; soak running: {any(r.soak for r in results)}", flush=True)


def _profile(options, name, shape, influxd):
    plan = _plan(options, shape)
    path = options.folder.parent / "profile.json"
    result = trial.run(name, plan, options.folder, influxd, profile=path)
    print(f"\nwhere the time goes: {name}, {shape} rows a message, µs a reading (with clocks, so somewhat slower)")
    print(result.line())
    print(profile_table.text(path, plan.readings), flush=True)


def _record(ratios, results, telegraf_lines):
    if not results or any(r.soak for r in results):
        print("nothing recorded: nothing was compared, or the soak was running")
        return
    lines = "" if telegraf_lines == RECIPE_LINES else str(telegraf_lines)
    option, suffix = (f" --telegraf-lines {lines}", f"_{lines}_lines") if lines else ("", "")
    rounds = sum(r.who == TELEGRAF for r in results) // len({r.shape for r in results})
    noise = disturbed(max(r.others_cores for r in results))
    how = f"benchmarks/side_by_side.py{option}, {rounds} rounds{noise}"
    for key, (name, goal) in GOALS.items():
        if key in ratios:
            text = "stated" if lines else f">= {goal}"
            record(name + suffix, round(ratios[key][0], 3), unit="x Telegraf 1.37", goal=text, how=how)
    if (ours := [r.cpu_us for r in results if (r.shape, r.who) == (20, RAW)]) and not lines:
        record("gw.cpu_us_per_reading_20", round(median(ours), 1), unit="µs", goal=f"<= {CPU_GOAL_US}", how=how)


if __name__ == "__main__":
    main()
