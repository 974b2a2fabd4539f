"""The control socket: commands reach the writing thread, and nobody who connects can make it wait."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from components import REPO
from influxd import wait_until

from gateway import control
from gateway.control import Client, ControlError, ControlServer
from gateway.errors import LichenError
from gateway.store.database import open_writer


def refuse(_):
    raise LichenError("not on a Sunday; come again")


def blunder(_):
    raise ZeroDivisionError("oops")


HANDLERS = {
    "echo": lambda args: args,
    "long": lambda _: "x" * 5_000_000,
    "refuse": refuse,
    "blunder": blunder,
}


@pytest.fixture
def server(tmp_path):
    server = ControlServer(tmp_path, HANDLERS)
    yield server
    server.close()


@contextmanager
def served(server):
    """Serve as the writing thread does."""
    stop = threading.Event()

    def work():
        while not stop.wait(0.002):
            server.serve()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def ask(folder, request):
    return json.loads(control._exchange(folder, request))


def connect(folder):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with control._address(folder) as address:
        client.connect(address)
    return client


def request(name, **args):
    return json.dumps({"name": name, "args": args}).encode() + b"\n"


def test_a_request_is_answered_and_an_error_told(server, tmp_path):
    with served(server):
        assert ask(tmp_path, request("echo", a=[1, "ü"])) == {"result": {"a": [1, "ü"]}}
        assert ask(tmp_path, request("refuse")) == {"error": "not on a Sunday; come again"}
        assert "ZeroDivisionError: oops" in ask(tmp_path, request("blunder"))["error"]
        assert "another version" in ask(tmp_path, request("unheard"))["error"]
        for bad in (b"\n", b"[]\n", b'{"name":[],"args":{}}\n', b'{"name":"echo"}\n', b"\xff\n", b"[" * 60_000 + b"\n"):
            assert "another version" in ask(tmp_path, bad)["error"]
        assert len(ask(tmp_path, request("long"))["result"]) == 5_000_000


def test_a_request_that_is_too_long_is_refused_and_not_gathered(server, tmp_path):
    with served(server):
        client = connect(tmp_path)
        client.settimeout(5)
        client.sendall(b"x" * (control.MAX_REQUEST_BYTES + 1))
        assert b"at most" in client.recv(1000)
        client.close()
    assert server._clients == []


def test_silent_slow_and_vanished_clients_make_nobody_wait(server, tmp_path, monkeypatch):
    monkeypatch.setattr(control, "CLIENT_TIMEOUT_S", 0.3)
    silent = []
    for _ in range(control.MAX_CLIENTS - 1):
        silent.append(connect(tmp_path))
        server.serve()
    half = connect(tmp_path)
    half.send(b'{"name":')
    deaf = silent[0]
    deaf.send(request("long"))  # and never reads the answer
    silent += [connect(tmp_path) for _ in range(5)]  # more than are served at once
    connect(tmp_path).close()
    started_s = time.monotonic()
    for _ in range(20):
        server.serve()
    assert time.monotonic() - started_s < 0.2
    assert len(server._clients) <= control.MAX_CLIENTS
    with served(server):
        assert ask(tmp_path, request("echo")) == {"result": {}}  # once the silent ones were left
    for client in (*silent, half):
        client.close()


def test_a_client_that_went_away_before_its_answer_ends_nothing(server, tmp_path):
    client = connect(tmp_path)
    client.send(request("long"))
    client.close()
    for _ in range(10):
        server.serve()
    assert server._clients == []
    with served(server):
        assert ask(tmp_path, request("echo")) == {"result": {}}


def test_only_its_owner_may_use_the_socket(server, tmp_path):
    assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600


def test_a_folder_of_any_length_and_what_a_killed_gateway_left_are_no_hindrance(tmp_path):
    folder = tmp_path / ("long" * 30) / ("path" * 30)
    folder.mkdir(parents=True)
    killed = ControlServer(folder, HANDLERS)
    killed._listener.close()  # its file stays
    assert (folder / "control.sock").exists()
    server = ControlServer(folder, HANDLERS)
    with served(server):
        assert ask(folder, request("echo", a=1)) == {"result": {"a": 1}}
    server.close()
    assert not (folder / "control.sock").exists()


def test_without_a_gateway_the_command_is_the_writer_itself(tmp_path):
    with pytest.raises(LichenError, match="no store here"), Client(tmp_path, lambda _: HANDLERS) as client:
        client("echo", {})
    open_writer(tmp_path).close()
    with Client(tmp_path, lambda db: {"name": lambda args: [db is not None, args]}) as client:
        assert client("name", {"a": 1}) == [True, {"a": 1}]


HOLDER = """
import sys, time
from pathlib import Path
from gateway.control import ControlServer
from gateway.store.database import open_writer
folder = Path(sys.argv[1])
open_writer(folder)
server = ControlServer(folder, {"echo": lambda args: ["gateway", args]}) if sys.argv[2] == "serve" else None
print("ready", flush=True)
while True:
    if server:
        server.serve()
    time.sleep(0.01)
"""


@contextmanager
def holder(folder, how):
    command = [sys.executable, "-c", HOLDER, str(folder), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPO) as process:
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def local_is_wrong(_):
    raise AssertionError("a gateway has the store")


def test_with_a_gateway_the_command_goes_to_it_and_after_its_death_to_the_store(tmp_path):
    with Client(tmp_path, lambda _: {"echo": lambda args: ["here", args]}) as client:
        with holder(tmp_path, "serve"):
            assert client("echo", {"a": 1}) == ["gateway", {"a": 1}]
        assert client("echo", {"a": 1}) == ["here", {"a": 1}]


def test_a_gateway_that_does_not_answer_is_a_clear_error(tmp_path):
    client = Client(tmp_path, local_is_wrong, timeout_s=0.5)
    with holder(tmp_path, "hold"), pytest.raises(ControlError, match="a gateway has this store and does not answer"):
        client("echo", {})
    with holder(tmp_path, "serve") as process:
        os.kill(process.pid, 19)  # SIGSTOP
        with pytest.raises(ControlError, match="does not answer"):
            client("echo", {})


def test_a_gateway_that_is_just_starting_is_waited_for(tmp_path):
    answers = []
    with holder(tmp_path, "hold"):
        thread = threading.Thread(target=lambda: answers.append(Client(tmp_path, local_is_wrong)("echo", {"a": 1})))
        thread.start()
        wait_until(thread.is_alive, "the command waits", timeout_s=5)
        server = ControlServer(tmp_path, HANDLERS)
        with served(server):
            thread.join(10)
        server.close()
    assert answers == [{"a": 1}]
