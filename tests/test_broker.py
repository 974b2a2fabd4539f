"""The session at the broker: bounded in both directions, and not fought over with another gateway for ever."""

import socket
import struct
import threading
import time

import pytest
from influxd import wait_until
from live_gateway import Kit, LiveGateway, batch, write_config
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from gateway.broker import MAX_UNSENT, QUEUE_BYTES, QUEUE_LENGTH, Broker, Inbox, Message
from gateway.session import Packet
from gateway.settings import Broker as Settings
from gateway.simulate.mosquitto import DemoBroker
from gateway.watch import Part

MIB = 1 << 20


def message(size, mid=1):
    return Message("lichen/v1/k/obs", bytes(size), 0, mid, 1, 1)


def fill(inbox, size):
    count = 0
    while inbox.put([message(size, count)], 0):
        count += 1
    return count


def test_the_inbox_is_bounded_by_messages_and_by_bytes():
    assert fill(Inbox(), 100) == QUEUE_LENGTH
    assert fill(Inbox(), MIB) == QUEUE_BYTES // MIB


def take(inbox, wanted=1, most=1, most_bytes=MIB, timeout_s=0.0):
    return [found.mid for found in inbox.take(wanted, most, most_bytes, timeout_s)]


def test_taking_from_the_inbox_makes_room_in_order_of_arrival():
    inbox = Inbox(length=10, payload_bytes=100)
    assert fill(inbox, 40) == 2
    assert take(inbox) == [0]
    assert inbox.put([message(60, 7)], 0)
    assert take(inbox, most=9) == [1, 7]
    assert take(inbox, timeout_s=0.01) == []
    assert inbox.empty()


def test_what_is_taken_at_once_is_bounded_by_number_and_by_bytes():
    inbox = Inbox()
    for mid in range(6):
        inbox.put([message(40, mid)], 0)
    assert take(inbox, most=2) == [0, 1]
    assert take(inbox, most=9, most_bytes=41) == [2, 3], "the one that reaches the bound is the last"
    assert take(inbox, wanted=9, most=9, timeout_s=0.01) == [4, 5], "fewer than wanted when the time is over"
    assert inbox.payload_bytes == 0


@pytest.mark.parametrize(("wanted", "most_bytes"), [(3, MIB), (99, 90)])
def test_who_waits_for_messages_goes_on_when_there_are_enough(wanted, most_bytes):
    inbox, found = Inbox(length=10), []
    waiting = threading.Thread(target=lambda: found.extend(take(inbox, wanted, 10, most_bytes, 60)))
    waiting.start()
    for mid in range(3):
        assert waiting.is_alive()
        inbox.put([message(30, mid)], 0)
    waiting.join(10)
    assert found == [0, 1, 2]


def test_wanting_more_than_the_inbox_holds_blocks_nobody():
    inbox, found = Inbox(length=2), []
    assert fill(inbox, 1) == 2
    waiting = threading.Thread(target=lambda: found.extend(take(inbox, wanted=99, most=99, timeout_s=60)), daemon=True)
    waiting.start()
    waiting.join(10)
    assert found == [0, 1]


def test_a_message_larger_than_the_inbox_passes_alone():
    inbox = Inbox(length=10, payload_bytes=100)
    assert inbox.put([message(1000)], 0)
    assert not inbox.put([message(1)], 0)
    take(inbox)
    assert inbox.put([message(1)], 0)


def test_who_waits_for_room_goes_on_as_soon_as_there_is_some():
    inbox = Inbox(length=1)
    inbox.put([message(1, 1)], 0)
    waiting = threading.Thread(target=inbox.put, args=([message(1, 2)], 20))
    waiting.start()
    assert take(inbox, timeout_s=1) == [1]
    assert take(inbox, timeout_s=10) == [2]
    waiting.join()


def test_of_messages_that_came_together_those_go_in_that_have_room():
    inbox = Inbox(length=10, payload_bytes=100)
    assert inbox.put([message(40, mid) for mid in range(5)], 0) == 2
    assert take(inbox, most=9) == [0, 1]
    assert inbox.put([message(1, mid) for mid in range(12)], 0) == 10


def test_messages_that_come_together_faster_than_they_are_stored_wait_and_none_is_lost():
    broker = Broker(Settings(), None, Part("broker", 60))
    broker.inbox = Inbox(length=3)
    packets = [Packet("lichen/v1/k/obs", b"x", mid, 1, retained=False) for mid in range(1, 11)]
    reading = threading.Thread(target=broker._on_packets, args=(packets,), daemon=True)
    reading.start()
    found = []
    while len(found) < len(packets):
        assert len(broker.inbox) <= 3
        some = take(broker.inbox, most=2, timeout_s=10)
        assert some, found
        found += some
    reading.join(10)
    assert found == list(range(1, 11))


