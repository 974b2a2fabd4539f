"""DNS (RFC 1035) without I/O, for the one question a kit has: the IPv4 address of a name.

The system's own call blocks the whole program for seconds where a board has no network.
"""


def query(name, number):
    """A question for A records. ValueError if it is no name."""
    out = bytearray((number >> 8, number & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    for label in name.strip(".").split("."):
        data = label.encode()
        if not 0 < len(data) < 64:
            raise ValueError("no host name: " + name)
        out.append(len(data))
        out += data
    return bytes(out) + b"\x00\x00\x01\x00\x01"


def _skip_name(data, at):
    """Position behind a name, -1 if it has no end."""
    while 0 <= at < len(data):
        n = data[at]
        if n & 0xC0 == 0xC0:
            return at + 2
        if n & 0xC0:
            return -1
        at += n + 1
        if not n:
            return at
    return -1


def answer(data, number):
    """(address or None where there is none, whether it is an answer to that question at all)."""
    if len(data) < 12 or data[0] << 8 | data[1] != number or not data[2] & 0x80:
        return None, False
    if data[3] & 15:
        return None, True
    at = 12
    for _ in range(data[4] << 8 | data[5]):
        at = _skip_name(data, at) + 4
        if not 12 < at <= len(data):
            return None, True
    for _ in range(data[6] << 8 | data[7]):
        at = _skip_name(data, at)
        if at < 0 or at + 10 > len(data):
            return None, True
        size = data[at + 8] << 8 | data[at + 9]
        if data[at : at + 4] == b"\x00\x01\x00\x01" and size == 4 and at + 14 <= len(data):
            return "%d.%d.%d.%d" % tuple(data[at + 10 : at + 14]), True
        at += 10 + size
    return None, True
