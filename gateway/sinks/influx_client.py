"""Handing lines to InfluxDB and telling apart what to try again from what will never be taken.

Importing this costs half a second and 37 MB (influxdb-client): only the sink's own process does.
"""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from influxdb_client.client.exceptions import InfluxDBError
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS
from influxdb_client.domain.write_precision import WritePrecision
from urllib3.exceptions import HTTPError

from gateway.settings import Influx, read_secret

_MILLISECONDS: Final[Any] = WritePrecision.MS
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


@dataclass(slots=True)
class Outcome:
    """What became of lines: stored, older than the bucket keeps, refused with the server's reason."""

    written: int = 0
    expired: int = 0
    dead: list[tuple[bytes, str]] = field(default_factory=list)

    @property
    def settled(self) -> int:
        """All of them."""
        return self.written + self.expired + len(self.dead)

    def add(self, other: "Outcome") -> None:
        """Take in what became of other lines."""
        self.written += other.written
        self.expired += other.expired
        self.dead += other.dead


class InfluxClient:
    """One connection to one bucket; writes are synchronous and never retried here.

    `answered` is called after each request, whatever became of it.
    """

    def __init__(self, settings: Influx, token_path: Path, answered: Callable[[], None] = lambda: None) -> None:
        self._settings = settings
        self._answered = answered
        self._token_path = token_path
        address = urlsplit(settings.url)
        self._where = f"InfluxDB at {address.scheme}://{address.netloc.rpartition('@')[2]}"
        try:
            self._client = InfluxDBClient(
                settings.url, read_secret(token_path), org=settings.org, timeout=round(settings.timeout_s * 1000)
            )
        except ValueError as error:
            raise UnavailableError(f"[influx] url: {error}; write it as http://HOST:8086", lasting=True) from error
        self._writer = self._client.write_api(write_options=SYNCHRONOUS)
        self._deleter = self._client.delete_api()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()  # type: ignore[no-untyped-call]

    def write(self, lines: Sequence[bytes]) -> Outcome:
        """Write lines; those the server refuses are found by halving, and the others are stored.

        Raises
        ------
        UnavailableError
            If the server cannot be reached or does not write now. Lines may then be stored or not; writing them again
            changes nothing.
        """
        outcome = Outcome()
        self._halve(lines, outcome)
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
        try:
            self._ask(
                lambda: self._deleter.delete(start, stop, predicate, self._settings.bucket, self._settings.org),
                "delete points (which takes the right to write)",
            )
        except _RefusedError as refused:
            return _short(str(refused))
        return ""

    def _halve(self, lines: Sequence[bytes], outcome: Outcome) -> None:
        if not lines:
            return
        try:
            self._post(b"\n".join(lines))
        except _RefusedError as refused:
            if refused.expired:
                outcome.expired += refused.expired
                outcome.written += len(lines) - refused.expired
            elif len(lines) == 1 or refused.dropped == len(lines):
                outcome.dead += [(line, _short(str(refused))) for line in lines]
            else:
                middle = len(lines) // 2
                self._halve(lines[:middle], outcome)
                self._halve(lines[middle:], outcome)
        else:
            outcome.written += len(lines)

    def _post(self, body: bytes) -> None:
        bucket, org = self._settings.bucket, self._settings.org
        self._ask(lambda: self._writer.write(bucket, org, body, write_precision=_MILLISECONDS), "write")

    def _ask(self, request: Callable[[], object], act: str) -> None:
        try:
            request()
        except InfluxDBError as error:
            raise self._explain(error, act) from error
        except (HTTPError, OSError) as error:
            reason = str(error).rpartition(": ")[2][:_MESSAGE_LENGTH] or type(error).__name__
            raise UnavailableError(f"{self._where} does not answer ({reason}); is it running?") from error
        finally:
            self._answered()

    def _explain(self, error: InfluxDBError, act: str) -> Exception:
        text = error.message.decode("utf-8", "replace") if isinstance(error.message, bytes) else str(error.message)
        status: int | None = getattr(error, "status", None)
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
            case int() if 400 <= status < 500 and status not in _PASSING:
                # Not about a line (a proxy, a wrong address): were these dead letters, all readings would become ones.
                remedy = "check [influx] url"
            case _:
                return UnavailableError(told, retry_after_s=_seconds(error.retry_after))
        return UnavailableError(f"{told}; {remedy}", lasting=True)


def _rfc3339(time_ms: int, nanoseconds: str) -> str:
    """Return a time in the server's notation; `nanoseconds` follow the milliseconds."""
    at = datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
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
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
