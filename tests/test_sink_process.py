"""The sink's own process: killed at any time, ending with its parent, started again, and light for the service."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from influxd import Influxd, wait_until
from sink_store import Store, expected_raw

from gateway import run, settings
from gateway.errors import LichenError
from gateway.sinks import process as module
from gateway.sinks.cursor import SinkFiles
from gateway.sinks.process import SinkProcess
from gateway.store.database import last_revision

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def at_the_repository(monkeypatch):
    monkeypatch.chdir(REPO)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def config(tmp_path):
    """A configuration that leads to a port where nobody listens."""
    (tmp_path / "token").write_text("secret-of-this-test")
    path = tmp_path / "gateway.toml"
    path.write_text('[influx]\nurl = "http://127.0.0.1:9"\norg = "o"\nbucket = "b"\ntoken_file = "token"\n')
    return path


@contextmanager
def started(process):
    process.start()
    try:
        yield process
    finally:
        process.stop()


def attempted(folder):
    return wait_until(lambda: SinkFiles(folder / "store", "influx").load_state().attempts, "an attempt")


@pytest.mark.influxdb
def test_sink_killed_in_the_middle_loses_and_doubles_nothing(influxd, tmp_path, store):
    for i in range(120):
        store.add_raw(f"k{i % 4}", 1, 100 * (i // 4), 100)
    files = SinkFiles(store.dir, "influx")
    last = last_revision(store.db)
    with Influxd(influxd, tmp_path / "influxd") as server:
        config = tmp_path / "gateway.toml"
        config.write_text(server.toml() + "batch_lines = 200\n")
        seen = []
        for _ in range(3):
            with started(SinkProcess(config)) as process:
                moved = files.load_cursor().rev
                wait_until(lambda before=moved: files.load_cursor().rev > before, "progress")
                os.kill(process.pid, signal.SIGKILL)
            assert process.last_exit == -signal.SIGKILL
            seen.append(files.load_cursor().rev)
        assert 0 < seen[0] < seen[1] < seen[2] < last
        with started(SinkProcess(config)) as process:
            wait_until(lambda: server.count("raw", "seq") == 12_000, "the rest")
        assert (process.last_exit, files.load_cursor().rev) == (0, last)
        assert server.points("raw") == expected_raw(store.db)


def test_process_ends_with_its_parent(config, store, tmp_path):
    """The parent is killed: nobody closes anything but the kernel."""
    store.add_raw("k1", 1, 0, 5)
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom gateway.sinks.process import SinkProcess\n"
        "p = SinkProcess(Path(sys.argv[1]))\np.start()\nprint(p.pid, flush=True)\ntime.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(config)], stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    child = os.pidfd_open(pid)
    try:
        attempted(tmp_path)
        parent.kill()
        parent.wait()
        wait_until(lambda: not alive(pid), "the child's end", 6)
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()
        if alive(pid):
            signal.pidfd_send_signal(child, signal.SIGKILL)
        os.close(child)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_stop_is_quick_and_clean_while_the_server_is_away(config, store, tmp_path):
    store.add_raw("k1", 1, 0, 5)
    with started(SinkProcess(config)) as process:
        attempted(tmp_path)
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert b"secret" not in arguments
        begun = time.monotonic()
        process.stop()
    assert process.last_exit == 0
    assert time.monotonic() - begun < 5
    state = json.loads((tmp_path / "store/sinks/influx.state.json").read_text())
    assert "does not answer" in state["last_error"]
    assert "secret" not in json.dumps(state)


def test_a_prepared_process_touches_nothing_before_it_is_started(config, tmp_path):
    process = SinkProcess(config)
    process.prepare()
    try:
        wait_until(lambda: "_multiarray_umath" in Path(f"/proc/{process.pid}/maps").read_text(), "it has loaded numpy")
        prepared = process.pid
        assert not (tmp_path / "store").exists()
        Store(tmp_path / "store").add_raw("k1", 1, 0, 5)
        assert not SinkFiles(tmp_path / "store", "influx").state_path.exists()
        process.start()
        assert attempted(tmp_path)
        assert process.poll()
        assert process.pid == prepared
    finally:
        process.stop()


def test_a_process_that_was_only_prepared_ends_when_told(config):
    process = SinkProcess(config)
    process.prepare()
    process.stop()
    assert process.last_exit in {0, -signal.SIGTERM}


def test_a_gateway_that_cannot_begin_leaves_no_sink_behind(config, monkeypatch):
    made = []
    monkeypatch.setattr(SinkProcess, "of", classmethod(lambda cls, loaded: made.append(cls(loaded.path)) or made[0]))
    (config.parent / "store").write_text("no folder")
    with pytest.raises((LichenError, OSError)):
        run.make(settings.load(config))
    assert made[0].pid is None
    assert made[0].last_exit is not None


def test_dead_process_is_started_again(config, store, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FIRST_DELAY_S", 0.05)
    with started(SinkProcess(config)) as process:
        assert process.poll()
        first = process.pid
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: process.poll() and process.pid != first, "a new process", 5)
        assert (process.restarts, process.last_exit) == (1, -signal.SIGKILL)


def test_a_pause_that_was_announced_is_no_hang(config, store, tmp_path):
    store.add_raw("k1", 1, 0, 5)
    (tmp_path / "token").unlink()  # a person must act: the next attempt is half a minute away
    with started(SinkProcess(config)) as process:
        wait_until(lambda: process.poll() and process._pause_s >= 30, "the pause")
        process._silence_s, until_s = 0.2, time.monotonic() + 0.6
        while time.monotonic() < until_s:
            assert process.poll()
            time.sleep(0.05)
        assert (process.hangs, process.restarts) == (0, 0)
        process._pause_s = 0.0
        wait_until(lambda: process.poll() and process.hangs == 1, "what is silent without one hangs", 5)


def test_second_process_waits_for_the_first(config, store, tmp_path):
    store.add_raw("k1", 1, 0, 5)
    files = SinkFiles(store.dir, "influx")
    with started(SinkProcess(config)):
        attempted(tmp_path)
        with started(SinkProcess(config)) as second:
            attempts = files.load_state().attempts
            wait_until(lambda: files.load_state().attempts > attempts or not second.poll(), "the first's next attempt")
            assert second.poll(), "it waits, it does not fail"


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no section [influx]"), ("[influx]\nurl = 1\n", "influx"), (None, "cannot be read")],
)
def test_unusable_configuration_is_told_without_traceback(tmp_path, text, words):
    path = tmp_path / "gateway.toml"
    if text is not None:
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "gateway.sinks.process", str(path)], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False, timeout=20,
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_neither_side_pays_for_libraries_that_it_does_not_need():
    code = (
        "import sys, gateway.sinks.process, gateway.sinks.cursor, gateway.sinks.influx\n"
        "heavy = {'influxdb_client', 'reactivex', 'urllib3', 'pint', 'asyncio', 'concurrent', 'subprocess'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout.strip() == "[]"


def test_stop_does_not_wait_for_a_server_that_never_answers(config, store):
    store.add_raw("k1", 1, 0, 5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config.write_text(config.read_text().replace(":9", f":{silent.getsockname()[1]}"))
        silent.settimeout(10)
        with started(SinkProcess(config)) as process:
            request, _ = silent.accept()
            with request:
                assert request.recv(4) == b"POST"
                begun = time.monotonic()
                process.stop()
    assert process.last_exit == 0
    assert time.monotonic() - begun < 5
