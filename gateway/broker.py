"""The MQTT session: receive, hand over, acknowledge.

paho runs its own network thread. It only puts messages into a bounded queue; a full queue stops the reading, so that
the broker holds what comes next. Any thread may call `publish` and `acknowledge`. A message carries the generation of
the connection that brought it: after a reconnection its acknowledgement would name another message, so it is dropped
(the broker delivers the message again).
"""

import hashlib
import logging
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gateway.errors import PartFailedError, TakenOverError
from gateway.session import Packet, Session
from gateway.settings import Broker as BrokerSettings
from gateway.watch import Part

log = logging.getLogger(__name__)

QUEUE_LENGTH: Final = 4000
"""mosquitto 2.0.11 was seen to have 4,000 messages unacknowledged with a receive maximum of 1,000."""

QUEUE_BYTES: Final = 32 << 20
"""Of payload: 4,000 messages of the largest size would be 4 GB."""

MAX_UNSENT: Final = 1000
"""Messages to kits that wait for the broker, in each of paho's queues; what is beyond is dropped, kits ask again."""

MAX_PACKET_BYTES: Final = 1 << 20
"""Far above the 16 KiB of the wire, so that what is somewhat too large still becomes a dead letter."""

_KEEPALIVE_S: Final = 60
_TOPICS: Final = {"obs": 1, "backlog": 1, "about": 1, "status": 1, "diag": 0}
"""What is subscribed to of every kit, and with which quality of service."""
_FULL_QUEUE_WAIT_S: Final = 0.5
_TAKEN_OVER: Final = 142  # MQTT 5, section 3.14.2.1: another client has connected with our client id
_MOST_TAKE_OVERS: Final = 3
_TAKE_OVERS_WITHIN_S: Final = 600.0
_STOP_S: Final = 1.5
_CUT_S: Final = 1.0


class Message(msgspec.Struct, frozen=True):
    """What arrived, when [ms since 1970], and what is needed to acknowledge it."""

    topic: str
    payload: bytes
    received_ms: int
    mid: int
    qos: int
    generation: int


class Inbox:
    """Messages on their way from the network thread to the writing one, bounded by number and by bytes."""

    def __init__(self, length: int = QUEUE_LENGTH, payload_bytes: int = QUEUE_BYTES) -> None:
        self._length = length
        self._most_bytes = payload_bytes
        self._bytes = 0
        self._messages: deque[Message] = deque()
        self._changed = threading.Condition()
        self._wanted = self._wanted_bytes = 1

    def put(self, messages: Sequence[Message], timeout_s: float) -> int:
        """Add the first of some messages; returns of how many there was room in time. Alone there is room for any."""
        count = 0
        with self._changed:
            if not self._has_room(messages[0]):
                self._changed.wait_for(lambda: self._has_room(messages[0]), timeout_s)
            for message in messages:
                if not self._has_room(message):
                    break
                self._messages.append(message)
                self._bytes += len(message.payload)
                count += 1
            if count and self._is_enough():  # to wake a thread for each message costs more than to store it
                self._changed.notify_all()
        return count

    def take(self, wanted: int, most: int, most_bytes: int, timeout_s: float) -> list[Message]:
        """Wait until there are as many messages as are wanted, or so many bytes, and take the oldest that are there.

        `most` and `most_bytes` bound what is taken: the message that reaches a bound is the last. Fewer than wanted,
        or none, where no more came in time.
        """
        with self._changed:
            self._wanted, self._wanted_bytes = min(wanted, self._length), most_bytes
            self._changed.wait_for(self._is_enough, timeout_s)
            taken: list[Message] = []
            size = 0
            while self._messages and len(taken) < most and size < most_bytes:
                taken.append(self._messages.popleft())
                size += len(taken[-1].payload)
            self._bytes -= size
            self._changed.notify_all()
            return taken

    @property
    def payload_bytes(self) -> int:
        """Payload that waits."""
        return self._bytes

    @property
    def oldest_ms(self) -> int | None:
        """When the oldest message that waits was received; None where none does."""
        try:
            return self._messages[0].received_ms
        except IndexError:
            return None

    def empty(self) -> bool:
        """Tell whether nothing waits."""
        return not self._messages

    def __len__(self) -> int:
        return len(self._messages)

    def _is_enough(self) -> bool:
        return len(self._messages) >= self._wanted or self._bytes >= self._wanted_bytes

    def _has_room(self, message: Message) -> bool:
        waiting = len(self._messages)
        return not waiting or (waiting < self._length and self._bytes + len(message.payload) <= self._most_bytes)


