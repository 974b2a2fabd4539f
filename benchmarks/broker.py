"""A real mosquitto with an unlimited queue, sessions made beforehand, and a publisher faster than any client."""

import os
import socket
import struct
import subprocess
import threading
import time

import paho.mqtt.client as mqtt
from machine import cpu_s, wait_until
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from payloads import BASE

from gateway.programs import MOSQUITTO, find
from gateway.simulate.mosquitto import free_port

_CONF = """\
listener {port} 127.0.0.1
allow_anonymous true
{user}persistence false
max_inflight_messages 20000
max_queued_messages 0
max_queued_bytes 0
set_tcp_nodelay true
log_dest stderr
log_type error
log_type warning
"""
_UNACKED = 5000


class BenchBroker:
    """Use as a context manager, so that it always ends."""

    def __init__(self, folder):
        self.port = free_port()
        self._folder = folder
        self.process = None

    def __enter__(self):
        self._folder.mkdir(parents=True, exist_ok=True)
        conf = self._folder / "mosquitto.conf"
        conf.write_text(_CONF.format(port=self.port, user="user root\n" if os.geteuid() == 0 else ""))
        with (self._folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen([find(MOSQUITTO), "-c", str(conf)], stdout=log, stderr=log)
        wait_until(self._answers, "mosquitto answers", 15)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def cpu_s(self):
        return cpu_s([self.process.pid])

    def make_session(self, client_id, *, version5):
        """Leave a persistent session that wants the kits' readings, as a consumer that was there before."""
        client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=None if version5 else False,
            protocol=mqtt.MQTTv5 if version5 else mqtt.MQTTv311,
        )  # fmt: skip
        subscribed = threading.Event()
        client.on_subscribe = lambda *_: subscribed.set()
        more = {}
        if version5:
            properties = Properties(PacketTypes.CONNECT)
            properties.SessionExpiryInterval = 86_400
            more = {"clean_start": False, "properties": properties}
        client.connect("127.0.0.1", self.port, **more)
        client.loop_start()
        client.subscribe([(f"{BASE}/+/{kind}", 1) for kind in ("obs", "backlog")])
        assert subscribed.wait(10)
        client.disconnect()
        client.loop_stop()

    def _answers(self):
        assert self.process.poll() is None, (self._folder / "mosquitto.log").read_text()
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


class Feeder:
    """Publishes with QoS 1 over one plain socket (MQTT 3.1.1), some microseconds a message."""

    def __init__(self, port, name="feeder"):
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = name.encode()
        rest = b"\x00\x04MQTT\x04\x02\x00\x00" + struct.pack("!H", len(client)) + client  # clean, no keep-alive
        self._socket.sendall(b"\x10" + bytes([len(rest)]) + rest)
        assert self._socket.recv(4) == b"\x20\x02\x00\x00"
        self._sent = 0
        self._acked = 0
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def publish(self, messages):
        """Publish all; returns how many, once the broker has acknowledged each."""
        before = self._sent
        packets, size = [], 0
        for topic, payload in messages:
            packets.append(self._packet(topic.encode(), payload))
            size += len(packets[-1])
            if size > 1 << 16:
                self._send(packets)
                packets, size = [], 0
        self._send(packets)
        self._wait(0)
        return self._sent - before

    def _send(self, packets):
        self._wait(_UNACKED)
        self._socket.sendall(b"".join(packets))

    def _wait(self, most):
        with self._changed:
            assert self._changed.wait_for(lambda: self._sent - self._acked <= most, 60), "the broker does not answer"

    def _packet(self, topic, payload):
        self._sent += 1
        body = struct.pack("!H", len(topic)) + topic + struct.pack("!H", self._sent % 65535 + 1) + payload
        length, head = len(body), bytearray(b"\x32")
        while length > 127:
            head.append(length & 127 | 128)
            length >>= 7
        head.append(length)
        return bytes(head) + body

    def _read(self):
        seen = 0
        try:
            while some := self._socket.recv(1 << 16):
                seen += len(some)
                with self._changed:
                    self._acked = seen // 4  # nothing but PUBACK comes: four bytes each
                    self._changed.notify_all()
        except OSError:
            return


def feed(broker, messages):
    """Queue messages; returns how many and how long it took [s]."""
    start_s = time.monotonic()
    with Feeder(broker.port) as feeder:
        count = feeder.publish(messages)
    return count, time.monotonic() - start_s
