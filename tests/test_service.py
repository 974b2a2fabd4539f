"""The writing thread keeps P1 and P4 when what stands beside storing fails."""

import logging
import sqlite3

import pytest
from test_intake import NOW_MS, batch

from gateway import settings
from gateway.broker import Message
from gateway.service import Gateway


class Stop:
    """Counts how often the thread paused."""

    def __init__(self):
        self.waits = 0

    def is_set(self):
        return False

    def wait(self, _timeout_s=None):
        self.waits += 1
        return False


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
    config.write_text("[web]\nenabled = false\n[clock]\ntrusted = false\n")
    gateway = Gateway(settings.load(config))
    gateway.acknowledged = []
    monkeypatch.setattr(gateway._intake, "_acknowledge", lambda m: gateway.acknowledged.append(m.mid))
    yield gateway
    gateway._db.close()


def test_a_failing_derivation_acknowledges_nothing_twice_and_does_not_spin(gateway, monkeypatch, caplog):
    def fail():
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(gateway._deriver, "step", fail)
    stop = Stop()
    with caplog.at_level(logging.ERROR):
        gateway._store([batch([1], bench=Maker())], stop)
        for _ in range(3):
            gateway._work_between(stop)
    assert gateway.acknowledged == [1]
    assert stop.waits == 3
    assert len([r for r in caplog.records if "disk I/O error" in r.getMessage()]) == 1


def test_what_cannot_be_committed_is_tried_again_and_acknowledged_once(gateway, monkeypatch):
    real, failures = gateway._intake.store, [sqlite3.OperationalError("database or disk is full")] * 2

    def store(messages):
        if failures:
            raise failures.pop()
        real(messages)

    monkeypatch.setattr(gateway._intake, "store", store)
    stop = Stop()
    gateway._store([batch([1], bench=Maker())], stop)
    assert stop.waits == 2
    assert gateway.acknowledged == [1]