class Broker:
    """A persistent MQTT 5 session that acknowledges only what it is told to."""

    def __init__(self, settings: BrokerSettings, password: str | None, part: Part) -> None:
        self.inbox = Inbox()
        self.connected = False
        self.receiving = False
        self.generation = 0
        self.session_kept = False
        self._stopping = False
        self._said = ""
        self._failed = ""
        self._taken_over_s: deque[float] = deque(maxlen=_MOST_TAKE_OVERS)
        # mosquitto 2.0 closes a session that is taken over without saying why, as a broken network does. So each
        # gateway leaves its mark at the broker, and looks at each connection whose is there. Marks sort by the time of
        # the start: both know which of them is to give up.
        self._mark = f"{time.time_ns():016x}{secrets.token_hex(4)}"
        self._foreign_mark = b""
        self._marked = self._was_told = False
        session = hashlib.sha256(settings.client_id.encode()).hexdigest()[:16]
        self._mark_topic = f"{settings.base}/gateway/session/{session}"
        self._mark_mid: int | None = None
        self._settings = settings
        self._part = part
        self._where = f"{settings.host}:{settings.port}"
        self._client = client = Session(
            CallbackAPIVersion.VERSION2, settings.client_id, protocol=MQTTProtocolVersion.MQTTv5, manual_ack=True
        )
        client.part = part
        client.max_queued_messages_set(MAX_UNSENT)
        client.username_pw_set(settings.username, password)
        client.reconnect_delay_set(min_delay=1, max_delay=30)
        # Set before connecting: a persistent session delivers right after CONNACK.
        client.on_packets = self._on_packets
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
        """Disconnect, within 2.5 s whatever the broker does; the session stays at the broker."""
        self._stopping = True
        self._client.disconnect()
        # paho waits without a limit until all is sent: for ever at a broker that does not read.
        ending = threading.Thread(target=self._client.loop_stop, name="broker end", daemon=True)
        ending.start()
        ending.join(_STOP_S)
        if ending.is_alive():
            with suppress(OSError, AttributeError):
                self._client.socket().shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
            ending.join(_CUT_S)

    def check(self) -> None:
        """Raise `PartFailedError` when nothing would arrive again without a person or a new start."""
        if self._failed:
            raise TakenOverError(self._failed)
        thread = self._client._thread  # noqa: SLF001 - paho tells nobody when an exception ends its thread
        if not self._stopping and not (thread and thread.is_alive()):
            raise PartFailedError("the connection to the broker has broken down; the log says why")

    @property
    def status(self) -> str:
        """How it stands with the broker, in a few words that begin with "receiving" where it does."""
        if self.receiving:
            return f"receiving from {self._where}"
        return self._said or f"connecting to {self._where}"

    @property
    def mark(self) -> str:
        """What this gateway leaves at the broker while the session is its own."""
        return self._mark

    def subscribe(self) -> None:
        """Ask for the kits' messages; again as long as the broker refuses."""
        self._client.subscribe([(f"{self._settings.base}/+/{name}", qos) for name, qos in _TOPICS.items()])

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Acknowledge messages in this order, as far as they are still this connection's."""
        generation = self.generation
        self._client.acknowledge(m.mid for m in messages if m.qos and m.generation == generation)

    def publish(self, topic: str, payload: bytes, qos: int) -> None:
        """Send a message below the base topic while connected; what is sent while not, or faster than read, is lost."""
        # paho bounds what waits for PUBACK (max_queued_messages), but not what waits for the socket.
        if self.connected and len(self._client._out_packet) < MAX_UNSENT:  # noqa: SLF001
            self._client.publish(f"{self._settings.base}/{topic}", payload, qos)

    def _on_connect(self, _client: mqtt.Client, _data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._say_once(f"the broker refused the connection ({reason}); check [broker] username and password_file")
            return
        self._said = ""
        self.session_kept = bool(flags.session_present)
        self.generation += 1
        self.connected = True
        log.info("connected to the broker at %s (session kept: %s)", self._where, self.session_kept)
        if getattr(properties, "RetainAvailable", 1):
            # In this order: what is kept of the mark before comes with the subscription. QoS 0: the session keeps none.
            self._mark_mid = self._client.subscribe(self._mark_topic, 0)[1]
            self._client.publish(self._mark_topic, f"{self._mark} {self.generation}", 0, retain=True)
        self.subscribe()

    def _on_connect_fail(self, _client: mqtt.Client, _data: Any) -> None:
        self._say_once(f"no broker answers at {self._where}; check [broker] host and port, and that it runs; trying on")

    def _say_once(self, problem: str) -> None:
        """Log a problem once, until the next connection."""
        if problem != self._said:
            self._said = problem
            log.warning("%s", problem)

    def _on_disconnect(self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        self._part.beat("waiting to connect again")
        if self.connected and not (self._stopping or self._failed):
            self._say_once(f"connection to the broker lost ({reason}); trying on")
        self.connected = False
        self.receiving = False
        self._was_told = reason.value == _TAKEN_OVER
        if self._was_told:
            self._note_take_over()
            if self._failed:
                self._client.disconnect()

    def _look_at_mark(self, payload: bytes, *, retained: bool) -> None:
        """Compare what the broker kept with what we left; each mark counts once: a broker may restore an old one."""
        if not retained:
            self._marked = True  # our own comes back: the broker keeps it
        elif self._marked and not payload.startswith(self._mark.encode()) and payload != self._foreign_mark:
            self._foreign_mark = payload
            if self._was_told:
                return
            self._note_take_over()
            if self._failed:
                self._client.disconnect()

    def _note_take_over(self) -> None:
        """Give up after a few: two gateways on one session take it from each other for ever, and both lose time.

        The one that was started later does, so that never both do; one that leaves no mark will not.
        """
        now_s = time.monotonic()
        self._taken_over_s.append(now_s)
        if len(self._taken_over_s) < _MOST_TAKE_OVERS or now_s - self._taken_over_s[0] > _TAKE_OVERS_WITHIN_S:
            return
        if self._foreign_mark > self._mark.encode():
            log.warning("a gateway that was started later uses the session %s too, and should stop soon",
                        self._settings.client_id)  # fmt: skip
        else:
            self._failed = (
                f"another gateway uses the session {self._settings.client_id} at the broker {self._where} too: it was "
                f"taken over {_MOST_TAKE_OVERS} times; give each gateway its own [broker] client_id, or stop the other"
            )

    def _on_subscribe(self, _client: mqtt.Client, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        if mid == self._mark_mid:
            return
        refused = [str(reason) for reason in reasons if reason.is_failure]
        if refused:
            self._say_once(f"the broker refused the subscription ({refused[0]}); check its access list for the user "
                           f"{self._settings.username}")  # fmt: skip
        self.receiving = not refused

    def _on_packets(self, packets: Sequence[Packet]) -> None:
        now_ms, generation = time.time_ns() // 1_000_000, self.generation
        left: list[Message] = []
        for topic, payload, mid, qos, retained in packets:
            if topic == self._mark_topic:
                self._look_at_mark(payload, retained=retained)
            else:
                left.append(Message(topic, payload, now_ms, mid, qos, generation))
        while left and not self._stopping:
            left = left[self.inbox.put(left, _FULL_QUEUE_WAIT_S) :]
            if left:
                self._part.beat("waiting for room in the inbox")
