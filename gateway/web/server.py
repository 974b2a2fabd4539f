"""The page's address and thread: it listens at once, and answers when what it takes to answer has been loaded."""

import logging
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.errors import PartFailedError
from gateway.settings import Web
from gateway.watch import Part

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from gateway.web.serving import Server

log = logging.getLogger(__name__)

_STOP_LIMIT_S: Final = 3.5


class WebServer:
    """Runs a web application in a thread: `start`, then `port` is what it listens on, then `stop`.

    Parameters
    ----------
    make_app
        Makes the application, in the thread of the page: libraries that only a page needs are loaded there, while
        readings are stored already. Who asks meanwhile waits for the answer.
    settings
        Where it listens.
    part
        What hears of it that it lives; a page that cannot be made or served is stuck.
    """

    def __init__(self, make_app: "Callable[[], ASGIApp]", settings: Web, part: Part) -> None:
        self._make_app = make_app
        self._settings = settings
        self._part = part
        self._socket: socket.socket | None = None
        self._server: Server | None = None
        self._ended = False
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; the configured one until it has started."""
        return int(self._socket.getsockname()[1]) if self._socket else self._settings.port

    def start(self) -> None:
        """Listen: what is asked from now on is answered.

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
        self._part.begin("making the page ready")
        self._thread = threading.Thread(target=self._serve, args=(self._socket,), name="web", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish open requests, for 2 s at most, and end the thread; harmless where it never started."""
        self._ended = True
        if self._server:
            self._server.should_exit = True
        if self._thread:
            self._thread.join(_STOP_LIMIT_S)
        if self._socket:
            self._socket.close()

    def _serve(self, listening: socket.socket) -> None:
        try:
            from gateway.web.serving import Server

            self._server = Server(self._make_app(), self._part)
            if not self._ended:  # else `stop` may have come before there was a server to tell
                self._server.run([listening])
        except Exception:
            log.exception("the page cannot be served")
            self._part.begin("serving the page, which has failed")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
