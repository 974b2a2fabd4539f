"""Lichen as it runs all year: live rows, an idle gateway, the start with a year of data, memory through a catch-up.

Parts: `live` (1,000 kits at one row a minute on a store that holds 24 h of them), `few` (20 kits), `start` (a year of
20 kits, made once and kept in build/bench), `memory` (a backlog of 10 million readings). A gateway and its sink run as
`lichen run` starts them, with a real broker and a real InfluxDB that holds what the store holds.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import catchup
import startup
import steady
from machine import disturbed, wait_for_quiet
from project import REPO, need_influxd, record

PARTS = ("live", "few", "start", "memory")
HOW = "make bench"


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="which of them")
    parser.add_argument("--kits", type=int, default=1000, help="of the part live")
    parser.add_argument("--minutes", type=float, default=5, help="of the part live")
    parser.add_argument("--warm-minutes", type=float, default=7, help="of sending before it is measured")
    parser.add_argument("--few-minutes", type=float, default=3, help="of the part few")
    parser.add_argument("--hours", type=int, default=24, help="that the store of live and few holds before")
    parser.add_argument("--days", type=int, default=365, help="that the store of start holds")
    parser.add_argument("--readings", type=int, default=10_000_000, help="of the part memory")
    parser.add_argument("--profile", action="store_true", help="print what the steps of live and few cost")
    parser.add_argument("--patience", type=float, default=0, help="longest wait for a quiet machine before a part [s]")
    parser.add_argument("--folder", type=Path, default=REPO / "build" / "bench")
    parser.add_argument("--record", action="store_true", help="keep the figures in build/figures.json")
    return parser.parse_args(argv)


def main():
    options = arguments()
    influxd = need_influxd()
    work = {
        "live": lambda: _live(options, influxd),
        "few": lambda: _few(options, influxd),
        "start": lambda: _start(options, influxd),
        "memory": lambda: _memory(options, influxd),
    }
    for part in options.parts.split(","):
        if part not in work:
            sys.exit(f"no part {part}; there are {', '.join(PARTS)}")
        wait_for_quiet(options.patience)
        started_s = time.monotonic()
        found, figures = work[part]()
        print(json.dumps(found, indent=1))
        print(f"{part}: {time.monotonic() - started_s:.0f} s", flush=True)
        if options.record:
            _record(found, figures)


def _steady(options, influxd, name, kits, minutes):
    return steady.run(
        _fresh(options, name), influxd, kits=kits, minutes=minutes, hours=options.hours,
        warm_minutes=options.warm_minutes, profile=options.profile,
    )  # fmt: skip


def _live(options, influxd):
    found = _steady(options, influxd, "live", options.kits, options.minutes)
    return found, [
        ("gw.live_p99_s", found["p99_s"], "s", "<= 2"),
        ("gw.live_cpu_pct", found["cpu_pct"], "% of a core", "<= 10"),
        ("gw.live_rss_mb", found["rss_mb"], "MB", "<= 150"),
        ("gw.disk_bytes_per_reading_1000", found["disk_bytes_per_reading"], "bytes", "<= 2000"),
    ]


def _few(options, influxd):
    found = _steady(options, influxd, "few", 20, options.few_minutes)
    return found, [
        ("gw.idle_cpu_pct", found["cpu_pct"], "% of a core", "<= 1"),
        ("gw.disk_bytes_per_reading_20", found["disk_bytes_per_reading"], "bytes", "stated"),
    ]


def _start(options, influxd):
    found = startup.run(options.folder, influxd, kits=20, days=options.days)
    return found, [("gw.start_s", found["slowest_s"], "s", "<= 1.5")]


def _memory(options, influxd):
    found = catchup.run(_fresh(options, "memory"), influxd, readings=options.readings)
    return found, [("gw.catchup_rss_growth_mb", found["growth_mb"], "MB", "<= 10")]


def _fresh(options, name):
    folder = options.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _record(found, figures):
    if found["soak"]:
        print("nothing recorded: the soak was running")
        return
    for name, value, unit, goal in figures:
        record(name, value, unit=unit, goal=goal, how=HOW + disturbed(found["others_cores"]))


if __name__ == "__main__":
    main()
