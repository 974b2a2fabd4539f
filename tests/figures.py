"""Figures that a run has measured, kept in build/figures.json under the names of the issues."""

import fcntl
import json
from datetime import UTC, datetime

from components import REPO

FILE = REPO / "build" / "figures.json"


def record(name, value, *, unit, goal, how):
    """Keep one measured figure; several runs may do so at once."""
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        figures = json.loads(file.read() or "{}")
        today = f"{datetime.now(UTC):%Y-%m-%d}"
        figures[name] = {"value": value, "unit": unit, "goal": goal, "how": how, "date": today}
        file.truncate(0)
        file.write(json.dumps(dict(sorted(figures.items())), indent=1) + "\n")
