"""Deriving is gathered while readings keep coming, at once when one comes alone, and never later than its limit."""

from itertools import pairwise

import pytest

from gateway.derive import pace
from gateway.derive.pace import LATEST_S, LEAST_S, SHARE, Pace


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now_s = 100.0

    monkeypatch.setattr(pace.time, "monotonic", lambda: Clock.now_s)
    return Clock


def wait_for(clock, found):
    """How long until it is due again."""
    for tenths in range(10 * int(LATEST_S) + 10):
        if found.is_due():
            return tenths / 10
        clock.now_s += 0.1
    raise AssertionError


def test_a_reading_that_comes_alone_is_derived_at_once(clock):
    found = Pace()
    for _ in range(5):
        assert found.is_due()
        found.worked(1, 0.001, begins_round=True)
        clock.now_s += 60


def test_a_few_kits_that_keep_sending_are_gathered_a_little(clock):
    found = Pace()
    waits = []
    for _ in range(60):
        if found.is_due():
            found.worked(1, 0.001, begins_round=True)
            waits.append(clock.now_s)
        clock.now_s += 3
    gaps = [after - before for before, after in pairwise(waits)]
    assert gaps[0] == 3
    assert max(gaps) == gaps[-1] == LEAST_S


def test_where_nothing_is_derived_the_next_reading_does_not_wait(clock):
    found = Pace()
    for _ in range(5):
        assert found.is_due()
        found.worked(0, 0.5, begins_round=True)


def test_what_costs_much_is_gathered_more_and_more_up_to_the_limit(clock):
    found = Pace()
    waits = []
    for _ in range(12):
        found.worked(900, 5.0, begins_round=True)
        waits.append(wait_for(clock, found))
    assert waits == sorted(waits)
    assert waits[0] < 1  # one slow round alone delays nothing much
    assert LATEST_S - 0.2 <= waits[-1] <= LATEST_S + 0.2


def test_all_steps_of_a_round_count(clock):
    found = Pace()
    for _ in range(12):
        found.worked(96, 20 * SHARE, begins_round=True)
        for _ in range(3):
            found.worked(96, 20 * SHARE, begins_round=False)
        waited_s = wait_for(clock, found)
    assert 79 <= waited_s <= 81


def test_a_pause_ends_it(clock):
    found = Pace()
    for _ in range(8):
        found.worked(900, 5.0, begins_round=True)
        wait_for(clock, found)
    clock.now_s += LEAST_S + 1
    assert found.is_due()
    found.worked(1, 5.0, begins_round=True)
    assert wait_for(clock, found) < 1
