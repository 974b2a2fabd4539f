"""Intervals, means and the grid of the sampler, with sensors that answer as told."""

import asyncio

import pytest
from lichen import sampler
from lichen.meter import Meter, mean
from lichen.sampler import Sampler


class Clock:
    quality = 0
    offset = 0
    ms = 0

    def at(self, up):
        return up + self.offset if self.quality else None

    def up_ms(self):
        return self.ms


class Sensor:
    PREFIX, TYPE, TIMEOUT_MS, STUCK_S, WARMUP_S, bad, zero = "pm", "X", 800, 1800, 0, 0, False
    channels = (("pm25_cf1", 10, "ug/m3"),)

    def __init__(self):
        self.answers = []
        self.given_up = 0

    def start(self):
        pass

    def trigger(self):
        self.answer = self.answers.pop(0) if self.answers else [1]

    def poll(self):
        return self.answer

    def give_up(self):
        self.given_up += 1


@pytest.fixture
def kit(monkeypatch):
    """A sampler whose sleeps move its clock."""
    clock, sensor, rows = Clock(), Sensor(), []
    node = Sampler(clock, [Meter(sensor)], 5, rows.append)
    node.late = {}

    async def sleep_ms(ms):
        clock.ms += ms + node.late.pop((clock.ms + ms) // 1000, 0)

    monkeypatch.setattr(sampler.asyncio, "sleep_ms", sleep_ms, raising=False)

    def run(until_s):
        async def limited():
            while True:
                await sleep_ms(1)
                break
            task = node.run()
            stop = node.sample

            async def sample(up):
                await stop(up)
                if up + 5 > until_s:
                    node.stop()

            node.sample = sample
            await task

        asyncio.run(limited())
        return rows

    clock.sensor, clock.node = sensor, node
    return clock, run


def test_rows_of_a_minute_of_uptime_without_a_clock(kit):
    _, run = kit
    rows = run(180)
    assert rows == [[None, 60 * i, None, 0, 60, 12, 0, 10] for i in (1, 2, 3)]


INTERVALS = [(0, [60, 60]), (10, [50, 60]), (35, [85, 60]), (31, [30, 60, 60]), (29, [35, 60])]


@pytest.mark.parametrize(("start", "dts"), INTERVALS)
def test_rows_end_at_utc_minutes_and_short_ones_run_on(kit, start, dts):
    clock, run = kit
    clock.quality, clock.offset = 1, 1_700_000_040 // 60 * 60 + start
    rows = run(sum(dts))
    assert [r[4] for r in rows] == dts
    assert rows[-1][1] == sum(dts)
    assert all(r[2] == r[1] + clock.offset and r[2] % 60 < 5 for r in rows)


def test_missing_and_rejected_samples_are_counted_and_nothing_good_is_null(kit):
    clock, run = kit
    clock.sensor.answers = [False, None] + [None] * 10 + [None] * 12 + [[0]] * 6 + [[1]] * 6
    rows = run(180)
    assert [r[5:] for r in rows] == [[0, 12, None], [0, 12, None], [12, 0, 5]]
    assert clock.sensor.given_up == 23


def test_a_late_wake_up_counts_the_slots_missed_and_keeps_the_grid(kit):
    clock, run = kit
    clock.node.late = {20: 12_300}  # asleep from 20 to 32.3 s: the slots at 20 and 25 are gone, the one at 30 is late
    rows = run(120)
    assert rows[0][1:] == [60, None, 0, 60, 10, 2, 10]
    assert rows[1][1:] == [120, None, 0, 60, 12, 0, 10]


def test_warm_up_counts_as_bad(kit):
    clock, run = kit
    clock.node.meters[0].ready_up = 30
    assert run(60)[0][5:] == [7, 5, 10]


def test_mean_is_rounded_half_up_for_either_sign():
    assert [mean(s, 1, 2) for s in (-3, -1, 1, 3)] == [-1, 0, 1, 2]
    assert mean(7, 10, 3) == 23
    assert mean(1, 1, 0) is None
