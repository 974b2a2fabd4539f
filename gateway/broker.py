"""The MQTT session: receive, hand over, acknowledge.

paho runs its own network thread. It only puts messages into a bounded queue; a full queue stops the reading, so that
the broker holds what comes next. Any thread may call `publish` and `acknowledge`. A message carries the generation of
the connection that brought it: after a reconnection its acknowledgement would name another message, so it is dropped
(the broker delivers the message again).
"""

import logging
import queue
import time
from dataclasses import dataclass
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.errors import PartFailedError
from gateway.settings import Broker as BrokerSettings

log = logging.getLogger(__name__)

QUEUE_LENGTH: Final = 4000
"""mosquitto 2.0.11 was seen to have 4,000 messages unacknowledged with a receive maximum of 1,000."""

MAX_PACKET_BYTES: Final = 1 << 20
"""Far above the 16 KiB of the wire, so that what is somewhat too large still becomes a dead letter."""

_KEEPALIVE_S: Final = 60
_TOPICS: Final = ("obs", "backlog", "about", "status")
_FULL_QUEUE_WAIT_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Message:
    """What arrived, when [ms since 1970], and what is needed to acknowledge it."""

    topic: str
    payload: bytes
    received_ms: int
    mid: int
    qos: int
    generation: int


class Broker:
    """A persistent MQTT 5 session that acknowledges only what it is told to."""

    def __init__(self, settings: BrokerSettings, password: str | None) -> None:
        self.inbox: queue.Queue[Message] = queue.Queue(QUEUE_LENGTH)
        self.connected = False
        self.receiving = False
        self.generation = 0
        self._stopping = False
        self._said = ""
        self._settings = settings
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2, settings.client_id, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
        )
        client.username_pw_set(settings.username, password)
        client.reconnect_delay_set(min_delay=1, max_delay=30)
        # Set before connecting: a persistent session delivers right after CONNACK.
        client.on_message = self._on_message
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe

    def start(self) -> None:
        """Connect in the background, and again whenever the connection is lost."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._settings.session_expiry_s
        properties.ReceiveMaximum = self._settings.receive_maximum
        # The broker must not send more than memory can hold: it drops what is larger (MQTT 5, section 3.1.2.11.4).
        properties.MaximumPacketSize = MAX_PACKET_BYTES
        self._client.connect_async(
            self._settings.host, self._settings.port, _KEEPALIVE_S, clean_start=False, properties=properties
        )
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect; the session stays at the broker."""
        self._stopping = True
        self._client.disconnect()
        self._client.loop_stop()

    def check(self) -> None:
        """Raise `PartFailedError` when the network thread has ended: without it nothing would arrive again."""
        thread = self._client._thread  # noqa: SLF001 - paho tells nobody when an exception ends its thread
        if not self._stopping and not (thread and thread.is_alive()):
            raise PartFailedError("the connection to the broker has broken down; the log says why")

    def subscribe(self) -> None:
        """Ask for the kits' messages; again as long as the broker refuses."""
        self._client.subscribe([(f"{self._settings.base}/+/{name}", 1) for name in _TOPICS])

    def acknowledge(self, message: Message) -> None:
        """Acknowledge a message, if it is still this connection's."""
        if message.qos and message.generation == self.generation:
            self._client.ack(message.mid, message.qos)

    def publish(self, topic: str, payload: bytes, qos: int) -> None:
        """Send a message below the base topic while connected; what is sent while not is not kept."""
        if self.connected:
            self._client.publish(f"{self._settings.base}/{topic}", payload, qos)

    def _on_connect(self, _client: mqtt.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._say_once(f"the broker refused the connection ({reason}); check [broker] username and password_file")
            return
        self._said = ""
        self.generation += 1
        self.connected = True
        log.info("connected to the broker at %s:%s (session kept: %s)", self._settings.host, self._settings.port,
                 bool(flags.session_present))  # fmt: skip
        self.subscribe()

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        where = f"{self._settings.host}:{self._settings.port}"
        self._say_once(f"no broker answers at {where}; check [broker] host and port, and that it runs; trying on")

    def _say_once(self, problem: str) -> None:
        """Log a problem once, until the next connection."""
        if problem != self._said:
            self._said = problem
            log.warning("%s", problem)

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self.connected:
            log.warning("connection to the broker lost: %s", reason)
        self.connected = False
        self.receiving = False

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, _mid: int, reasons: Any, _properties: Any) -> None:
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self._say_once(f"the broker refused the subscription ({refused[0]}); check its access list for the user "
                           f"{self._settings.username}")  # fmt: skip
        self.receiving = not refused

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        received = Message(
            topic=message.topic, payload=bytes(message.payload), received_ms=time.time_ns() // 1_000_000,
            mid=message.mid, qos=message.qos, generation=self.generation,
        )  # fmt: skip
        while not self._stopping:
            try:
                self.inbox.put(received, timeout=_FULL_QUEUE_WAIT_S)
            except queue.Full:
                continue
            return
