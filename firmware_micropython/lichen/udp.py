"""One question over UDP without blocking the loop, and the two that a kit asks: an address and the time."""

import asyncio
import os
import socket

from micropython import const

from lichen import sntp

_POLL_MS = const(50)
_TIMEOUT_MS = const(2000)
_MDNS = const("224.0.0.251")


async def ask(address, port, request, understand):
    """What `understand(answer)` makes of the first answer that it does not refuse with None; None if none comes."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        # of a numeric address: answered without asking anybody
        sock.sendto(request, socket.getaddrinfo(address, port)[0][-1])
        for _ in range(_TIMEOUT_MS // _POLL_MS):
            await asyncio.sleep_ms(_POLL_MS)
            try:
                data = sock.recv(512)
            except OSError:  # nothing there yet, or an ICMP error, which may be forged
                continue
            found = understand(data)
            if found is not None:
                return found
    except OSError:  # no route
        pass
    finally:
        sock.close()
    return None


def is_address(host):
    """Whether it is an IPv4 address already."""
    parts = host.split(".")
    return len(parts) == 4 and all([p.isdigit() and int(p) < 256 for p in parts])


async def resolve(host, server):
    """The IPv4 address of a host; names in .local by multicast DNS. OSError if there is none."""
    if is_address(host):
        return host
    from lichen import dns  # a kit that is given an address never needs it

    number = int.from_bytes(os.urandom(2), "big")

    def understand(data):
        found, ours = dns.answer(data, number)
        return (found or "") if ours else None

    local = host.endswith(".local")
    address, port = (_MDNS, 5353) if local else server
    found = await ask(address, port, dns.query(host, number), understand)
    if not found:
        raise OSError(113)  # EHOSTUNREACH
    return found


async def time_of(address, port, floor):
    """(epoch second, ms, stratum) of an NTP server, or None."""
    nonce = os.urandom(8)
    return await ask(address, port, sntp.request(nonce), lambda data: sntp.reply(data, nonce, floor))
