"""A connection to the broker that leaves nothing behind: a client id of its own, no session, no retained message.

What a client may write is asked without writing it: a QoS 2 message is held by the broker until its release (MQTT 5,
section 4.3.3), and the answer to it says whether it would be taken. The release is never sent.
"""

import secrets
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

WAIT_S: Final = 5.0
PREFIX: Final = "lichen-check-"
_REFUSED: Final = 128
_NOT_AUTHORISED: Final = (128, 135)  # the first from brokers that do not say why
_SETTLE_S: Final = 0.3


class ProbeError(Exception):
    """The broker could not be asked; says why in a few words, and whether it answered at all."""

    def __init__(self, reason: str, *, answered: bool = False) -> None:
        super().__init__(reason)
        self.answered = answered


@dataclass(slots=True)
class Granted:
    """What the broker said at the connection; None where it leaves it as asked for."""

    receive_maximum: int | None = None
    maximum_packet_size: int | None = None
    session_expiry_s: int | None = None
    retain_available: bool = True
    maximum_qos: int = 2


class _Holding(mqtt.Client):
    """A client that never releases a QoS 2 message, and keeps what the broker answers to it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.answers: dict[int, int] = {}
        self.changed = threading.Condition()

    def _handle_pubrec(self) -> MQTTErrorCode:
        packet = bytes(self._in_packet["packet"])
        (number,) = struct.unpack("!H", packet[:2])
        with self.changed:
            self.answers[number] = packet[2] if len(packet) > 2 else 0
            self.changed.notify_all()
        return MQTTErrorCode.MQTT_ERR_SUCCESS


@dataclass(slots=True)
class _Heard:
    messages: list[tuple[str, bytes, bool]] = field(default_factory=list)
    subscribed: dict[int, list[int]] = field(default_factory=dict)
    connected: int | None = None
    reason: str = ""


class Probe:
    """One connection; use as a context manager.

    Raises
    ------
    ProbeError
        At the entrance, when the broker refuses or does not answer.
    """

    def __init__(
        self, host: str, port: int, username: str | None, password: str | None, *,
        session_expiry_s: int = 0, receive_maximum: int | None = None,
    ) -> None:  # fmt: skip
        self.granted = Granted()
        self._where = (host, port)
        self._asked_expiry_s = session_expiry_s
        self._heard = _Heard()
        self._client = client = _Holding(
            CallbackAPIVersion.VERSION2, PREFIX + secrets.token_hex(6), protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )  # fmt: skip
        self._receive_maximum = receive_maximum
        if username is not None:
            client.username_pw_set(username, password)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect

    def __enter__(self) -> Self:
        """Connect."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._asked_expiry_s
        if self._receive_maximum:
            properties.ReceiveMaximum = self._receive_maximum
        host, port = self._where
        try:
            self._client.connect(host, port, keepalive=30, clean_start=True, properties=properties)
        except (OSError, ValueError) as error:
            raise ProbeError(getattr(error, "strerror", None) or str(error)) from error
        self._client.loop_start()
        if not self._wait(lambda: self._heard.connected is not None):
            self._end()
            raise ProbeError("it takes the connection and does not speak MQTT")
        if self._heard.connected:
            self._end()
            raise ProbeError(self._heard.reason, answered=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect, and have the broker forget the session at once."""
        self._end()

    @property
    def is_connected(self) -> bool:
        """Whether the broker has not ended it yet."""
        return self._heard.connected == 0

    def may_write(self, topic: str, *, retain: bool = False) -> bool | None:
        """Tell whether the broker would take a message; None where it does not say. Nothing is delivered."""
        if self.granted.maximum_qos < 2:
            return None
        info = self._client.publish(topic, b"", qos=2, retain=retain)
        client = self._client
        with client.changed:
            client.changed.wait_for(lambda: info.mid in client.answers or self._heard.connected is None, WAIT_S)
        answer = client.answers.get(info.mid)
        if answer is None:
            return None
        return False if answer in _NOT_AUTHORISED else (answer < _REFUSED or None)

    def subscribe(self, topics: Sequence[str]) -> list[bool]:
        """Subscribe; returns of each whether it was granted."""
        number = self._client.subscribe([(topic, 1) for topic in topics])[1]
        if number is None or not self._wait(lambda: number in self._heard.subscribed):
            raise ProbeError("it does not answer a subscription")
        return [reason < _REFUSED for reason in self._heard.subscribed[number]]

    def send(self, topic: str, payload: bytes) -> None:
        """Send a message, not retained."""
        self._client.publish(topic, payload, qos=1)

    def hears(self, wanted: Callable[[str, bytes], bool], timeout_s: float | None = None) -> bool:
        """Wait for a message."""
        return self._wait(lambda: any(wanted(topic, payload) for topic, payload, _ in self._heard.messages), timeout_s)

    def heard(self, listen_s: float = _SETTLE_S) -> list[tuple[str, bytes, bool]]:
        """Return (topic, payload, retained) of what came, after listening."""
        with self._client.changed:
            self._client.changed.wait_for(lambda: self._heard.connected is None, listen_s)
        return list(self._heard.messages)

    def _wait(self, condition: Callable[[], bool], timeout_s: float | None = None) -> bool:
        with self._client.changed:
            return self._client.changed.wait_for(condition, WAIT_S if timeout_s is None else timeout_s)

    def _end(self) -> None:
        properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
        if self._asked_expiry_s:
            properties.SessionExpiryInterval = 0
        with suppress(OSError, ValueError):
            self._client.disconnect(properties=properties)
        ending = threading.Thread(target=self._client.loop_stop, daemon=True)
        ending.start()
        ending.join(WAIT_S)

    def _on_connect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if properties is not None:
            self.granted = Granted(
                getattr(properties, "ReceiveMaximum", None), getattr(properties, "MaximumPacketSize", None),
                getattr(properties, "SessionExpiryInterval", None), bool(getattr(properties, "RetainAvailable", 1)),
                getattr(properties, "MaximumQoS", 2),
            )  # fmt: skip
        with self._client.changed:
            self._heard.connected = int(reason.value)
            self._heard.reason = str(reason)
            self._client.changed.notify_all()
        if reason.is_failure:
            self._client.disconnect()

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, number: int, reasons: Any, _properties: Any) -> None:
        with self._client.changed:
            self._heard.subscribed[number] = [reason.value for reason in reasons]
            self._client.changed.notify_all()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        with self._client.changed:
            self._heard.messages.append((message.topic, bytes(message.payload), message.retain))
            self._client.changed.notify_all()

    def _on_disconnect(self, _client: mqtt.Client, *_: Any) -> None:
        """Note that it has ended."""
        with self._client.changed:
            if self._heard.connected == 0:
                self._heard.connected = None
            self._client.changed.notify_all()


def writable(connect: Callable[[], Probe], topics: Sequence[str], *, retain: bool = False) -> dict[str, bool | None]:
    """Tell of each topic whether it may be written; None where the broker does not say.

    After a denial mosquitto 2.0 with `max_queued_messages 0` ends the connection: what is left is asked on another.
    """
    found: dict[str, bool | None] = {}
    left = [topic for topic in topics for _ in range(2)]  # each is asked twice at most
    while left:
        with connect() as probe:
            while left and probe.is_connected:
                topic = left.pop(0)
                if found.get(topic) is None:
                    found[topic] = probe.may_write(topic, retain=retain)
    return found
