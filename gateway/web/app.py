"""The local page and its JSON interface: reads the store, never writes it, and loads nothing from elsewhere."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import jinja2
import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import system_clock
from gateway.aqi.scheme import load_all
from gateway.errors import StoreError
from gateway.export import iso_time
from gateway.settings import Settings
from gateway.store.database import last_revision, open_reader
from gateway.web import api
from gateway.web.view import read_page

_HERE: Final = Path(__file__).parent

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
"""Of every answer: nothing is loaded but from this gateway, and nothing is shown again without asking it."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def create_app(
    settings: Settings,
    clock_trusted: Callable[[], bool],
    metrics: Callable[[], bytes] | None = None,
    *,
    clock_ms: Callable[[], int] = system_clock.now_ms,
) -> Starlette:
    """Return the web application.

    Parameters
    ----------
    settings
        The configuration: where the store is and which index schemes are derived.
    clock_trusted
        Tells whether the gateway believes its clock; where it does not, now is the newest placed reading.
    metrics
        Returns the page for Prometheus, `None` where there is none.
    clock_ms
        The gateway's clock [ms since 1970].
    """
    site = _Site(settings, clock_trusted, clock_ms)
    return Starlette(
        routes=[
            Route("/", site.page),
            Route("/healthz", site.healthz),
            *([Route("/metrics", _metrics_page(metrics))] if metrics else []),
            Route("/api/v1/kits", site.kits),
            Route("/api/v1/series", site.series),
            Route("/api/v1/index", site.index),
            Mount("/static", StaticFiles(directory=_HERE / "static"), name="static"),
        ],
        middleware=[Middleware(_Headers), Middleware(GZipMiddleware, minimum_size=1000)],
        exception_handlers={
            HTTPException: _http_error,
            api.ApiError: _api_error,
            StoreError: site.no_store,
            sqlite3.Error: site.no_store,
        },
    )


class _Site:
    """The endpoints; Starlette runs each in a thread of its own, and each opens the store for itself."""

    def __init__(self, settings: Settings, clock_trusted: Callable[[], bool], clock_ms: Callable[[], int]) -> None:
        self._store_dir = settings.store_dir
        self._schemes = load_all(settings.derive.schemes, settings.schemes_dir, settings.derive.zone)
        self._clock_trusted = clock_trusted
        self._clock_ms = clock_ms
        self._templates = _templates()

    def page(self, _request: Request) -> Response:
        with self._store() as db:
            page = read_page(db, [s for s in self._schemes if s.utc_offset_h is None], self._now_ms())
        return HTMLResponse(self._templates.get_template("page.html").render(page=page))

    def kits(self, _request: Request) -> Response:
        with self._store() as db:
            return _json(api.kits(db, self._now_ms()))

    def series(self, request: Request) -> Response:
        with self._store() as db:
            return _json(api.series(db, self._now_ms(), request.query_params))

    def index(self, request: Request) -> Response:
        with self._store() as db:
            return _json(api.indices(db, self._now_ms(), self._schemes, request.query_params))

    def healthz(self, _request: Request) -> Response:
        with self._store() as db:
            return _json({"status": "ok", "revision": last_revision(db)})

    def no_store(self, request: Request, error: Exception) -> Response:
        body = {"error": str(error), "where": "the store", "what_next": "lichen status, or the gateway's log, says why"}
        if request.url.path != "/":
            return _json(body, 503)
        return HTMLResponse(self._templates.get_template("unavailable.html").render(), 503)

    def _now_ms(self) -> int | None:
        return self._clock_ms() if self._clock_trusted() else None

    @contextmanager
    def _store(self) -> Iterator[sqlite3.Connection]:
        db = open_reader(self._store_dir)
        try:
            yield db
        finally:
            db.close()


def _metrics_page(metrics: Callable[[], bytes]) -> Callable[[Request], Response]:
    def page(_request: Request) -> Response:
        return Response(metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return page


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def _api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, api.ApiError)  # noqa: S101 - for the type checker; registered for this class alone
    return _json(error.body, error.status)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    what_next = "the page is at /, the data at /api/v1/kits, /api/v1/series and /api/v1/index"
    body = {"error": error.detail, "where": request.url.path[:200], "what_next": what_next}
    response = _json(body, error.status_code)
    response.headers.update(error.headers or {})
    return response


class _Headers:
    """Adds the headers of every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._added]
            await send(message)

        await self._app(scope, receive, send_with if scope["type"] == "http" else send)


def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    templates.filters |= {"iso": iso_time, "utc": _utc, "number": _number, "plain": _plain}
    return templates


def _utc(time_ms: int, form: str = "%Y-%m-%d %H:%M") -> str:
    return (_EPOCH + timedelta(milliseconds=time_ms)).strftime(form)


def _number(value: float, decimals: int = 1) -> str:
    """Return a value for reading: rounded, with a real minus sign, never minus zero."""
    text = f"{value:.{decimals}f}"
    return text.replace("-", "\N{MINUS SIGN}") if float(text) else text.removeprefix("-")


def _plain(text: str) -> str:
    """Return text from the wire without characters that are not shown or that turn the writing direction."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
