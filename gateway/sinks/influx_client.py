"""Handing lines to InfluxDB over one connection, and telling apart what to try again from what will never be taken.

Two requests of its API are all that the sink needs; importing influxdb-client for them doubles what its start costs, so
they are made with the standard library's HTTP.
"""

import http.client
import json
import re
import select
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

import msgspec

from gateway.settings import Influx, read_secret

_MESSAGE_LENGTH: Final = 300
_PASSING: Final = (408, 425, 429)
"""Client errors that pass by themselves."""

_DROPPED: Final = re.compile(r"\bdropped=(\d+)")
_LINE_ERRORS: Final = ("unable to parse", "partial write", "error decoding json body")
"""The last is what it says of a deletion that it cannot read."""


class UnavailableError(Exception):
    """Nothing can be written now; `retry_after_s` is the server's wish, `lasting` says that a person must act."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, lasting: bool = False) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.lasting = lasting


class _RefusedError(Exception):
    """The server took a request but not all of its lines; `dropped` of them where it says so."""

    def __init__(self, message: str, *, partial: bool = False) -> None:
        super().__init__(message)
        found = _DROPPED.search(message) if partial else None
        self.dropped = int(found[1]) if found else 0
        # InfluxDB tells of retention only where nothing else was wrong; the other lines are stored.
        self.expired = self.dropped if "retention policy" in message and "field type" not in message else 0


class Outcome(msgspec.Struct):
    """What became of lines: stored, older than the bucket keeps, refused with the server's reason."""

    written: int = 0
    expired: int = 0
    dead: list[tuple[bytes, str]] = msgspec.field(default_factory=list)

    @property
    def settled(self) -> int:
        """All of them."""
        return self.written + self.expired + len(self.dead)

    def add(self, other: "Outcome") -> None:
        """Take in what became of other lines."""
        self.written += other.written
        self.expired += other.expired
        self.dead += other.dead


class Body(msgspec.Struct, frozen=True):
    """Lines with a line feed between them, and how many they are."""

    text: bytes
    count: int


