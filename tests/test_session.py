"""The quicker reading loses and changes nothing: any message, cut anywhere, malformed ones, and what is sent back."""

import socket
import struct
import threading
import time
from contextlib import contextmanager

import paho.mqtt.client as mqtt
from hypothesis import given, settings
from hypothesis import strategies as st
from influxd import wait_until
from paho.mqtt.enums import CallbackAPIVersion

from gateway.session import Session
from gateway.watch import Part

CONNACK = b"\x20\x03\x00\x00\x00"


def length_of(size):
    out = bytearray()
    while True:
        size, digit = divmod(size, 128)
        out.append(digit | (128 if size else 0))
        if not size:
            return bytes(out)


def publish(topic, payload, *, mid=1, qos=1, retained=False, properties=b""):
    """A PUBLISH packet of MQTT 5, section 3.3."""
    body = struct.pack("!H", len(topic)) + topic + (struct.pack("!H", mid) if qos else b"")
    body += length_of(len(properties)) + properties + payload
    return bytes([0x30 | qos << 1 | retained]) + length_of(len(body)) + body


@contextmanager
def connected():
    """A session and the server's end of its connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    session = Session(CallbackAPIVersion.VERSION2, "c", protocol=mqtt.MQTTv5, manual_ack=True)
    session.part = Part("broker", 60)
    session.got = []
    session.on_packets = session.got.extend
    session.connect_async("127.0.0.1", listener.getsockname()[1])
    session.loop_start()
    server, _ = listener.accept()
    try:
        server.recv(4096)
        server.sendall(CONNACK)
        yield session, server
    finally:
        session.disconnect()
        ending = threading.Thread(target=session.loop_stop)
        ending.start()
        ending.join(10)
        server.close()
        listener.close()
        assert not ending.is_alive()


MESSAGES = st.lists(
    st.tuples(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200),
        st.binary(max_size=400), st.integers(1, 65535), st.integers(0, 1), st.booleans(),
        st.sampled_from([b"", b"\x01\x01", b"\x02\0\0\0\x05" * 30]),
    ),
    min_size=1, max_size=20,
)  # fmt: skip


@settings(max_examples=25)
@given(MESSAGES, st.lists(st.integers(1, 3000), max_size=8))
def test_every_message_arrives_whole_and_in_order_wherever_the_network_cuts(messages, cuts):
    stream = b"".join(
        publish(topic.encode(), payload, mid=mid, qos=qos, retained=retained, properties=properties)
        for topic, payload, mid, qos, retained, properties in messages
    )
    with connected() as (session, server):
        at = 0
        for cut in [*cuts, len(stream)]:
            server.sendall(stream[at : at + cut])
            at += cut
        wait_until(lambda: len(session.got) == len(messages), "all messages", 10)
    expected = [(t, p, mid if qos else 0, qos, retained) for t, p, mid, qos, retained, _ in messages]
    assert session.got == expected


def test_what_looks_like_a_message_within_another_is_none():
    inner = publish(b"fake", b"", mid=9)
    packet = publish(b"t", inner * 40)
    for cut in range(1, len(packet), 7):
        with connected() as (session, server):
            server.sendall(packet[:cut])
            time.sleep(0.005)  # so that paho begins to read it
            server.sendall(packet[cut:])
            wait_until(lambda s=session: s.got, "the message", 10)
        assert [got[:2] for got in session.got] == [("t", inner * 40)]


def test_a_message_larger_than_any_piece_arrives():
    with connected() as (session, server):
        payload = bytes(range(256)) * 4096
        server.sendall(publish(b"t", payload) + publish(b"u", b"after", mid=2))
        wait_until(lambda: len(session.got) == 2, "both messages", 10)
    assert session.got[0][1] == payload
    assert session.got[1][:2] == ("u", b"after")


def test_a_topic_that_is_no_text_is_nobodys_and_ends_nothing():
    with connected() as (session, server):
        server.sendall(publish(b"\xff\xfe", b"x") + publish(b"t", b"y", mid=2))
        wait_until(lambda: len(session.got) == 2, "both messages", 10)
    assert session.got[0][0] == "\N{REPLACEMENT CHARACTER}" * 2


def test_a_malformed_message_costs_the_connection_not_the_thread():
    for broken in (b"\x32\x04\x00\x63ab", b"\x32\x05\x00\x01t\x00\x01", b"\x30\x03\x00\x01t", b"\x32\x01\x00"):
        with connected() as (session, server):
            server.sendall(broken)
            wait_until(lambda s=server: s.recv(4096) in {b"", b"\xe0\x00"}, "the end of the connection", 10)
            assert session._thread.is_alive()
            assert session.got == []


def test_acknowledgements_leave_in_order_as_one_piece():
    with connected() as (session, server):
        server.sendall(publish(b"t", b"x"))
        wait_until(lambda: session.got, "the message", 10)
        session.acknowledge(iter([7, 65535, 1]))
        session.acknowledge(iter([]))
        server.settimeout(10)
        assert server.recv(4096) == b"\x40\x02\x00\x07\x40\x02\xff\xff\x40\x02\x00\x01"
