"""The server of the page: a free port, an answer at once after start, an end, and a port that is taken."""

import signal
import socket
import threading

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway.errors import PartFailedError
from gateway.settings import Web
from gateway.web.server import WebServer


def app():
    return Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"))])


def test_it_answers_as_soon_as_it_has_started_and_not_after_it_stopped():
    server = WebServer(app(), Web(port=0))
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    server.start()
    port = server.port
    assert port != 0
    assert httpx.get(f"http://127.0.0.1:{port}/").text == "here"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    server.stop()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/")
    assert "web" not in {thread.name for thread in threading.enumerate()}


def test_two_servers_take_two_free_ports():
    one, two = WebServer(app(), Web(port=0)), WebServer(app(), Web(port=0))
    one.start()
    two.start()
    try:
        assert one.port != two.port
        assert httpx.get(f"http://127.0.0.1:{two.port}/").text == "here"
    finally:
        one.stop()
        two.stop()


def test_a_taken_port_is_told_with_a_remedy():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = WebServer(app(), Web(port=port))
        with pytest.raises(PartFailedError, match=rf"127\.0\.0\.1:{port}.*set another port under \[web\]"):
            server.start()
        server.stop()


def test_it_stops_although_a_client_keeps_its_connection_open():
    server = WebServer(app(), Web(port=0))
    server.start()
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")  # and never ends its request
        server.stop()
        assert "web" not in {thread.name for thread in threading.enumerate()}
