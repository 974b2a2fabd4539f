"""The server of the page: a free port, who asks is answered, an end, a port that is taken, a page that fails."""

import signal
import socket
import threading
import time

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway.errors import PartFailedError
from gateway.settings import Web
from gateway.watch import Part
from gateway.web.server import WebServer


def app():
    return Starlette(routes=[Route("/", lambda _: PlainTextResponse("here"))])


def serve(make_app=app, *, port=0, part=None):
    return WebServer(make_app, Web(port=port), part or Part("page", 60))


def test_it_answers_as_soon_as_it_has_started_and_not_after_it_stopped():
    server = serve()
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
    one, two = serve(), serve()
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
        server = serve(port=port)
        with pytest.raises(PartFailedError, match=rf"127\.0\.0\.1:{port}.*set another port under \[web\]"):
            server.start()
        server.stop()


def test_it_stops_although_a_client_keeps_its_connection_open():
    server = serve()
    server.start()
    with socket.create_connection(("127.0.0.1", server.port)) as idle:
        idle.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")  # and never ends its request
        server.stop()
        assert "web" not in {thread.name for thread in threading.enumerate()}


def test_who_asks_while_the_page_is_made_is_answered():
    asked = threading.Event()

    def slow():
        assert asked.wait(30)
        return app()

    server = serve(slow)
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as early:
            early.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            asked.set()
            assert b"".join(iter(lambda: early.recv(4096), b"")).endswith(b"here")
    finally:
        server.stop()


def test_it_stops_while_the_page_is_made():
    made, stopping = threading.Event(), threading.Event()

    def slow():
        made.set()
        assert stopping.wait(30)
        return app()

    server = serve(slow)
    server.start()
    assert made.wait(30)
    threading.Timer(0.1, stopping.set).start()
    server.stop()
    assert "web" not in {thread.name for thread in threading.enumerate()}


def test_a_page_that_cannot_be_made_is_said_and_stuck(caplog):
    part = Part("page", 60)

    def broken():
        raise RuntimeError("no page today")

    server = serve(broken, part=part)
    server.start()
    server._thread.join(30)
    server.stop()
    assert "the page cannot be served" in caplog.text
    assert "no page today" in caplog.text
    assert part.stuck(time.monotonic() + 61).work == "serving the page, which has failed"
