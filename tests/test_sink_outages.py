"""Whatever InfluxDB does or answers while kits send: nothing is lost or doubled, order is kept, all else goes on.

One table. The real server is made to be killed, stopped, full, and to say 401, 403, 404, 422 and (a name it cannot
take) 400; answers that it cannot be made to give are recorded ones of a small server before it: 400 of a proxy, 413,
429 and 503 with Retry-After, 500, an answer that is no HTTP. Everything passes through that server, which notes the
order in which rows were given to InfluxDB.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise

import components
import httpx
import pytest
from influxd import TOKEN, Influxd, wait_until
from live_gateway import Kit, LiveGateway, batch, read_store, write_config
from main_job import LICHEN
from sink_store import T0_S, expected_air, expected_hours, expected_indices, expected_raw
from test_sink_influx import answering

from gateway.simulate.mosquitto import DemoBroker
from gateway.sinks.cursor import SinkFiles
from gateway.store.database import last_revision

pytestmark = [pytest.mark.influxdb, pytest.mark.mosquitto]

ROWS_A_BATCH = 5
FULL_MB = 160


def with_rh(seqs):
    """A message of rows with the field that somebody has written as another type."""
    cols = ["seq", "up", "t", "q", "dt", "rh"]
    rows = [[s, 10 + 60 * s, T0_S + 60 * s, 2, 60, 5000] for s in seqs]
    return json.dumps({"v": 1, "boot": 9, "first": 1, "cols": cols, "rows": rows}).encode()


@dataclass
class Scene:
    """A broker, a gateway, a kit that sends all the time, and InfluxDB behind a server that can answer for it."""

    server: Influxd
    folder: object
    bucket: str
    forwarding: object = None
    answer: object = None
    order: list = field(default_factory=list)
    sent: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def handle(self, body, path):
        """Answer a request of the sink: as told, else what InfluxDB says."""
        if self.answer and (found := self.answer(body, path)):
            return found
        status, headers, content = self.forward(body, path)
        if status == 204:
            self.order += [int(seq) for seq in re.findall(rb"^raw,.*\bseq=(\d+)i", body, re.MULTILINE)]
        return status, headers, content

    def forward(self, body, path):
        with httpx.Client(trust_env=False, timeout=60) as client:
            headers = {"Authorization": f"Token {self.token}"}
            try:
                found = client.post(self.server.url + path, content=body, headers=headers)
            except httpx.HTTPError:
                raise ConnectionError from None
            return found.status_code, {}, found.content

    @property
    def token(self):
        return (self.folder / "token").read_text().strip()

    @property
    def files(self):
        return SinkFiles(self.folder / "store", "influx")

    def feed(self, kit):
        """Send rows until told to stop, each batch once."""
        while not self.stop.wait(0.05):
            kit.send(batch(7, range(self.sent, self.sent + ROWS_A_BATCH)))
            self.sent += ROWS_A_BATCH

    def stored(self):
        return read_store(self.folder, lambda db: len(expected_raw(db)))

    def said(self, words, timeout_s=40):
        return wait_until(lambda: words in self.files.load_state().last_error, f"the error {words!r}", timeout_s)


def killed(scene):
    scene.server.kill()
    yield "does not answer"
    scene.server.start()


def stopped(scene):
    os.kill(scene.server.process.pid, signal.SIGSTOP)
    yield "does not answer"
    os.kill(scene.server.process.pid, signal.SIGCONT)


def full(scene):
    """Another file takes the room of the server's file system, then goes.

    InfluxDB 2.7 opens a shard no more that it could not open then, until it is started again: so it is.
    """
    ballast = scene.server.folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    yield "500"
    ballast.unlink()
    scene.server.kill()
    scene.server.start()


def wrong_token(scene):
    (scene.folder / "token").write_text("another")
    yield "401"
    (scene.folder / "token").write_text(TOKEN)


def read_only_token(scene):
    (scene.folder / "token").write_text(scene.server.create_token("read", scene.bucket))
    yield "403"
    (scene.folder / "token").write_text(TOKEN)


def bucket_gone(scene):
    """Deleted, and made again: what it held is sent again by hand."""
    found = json.loads(scene.server.request("GET", f"/api/v2/buckets?name={scene.bucket}"))["buckets"][0]["id"]
    scene.server.request("DELETE", f"/api/v2/buckets/{found}")
    yield "create bucket"
    scene.server.create_bucket(scene.bucket)
    done = subprocess.run(
        [*LICHEN, "influx", "refill", "-c", str(scene.folder / "gateway.toml"), "--from", "2020-01-01T00:00:00Z",
         "--to", "2027-01-01T00:00:00Z"], check=False, capture_output=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0


def recorded(status, headers=None, content=b"", words=None, when=lambda _: True):
    def outage(scene):
        scene.answer = lambda body, _: (status, headers or {}, content) if when(body) else None
        yield str(status) if words is None else words
        scene.answer = None

    return outage


def too_large(scene):
    """For ever: each request is to be smaller."""
    scene.answer = lambda body, _: (413, {}, b"") if len(body) > 2000 else None
    yield ""


def retry_after(status):
    def outage(scene):
        asked_s = []

        def answer(*_):
            asked_s.append(time.monotonic())
            return status, {"Retry-After": "4"}, b'{"message":"too many"}'

        scene.answer = answer
        yield str(status)
        wait_until(lambda: len(asked_s) >= 2, "a second attempt")
        scene.answer = None
        assert min(b - a for a, b in pairwise(asked_s)) >= 3.5, "it waits as it is told"

    return outage


def field_conflict(scene):
    """Somebody has written another type: every row of the kit is refused, those of all others arrive."""
    yield ""


OUTAGES = {
    "killed": killed,
    "stopped": stopped,
    "full": full,
    "401": wrong_token,
    "403": read_only_token,
    "404": bucket_gone,
    "400 recorded": recorded(400, content=b"<html>a proxy</html>"),
    "413 recorded": too_large,
    "422": field_conflict,
    "429 recorded": retry_after(429),
    "500 recorded": recorded(500, content=b'{"message":"internal"}'),
    "503 recorded": retry_after(503),
}


@pytest.fixture(scope="module")
def shared_server(influxd, tmp_path_factory):
    with Influxd(influxd, tmp_path_factory.mktemp("influxd")) as running:
        yield running


@pytest.fixture
def server(influxd, tmp_path, request):
    """Its own for outages that take the whole server; on a small file system for the full one."""
    name = request.node.callspec.params["name"]
    if name not in {"killed", "stopped", "full"}:
        yield request.getfixturevalue("shared_server")
        return
    place = tmp_path / "influxd"
    place.mkdir()
    if name == "full":
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={FULL_MB}m", "tmpfs", place], capture_output=True, check=False
        )
        if made.returncode:
            components.refuse("a small file system", f"run the tests as root, mount says: {made.stderr.decode()}")
    try:
        with Influxd(influxd, place) as running:
            yield running
    finally:
        if name == "full":
            subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def broker(mosquitto, tmp_path):
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1", "kit-2"])
    broker.start()
    yield broker
    broker.stop()


@pytest.mark.parametrize("name", OUTAGES)
def test_nothing_is_lost_or_doubled_and_all_else_goes_on(name, server, broker, tmp_path):
    bucket = f"of-{name.split()[0]}"
    server.create_bucket(bucket)
    scene = Scene(server, tmp_path / "gw", bucket)
    scene.folder.mkdir()
    (scene.folder / "token").write_text(TOKEN)
    if name == "422":
        server.write(f"raw,kit=kit-2 rh=1i {T0_S * 1000}", bucket)
    with answering(scene.handle, with_path=True) as (url, _):
        influx = (
            f'[influx]\nurl = "{url}"\norg = "lichen"\nbucket = "{bucket}"\ntoken_file = "token"\ntimeout_s = 2.0\n'
            "batch_lines = 500\n"
        )
        config = write_config(scene.folder, broker, more=influx, web="[web]\nport = 0\n")
        with LiveGateway(config) as gateway, Kit(broker) as kit, Kit(broker, "kit-2") as other:
            gateway.receives()
            port = int(re.search(r"page is at http://127\.0\.0\.1:(\d+)/", gateway.log)[1])
            feeding = threading.Thread(target=scene.feed, args=(kit,))
            feeding.start()
            try:
                wait_until(lambda: len(scene.order) >= 20, "the first rows in InfluxDB")
                outage = OUTAGES[name](scene)
                words = next(outage)
                if words:
                    scene.said(words)
                if name == "422":
                    other.send(with_rh(range(1, 11)))
                before = scene.stored()
                wait_until(lambda: scene.stored() >= before + 100, "rows are stored meanwhile")
                with httpx.Client(trust_env=False, timeout=2) as client:
                    assert client.get(f"http://127.0.0.1:{port}/").status_code == 200
                next(outage, None)
                if words:
                    os.kill(sink_pid(gateway), signal.SIGKILL)  # a new one attempts at once, and goes on where it was
            finally:
                scene.stop.set()
                feeding.join()
            wait_until(lambda: scene.stored() >= scene.sent, "all rows in the store")
            wait_until(lambda: delivered(scene), "all in InfluxDB", 60)
    assert scene.stored() == scene.sent + 10 * (name == "422")
    compare(scene, name)


def sink_pid(gateway):
    """Return the sink's process, the gateway's child."""
    text = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(gateway.process.pid)], capture_output=True, text=True, check=True
    ).stdout
    return next(int(line.split()[0]) for line in text.splitlines() if "sinks.process" in line)


def delivered(scene):
    """Whether the sink has confirmed everything, and nothing is to be derived or sent again."""
    last = read_store(scene.folder, last_revision)
    waiting = read_store(scene.folder, lambda db: db.execute("SELECT count(*) FROM dirty").fetchone()[0])
    return not waiting and scene.files.load_cursor().rev == last and scene.files.load_refill() is None


def compare(scene, name):
    """Each point once and equal; refused ones are dead letters, all of them and no other; rows came in order."""
    server, bucket = scene.server, scene.bucket
    raw = read_store(scene.folder, expected_raw)
    if name == "422":
        refused = {key for key in raw if key[0] == (("kit", "kit-2"),)}
        dead = [json.loads(line) for line in scene.files.dead_path.read_text("utf-8").splitlines()]
        assert len(dead) == len(refused) == 10
        assert all("field type conflict" in letter["reason"] for letter in dead)
        raw = {key: fields for key, fields in raw.items() if key not in refused}
        raw[(("kit", "kit-2"),), T0_S * 1000] = {"rh": 1}
    else:
        assert not scene.files.dead_path.exists()
    assert server.points("raw", bucket) == raw
    assert server.points("air", bucket) == read_store(scene.folder, expected_air)
    assert server.points("hour", bucket) == read_store(scene.folder, expected_hours)
    indices = server.points("index", bucket)
    assert indices == read_store(scene.folder, expected_indices)
    assert indices
    first = list(dict.fromkeys(scene.order))
    assert set(range(scene.sent)) <= set(first)
    if name not in {"404", "422"}:  # a refill goes back, and of a split batch the other kit's rows stand in between
        assert first == sorted(first)
