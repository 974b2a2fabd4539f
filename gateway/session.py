"""paho's client, quicker at receiving: it reads the socket in large pieces, looks at a message once, hands over many.

paho asks the kernel for each byte of a packet's head, waits in `select` for each packet, and builds an object with
locks and log texts for each message: 40 µs and more. A backlog of single rows is bound by that. What is replaced here
are methods that paho keeps for itself (the versions are pinned, `tests/test_session.py` holds them against a real
broker); connecting, keeping alive, subscribing, publishing and taking up again after a loss remain paho's.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import paho.mqtt.client as mqtt
from paho.mqtt.enums import MQTTErrorCode

from gateway.watch import Part

_PIECE_BYTES: Final = 256 * 1024
_PACKETS_A_TURN: Final = 200
"""Packets handled before what waits to be sent gets its turn."""
_PUBACK: Final = 0x40
_PUBLISH: Final = 3


class Packet(NamedTuple):
    """A PUBLISH; the packet id is 0 at QoS 0."""

    topic: str
    payload: bytes
    mid: int
    qos: int
    retained: bool


OnPackets = Callable[[list[Packet]], None]
"""Called with what has come, one packet or more, in order, from the network thread."""


def _variable_integer(data: bytes, at: int) -> tuple[int, int] | None:
    """Return the number at a place and where it ends (MQTT 5, section 1.5.5); None where it does not end there."""
    value = shift = 0
    for byte in data[at : at + 4]:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at + shift // 7
    return None


def _publish(head: int, data: bytes, at: int, end: int) -> Packet | None:
    """Return the PUBLISH whose first byte is `head` and whose rest stands from `at` to `end`; None where it is none."""
    # MQTT 5, section 3.3: topic, packet id unless QoS 0, properties, payload.
    qos = (head >> 1) & 3
    topic_end = at + 2 + int.from_bytes(data[at : at + 2], "big")
    properties = _variable_integer(data, topic_end + 2 if qos else topic_end)
    if properties is None or (payload := sum(properties)) > end:  # also where a part of it was read beyond its end
        return None
    mid = int.from_bytes(data[topic_end : topic_end + 2], "big") if qos else 0
    # A topic that is no UTF-8 must not end the thread: it is nobody's then.
    topic = data[at + 2 : topic_end].decode("utf-8", "replace")
    return Packet(topic, data[payload:end], mid, qos, bool(head & 1))


class _Buffered:
    """A socket whose `recv` takes from a large piece read before; all else is the socket's."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._piece = b""
        self._at = 0

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes; raises as the socket does where there are none."""
        if self._at == len(self._piece):
            self._piece, self._at = self._inner.recv(_PIECE_BYTES), 0
        found = self._piece[self._at : self._at + size]
        self._at += len(found)
        return found

    def pending(self) -> int:
        """Return how many bytes can be had without waiting for the network."""
        inner = self._inner.pending() if hasattr(self._inner, "pending") else 0
        return len(self._piece) - self._at + int(inner)

    def take_publishes(self, most: int) -> list[Packet]:
        """Take the packets that stand next, at most so many, as far as each is a PUBLISH that is here as a whole.

        All else, such as a malformed one, is left to paho.
        """
        piece, at = self._piece, self._at
        found: list[Packet] = []
        while len(found) < most and at < len(piece) and piece[at] >> 4 == _PUBLISH:
            length = _variable_integer(piece, at + 1)
            if length is None or (end := sum(length)) > len(piece):
                break
            packet = _publish(piece[at], piece, length[1], end)
            if packet is None:
                break
            found.append(packet)
            at = end
        self._at = at
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Session(mqtt.Client):
    """A client that hands messages to `on_packets`, acknowledges many at once, and shows that its thread lives."""

    part: Part
    on_packets: OnPackets

    def acknowledge(self, mids: Iterable[int]) -> None:
        """Send PUBACK for messages in this order, as one piece."""
        packets = b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids)
        if packets:
            self._packet_queue(_PUBACK, packets, 0, 1)

    def loop_misc(self) -> MQTTErrorCode:
        """Show that the thread lives, at each turn of its loop, a second apart when idle."""
        self.part.beat("waiting for the broker's messages")
        return super().loop_misc()

    def reconnect(self) -> MQTTErrorCode:
        """Show that the thread lives, and connect."""
        self.part.beat("connecting to the broker")
        return super().reconnect()

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Handle what has been read, not one packet alone."""
        with self._msgtime_mutex:
            self._last_bytes_received = time.monotonic()  # paho's sign of life
        left = _PACKETS_A_TURN
        while left > 0:
            # A packet that paho has begun to read has emptied the piece: what is in it begins with a packet.
            if isinstance(self._sock, _Buffered) and (packets := self._sock.take_publishes(left)):
                self.on_packets(packets)
                left -= len(packets)
            else:
                code = super().loop_read(max_packets)
                left -= 1
                if code:
                    return code
            if not isinstance(self._sock, _Buffered) or not self._sock.pending():
                break
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _create_socket(self) -> Any:
        return _Buffered(super()._create_socket())

    def _handle_publish(self) -> MQTTErrorCode:
        data = bytes(self._in_packet["packet"])
        packet = _publish(self._in_packet["command"], data, 0, len(data))
        if packet is None:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self.on_packets([packet])
        return MQTTErrorCode.MQTT_ERR_SUCCESS
