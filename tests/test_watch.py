"""A part that hangs is noticed: the watchdog is fed only while none does, and an idle or a failing part is none."""

import itertools
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from influxd import wait_until
from live_gateway import Kit, LiveGateway, batch, write_config

from gateway import watch as module
from gateway.simulate.mosquitto import DemoBroker, free_port
from gateway.watch import Part, watchdog_timeout_s


class NoBroker:
    """A port where nobody listens."""

    def __init__(self, folder):
        self.port = free_port()
        self.gateway_password_file = folder / "password"
        self.gateway_password_file.write_text("none")


@pytest.fixture
def broker(mosquitto, tmp_path):
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1", "kit-2"])
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now_s = 1000.0

    monkeypatch.setattr(module.time, "monotonic", lambda: Clock.now_s)
    return Clock


def test_a_part_with_work_and_no_attempt_within_its_limit_is_stuck(clock):
    part = Part("derive", 10)
    assert not part.stuck(5000)
    part.begin("3 hours")
    clock.now_s += 9
    part.begin("4 hours")  # more work does not start the time again
    assert not part.stuck(1010)
    assert part.stuck(1010.1) == (1000, "4 hours")
    part.attempted()
    assert not part.stuck(5000)


def test_attempts_that_all_fail_are_not_stuck(clock):
    part = Part("store", 10)
    for _ in range(100):
        part.beat("committing 1 messages")
        clock.now_s += 9
        assert not part.stuck(clock.now_s)


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_fed_only_where_this_process_is_asked_to(monkeypatch, env, expected):
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert watchdog_timeout_s() == expected


def gaps(times):
    return [b - a for a, b in itertools.pairwise(times)]


def test_a_gateway_without_a_broker_goes_on_feeding_and_says_what_is_wrong(tmp_path):
    """Limits shorter than the run: only what idle parts and failing connections report keeps them from being stuck."""
    config = write_config(tmp_path, NoBroker(tmp_path), web="[web]\nport = 0\n")
    limits = {"store_s": 2, "broker_s": 4.2, "derive_s": 2, "page_s": 2}
    with LiveGateway(config, limits=limits, watchdog_s=1.5) as gateway:
        gateway.wait_for_status("no broker answers at 127.0.0.1")
        begun_s = time.monotonic()
        wait_until(lambda: len(gateway.feeds(begun_s)) >= 9, "feeds for 4.5 s", 30)
        assert max(gaps(gateway.feeds(begun_s))) < 1.5
        assert "stuck" not in gateway.log
        texts = [text for _, text in gateway.notices]
        assert texts.index("READY=1") < texts.index("WATCHDOG=1")
        assert gateway.terminate()[0] == 0
    assert gateway.notices[-1][1] == "STOPPING=1" or "STOPPING=1" in [text for _, text in gateway.notices]


def test_it_is_not_fed_where_nobody_asks(tmp_path):
    with LiveGateway(write_config(tmp_path, NoBroker(tmp_path))) as gateway:
        gateway.wait_for_status("no broker")
        time.sleep(1.5)  # longer than a look
        assert not gateway.feeds()


def influx(folder, port, *, timeout_s):
    """The section of a configuration that leads to an InfluxDB."""
    folder.mkdir()
    (folder / "token").write_text("t")
    url = f"http://127.0.0.1:{port}"
    return f'[influx]\nurl = "{url}"\norg = "o"\nbucket = "b"\ntoken_file = "token"\ntimeout_s = {timeout_s}\n'


@pytest.mark.mosquitto
def test_an_idle_gateway_goes_on_feeding(broker, tmp_path):
    """Nothing comes for longer than each limit: idle is not stuck."""
    config = write_config(tmp_path / "gw", broker, web="[web]\nport = 0\n")
    limits = {"store_s": 2, "broker_s": 2.5, "derive_s": 2, "page_s": 2}
    with LiveGateway(config, limits=limits, watchdog_s=1.5) as gateway:
        gateway.receives()
        begun_s = time.monotonic()
        wait_until(lambda: len(gateway.feeds(begun_s)) >= 7, "feeds for 3.5 s", 30)
        assert "stuck" not in gateway.log


@pytest.mark.mosquitto
def test_a_hung_writing_thread_is_named_and_the_watchdog_starves(broker, tmp_path):
    flag = tmp_path / "hang"
    config = write_config(tmp_path / "gw", broker)
    with (
        LiveGateway(config, limits={"store_s": 2}, faults=[f"hang={flag}"], watchdog_s=1) as gateway,
        Kit(broker) as kit,
    ):
        gateway.receives()
        kit.send(batch(1, range(10)))
        wait_until(lambda: gateway.totals().get("rows") == 10, "the rows")
        flag.touch()
        status = gateway.wait_for_status("store is stuck since")
        assert status.endswith("at: deriving")
        starved_s = time.monotonic()
        assert gateway.log.count("store is stuck since 20") == 1
        time.sleep(1.2)  # longer than the watchdog waits
        assert not gateway.feeds(starved_s + 0.1)
        assert "broker is stuck" not in gateway.log


@pytest.mark.mosquitto
def test_a_stopped_sink_is_killed_and_started_again_and_starves_nobody(broker, tmp_path):
    config = write_config(tmp_path / "gw", broker, more=influx(tmp_path / "gw", free_port(), timeout_s=0.5))
    with LiveGateway(config, limits={"sink_s": 3, "store_s": 5}, watchdog_s=1.5) as gateway, Kit(broker) as kit:
        gateway.receives()
        kit.send(batch(1, range(10)))
        gateway.wait_for_log("does not answer")  # a dead InfluxDB is told by the sink, and is not stuck
        pid = sink_of(gateway)
        os.kill(pid, signal.SIGSTOP)
        begun_s = time.monotonic()
        gateway.wait_for_log("the InfluxDB sink hangs", 90)
        new = wait_until(lambda: (found := sink_of(gateway)) and found != pid and found, "a new sink", 20)
        assert new
        assert max(gaps(gateway.feeds(begun_s))) < 1.5
        assert "is stuck" not in gateway.log
        kit.send(batch(1, range(10, 20)))
        wait_until(lambda: gateway.totals()["rows"] == 20, "rows go on")


def sink_of(gateway):
    """The process id of the sink, from the kernel."""
    for children in Path(f"/proc/{gateway.process.pid}/task").glob("*/children"):
        for pid in children.read_text().split():
            if b"gateway.sinks.process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return int(pid)
    return None


@pytest.mark.mosquitto
def test_a_dead_influxdb_is_not_stuck(broker, tmp_path):
    """A server that accepts and never answers: the attempts fail one after the other, for longer than the limit."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        more = influx(tmp_path / "gw", silent.getsockname()[1], timeout_s=0.3)
        config = write_config(tmp_path / "gw", broker, more=more)
        with LiveGateway(config, limits={"sink_s": 3}, watchdog_s=1.5) as gateway, Kit(broker) as kit:
            gateway.receives()
            kit.send(batch(1, range(10)))
            gateway.wait_for_log("does not answer")
            begun_s = time.monotonic()
            wait_until(lambda: len(gateway.feeds(begun_s)) >= 9, "feeds for 4.5 s", 40)
            assert "hangs" not in gateway.log
            assert sink_of(gateway)
