"""Reading a bucket back: points of one measurement and span of time as columns, streamed, so that memory is bounded.

Importing this costs what urllib3 costs, not influxdb-client: the stream is read as it comes.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import numpy as np
import urllib3

from gateway.errors import LichenError
from gateway.records import Ints
from gateway.settings import Influx, read_secret
from gateway.sinks.lineprotocol import Tags

Values = np.ndarray[Any, np.dtype[Any]]
Fields = dict[str, tuple[Ints, Values]]
"""By field: times [ns since 1970], rising, and values of the database's own type."""

NS_PER_MS: Final = 1_000_000
END_MS: Final = 9_223_372_036_000
"""InfluxDB's last time is in 2262."""

_OWN_COLUMNS: Final = frozenset({"", "result", "table", "_time", "_value", "_field"})
_KINDS: Final = {"double": np.float64, "long": np.int64, "unsignedLong": np.uint64}


@dataclass(frozen=True, slots=True)
class _Header:
    """Where the columns of a part of the answer stand, and of which kind its values are."""

    names: list[str]
    kind: str
    time: int
    value: int
    field: int
    tags: list[tuple[str, int]]

    @classmethod
    def of(cls, names: list[str], types: list[str]) -> "_Header":
        at = {name: i for i, name in enumerate(names)}
        tags = sorted((name, i) for name, i in at.items() if name not in _OWN_COLUMNS)
        return cls(names, types[at["_value"]], at["_time"], at["_value"], at["_field"], tags)

    def series(self, cells: list[str]) -> tuple[Tags, str]:
        return tuple((name, cells[i]) for name, i in self.tags if cells[i]), cells[self.field]


class InfluxReader:
    """Queries of one bucket.

    Raises
    ------
    LichenError
        From each of its methods, if the server does not answer or refuses; the message says what to do.
    """

    def __init__(self, settings: Influx, token_path: Path) -> None:
        self._settings = settings
        self._token_path = token_path
        address = urlsplit(settings.url)
        self._where = f"InfluxDB at {address.scheme}://{address.netloc.rpartition('@')[2]}"
        self._url = settings.url.rstrip("/")
        self._headers = {"Authorization": f"Token {read_secret(token_path)}", "Content-Type": "application/json"}
        timeout = urllib3.Timeout(connect=settings.timeout_s, read=max(60.0, settings.timeout_s))
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False)

    def keeps_s(self) -> int:
        """Return for how long the bucket keeps its points [s], 0 for ever."""
        settings = self._settings
        query = urlencode({"org": settings.org, "name": settings.bucket})
        with self._ask("GET", f"/api/v2/buckets?{query}") as response:
            found = json.loads(response.read())["buckets"]
        if not found:
            raise LichenError(
                f"{self._where} shows no bucket {settings.bucket} of organisation {settings.org}; create it, or put a "
                f"token that may read it into {self._token_path}"
            )
        rules = [rule["everySeconds"] for rule in found[0]["retentionRules"] if rule.get("type") == "expire"]
        return int(rules[0]) if rules else 0

    def read(self, measurement: str, from_ms: int, to_ms: int) -> dict[Tags, Fields]:
        """Return all points of a measurement in a span of time; `to_ms` is exclusive."""
        flux = (
            f"from(bucket: {_quoted(self._settings.bucket)}) "
            f"|> range(start: {_rfc3339(from_ms)}, stop: {_rfc3339(to_ms)}) "
            f"|> filter(fn: (r) => r._measurement == {_quoted(measurement)}) "
            '|> drop(columns: ["_start", "_stop", "_measurement"])'
        )
        body = json.dumps({"query": flux, "dialect": {"annotations": ["datatype"], "header": True}}).encode()
        path = f"/api/v2/query?{urlencode({'org': self._settings.org})}"
        found: dict[Tags, Fields] = {}
        with self._ask("POST", path, body) as response:
            try:
                for tags, field, times, values in self._tables(response):
                    found.setdefault(tags, {})[field] = times, values
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise LichenError(f"{self._where} broke off its answer ({error}); try again") from error
        return found

    def _tables(self, response: urllib3.BaseHTTPResponse) -> Iterator[tuple[Tags, str, Ints, Values]]:
        """Yield each table of an answer: one field of one series."""
        response.auto_close = False  # type: ignore[attr-defined]
        types: list[str] = []
        header: _Header | None = None
        now: tuple[Tags, str] | None = None
        times: list[str] = []
        values: list[str] = []
        for cells in csv.reader(io.TextIOWrapper(response, "utf-8", newline="")):  # type: ignore[type-var]
            if not cells or cells[0] == "#datatype":
                if header and now:
                    yield *now, *_columns(times, values, header.kind)
                header, now, times, values = None, None, [], []
                types = cells or types
            elif header is None:
                if "error" in cells:
                    raise LichenError(f"{self._where} cannot answer: {next(iter(response), b'')[:300]!r}")
                header = _Header.of(cells, types)
            else:
                series = header.series(cells)
                if series != now:
                    if now:
                        yield *now, *_columns(times, values, header.kind)
                    now, times, values = series, [], []
                times.append(cells[header.time])
                values.append(cells[header.value])
        if header and now:
            yield *now, *_columns(times, values, header.kind)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> urllib3.BaseHTTPResponse:
        try:
            response = self._pool.request(
                method, self._url + path, body=body, headers=self._headers, preload_content=False
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise LichenError(f"{self._where} does not answer ({error}); is it running?") from error
        if response.status < 300:
            return response
        text = response.read(1000).decode("utf-8", "replace")
        response.close()
        settings = self._settings
        remedy = {
            401: f"put a token that may read bucket {settings.bucket} into {self._token_path}, or name another with "
            "--token-file",
            404: f"create bucket {settings.bucket} in organisation {settings.org}, or correct [influx]; a token that "
            "may only write does not see it: name one that may read with --token-file",
        }
        remedy[403] = remedy[401]
        hint = remedy.get(response.status, "try again, or look at its log")
        raise LichenError(f"{self._where} says {response.status}: {text[:300]}; {hint}")


def _columns(times: list[str], values: list[str], kind: str) -> tuple[Ints, Values]:
    """Return a table's texts as arrays, rising by time."""
    at = np.array([text.removesuffix("Z") for text in times], dtype="datetime64[ns]").astype(np.int64)
    column: Values
    if kind in _KINDS:
        column = np.array(values).astype(_KINDS[kind])
    else:
        column = np.array([text == "true" for text in values] if kind == "boolean" else values, dtype=object)
    order = np.argsort(at, kind="stable")
    return at[order], column[order]


def _quoted(text: str) -> str:
    """Return a string literal of Flux."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${") + '"'


def _rfc3339(time_ms: int) -> str:
    at = datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{at}.{time_ms % 1000:03}Z"
