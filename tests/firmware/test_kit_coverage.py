"""Which lines of the firmware its own tests run, on a MicroPython that traces them."""

import ast
import os
import subprocess
import sys

import pytest
from components import REPO
from figures import record
from firmware_bench import FIRMWARE, HERE

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
GOAL_PCT = 90


def statements(path):
    """First and last line of each statement, of a compound one its head; neither docstrings nor definitions."""
    out = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.stmt) or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) or isinstance(
            node, ast.Global | ast.Try
        ):
            continue
        body = getattr(node, "body", None)
        out.append((node.lineno, body[0].lineno - 1 if body else node.end_lineno))
    return out


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_nine_lines_of_ten_run(micropython_trace, mosquitto, tmp_path):
    wrapper = tmp_path / "micropython"
    wrapper.write_text(
        '#!/bin/sh\nwhile [ "$1" = -X ]; do shift 2; done\n'
        f"exec '{micropython_trace}' -X heapsize=64m '{HERE}/on_kit_coverage.py' '{tmp_path}'/lines.$$ \"$@\"\n"
    )
    wrapper.chmod(0o755)
    env = os.environ | {
        "LICHEN_MICROPYTHON": str(wrapper),
        "LICHEN_MICROPYTHON32": str(wrapper),
        "LICHEN_COVERAGE": "1",
    }
    # A kit that is killed notes nothing, and one that is traced may be too slow for a test: neither fails this one.
    names = ["interpreters", "node", "fuzz", "network", "tls"]
    files = [str(HERE / f"test_kit_{name}.py") for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not soak", *files]
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, check=False)
    ran = {}
    for path in tmp_path.glob("lines.*"):
        for line in path.read_text().splitlines():
            name, number = line.rsplit(":", 1)
            ran.setdefault("/".join(name.split("/")[-2:]), set()).add(int(number))
    total = covered = 0
    rows = []
    for folder in ("lichen", "drivers"):
        for path in sorted((FIRMWARE / folder).glob("*.py")):
            name = f"{folder}/{path.name}"
            hit = ran.get(name, set())
            wanted = statements(path)
            missed = [first for first, last in wanted if not hit & set(range(first, last + 1))]
            total += len(wanted)
            covered += len(wanted) - len(missed)
            rows.append(f"{name}: {len(wanted) - len(missed)} of {len(wanted)}, not {missed}")
    percent = round(100 * covered / total, 1)
    record(
        "kit.coverage_pct",
        percent,
        unit="%",
        goal=f"{GOAL_PCT}",
        how="tests/firmware/test_kit_coverage.py, by statement",
    )
    assert percent >= GOAL_PCT, "\n".join(rows) + done.stdout[-1000:]
