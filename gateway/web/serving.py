"""uvicorn as the page needs it; a module of its own, since it is loaded in the page's thread."""

from typing import Final

import uvicorn
from starlette.types import ASGIApp

from gateway.watch import Part

_OPEN_REQUESTS: Final = 100
"""Beyond this many at once the answer is 503: the page must not take the gateway's memory."""
_OPEN_REQUESTS_LIMIT_S: Final = 2


class Server(uvicorn.Server):
    """A server that says it lives; outside the main thread uvicorn leaves signals alone."""

    def __init__(self, app: ASGIApp, part: Part) -> None:
        super().__init__(
            uvicorn.Config(
                app, lifespan="off", log_config=None, access_log=False, server_header=False,
                limit_concurrency=_OPEN_REQUESTS, timeout_graceful_shutdown=_OPEN_REQUESTS_LIMIT_S,
            )
        )  # fmt: skip
        self._part = part

    async def on_tick(self, counter: int) -> bool:
        """Say that it lives, and tell whether it shall end."""
        self._part.beat("answering requests")
        return bool(await super().on_tick(counter))
