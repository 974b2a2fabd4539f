"""An order to stop ends everything within 5 s, whatever the parts are at, and nothing is lost by it."""

import re
import socket
import threading

import httpx
import pytest
from influxd import wait_until
from live_gateway import Kit, LiveGateway, batch, write_config

from gateway.simulate.mosquitto import DemoBroker

pytestmark = pytest.mark.mosquitto
ROWS = 300_000


@pytest.fixture
def broker(mosquitto, tmp_path):
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1"])
    broker.start()
    yield broker
    broker.stop()


def test_a_stop_under_load_with_a_sink_and_open_requests_takes_less_than_5_s(broker, tmp_path):
    folder = tmp_path / "gw"
    folder.mkdir()
    (folder / "token").write_text("t")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        influx = f'[influx]\nurl = "{url}"\norg = "o"\nbucket = "b"\ntoken_file = "token"\n'
        config = write_config(folder, broker, more=influx, web="[web]\nport = 0\n")
        with LiveGateway(config) as gateway, Kit(broker) as kit:
            gateway.receives()
            port = int(re.search(r"page is at http://127\.0\.0\.1:(\d+)/", gateway.log)[1])
            sender = threading.Thread(target=send_all, args=(kit,))
            sender.start()
            wait_until(lambda: gateway.totals().get("rows", 0) > 1000, "rows")
            silent.settimeout(30)
            request, _ = silent.accept()  # the sink waits for an answer that never comes
            with request, socket.create_connection(("127.0.0.1", port)) as page, httpx.Client() as client:
                assert request.recv(4) == b"POST"
                assert client.get(f"http://127.0.0.1:{port}/healthz").status_code == 200  # and stays connected
                page.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")  # and never ends its request
                before = gateway.totals()["rows"]
                code, took_s = gateway.terminate()
            assert code == 0
            assert took_s < 5
            assert before < ROWS, "it was under load"
            sender.join()
    config.write_text(config.read_text().partition("[influx]")[0])
    with LiveGateway(config) as gateway:
        wait_until(lambda: gateway.totals()["rows"] == ROWS, "all rows, once", 60)


def send_all(kit):
    for first in range(0, ROWS, 200):
        kit.send(batch(1, range(first, first + 200)), wait=first % 4000 == 0)
    kit.send(batch(1, [0]))  # all before it have arrived at the broker
