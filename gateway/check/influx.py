"""InfluxDB: whether it answers, what the token may, and whether the bucket keeps what the store keeps.

The right to write is tried with a comment line: the server looks at the token and the bucket, and stores nothing.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any, Final

from gateway.check.finding import Findings, Subject
from gateway.errors import SettingsError
from gateway.settings import Influx, Settings, read_secret

_TIMEOUT_S: Final = 10.0
_DAY_S: Final = 86_400
_SETUP: Final = "lichen influx setup makes bucket and token"


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes

    @property
    def message(self) -> str:
        try:
            return str(json.loads(self.body)["message"])
        except (ValueError, KeyError, TypeError):
            return self.body[:200].decode("utf-8", "replace").strip()


def check_influx(settings: Settings) -> Findings:
    """Try what the sink does; what depends on what failed is left out."""
    influx = settings.influx
    if influx is None:
        yield Subject("influx").ok("no section [influx]: nothing is sent to InfluxDB")
        return
    address = urllib.parse.urlsplit(influx.url)
    subject = Subject("influx", f"{address.scheme}://{address.netloc.rpartition('@')[2]}")
    try:
        token = read_secret(settings.beside(influx.token_file))
    except SettingsError as error:
        yield subject.error(f"the token cannot be read: {error}", f"{_SETUP}; [influx] token_file names its file")
        return
    try:
        _ask(influx, token, "GET", "/ping")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        yield subject.error(f"it does not answer: {reason}", "start it, or correct [influx] url (http://HOST:8086)")
        return
    try:
        yield from _writing(subject, influx, token)
        yield from _reading(subject, settings, influx, token)
    except (OSError, ValueError) as error:
        yield subject.warning(f"it could not be tried: {error}", "look at the server's log, and check again")


def _writing(subject: Subject, influx: Influx, token: str) -> Findings:
    query = urllib.parse.urlencode({"org": influx.org, "bucket": influx.bucket, "precision": "ms"})
    answer = _ask(influx, token, "POST", f"/api/v2/write?{query}", b"# lichen check", "text/plain")
    match answer.status:
        case 204:
            yield subject.ok(f"the token may write to the bucket {influx.bucket}")
        case 401:
            yield subject.error("it does not know the token", f"{_SETUP}; put the token into [influx] token_file")
        case 403:
            yield subject.error(
                f"the token may not write to the bucket {influx.bucket}", f"give it that right; {_SETUP}"
            )
        case 404:
            yield subject.error(answer.message, f"correct [influx] org and bucket; {_SETUP}")
        case status:
            yield subject.error(f"it answers a write with {status}: {answer.message}", "is [influx] url an InfluxDB 2?")


def _reading(subject: Subject, settings: Settings, influx: Influx, token: str) -> Findings:
    query = urllib.parse.urlencode({"org": influx.org, "name": influx.bucket})
    answer = _ask(influx, token, "GET", f"/api/v2/buckets?{query}")
    if answer.status != 200:
        return  # the finding on writing says why
    found = json.loads(answer.body).get("buckets") or []
    if not found:
        yield subject.warning(
            f"the token may not read the bucket {influx.bucket}: its retention cannot be compared, and neither can "
            "lichen verify --influx",
            "give the token the right to read this bucket too",
        )
        return
    yield subject.ok(f"the token may read the bucket {influx.bucket}")
    yield from _retention(subject, settings, found[0])


def _retention(subject: Subject, settings: Settings, bucket: dict[str, Any]) -> Findings:
    kept_s = min((int(rule.get("everySeconds", 0)) for rule in bucket.get("retentionRules") or []), default=0)
    if kept_s == 0:
        yield subject.ok("the bucket keeps its points for ever")
    elif settings.clock.trusted is False:
        yield subject.error(
            f"the bucket keeps {kept_s / _DAY_S:g} days by today's date, and [clock] trusted = false replays old times",
            "a bucket for replays keeps its points for ever: influx bucket update --retention 0",
        )
    elif kept_s < settings.retention.raw_days * _DAY_S:
        yield subject.warning(
            f"the bucket keeps {kept_s / _DAY_S:g} days, the store {settings.retention.raw_days}: what is older is not "
            "sent, and counted as expired",
            "lengthen the bucket's retention, or leave it if that is meant",
        )
    else:
        yield subject.ok(f"the bucket keeps {kept_s / _DAY_S:g} days, no less than the store")


def _ask(
    influx: Influx, token: str, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
) -> _Answer:
    if urllib.parse.urlsplit(influx.url).scheme not in {"http", "https"}:
        raise ValueError(f"{influx.url} is no address; write it as http://HOST:8086")
    headers = {"Authorization": f"Token {token}", "Content-Type": kind}
    request = urllib.request.Request(influx.url.rstrip("/") + path, body, headers, method=method)  # noqa: S310 - checked
    try:
        with _opener.open(request, timeout=_TIMEOUT_S) as response:
            return _Answer(response.status, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return _Answer(error.code, error.read(4096))


_opener: Final = urllib.request.build_opener()
