"""Requests to InfluxDB under way: two at once, those that may hold the same series one after the other; one thread.

InfluxDB takes a third more from two connections than from one, and while it works the next request is made ready. Which
of two writes of one point holds is decided by the order in which they come, so a series keeps to one lane.
"""

import select
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from gateway.sinks.influx_client import Body, InfluxClient, Outcome, UnavailableError
from gateway.sinks.lines import Piece

LANES: Final = 2
ALL_LANES: Final = (1 << LANES) - 1

_READY: Final = 2
"""Requests that are made ready before they can be sent: each holds its text."""


class Tally(msgspec.Struct):
    """What became of the requests that belong together, and how many of them are not answered yet."""

    outcome: Outcome = msgspec.field(default_factory=Outcome)
    waiting: int = 0


class _Request(msgspec.Struct, eq=False):
    lanes: int
    count: int
    parts: Sequence[Piece]
    tally: Tally
    body: Body | None = None
    client: InfluxClient | None = None

    def make(self) -> Body:
        if self.body is None:
            self.body = Body(b"\n".join([part.text(start, stop) for part, start, stop in self.parts]), self.count)
            self.parts = ()
        return self.body


class Pipeline:
    """Sends requests in the order in which they were put, as far as lanes and connections allow.

    Parameters
    ----------
    connect
        Opens a connection.

    Raises
    ------
    UnavailableError
        By whatever sends or takes an answer; `close` is all that can be done then.
    """

    def __init__(self, connect: Callable[[], InfluxClient]) -> None:
        self._connect = connect
        self._free: list[InfluxClient] = []
        self._made = 0
        self._queue: deque[_Request] = deque()

    def put(self, lanes: int, count: int, parts: Sequence[Piece], tally: Tally) -> None:
        """Add a request for lines of the series of some lanes, given as bits."""
        tally.waiting += 1
        self._queue.append(_Request(lanes, count, parts, tally))

    def connection(self) -> InfluxClient:
        """Return a connection to use at once, for what is to happen while nothing is under way."""
        if not self._free:
            self._free.append(self._connect())
            self._made += 1
        return self._free[-1]

    def start(self) -> None:
        """Send what may be sent now."""
        taken = 0
        for request in self._queue:
            if taken == ALL_LANES:
                return
            if request.client is None and not request.lanes & taken:
                if not self._free and self._made == LANES:
                    return
                client = self.connection()
                client.begin(request.make())
                request.client = self._free.pop()
            taken |= request.lanes

    def prepare(self) -> bool:
        """Make one request ready that cannot be sent yet; returns whether there was one to be made."""
        ready = [request for request in self._queue if request.client is None][:_READY]
        for request in ready:
            if request.body is None:
                request.make()
                return True
        return False

    def take(self, *, wait: bool) -> bool:
        """Take the answers that have come, or wait for one; returns whether there was one."""
        sent = {request.client: request for request in self._queue if request.client is not None}
        if not sent:
            return False
        timeout_s = min(client.left_s() for client in sent) if wait else 0.0
        came = select.select(list(sent), [], [], timeout_s)[0]
        for client in came or [client for client in sent if not client.left_s()]:
            request = sent[client]
            request.tally.outcome.add(client.finish())
            request.tally.waiting -= 1
            request.client = None
            self._queue.remove(request)
            self._free.append(client)
        return bool(came)

    def close(self) -> None:
        """Forget what was not answered and close the connections.

        The answers to what was sent are waited for first: a write that the server takes up later would bring back a
        point that is deleted meanwhile.
        """
        for request in self._queue:
            if request.client is not None:
                with suppress(UnavailableError):
                    request.client.finish()
                request.client.close()
        for client in self._free:
            client.close()
        self._queue.clear()
        self._free.clear()
        self._made = 0
