"""The writing thread keeps P1 and P4 when what stands beside storing fails, and whatever the error is."""

import logging
import sqlite3
import sys

import pytest
from influxd import wait_until
from test_intake import NOW_MS, batch

from gateway import settings
from gateway.broker import Message
from gateway.service import COMMIT_BYTES, Gateway
from gateway.sinks.process import SinkProcess
from gateway.store import counters, derived


class Maker:
    """Numbers messages as a connection does."""

    def __init__(self):
        self.mid = 0

    def message(self, topic, payload, received_ms=NOW_MS):
        self.mid += 1
        return Message(topic, payload, received_ms, self.mid, 1, 1)


@pytest.fixture
def gateway(tmp_path, monkeypatch):
    config = tmp_path / "gateway.toml"
    config.write_text("[web]\nenabled = false\n[clock]\ntrusted = false\n[store]\ncommit_s = 0.01\n")
    gateway = Gateway(settings.load(config))
    gateway.acknowledged = []
    monkeypatch.setattr(gateway._intake, "_acknowledge", lambda ms: gateway.acknowledged.extend(m.mid for m in ms))
    yield gateway
    gateway._end()


@pytest.fixture
def listener(tmp_path):
    """A sink's process that only notes the words it is told, one a line."""
    heard = tmp_path / "heard"
    code = "import os, sys\nwhile word := os.read(0, 64): open(sys.argv[1], 'ab').write(word + b'\\n')"
    sink = SinkProcess(tmp_path / "gateway.toml")
    sink._command = [sys.executable, "-c", code, str(heard)]
    sink.start()
    yield lambda: heard.read_text().split() if heard.exists() else [], sink
    sink.stop()


def fail_with(error):
    def fail(*_):
        raise error

    return fail


def rows(gateway):
    return counters.totals(gateway._db).get("rows", 0)


@pytest.mark.parametrize("error", [sqlite3.OperationalError("disk I/O error"), ZeroDivisionError("in this test")])
def test_a_failing_derivation_ends_nothing_and_is_told_once(gateway, monkeypatch, caplog, error):
    monkeypatch.setattr(gateway._deriver, "step", fail_with(error))
    gateway._broker.inbox.put([batch([1], bench=Maker())], 0)
    with caplog.at_level(logging.ERROR):
        turns = [gateway._turn() for _ in range(3)]
    assert turns == [False] * 3, "each failing turn makes the loop pause"
    assert gateway.acknowledged == [1]
    assert rows(gateway) == 1
    assert len([r for r in caplog.records if str(error) in r.getMessage() + str(r.exc_info)]) == 1
    assert str(error) in gateway._attempts.status


def test_the_sink_is_woken_by_what_is_stored_and_derived_and_by_nothing_else(gateway, listener):
    heard, gateway._sink = listener
    wait_until(lambda: heard() == ["new"], "the first word, at the start")
    for _ in range(3):
        assert gateway._turn()
    maker = Maker()
    for count in (1, 2):
        gateway._broker.inbox.put([batch([count], bench=maker)], 0)
        assert gateway._turn()
        wait_until(lambda: gateway._turn() and not derived.count_dirty(gateway._db), "deriving")
        assert gateway._turn()
    gateway._sink.wake()
    wait_until(lambda: len(heard()) >= 6, "the last word")
    assert heard() == ["new"] * 6, "the start, two commits, two derivations and the last"


def test_what_fails_for_a_while_works_again(gateway, monkeypatch):
    step = gateway._deriver.step
    monkeypatch.setattr(gateway._deriver, "step", fail_with(ZeroDivisionError()))
    assert not gateway._turn()
    monkeypatch.setattr(gateway._deriver, "step", step)
    assert gateway._turn()
    assert gateway._attempts.status == ""


def test_mistakes_are_counted_in_the_store(gateway, monkeypatch):
    monkeypatch.setattr(gateway._deriver, "step", fail_with(ZeroDivisionError()))
    for _ in range(3):
        gateway._turn()
    gateway._next_minute_s = 0.0
    gateway._turn()
    assert counters.totals(gateway._db)["errors"] == 3


@pytest.mark.parametrize("part", ["_every_minute", "_release", "_replay", "_look_at_clock"])
def test_a_mistake_beside_storing_does_not_stop_storing(gateway, monkeypatch, part):
    monkeypatch.setattr(gateway, part, fail_with(RuntimeError("in this test")))
    gateway._releasing = True
    for seq in range(3):
        gateway._broker.inbox.put([batch([seq], bench=Maker())], 0)
        gateway._turn()
    assert rows(gateway) == 3


def test_what_cannot_be_committed_is_tried_again_and_acknowledged_once(gateway, monkeypatch):
    real, failures = gateway._intake.store, [sqlite3.OperationalError("database or disk is full")] * 2

    def store(messages):
        if failures:
            raise failures.pop()
        real(messages)

    monkeypatch.setattr(gateway._intake, "store", store)
    gateway._broker.inbox.put([batch([1], bench=Maker())], 0)
    assert not gateway._turn()
    status = gateway._attempts.status
    assert status == "the store cannot be written (database or disk is full); nothing is acknowledged"
    assert not gateway._turn()
    assert gateway.acknowledged == []
    gateway._turn()
    assert gateway.acknowledged == [1]
    assert gateway._attempts.status == ""
    assert rows(gateway) == 1


def test_a_mistake_in_the_middle_of_a_commit_loses_nothing_when_it_is_tried_again(gateway, monkeypatch):
    """What the writer remembers of a commit that was undone must not make its rows copies of themselves."""
    flush, failures = gateway._intake._raw.flush, [ZeroDivisionError("in this test")]

    def failing_flush():
        flush()
        if failures:
            raise failures.pop()

    monkeypatch.setattr(gateway._intake._raw, "flush", failing_flush)
    gateway._broker.inbox.put([batch([1, 2, 3], bench=Maker())], 0)
    gateway._turn()
    gateway._turn()
    assert gateway.acknowledged == [1]
    assert rows(gateway) == 3
    assert gateway._db.execute("SELECT sum(row_count) FROM chunk").fetchone() == (3,)


def test_one_commit_is_bounded_in_memory(gateway):
    for mid in range(20):
        gateway._broker.inbox.put([Message("lichen/v1/k/obs", bytes(1 << 20), NOW_MS, mid, 1, 1)], 0)
    assert sum(len(m.payload) for m in gateway._gather()) == COMMIT_BYTES
