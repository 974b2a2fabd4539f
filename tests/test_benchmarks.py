"""The benchmarks measure what they say: the same readings for both, all of them, and a goal not reached is said."""

import json
import subprocess
import sys
import time

import pytest
from components import REPO

from gateway.wire import decode_batch

sys.path.append(str(REPO / "benchmarks"))

import hooks
import payloads
import performance_page
import wal_pages
from broker import BenchBroker, feed


@pytest.mark.parametrize("shape", [1, 20])
def test_both_programs_get_the_same_readings(shape):
    ours, theirs = [], []
    for topic, payload in payloads.messages(shape, 120, 3, 1_795_215_600, payloads.wire):
        batch = decode_batch(payload)
        for row in batch.rows:
            reading = dict(zip(batch.cols, row, strict=True))
            assert (reading.pop("q"), reading.pop("dt")) == (2, 60)
            ours.append((topic.split("/")[2], {**reading, "boot": batch.boot}))
    for topic, payload in payloads.messages(shape, 120, 3, 1_795_215_600, payloads.objects):
        found = json.loads(payload)
        theirs += [(topic.split("/")[2], one) for one in (found if isinstance(found, list) else [found])]
    assert len(ours) == 120
    assert ours == theirs
    assert len({(kit, reading["t"]) for kit, reading in ours}) == 120


@pytest.mark.mosquitto
def test_the_feeder_leaves_every_message_in_the_session(mosquitto, tmp_path):
    import paho.mqtt.client as mqtt

    sent = [(f"lichen/v1/kit-{n % 7}/obs", str(n).encode() * (n % 90 + 1)) for n in range(6000)]
    got = []
    with BenchBroker(tmp_path) as broker:
        broker.make_session("one", version5=False)
        assert feed(broker, sent)[0] == len(sent)
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "one", clean_session=False)
        client.on_message = lambda _c, _d, m: got.append((m.topic, bytes(m.payload)))
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        deadline = time.monotonic() + 30
        while len(got) < len(sent) and time.monotonic() < deadline:
            time.sleep(0.05)
        client.loop_stop()
    assert got == sent


def test_a_clock_counts_what_a_step_costs_without_the_steps_within(tmp_path, monkeypatch):
    for counted in (hooks._cpu_ns, hooks._wall_ns, hooks._calls):
        monkeypatch.setattr(hooks, _name(counted), {})

    with hooks.step("outer"):
        _work(0.02)
        with hooks.step("inner"):
            _work(0.1)
            time.sleep(0.1)
    hooks.save(tmp_path / "found.json")
    steps = json.loads((tmp_path / "found.json").read_text())["steps"]
    assert 0.02 <= steps["outer"]["cpu_s"] < 0.1 <= steps["inner"]["cpu_s"] < 0.2
    assert steps["inner"]["wall_s"] >= 0.2
    assert steps["outer"]["calls"] == steps["inner"]["calls"] == 1


def test_a_goal_not_reached_stands_as_not_reached():
    figure = {"unit": "s", "date": "2026-11-21", "how": "make bench, others used 0.6 cores"}
    assert "**no**" in performance_page._row("start", {**figure, "value": 1.6, "goal": "<= 1.5"})
    assert "| yes |" in performance_page._row("start", {**figure, "value": 1.5, "goal": "<= 1.5"})
    assert "**no**" in performance_page._row("ratio", {**figure, "value": 1.7, "goal": ">= 1.8"})
    assert "others used 0.6 cores" in performance_page._row("ratio", {**figure, "value": 1.8, "goal": ">= 1.8"})
    assert "not measured" in performance_page._row("start", None)


def test_pages_of_the_log_are_told_by_table(tmp_path):
    import sqlite3

    db = sqlite3.connect(tmp_path / "lichen.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE one (v)")
    db.execute("CREATE TABLE two (v)")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(4):
        db.execute("INSERT INTO one VALUES (?)", (number,))
    db.execute("BEGIN")
    db.execute("INSERT INTO one VALUES (4)")
    db.execute("INSERT INTO two VALUES (1)")
    db.execute("COMMIT")
    found = wal_pages.by_table(tmp_path)
    db.close()
    assert (found["commits"], found["pages_a_commit"], found["of"]) == (5, 1.2, {"one": 1.0, "two": 0.2})


@pytest.mark.parametrize("script", ["side_by_side", "live"])
def test_each_part_has_a_help(script):
    command = [sys.executable, str(REPO / "benchmarks" / f"{script}.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("usage: ")


def _work(cpu_s):
    until = time.thread_time() + cpu_s
    while time.thread_time() < until:
        pass


def _name(counted):
    return next(name for name, value in vars(hooks).items() if value is counted)