class FakeBroker:
    """Accepts one client, answers CONNECT and SUBSCRIBE, and then reads what it is told to, acknowledging nothing."""

    def __init__(self, *, reads):
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.reads = reads
        self.frames = 0
        self._client = None
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        self._client, _ = self._server.accept()
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._packet()
        self._client.sendall(bytes([0x20, 3, 0, 0, 0]))
        for topics in (1, 4):
            kind, body = self._packet()
            while kind != 0x82:
                kind, body = self._packet()
            self._client.sendall(bytes([0x90, 3 + topics]) + body[:2] + bytes([0] + [1] * topics))
        while self.reads:
            try:
                self._packet()
            except (OSError, IndexError, struct.error):
                return
            self.frames += 1

    def _packet(self):
        kind = self._exactly(1)[0]
        length = shift = 0
        while True:
            byte = self._exactly(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return kind, self._exactly(length)

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            piece = self._client.recv(count - len(data))
            if not piece:
                raise OSError
            data += piece
        return data

    def close(self):
        self._server.close()
        if self._client:
            self._client.close()


@pytest.fixture(params=[True, False], ids=["reads and never acknowledges", "does not read"])
def deaf(request):
    fake = FakeBroker(reads=request.param)
    yield fake
    fake.close()


def test_receipts_that_nobody_takes_do_not_pile_up_and_stopping_is_quick(deaf):
    broker = Broker(Settings(port=deaf.port), "secret", Part("broker", 60))
    broker.start()
    try:
        wait_until(lambda: broker.receiving, "the subscription")
        for i in range(5 * MAX_UNSENT):
            broker.publish(f"k{i}/stored", b"x" * 2000, 1)
            broker.publish("gateway/time", b"x" * 2000, 0)
        client = broker._client
        assert len(client._out_messages) == MAX_UNSENT  # full: the bound is what keeps it there
        assert len(client._out_packet) <= MAX_UNSENT + 2  # what paho itself puts back or in front
    finally:
        begun_s = time.monotonic()
        broker.stop()
        took_s = time.monotonic() - begun_s
    assert took_s < 3
    wait_until(lambda: not broker._client._thread or not broker._client._thread.is_alive(), "the thread's end", 5)


@pytest.mark.mosquitto
def test_of_two_gateways_on_one_session_the_one_that_started_later_gives_up(mosquitto, tmp_path):
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1"])
    broker.start()
    try:
        one = LiveGateway(write_config(tmp_path / "one", broker))
        two = LiveGateway(write_config(tmp_path / "two", broker))
        with one, Kit(broker) as kit:
            one.receives()
            with two:
                wait_until(lambda: two.process.poll() is not None, "the later one gives up", 60)
            assert two.process.returncode == 3  # systemd leaves it at that (deploy/lichen-gateway.service)
            assert "another gateway uses the session lichen-gateway" in two.log
            assert "give each gateway its own [broker] client_id" in two.log
            assert "Traceback" not in two.log
            one.receives()
            kit.send(batch(1, range(10)))
            wait_until(lambda: one.totals().get("rows") == 10, "the other one receives")
            assert one.process.poll() is None
    finally:
        broker.stop()


@pytest.mark.parametrize("told", [False, True])
def test_however_often_two_gateways_meet_only_the_later_one_gives_up(told):
    """Broker and network may be slow, so that neither learns in time that the other has given up."""
    older, later = Broker(Settings(), None, Part("broker", 60)), Broker(Settings(), None, Part("broker", 60))
    for broker in (older, later):
        broker._look_at_mark(b"", retained=False)
    for generation in range(9):
        for broker, other in ((older, later), (later, older)):
            if told:
                broker._on_disconnect(None, None, None, ReasonCode(PacketTypes.DISCONNECT, identifier=142), None)
            broker._look_at_mark(f"{other.mark} {generation}".encode(), retained=True)
    assert not older._failed
    assert "was taken over 3 times" in later._failed


@pytest.mark.mosquitto
def test_kits_send_again_soon_what_a_broker_threw_away_that_had_lost_the_session(mosquitto, tmp_path):
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1"])
    broker.start()
    try:
        with Kit(broker) as kit, LiveGateway(write_config(tmp_path / "gw", broker)) as gateway:
            gateway.receives()
            begun_s = time.monotonic()
            wait_until(lambda: len(kit.heard_on("gateway/time")) >= 3, "a kit's patience is over", 30)
            assert time.monotonic() - begun_s < 20
    finally:
        broker.stop()