class InfluxClient:
    """One connection to one bucket, with one request at a time under way; nothing is tried again here.

    `answered` is called after each request, whatever became of it.

    Raises
    ------
    UnavailableError
        If the address cannot be one.
    SettingsError
        If there is no token.
    """

    def __init__(self, settings: Influx, token_path: Path, answered: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._answered = answered
        self._token_path = token_path
        self._headers = {"Authorization": f"Token {read_secret(token_path)}", "Accept": "application/json"}
        try:
            self._http, self._base, self._where = _connection(settings.url, settings.timeout_s)
        except (ValueError, http.client.InvalidURL) as error:
            raise UnavailableError(f"[influx] url: {error}; write it as http://HOST:8086", lasting=True) from error
        self._sent: Body | None = None
        self._deadline_s = 0.0

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def write(self, lines: Sequence[bytes]) -> Outcome:
        """Write lines; those the server refuses are found by halving, and the others are stored.

        Raises
        ------
        UnavailableError
            If the server cannot be reached or does not write now. Lines may then be stored or not; writing them again
            changes nothing.
        """
        if not lines:
            return Outcome()
        self.begin(Body(b"\n".join(lines), len(lines)))
        return self.finish()

    def begin(self, body: Body) -> None:
        """Send lines without waiting for the answer, which `finish` takes; raises as `write`."""
        self._sent = body
        self._send("POST", self._path("write", precision="ms"), body.text, "text/plain; charset=utf-8")

    def fileno(self) -> int:
        """Return what becomes readable with the answer to a request that was begun."""
        return self._http.sock.fileno()

    def left_s(self) -> float:
        """Return how long the answer may still take [s]."""
        return max(0.0, self._deadline_s - time.monotonic())

    def finish(self) -> Outcome:
        """Wait for the answer to lines that were sent, find those it refuses; returns and raises as `write`."""
        body, self._sent = self._sent, None
        outcome = Outcome()
        if body is None:
            return outcome
        try:
            self._answer("write")
        except _RefusedError as refused:
            self._sort_out(body.text.split(b"\n"), refused, outcome)
        else:
            outcome.written += body.count
        return outcome

    def delete(self, predicate: str, first_ms: int, last_ms: int) -> str:
        """Delete the points of a series from one time to another, both included.

        Returns
        -------
        str
            Why the server will never do it, empty where it has.

        Raises
        ------
        UnavailableError
            If the server cannot be reached or does not delete now.
        """
        # Points stand at whole milliseconds, so it does not matter whether the server takes the end as included.
        start, stop = _rfc3339(first_ms, "000000"), _rfc3339(last_ms, "999999")
        asked = json.dumps({"start": start, "stop": stop, "predicate": predicate}).encode()
        try:
            self._send("POST", self._path("delete"), asked, "application/json")
            self._answer("delete points (which takes the right to write)")
        except _RefusedError as refused:
            return _short(str(refused))
        return ""

    def _halve(self, lines: Sequence[bytes], outcome: Outcome) -> None:
        body = Body(b"\n".join(lines), len(lines))
        try:
            self.begin(body)
            self._answer("write")
        except _RefusedError as refused:
            self._sort_out(lines, refused, outcome)
        else:
            outcome.written += len(lines)

    def _sort_out(self, lines: Sequence[bytes], refused: _RefusedError, outcome: Outcome) -> None:
        """Store what the server takes of lines that it has refused together."""
        if refused.expired:
            outcome.expired += refused.expired
            outcome.written += len(lines) - refused.expired
        elif len(lines) == 1 or refused.dropped == len(lines):
            outcome.dead += [(line, _short(str(refused))) for line in lines]
        else:
            middle = len(lines) // 2
            self._halve(lines[:middle], outcome)
            self._halve(lines[middle:], outcome)

    def _path(self, what: str, **more: str) -> str:
        settings = self._settings
        return f"{self._base}/api/v2/{what}?{urlencode({'org': settings.org, 'bucket': settings.bucket, **more})}"

    def _send(self, method: str, path: str, body: bytes, kind: str) -> None:
        self._deadline_s = time.monotonic() + self._settings.timeout_s
        if self._http.sock and select.select([self._http.sock], [], [], 0)[0]:
            self._http.close()  # by the server, since the last request
        try:
            self._http.request(method, path, body, {**self._headers, "Content-Type": kind})
        except (BrokenPipeError, ConnectionResetError) as error:
            if self._http.sock is None:
                raise self._silent(error) from error
            # It has stopped listening, and may have said why before.
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error
        except ValueError as error:  # a line feed in the token, a letter that HTTP does not know
            self.close()
            raise UnavailableError(f"{self._token_path} holds no token: {error}", lasting=True) from error

    def _answer(self, act: str) -> None:
        try:
            self._http.sock.settimeout(max(0.01, self.left_s()))
            response = self._http.getresponse()
            content = response.read()
            if self._http.sock:
                self._http.sock.settimeout(self._settings.timeout_s)
        except (OSError, http.client.HTTPException) as error:
            raise self._silent(error) from error
        finally:
            self._answered()
        if not 200 <= response.status < 300:
            raise self._explain(response, content, act)

    def _silent(self, error: Exception) -> UnavailableError:
        """Close a connection that has failed; returns what there is to say."""
        self.close()
        reason = (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:_MESSAGE_LENGTH]
        return UnavailableError(f"{self._where} does not answer ({reason}); is it running?")

    def _explain(self, response: http.client.HTTPResponse, content: bytes, act: str) -> Exception:
        text, status = _message(content) or response.reason, response.status
        about_it = any(words in text for words in _LINE_ERRORS)
        if status in {413, 422} or (status == 400 and about_it):
            return _RefusedError(text, partial=status == 422)
        told = f"{self._where} says {status}: {_short(text)}"
        settings = self._settings
        match status:
            case 401 | 403:
                remedy = f"put a token that may {act} in bucket {settings.bucket} into {self._token_path}"
            case 404:
                remedy = f"create bucket {settings.bucket} in organisation {settings.org}, or correct [influx]"
            case _ if 400 <= status < 500 and status not in _PASSING:
                # Not about a line (a proxy, a wrong address): were these dead letters, all readings would become ones.
                remedy = "check [influx] url"
            case _:
                return UnavailableError(told, retry_after_s=_seconds(response.getheader("Retry-After")))
        return UnavailableError(f"{told}; {remedy}", lasting=True)


def _connection(url: str, timeout_s: float) -> tuple[http.client.HTTPConnection, str, str]:
    """Return a connection that is not open yet, what paths begin with, and the address for people."""
    address = urlsplit(url)
    if not address.hostname or address.scheme not in {"http", "https"}:
        raise ValueError(f"{url} is no address")
    where = f"InfluxDB at {address.scheme}://{address.netloc.rpartition('@')[2]}"
    base = address.path.rstrip("/")
    if address.scheme == "http":
        return http.client.HTTPConnection(address.hostname, address.port, timeout=timeout_s), base, where
    context = ssl.create_default_context()
    secure = http.client.HTTPSConnection(address.hostname, address.port, timeout=timeout_s, context=context)
    return secure, base, where


def _message(content: bytes) -> str:
    """Return what the server says in an answer: `message` of its JSON, or all of it."""
    with suppress(ValueError, UnicodeDecodeError):
        told = json.loads(content)
        if isinstance(told, dict) and isinstance(message := told.get("message", told.get("error")), str):
            return message
    return content.decode("utf-8", "replace")


def _rfc3339(time_ms: int, nanoseconds: str) -> str:
    """Return a time in the server's notation; `nanoseconds` follow the milliseconds."""
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_ms // 1000))
    return f"{at}.{time_ms % 1000:03}{nanoseconds}Z"


def _short(text: str) -> str:
    """Keep both ends of a message: what failed stands first, why stands last."""
    half = _MESSAGE_LENGTH // 2
    return text if len(text) <= _MESSAGE_LENGTH else f"{text[:half]} … {text[-half:]}"


def _seconds(retry_after: str | None) -> float | None:
    """Read Retry-After: seconds or a date."""
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
