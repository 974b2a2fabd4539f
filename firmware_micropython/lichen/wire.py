"""Messages of wire version 1 as bytes, by hand: integers and null only, keys in a fixed order, little garbage."""

import json

from micropython import const

_MAX_ROWS = const(256)
WILL = const(b'{"v":1,"up":0}')


def status(boot):
    """Retained while the kit is connected; the will says up 0."""
    return b'{"v":1,"up":1,"boot":%d}' % boot


def _row(row):
    return b"[" + b",".join([b"null" if v is None else b"%d" % v for v in row]) + b"]"


def batch(buf, boot, first, columns, rows):
    """Writes a message into buf: (it as a view, rows that went in, seq of the last). Rows that do not fit are left."""
    head = b'{"v":1,"boot":%d,"first":%d,"cols":["%s"],"rows":[' % (boot, first, '","'.join(columns).encode())
    at = len(head)
    buf[:at] = head
    n = last = 0
    for row in rows:
        text = _row(row)
        end = at + len(text) + (1 if n else 0)
        if end + 2 > len(buf) or n == _MAX_ROWS:
            break
        if n:
            buf[at] = 0x2C
        buf[end - len(text) : end] = text
        at = end
        n += 1
        last = row[0]
    buf[at : at + 2] = b"]}"
    return memoryview(buf)[: at + 2], n, last


def text(value):
    """A string as JSON, or null."""
    return b"null" if value is None else json.dumps(value).encode()


def diag(numbers, reset, sensors, crash):
    """Health: `numbers` as (key, integer or None) in the order of the wire, `sensors` as (name, state, bad)."""
    out = b'{"v":1'
    for key, value in numbers:
        out += b',"%s":%s' % (key.encode(), b"null" if value is None else b"%d" % value)
        if key == "rssi":
            out += b',"reset":' + text(reset)
    out += b',"sensors":['
    out += b",".join([b'{"name":%s,"state":%s,"bad":%d}' % (text(n), text(s), b) for n, s, b in sensors])
    return out + b"]" + (b',"crash":' + text(crash) if crash else b"") + b"}"


def _object(payload):
    if bytes(payload[-1:]) != b"}":  # MicroPython's reader takes an object that is cut short
        return None
    try:
        data = json.loads(payload)
    except ValueError:  # UnicodeError included
        return None
    return data if isinstance(data, dict) and type(data.get("v")) is int and data["v"] == 1 else None


def _count(value, limit):
    return type(value) is int and 0 <= value < limit


def receipt(payload):
    """(boot, seq) of a `stored` message, or None if it is none."""
    data = _object(payload)
    if data and _count(data.get("boot"), 1 << 32) and _count(data.get("seq"), 1 << 63):
        return data["boot"], data["seq"]
    return None


def gateway_time(payload):
    """(epoch, ms, sync) of a `gateway/time` message, or None if it is none."""
    data = _object(payload)
    if data and _count(data.get("t"), 1 << 34) and _count(data.get("ms"), 1000) and _count(data.get("sync"), 2):
        return data["t"], data["ms"], data["sync"]
    return None
