"""Figures that a run has measured, kept in build/figures.json under the names of the issues."""

import json
from datetime import UTC, datetime

from components import REPO

FILE = REPO / "build" / "figures.json"


def record(name, value, *, unit, goal, how):
    """Keep one measured figure."""
    FILE.parent.mkdir(exist_ok=True)
    figures = json.loads(FILE.read_text()) if FILE.exists() else {}
    figures[name] = {"value": value, "unit": unit, "goal": goal, "how": how, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    FILE.write_text(json.dumps(dict(sorted(figures.items())), indent=1) + "\n")
