"""SNTP (RFC 4330) without I/O: a request, and what its answer says."""

from micropython import const

_TO_1970 = const(2208988800)
_ERA = const(1 << 32)  # seconds wrap in 2036
LOCAL = const(10)  # from this stratum on a server may only agree with itself (chrony's `local stratum 10`)


def request(nonce):
    """48 bytes; the server sends the eight bytes of `nonce` back, which no other answer can know."""
    return b"\x23" + bytes(39) + nonce


def reply(data, nonce, floor):
    """(epoch second, ms, stratum) of an answer to that request, or None. `floor` tells the era."""
    if len(data) < 48 or data[24:32] != nonce or data[0] & 7 != 4 or data[0] >> 6 == 3 or not 1 <= data[1] < 16:
        return None
    seconds = int.from_bytes(data[40:44], "big")
    if not seconds:
        return None
    t = seconds - _TO_1970
    while t < floor - _ERA // 2:
        t += _ERA
    return t, int.from_bytes(data[44:46], "big") * 1000 >> 16, data[1]
