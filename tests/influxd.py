"""A real InfluxDB 2.7 for tests: started on a free loopback port in a folder of its own, queried, killed by its pid."""

import csv
import io
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import datetime

from gateway.settings import Influx

ORG = "lichen"
BUCKET = "air"
TOKEN = "a-token-for-tests-only"
START_S = 30

_http = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_CONVERT = {
    "long": int,
    "double": float,
    "boolean": lambda text: text == "true",
    "dateTime:RFC3339": lambda text: round(datetime.fromisoformat(text).timestamp() * 1000),
}


class Influxd:
    """One server; `start` and `kill` may alternate, the data stay. Use as a context manager, so that it always ends."""

    def __init__(self, binary, folder):
        self.binary = binary
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.token_path = folder / "token"
        self.process = None

    def __enter__(self):
        self.start()
        self.set_up()
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self, *, wait=True):
        """Start the server; returns when it answers, or at once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.token_path.write_text(TOKEN + "\n")
        at = self.folder
        command = [
            self.binary, "--bolt-path", at / "b.db", "--sqlite-path", at / "s.db", "--engine-path", at / "engine",
            "--http-bind-address", f"127.0.0.1:{self.port}", "--log-level", "error",
        ]  # fmt: skip
        with (at / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "INFLUXD_REPORTING_DISABLED": "true"},
            )  # fmt: skip
        if wait:
            self.wait()

    def wait(self):
        """Return when it answers."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
            with suppress(OSError, ValueError):
                if json.loads(self.request("GET", "/health"))["status"] == "pass":
                    return
            time.sleep(0.05)
        raise TimeoutError(f"influxd did not answer within {START_S} s: {(self.folder / 'log').read_text()[-2000:]}")

    def kill(self):
        """End it with SIGKILL, as a power cut would."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def set_up(self):
        """Make the user, organisation, bucket (kept for ever) and token."""
        user = {"username": "lichen", "password": "lichen-lichen", "org": ORG, "bucket": BUCKET, "token": TOKEN}
        self.request("POST", "/api/v2/setup", json.dumps({**user, "retentionPeriodSeconds": 0}).encode())

    def create_bucket(self, name, keep_s=0):
        """Make a bucket that keeps its points for `keep_s`, 0 for ever."""
        org = json.loads(self.request("GET", f"/api/v2/orgs?org={ORG}"))["orgs"][0]["id"]
        rules = [{"type": "expire", "everySeconds": keep_s}] if keep_s else []
        body = {"orgID": org, "name": name, "retentionRules": rules}
        self.request("POST", "/api/v2/buckets", json.dumps(body).encode())

    def create_token(self, action, bucket=BUCKET):
        """Return a new token that may only read or only write one bucket."""
        org = json.loads(self.request("GET", f"/api/v2/orgs?org={ORG}"))["orgs"][0]["id"]
        found = json.loads(self.request("GET", f"/api/v2/buckets?name={bucket}"))["buckets"][0]["id"]
        right = {"action": action, "resource": {"type": "buckets", "id": found, "orgID": org}}
        body = {"orgID": org, "description": action, "permissions": [right]}
        return json.loads(self.request("POST", "/api/v2/authorizations", json.dumps(body).encode()))["token"]

    def settings(self, bucket=BUCKET, **more):
        """Return the section [influx] that leads here; its token file is `token_path`."""
        return Influx(url=self.url, org=ORG, bucket=bucket, token_file=str(self.token_path), **more)

    def toml(self, bucket=BUCKET):
        """Return the section [influx] as text."""
        return f'[influx]\nurl = "{self.url}"\norg = "{ORG}"\nbucket = "{bucket}"\ntoken_file = "{self.token_path}"\n'

    def write(self, lines, bucket=BUCKET):
        """Write line protocol (text, times in ms)."""
        self.request("POST", f"/api/v2/write?org={ORG}&bucket={bucket}&precision=ms", lines.encode())

    def query(self, flux):
        """Return the rows of a Flux query as dicts with typed values, times as ms since 1970; null is left out."""
        body = json.dumps({"query": flux, "dialect": {"annotations": ["datatype"], "header": True}}).encode()
        text = self.request("POST", f"/api/v2/query?org={ORG}", body).decode()
        rows, types, names = [], [], None
        for line in csv.reader(io.StringIO(text)):
            if not line:
                continue
            if line[0] == "#datatype":
                types, names = line[1:], None
            elif names is None:
                names = line[1:]
            else:
                cells = zip(names, types, line[1:], strict=True)
                rows.append({n: _CONVERT.get(t, str)(v) for n, t, v in cells if v and n not in ("result", "table")})
        return rows

    def points(self, measurement, bucket=BUCKET):
        """Return every point of a measurement: {(tags as sorted pairs, time in ms): {field: value}}."""
        found = {}
        flux = (
            f'from(bucket: "{bucket}") |> range(start: 0, stop: 2200-01-01T00:00:00Z) '
            f'|> filter(fn: (r) => r._measurement == "{measurement}")'
        )
        for row in self.query(flux):
            tags = tuple(sorted((k, v) for k, v in row.items() if not k.startswith("_")))
            fields = found.setdefault((tags, row["_time"]), {})
            assert row["_field"] not in fields
            fields[row["_field"]] = row.get("_value", "")
        return found

    def count(self, measurement, field, bucket=BUCKET):
        """Return how many points of a measurement have a field."""
        rows = self.query(
            f'from(bucket: "{bucket}") |> range(start: 0, stop: 2200-01-01T00:00:00Z) '
            f'|> filter(fn: (r) => r._measurement == "{measurement}" and r._field == "{field}") '
            "|> group() |> count()"
        )
        return rows[0]["_value"] if rows else 0

    def request(self, method, path, body=None):
        """Send an HTTP request; returns the body of the answer."""
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json", "Accept": "*/*"}
        request = urllib.request.Request(self.url + path, body, headers, method=method)  # noqa: S310 - our own
        try:
            with _http.open(request, timeout=60) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()[:500]}") from error


def wait_until(condition, what, timeout_s=30.0):
    """Return the first true value of `condition()`; fail with `what` after the deadline."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
    return value
