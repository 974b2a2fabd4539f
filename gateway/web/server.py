"""Serving the page from a thread of the gateway."""

import socket
import threading
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from gateway.errors import PartFailedError
from gateway.settings import Web
from gateway.watch import Part

_START_LIMIT_S: Final = 20.0
_STOP_LIMIT_S: Final = 3.5
_OPEN_REQUESTS: Final = 100
"""Beyond this many at once the answer is 503: the page must not take the gateway's memory."""
_OPEN_REQUESTS_LIMIT_S: Final = 2


class WebServer:
    """Runs a web application in a thread: `start`, then `port` is what it listens on, then `stop`."""

    def __init__(self, app: ASGIApp, settings: Web, part: Part | None = None) -> None:
        self._settings = settings
        self._server = _Server(
            uvicorn.Config(
                app, lifespan="off", log_config=None, access_log=False, server_header=False,
                limit_concurrency=_OPEN_REQUESTS, timeout_graceful_shutdown=_OPEN_REQUESTS_LIMIT_S,
            ),
            part,
        )  # fmt: skip
        self._socket: socket.socket | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; the configured one until it has started."""
        return int(self._socket.getsockname()[1]) if self._socket else self._settings.port

    def start(self) -> None:
        """Listen, and return once requests are answered.

        Raises
        ------
        PartFailedError
            The address cannot be used.
        """
        host, port = self._settings.host, self._settings.port
        try:
            self._socket = socket.create_server((host, port), family=_family(host))
        except OSError as error:
            raise PartFailedError(
                f"the page cannot listen on {host}:{port} ({error.strerror or error}); "
                "set another port under [web], or end what uses this one"
            ) from error
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="web", daemon=True)
        self._thread.start()
        if not self._server.ready.wait(_START_LIMIT_S):
            self.stop()
            raise PartFailedError(f"the page did not start within {_START_LIMIT_S:.0f} s; see the log for the reason")

    def stop(self) -> None:
        """Finish open requests, for 2 s at most, and end the thread; harmless where it never started."""
        self._server.should_exit = True
        if self._thread:
            self._thread.join(_STOP_LIMIT_S)
        if self._socket:
            self._socket.close()


class _Server(uvicorn.Server):
    """A server that tells when it answers; outside the main thread uvicorn leaves signals alone."""

    def __init__(self, config: uvicorn.Config, part: Part | None) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._part = part

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def on_tick(self, counter: int) -> bool:
        if self._part:
            self._part.beat("answering requests")
        return bool(await super().on_tick(counter))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
