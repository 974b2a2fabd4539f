"""Deriving is gathered when it costs much, at once when it costs little, and never later than its limit."""

import pytest

from gateway.derive import pace
from gateway.derive.pace import LATEST_S, SHARE, Pace


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now_s = 100.0

    monkeypatch.setattr(pace.time, "monotonic", lambda: Clock.now_s)
    return Clock


def wait_for(clock, found):
    """How long until it is due again."""
    for tenths in range(1000):
        if found.is_due():
            return tenths / 10
        clock.now_s += 0.1
    raise AssertionError


def test_what_costs_nothing_is_done_at_once(clock):
    found = Pace()
    for _ in range(5):
        assert found.is_due()
        found.worked(0.0, begins_round=True)


def test_what_costs_much_is_gathered_more_and_more_up_to_the_limit(clock):
    found = Pace()
    waits = []
    for _ in range(8):
        found.worked(5.0, begins_round=True)
        waits.append(wait_for(clock, found))
    assert waits == sorted(waits)
    assert waits[0] < 1  # one slow round alone delays nothing much
    assert LATEST_S - 0.2 <= waits[-1] <= LATEST_S + 0.2


def test_all_steps_of_a_round_count(clock):
    found = Pace()
    found.worked(0.1 * SHARE, begins_round=True)
    for _ in range(3):
        found.worked(0.1 * SHARE, begins_round=False)
    assert 0.3 <= wait_for(clock, found) <= 0.5


def test_a_quiet_round_ends_it(clock):
    found = Pace()
    for _ in range(8):
        found.worked(5.0, begins_round=True)
        wait_for(clock, found)
    found.worked(0.0, begins_round=True)
    assert found.is_due()
    found.worked(5.0, begins_round=True)
    assert wait_for(clock, found) < 1
