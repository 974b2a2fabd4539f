"""The clocks of a profile run as a table: CPU and waiting of each step in µs a reading."""

import json
from pathlib import Path

_HEAD = f"{'step':32}{'CPU µs':>9}{'wait µs':>9}{'calls':>10}\n"


def text(path, readings):
    """Return the table of a gateway's file and, beside it, its sink's."""
    parts = []
    for title, file in (("gateway", path), ("sink process", Path(f"{path}.sink"))):
        if file.exists():
            parts.append(f"{title}\n{_table(json.loads(file.read_text()), 1e6 / readings)}")
            file.unlink()
    return "".join(parts)


def _table(found, us):
    lines = [_HEAD]
    steps = sorted(found["steps"].items(), key=lambda item: -item[1]["cpu_s"])
    rest = found["process_cpu_s"] - sum(step["cpu_s"] for _, step in steps)
    for label, step in steps:
        wait = (step["wall_s"] - step["cpu_s"]) * us
        lines.append(f"{label:32}{step['cpu_s'] * us:9.2f}{wait:9.2f}{step['calls']:10,}\n")
    lines.append(f"{'all else (start, imports)':32}{rest * us:9.2f}\n")
    lines.append(f"{'together':32}{found['process_cpu_s'] * us:9.2f}\n")
    if found["missing"]:
        lines.append(f"not there to be clocked: {', '.join(found['missing'])}\n")
    return "".join(lines)
