"""The gateway's own clock: believed as configured, by the kernel or by an operator's word, and not around a step."""

import os

import components
import pytest
from influxd import wait_until
from live_gateway import Kit, LiveGateway, batch, write_config

from gateway.simulate.mosquitto import DemoBroker
from gateway.store.database import open_reader
from gateway.system_clock import HandSet, OwnClock, boot_id, steady_ms, synchronised

T_MS = 1_795_215_600_000
HOUR_MS = 3_600_000
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class System:
    """A machine whose clocks a test moves."""

    def __init__(self):
        self.wall_ms, self.steady_ms, self.is_synchronised, self.record = T_MS, 5_000_000, False, None

    def clock(self, setting="auto"):
        return OwnClock(
            setting, lambda: self.record, wall_ms=lambda: self.wall_ms, steady_ms=lambda: self.steady_ms,
            synchronised=lambda: self.is_synchronised, this_boot=lambda: "boot-1",
        )  # fmt: skip

    def pass_s(self, seconds):
        self.wall_ms += round(seconds * 1000)
        self.steady_ms += round(seconds * 1000)

    def declare(self, error_s=30, boot="boot-1"):
        self.record = HandSet(boot_id=boot, error_s=error_s, at_ms=self.wall_ms)


@pytest.fixture
def system():
    return System()


@pytest.mark.parametrize(("setting", "expected"), [(True, 0), (False, None), ("auto", None)])
def test_it_is_trusted_as_configured(system, setting, expected):
    assert system.clock(setting).error_s() == expected


def test_auto_follows_the_kernel(system):
    clock = system.clock()
    system.is_synchronised = True
    assert clock.error_s() == 0
    system.is_synchronised = False
    assert clock.error_s() is None


def test_an_operators_word_counts_in_its_boot_of_the_machine_alone(system):
    clock = system.clock()
    system.declare(30)
    clock.look()
    assert clock.error_s() == 30
    system.declare(40, boot="boot-0")
    system.pass_s(5)
    clock.look()
    assert clock.error_s() is None
    system.is_synchronised = True
    assert clock.error_s() == 0


def test_an_operators_word_does_not_overrule_the_configuration(system):
    system.declare()
    clock = system.clock(setting=False)
    clock.look()
    assert clock.error_s() is None


@pytest.mark.parametrize("by_ms", [HOUR_MS, -HOUR_MS, 24 * HOUR_MS, -24 * HOUR_MS, 10_001, -10_001])
@pytest.mark.parametrize("setting", [True, "auto"])
def test_a_step_makes_it_untrusted_for_a_while_whatever_the_setting(system, setting, by_ms, caplog):
    system.is_synchronised = True
    clock = system.clock(setting)
    system.pass_s(0.2)
    system.wall_ms += by_ms
    assert clock.look()
    assert clock.error_s() is None
    assert clock.steps == 1
    assert f"by {by_ms / 1000:+.1f} s" in caplog.text
    assert "2026-11-20T" in caplog.text
    system.pass_s(119)
    assert not clock.look()
    assert clock.error_s() is None
    system.pass_s(2)
    assert clock.error_s() == 0


@pytest.mark.parametrize("by_ms", [0, 9_000, -9_000])
def test_slewing_is_no_step(system, by_ms):
    clock = system.clock(setting=True)
    system.pass_s(0.2)
    system.wall_ms += by_ms
    assert not clock.look()
    assert clock.error_s() == 0


def test_a_suspended_machine_and_a_stopped_process_are_no_step(system):
    clock = system.clock(setting=True)
    system.pass_s(8 * 3600)  # what counts the time since boot counts suspension too
    assert not clock.look()


def test_being_held_up_between_reading_the_two_clocks_is_no_step(system):
    held_up = iter([0, 60_000])

    def wall_ms():
        late_ms = next(held_up, 0)
        read_ms = system.wall_ms
        system.pass_s(late_ms / 1000)
        return read_ms

    clock = OwnClock(
        True, lambda: None, wall_ms=wall_ms, steady_ms=lambda: system.steady_ms, this_boot=lambda: ""  # noqa: FBT003
    )  # fmt: skip
    assert not clock.look()


def test_an_operators_word_ends_with_a_step_that_it_did_not_make(system):
    system.declare(30)
    clock = system.clock()
    clock.look()
    system.pass_s(60)
    system.wall_ms -= HOUR_MS  # now before the word was given, so that comparing times alone would believe it
    assert clock.look()
    assert clock.voided == system.record
    for _ in range(10):
        system.pass_s(60)
        clock.look()
        assert clock.error_s() is None
    system.declare(20)
    system.pass_s(4)
    clock.look()
    assert clock.error_s() == 20


def test_an_operators_word_survives_the_step_that_it_made_itself(system):
    clock = system.clock()
    system.wall_ms += 5 * HOUR_MS
    system.declare(30)
    system.pass_s(2)
    assert clock.look()
    assert clock.voided is None
    system.pass_s(121)
    assert clock.error_s() == 30


def test_the_systems_own_sources_answer():
    assert isinstance(synchronised(), bool)
    assert boot_id()
    before_ms = steady_ms()
    assert steady_ms() >= before_ms > 0


@pytest.mark.mosquitto
def test_a_gateway_whose_clock_is_moved_says_so_to_the_kits_at_once(mosquitto, tmp_path):
    if not os.path.exists(FAKETIME):  # noqa: PTH110
        components.refuse("libfaketime", "install the package faketime")
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1"])
    broker.start()
    offset = tmp_path / "offset"
    offset.write_text("+0\n")
    env = {
        "LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    config = write_config(tmp_path / "gw", broker)
    try:
        with Kit(broker) as kit, LiveGateway(config, limits={"distrust_s": 4}, env=env) as gateway:
            gateway.receives()
            wait_until(lambda: kit.heard_on("gateway/time"), "the time")
            assert kit.heard_on("gateway/time")[-1]["sync"] == 1
            before_s = kit.heard_on("gateway/time")[-1]["t"]
            new = tmp_path / "offset.new"
            new.write_text("+3600\n")
            new.replace(offset)
            times = lambda: [x for x in kit.heard_on("gateway/time") if x["t"] - before_s > 3500]  # noqa: E731
            moved = wait_until(times, "the time after the step", 5)
            assert moved[0]["sync"] == 0
            assert moved[0]["t"] - before_s < 3660
            kit.send(batch(1, range(3)), "obs")
            wait_until(lambda: gateway.totals().get("rows") == 3, "the rows")
            wait_until(lambda: kit.heard_on("gateway/time")[-1]["sync"] == 1, "trust again", 20)
            assert gateway.log.count("the clock was moved from") == 1
            assert gateway.terminate()[0] == 0
        db = open_reader(tmp_path / "gw" / "store")
        assert db.execute("SELECT DISTINCT clock_error_s FROM chunk").fetchall() == [(None,)]
        db.close()
    finally:
        broker.stop()
