"""The fault suite: kits, faults, then the comparison of everything that was made with everything that is stored."""

import json
import shutil
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise

from components import REPO
from faults import events
from faults.check import Found, compare, open_store
from faults.scene import Plan, Scene

_TELL_S = 15.0
_ASIDE_S = 120.0  # however long the rest took: each batch that was set aside has one try a connection

FULL = Plan(
    seed=20261121, kits=64, past_rows=5_300_000, events=210, long_stops=2, pause_s=(0.2, 1.6), disk_mb=2048,
    poison_at_once=4, drain_s=700,
)  # fmt: skip
CUT = Plan(
    seed=7, kits=50, past_rows=20_000, events=13, long_stops=0, pause_s=(0.1, 0.4), disk_mb=512,
    poison_at_once=45, stop_s=1.5, drain_s=40,
)  # fmt: skip


@dataclass
class Result:
    """What happened, and what was found afterwards."""

    plan: Plan
    lacking: list = field(default_factory=list)
    counts: dict = field(default_factory=dict)
    kinds: int = 0
    found: Found = field(default_factory=Found)
    verified: dict = field(default_factory=dict)
    verify_failed: str = ""
    surprises: list = field(default_factory=list)
    lives: int = 0
    peak_mb: float = 0.0
    sink_peak_mb: float = 0.0
    stop_s: float = 0.0
    seconds: dict = field(default_factory=dict)
    flooded: int = 0
    connects: int = 0

    @property
    def events(self):
        return sum(self.counts.values())


def say(text):
    """Tell at once how it goes."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(plan, folder, log=say):
    """Do all of it; raises where the kits cannot get rid of their rows."""
    log(f"seed {plan.seed}: {plan.kits} kits, {plan.past_rows} rows of the past, {plan.events} events")
    marks = [("", time.monotonic())]

    def mark(name):
        marks.append((name, time.monotonic()))
        log(f"{name}: {marks[-1][1] - marks[-2][1]:.1f} s")

    result = Result(plan)
    with Scene(plan, folder) as scene:
        lacking = events.absent(scene)
        result.lacking = list(lacking.values())
        wait_until(lambda: scene.fleet.state.get("connected") == plan.kits, "all kits are connected", 30, scene)
        result.counts = dict(events.happen(scene, events.schedule(plan, lacking), log))
        mark("events")
        scene.fleet.tell("flood", kits=scene.kits[:10], copies=30)
        result.stop_s = scene.gateway.terminate()
        drain(scene, log)
        mark("drain")
        ledgers = [scene.fleet.write_ledger(), folder / "poison.npz"]
        scene.poisoner.ledger.write(ledgers[1])
        result.found = compare(scene.store, ledgers, scene.poisoner.sent)
        if result.found.faults:
            shutil.copytree(scene.store, folder / "store", ignore=shutil.ignore_patterns("*.sock"))  # to look into
        mark("comparison")
        verify(scene, result)
        mark("verify")
        result.kinds = len(scene.poisoner.kinds)
        result.flooded, result.connects = scene.fleet.state["flooded"], scene.fleet.state["connects"]
        scene.gateway.end()
        result.surprises, result.lives = scene.gateway.surprises, scene.gateway.lives
        result.peak_mb, result.sink_peak_mb = scene.gateway.peak_mb, scene.gateway.sink_peak_mb
    result.seconds = {name: b - a for (_, a), (name, b) in pairwise(marks)}
    return result


def drain(scene, log):
    """Wait until every kit has its receipts and nothing is dirty."""
    plan, state = scene.plan, lambda: scene.fleet.state
    wait_until(lambda: not scene.poisoner.waiting, "all poison is stored", plan.drain_s, scene)
    live = 5 * plan.kits

    def empty(most, within_s, left=lambda: state()["held"]):
        last, moved_s, told_s = None, 0.0, time.monotonic()
        deadline_s = told_s + within_s
        while left() > most:
            now_s = time.monotonic()
            if left() != last:
                last, moved_s = left(), now_s
            if now_s - moved_s > 15 or last is None:
                scene.fleet.tell("drop")  # a new connection asks for receipts at once
                moved_s = now_s
            if now_s - told_s > _TELL_S:
                told_s = now_s
                log(f"held: {state()}")
            scene.fleet.check()
            assert now_s < deadline_s, f"kits still hold rows: {state()}\n{_tail(scene.gateway.log_path)}"
            time.sleep(0.5)

    scene.fleet.tell("drop")
    time.sleep(1.5)
    empty(live, plan.drain_s, left=lambda: state()["held"] - 100 * state()["aside"])
    log(f"all but live rows have receipts: {state()}")
    scene.fleet.tell("calm")  # what was set aside is tried while nothing else is under way, once a connection
    scene.fleet.tell("drop")
    time.sleep(1.0)
    empty(0, _ASIDE_S, left=lambda: state()["aside"])
    scene.fleet.tell("hush")
    scene.fleet.tell("drop")
    time.sleep(1.0)
    empty(0, _ASIDE_S)
    log(f"all rows have receipts: {state()}")
    with closing(open_store(scene.store)) as db:
        wait_until(lambda: not db.execute("SELECT EXISTS (SELECT 1 FROM dirty)").fetchone()[0],
                   "nothing is to be derived", plan.drain_s, scene)  # fmt: skip


def verify(scene, result):
    """Ask the command on the live store."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway.cli", "verify", "-c", scene.config, "--json"],
        capture_output=True, text=True, cwd=REPO, check=False,
    )  # fmt: skip
    result.verify_failed = (
        "" if done.returncode == 0 else f"{done.returncode}: {done.stdout[-500:]} {done.stderr[-1500:]}"
    )
    if done.stdout.startswith("{"):
        verdict = json.loads(done.stdout)
        result.verified = {k: len(v) if isinstance(v, list) else v for k, v in verdict.items()}


def wait_until(condition, what, timeout_s, scene):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        scene.fleet.check()
        assert time.monotonic() < deadline_s, f"not within {timeout_s:.0f} s: {what}\n{_tail(scene.gateway.log_path)}"
        time.sleep(0.1)


def _tail(path):
    return path.read_text()[-2500:] if path.exists() else ""
