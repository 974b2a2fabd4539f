"""Telling the process that started this one how it is: systemd's notification protocol, sd_notify(3)."""

import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Send a state such as `READY=1` to whoever asked for it in NOTIFY_SOCKET; nothing where nobody did."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    # Whoever asked may have gone, or may not be listening: that is no reason to stop.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
        # A leading @ stands for the zero byte of an abstract address.
        channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
