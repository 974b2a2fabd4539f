"""MQTT 3.1.1 without I/O: packets as bytes, and a decoder from bytes to events. QoS 0 and 1 only."""

from micropython import const

PINGREQ = const(b"\xc0\x00")
DISCONNECT = const(b"\xe0\x00")
_MAX_INBOUND = const(4096)
_MAX_TOPIC = const(512)  # of a message that is passed over


class MqttError(Exception):
    """The connection is of no use any more: more came than this kit holds, or the broker refused it."""


class ProtocolError(MqttError):
    """The peer sent what the standard forbids."""


def _string(text):
    data = text if isinstance(text, (bytes, bytearray)) else text.encode()
    return bytes((len(data) >> 8, len(data) & 255)) + data


def _packet(kind, *parts, follows=0):
    n = sum([len(p) for p in parts]) + follows
    out = bytearray((kind,))
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    for part in parts:
        out += part
    return out


def _u16(n):
    return bytes((n >> 8, n & 255))


def connect(client_id, user, password, keepalive_s, topic, will):
    """CONNECT with a persistent session and a retained will of QoS 1 on that topic."""
    flags = 0x04 | 0x08 | 0x20 | (0x80 if user else 0) | (0x40 if user and password else 0)
    parts = [_string("MQTT"), bytes((4, flags)), _u16(keepalive_s)]
    parts += [_string(client_id), _string(topic), _string(will)]
    if user:
        parts.append(_string(user))
        if password:
            parts.append(_string(password))
    return _packet(0x10, *parts)


def publish(topic, size, qos=0, pid=0, retain=False):
    """PUBLISH up to its payload of that size, which follows as it is; `pid` counts with QoS 1."""
    return _packet(0x30 | qos << 1 | retain, _string(topic), _u16(pid) if qos else b"", follows=size)


def puback(pid):
    """PUBACK."""
    return _packet(0x40, _u16(pid))


def subscribe(pid, topics):
    """SUBSCRIBE to (topic, QoS) pairs."""
    return _packet(0x82, _u16(pid), *[_string(t) + bytes((q,)) for t, q in topics])


class Decoder:
    """feed() bytes as they come, in any pieces; events are tuples that start with their name.

    A PUBLISH larger than the limit is passed over, never held, and comes out as ("oversized", QoS, packet id): a
    persistent session would bring it again for ever if the connection were given up instead.
    """

    def __init__(self, limit=_MAX_INBOUND):
        self._limit = limit
        self._buf = b""
        self._skip = 0  # bytes still to come of a message passed over

    def feed(self, data):
        """The events completed by these bytes. MqttError: give up the connection."""
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        buf = self._buf + data
        events = []
        at = 0
        while True:
            head, n = _length(buf, at)
            if not head:
                break
            if n > self._limit:
                event, used = _oversized(buf, at, head, n)
                if not event:
                    break
                events.append(event)
                at += used
                self._skip = max(0, head + n - used - (len(buf) - at))
                at = min(len(buf), at + head + n - used)
            elif len(buf) - at < head + n:
                break
            else:
                events.append(_event(buf[at], buf[at + head : at + head + n]))
                at += head + n
        self._buf = buf[at:]
        return events


def _length(buf, at):
    """(header length, remaining length) of the packet there; header length 0 while it is incomplete."""
    n = shift = 0
    for i in range(1, 5):
        if at + i >= len(buf):
            return 0, 0
        byte = buf[at + i]
        n |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return i + 1, n
    raise ProtocolError("length")


def _oversized(buf, at, head, n):
    """(event, bytes looked at) of a PUBLISH that is not held; event None while its packet id is not there."""
    qos = buf[at] >> 1 & 3
    if buf[at] & 0xF0 != 0x30 or qos > 1:
        raise MqttError("%d bytes are more than this kit holds" % n)
    if not qos:
        return ("oversized", 0, 0), head
    at += head
    if len(buf) < at + 2:
        return None, 0
    topic = 2 + (buf[at] << 8 | buf[at + 1])
    if topic > _MAX_TOPIC or topic + 2 > n:
        raise MqttError("%d bytes of topic" % topic)
    at += topic
    if len(buf) < at + 2:
        return None, 0
    return ("oversized", 1, buf[at] << 8 | buf[at + 1]), head + topic + 2


def _event(head, body):
    kind = head & 0xF0
    if kind == 0x30:
        return _publish_event(head, body)
    if head & 0x0F:
        raise ProtocolError("flags")
    if kind == 0x40 and len(body) == 2:
        return "puback", body[0] << 8 | body[1]
    if kind == 0x90 and len(body) >= 3:
        return "suback", body[0] << 8 | body[1], bytes(body[2:])
    if kind == 0x20 and len(body) == 2:
        return "connack", body[0] & 1, body[1]
    if kind == 0xD0 and not body:
        return ("pingresp",)
    raise ProtocolError("packet %02x, %d bytes" % (head, len(body)))


def _publish_event(head, body):
    qos = head >> 1 & 3
    n = 2 + (body[0] << 8 | body[1]) if len(body) >= 2 else 3
    end = n + (2 if qos else 0)
    if qos > 1 or len(body) < end:
        raise ProtocolError("publish")
    pid = body[n] << 8 | body[n + 1] if qos else 0
    if qos and not pid:
        raise ProtocolError("packet id 0")
    try:
        topic = bytes(body[2:n]).decode()
    except UnicodeError:
        raise ProtocolError("topic") from None
    return "publish", topic, bytes(body[end:]), qos, pid
