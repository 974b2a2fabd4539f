"""P12 at the demonstration's broker: a kit has its own password, and may write and read what is its own alone."""

import threading

import paho.mqtt.client as mqtt
import pytest

from gateway.simulate.mosquitto import GATEWAY_USER, DemoBroker

pytestmark = pytest.mark.mosquitto
WAIT_S = 10


@pytest.fixture
def broker(mosquitto, tmp_path):
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1", "kit-2"])
    broker.start()
    yield broker
    broker.stop()


class Client:
    """A client that waits for what it expects."""

    def __init__(self, port, user, password):
        self.got, self.refused = [], None
        self.up, self.subscribed, self.news = threading.Event(), threading.Event(), threading.Event()
        self.granted = None
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self.client.username_pw_set(user, password)
        self.client.on_connect = self.connected
        self.client.on_subscribe = self.subscribed_to
        self.client.on_message = lambda _c, _d, m: (self.got.append(m.topic), self.news.set())
        self.cut = []
        self.client.on_disconnect = lambda _c, _d, _f, reason, _p: self.cut.append(str(reason))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self.up.wait(WAIT_S)

    def connected(self, _c, _d, _f, reason, _p):
        self.refused = reason.is_failure
        self.up.set()

    def subscribed_to(self, _c, _d, _m, reasons, _p):
        self.granted = not reasons[0].is_failure
        self.subscribed.set()

    def subscribe(self, topic):
        self.client.subscribe(topic, 1)
        assert self.subscribed.wait(WAIT_S)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def connect(broker):
    clients = []

    def make(user, password=None):
        clients.append(Client(broker.port, user, broker.passwords[user] if password is None else password))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_a_wrong_password_and_no_password_are_refused(connect):
    assert connect("kit-1", "guess").refused
    assert connect("kit-1", "").refused
    assert not connect("kit-1").refused


def test_a_kit_writes_its_own_topics_only(connect):
    gateway, kit = connect(GATEWAY_USER), connect("kit-1")
    gateway.subscribe("lichen/v1/#")
    for name in ("kit-2/obs", "kit-1/stored", "kit-1/cmd", "gateway/time", "kit-1/other", "kit-1/obs"):
        kit.client.publish(f"lichen/v1/{name}", b"x", 1)
    assert gateway.news.wait(WAIT_S)
    assert gateway.got == ["lichen/v1/kit-1/obs"]  # the last one sent: what came before it was thrown away
    assert kit.cut == []  # mosquitto 2.0.11 with `max_queued_messages 0` ends the connection after each denial


def test_a_kit_reads_its_own_receipts_only(connect):
    gateway, kit = connect(GATEWAY_USER), connect("kit-1")
    kit.subscribe("lichen/v1/#")
    for name in ("kit-2/stored", "kit-2/cmd", "kit-1/stored"):
        gateway.client.publish(f"lichen/v1/{name}", b"x", 1)
    assert kit.news.wait(WAIT_S)
    assert kit.got == ["lichen/v1/kit-1/stored"]


def test_secrets_are_readable_by_their_owner_alone(broker):
    folder = broker.gateway_password_file.parent
    for name in ("gateway.password", "passwords"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name
    assert len(set(broker.passwords.values())) == 3
