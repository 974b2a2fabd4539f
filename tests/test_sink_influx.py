"""P10 against a real InfluxDB: down, killed, slow or refusing a line delays InfluxDB only; everything arrives once."""

import json
import math
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from influxd import Influxd, wait_until
from sink_store import GAS, T0_S, Connection, Store, expected_air, expected_raw

from gateway.settings import Influx
from gateway.sinks import influx as sink_module
from gateway.sinks.influx import InfluxSink
from gateway.sinks.influx_client import InfluxClient, Outcome, UnavailableError
from gateway.store.database import last_revision, read_meta

HOUR = T0_S // 3600


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def drain(sink):
    while sink.step():
        pass
    sink.close()


def hurry(monkeypatch):
    """Shorten the pauses after failures, when idle, and between two writes of cursor and state."""
    monkeypatch.setattr(sink_module, "_FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(sink_module, "_LONGEST_DELAY_S", 0.2)
    monkeypatch.setattr(sink_module, "_IDLE_S", 0.05)
    monkeypatch.setattr(sink_module, "_KEEP_EVERY_S", 0.1)


@contextmanager
def running(sink):
    stop, news = threading.Event(), threading.Event()
    thread = threading.Thread(target=sink.run, args=(stop, news))
    thread.start()
    try:
        yield news
    finally:
        stop.set()
        news.set()
        thread.join(10)
    assert not thread.is_alive()


@pytest.mark.influxdb
def test_influx_holds_every_row_and_field_of_the_store(server, bucket, store):
    for kit in ("k1", "k 2,=\\x"):
        store.add_raw(kit, 1, 0, 700)
        store.add_raw(kit, 2, 700, 3, cols=GAS)
    store.add_raw("k1", 2, 703, 40, cols=GAS, step_s=60)
    for hour in (HOUR, HOUR + 1):
        store.add_air("k1", hour, [7.1, math.nan, 0.1 + 0.2])
        store.add_hour("k1", hour, 7.5)
        store.add_index(hour, 42 if hour == HOUR else None)
    sink = InfluxSink(server.settings(bucket), server.token_path, store.dir)
    drain(sink)

    raw = expected_raw(store.db)
    raw = {((("kit", tags[0][1].replace("\\", "/")),), t): fields for (tags, t), fields in raw.items()}
    assert server.points("raw", bucket) == raw
    assert server.points("air", bucket) == expected_air(store.db)
    means = {"pm25_ugm3": 7.5, "temp": 21.0, "pm25_valid_pct": 98.3, "temp_valid_pct": 100.0, "qc": 1, "cal": "none"}
    means |= {"pm25_ugm3_lo": 6.0, "pm25_ugm3_hi": 9.0}
    tags = (("kit", "k1"), ("site", "s"))
    assert server.points("hour", bucket) == {(tags, h * 3_600_000): means for h in (HOUR, HOUR + 1)}
    tags = (("scheme", "us-2024"), ("site", "s"))
    always = {"table": "us-2024.1", "equivalent": "PM2.5 equivalent", "pm25_valid_pct": 75.0, "pm25_24h_valid_pct": 0.0}
    assert server.points("index", bucket) == {
        (tags, HOUR * 3_600_000): {
            **always, "value": 42, "category": "Good", "pollutant": "pm25", "pm25_index": 42, "pm25_ugm3": 7.5,
        },
        (tags, (HOUR + 1) * 3_600_000): always,
    }  # fmt: skip
    state = sink.files.load_state()
    assert state.lines_written == len(raw) + 6 + 2 + 2
    assert state.cursor == state.last_revision == sink.files.load_cursor().rev
    assert (state.last_error, state.lines_refused, state.lines_expired) == ("", 0, 0)


@pytest.mark.influxdb
def test_changed_records_replace_the_old_ones(server, bucket, store):
    store.add_air("k1", HOUR, [1.0, 2.0, 3.0])
    store.add_hour("k1", HOUR, 1.0)
    sink = InfluxSink(server.settings(bucket), server.token_path, store.dir)
    assert sink.step() == 4
    store.add_air("k1", HOUR, [1.0, 2.5, 3.0, 4.0])
    store.add_hour("k1", HOUR, 1.5)
    assert sink.step() == 3, "rows that did not change are not sent again"
    assert sink.step() == 0
    sink.close()
    assert server.points("air", bucket) == expected_air(store.db)
    assert [fields["pm25_ugm3"] for fields in server.points("hour", bucket).values()] == [1.5]


@pytest.mark.influxdb
def test_server_absent_at_the_start_gets_everything_later(influxd, store, tmp_path, monkeypatch):
    hurry(monkeypatch)
    server = Influxd(influxd, tmp_path / "influxd")
    server.start()
    server.set_up()
    server.kill()
    store.add_raw("k1", 1, 0, 500)
    sink = InfluxSink(server.settings(), server.token_path, store.dir)
    with running(sink):
        state = wait_until(lambda: s if (s := sink.files.load_state()).attempts >= 2 else None, "two attempts")
        assert "does not answer" in state.last_error
        assert state.last_success_ms is None
        try:
            server.start()
            wait_until(lambda: sink.files.load_cursor().rev == 1, "delivery")
            store.add_raw("k1", 1, 500, 500)
            wait_until(lambda: sink.files.load_cursor().rev == 2, "delivery of what came later")
            assert server.points("raw") == expected_raw(store.db)
        finally:
            server.kill()
    assert sink.files.load_state().last_error == ""


@pytest.mark.influxdb
def test_server_killed_in_the_middle_loses_and_doubles_nothing(server, bucket, store, monkeypatch):
    hurry(monkeypatch)
    for i in range(100):
        store.add_raw(f"k{i % 4}", 1, 100 * (i // 4), 100)
    last = last_revision(store.db)
    sink = InfluxSink(server.settings(bucket, batch_lines=100), server.token_path, store.dir)
    with running(sink):
        for part in (1, 2):
            written = 2500 * part
            wait_until(lambda least=written: sink.state.lines_written >= least, f"{written} lines")
            server.kill()
            assert sink.files.load_cursor().rev < last
            server.start()
        wait_until(lambda: sink.files.load_cursor().rev == last, "the rest")
    assert server.count("raw", "seq", bucket) == 10_000
    assert server.points("raw", bucket) == expected_raw(store.db)


@pytest.mark.influxdb
def test_refused_line_is_a_dead_letter_and_the_rest_is_delivered(server, bucket, store):
    server.write(f"raw,kit=k1 rh=1i {(T0_S + 51) * 1000}", bucket)  # somebody else's type, in this series' time
    store.add_raw("k1", 1, 0, 200, cols=("seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pressure"))
    with_rh = ("seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "rh")
    store.add_raw("k2", 1, 200, 3, cols=with_rh)
    store.add_hour("k1", HOUR, 7.5)
    sink = InfluxSink(server.settings(bucket), server.token_path, store.dir)
    drain(sink)
    dead = [json.loads(line) for line in sink.files.dead_path.read_text("utf-8").splitlines()]
    assert all("field type conflict" in d["reason"] and d["line"].startswith("raw,kit=k2 ") for d in dead)
    assert sorted(d["line"].partition("seq=")[2].partition("i")[0] for d in dead) == ["200", "201", "202"]
    assert server.count("raw", "seq", bucket) == 200
    assert server.count("hour", "qc", bucket) == 1
    state = sink.files.load_state()
    assert (state.lines_refused, state.lines_written, state.cursor) == (3, 201, state.last_revision)


@pytest.mark.influxdb
def test_one_line_that_cannot_be_parsed_does_not_block_its_batch(server, bucket, tmp_path):
    client = InfluxClient(server.settings(bucket), server.token_path)
    lines = [b"m v=%d.0 %d" % (i, T0_S * 1000 + i) for i in range(100)]
    lines[57] = b"m v=9i3 1"
    outcome = client.write(lines)
    client.close()
    assert outcome.written == 99
    ((line, reason),) = outcome.dead
    assert line == lines[57]
    assert "unable to parse" in reason
    assert server.count("m", "v", bucket) == 99


@pytest.mark.influxdb
def test_lines_older_than_the_bucket_keeps_are_counted_not_refused(server, request):
    server.create_bucket(request.node.name, keep_s=7200)
    client = InfluxClient(server.settings(request.node.name), server.token_path)
    now_ms = time.time_ns() // 1_000_000
    outcome = client.write([b"m v=1.0 1", b"m v=1.0 2", b"m v=1.0 %d" % now_ms])
    client.close()
    assert outcome == Outcome(written=1, expired=2)


@pytest.mark.influxdb
def test_wrong_token_and_bucket_say_what_to_do(server, tmp_path):
    for settings, token, words in (
        (server.settings(), "not-our-secret", ["401", "token"]),
        (server.settings("no-such"), server.token_path.read_text(), ["404", "create bucket no-such"]),
    ):
        (tmp_path / "token").write_text(token)
        client = InfluxClient(settings, tmp_path / "token")
        with pytest.raises(UnavailableError) as caught:
            client.write([b"m v=1 1"])
        client.close()
        assert caught.value.lasting
        assert all(word in str(caught.value) for word in words)
        assert token.strip() not in str(caught.value)


class Recorder:
    """Stands for the connection; keeps what it is given."""

    def __init__(self):
        self.lines = []

    def write(self, lines):
        self.lines += lines
        return Outcome(written=len(lines))

    def close(self):
        pass


@pytest.fixture
def recorded(store, tmp_path, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(sink_module, "InfluxClient", lambda *_: Connection(recorder))
    settings = Influx(url="http://127.0.0.1:9", org="o", bucket="b", token_file="t")
    return InfluxSink(settings, tmp_path / "t", store.dir), recorder


def test_rows_passed_over_while_catching_up_are_sent(recorded, store):
    """An hour whose last row changed after many other revisions still holds rows of old revisions."""
    sink, recorder = recorded
    store.add_air("k1", HOUR, [1.0, 2.0, 3.0])
    for i in range(40):
        store.add_air("k2", HOUR + i, [1.0])
    store.add_air("k1", HOUR, [1.0, 2.0, 3.0, 4.0])
    sink._rows = 1
    while sink.step():
        pass
    assert len({line.split()[-1] for line in recorder.lines if b"kit=k1" in line}) == 4
    assert len({line for line in recorder.lines if b"kit=k2" in line}) == 40


def test_cursor_ahead_of_a_replaced_store_begins_again(recorded, store):
    sink, recorder = recorded
    store.add_raw("k1", 1, 0, 5)
    sink._cursor = sink_module.Cursor(rev=900, complete=900)
    drain(sink)
    assert len(recorder.lines) == 5
    assert (sink.files.load_cursor().rev, sink.files.load_cursor().complete) == (1, 1)


def test_cursor_of_another_store_begins_again_and_of_an_earlier_program_goes_on(recorded, store):
    """A replaced store may have more revisions than the cursor: by the numbers alone it would be passed over."""
    sink, recorder = recorded
    store.add_raw("k1", 1, 0, 5)
    store.add_raw("k1", 1, 5, 5)
    sink._cursor = sink_module.Cursor(rev=1, complete=1)
    drain(sink)
    assert len(recorder.lines) == 5
    sink._cursor = sink_module.Cursor(rev=1, complete=1, store="another")
    drain(sink)
    assert len(recorder.lines) == 15
    assert sink.files.load_cursor().store == read_meta(store.db, "store_id") != ""


def test_missing_store_is_told_and_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(sink_module, "_FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(sink_module, "InfluxClient", lambda *_: Connection(Recorder()))
    settings = Influx(url="http://127.0.0.1:9", org="o", bucket="b", token_file="t")
    sink = InfluxSink(settings, tmp_path / "t", tmp_path / "store")
    with running(sink):
        wait_until(lambda: "no store here" in sink.files.load_state().last_error, "the error")
        Store(tmp_path / "store").add_raw("k1", 1, 0, 5)
        wait_until(lambda: sink.files.load_cursor().rev == 1, "delivery")


def test_an_idle_sink_that_is_woken_sends_what_is_new(store, tmp_path, monkeypatch):
    monkeypatch.setattr(sink_module, "_IDLE_S", 3600.0)
    monkeypatch.setattr(sink_module, "InfluxClient", lambda *_: Connection(Recorder()))
    settings = Influx(url="http://127.0.0.1:9", org="o", bucket="b", token_file="t")
    pauses = []
    sink = InfluxSink(settings, tmp_path / "t", store.dir, pauses.append)
    with running(sink) as news:
        for count in (1, 2, 3):
            wait_until(lambda n=count: pauses.count(3600.0) == n, "it is idle")
            store.add_raw("k1", 1, 5 * count, 5)
            news.set()
            wait_until(lambda: sink.state.cursor == last_revision(store.db), "delivery")


def test_missing_token_is_told(store, tmp_path):
    store.add_raw("k1", 1, 0, 5)
    sink = InfluxSink(Influx(url="http://127.0.0.1:9", org="o", bucket="b", token_file="t"), tmp_path / "t", store.dir)
    with pytest.raises(UnavailableError, match="cannot be read") as caught:
        sink.step()
    assert caught.value.lasting
    assert sink._note_failure(caught.value, 0) >= 30
    assert str(tmp_path / "t") in sink.files.load_state().last_error


@contextmanager
def answering(answer, *, with_path=False):
    """Run an HTTP server that answers requests with `answer(body)`, or also the path: status, headers, content."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(body)
            try:
                status, headers, content = answer(body, self.path) if with_path else answer(body)
            except ConnectionError:  # as if nobody were there
                self.close_connection = True
                return
            self.send_response(status)
            for name, text in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", asked
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


@pytest.fixture
def token(tmp_path):
    (tmp_path / "token").write_text("secret-of-this-test")
    return tmp_path / "token"


@pytest.mark.parametrize(
    ("status", "headers", "retry_after_s", "lasting"),
    [
        (503, {"Retry-After": "7"}, 7.0, False),
        (429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0, False),
        (500, {}, None, False),
        (403, {}, None, True),
        (400, {}, None, True),  # a proxy's, not about a line
        (302, {"Location": "http://127.0.0.1:9/"}, None, False),
    ],
)
def test_answers_that_are_not_about_lines_keep_the_batch(store, token, status, headers, retry_after_s, lasting):
    store.add_raw("k1", 1, 0, 5)
    with answering(lambda _: (status, headers, b"<html>no</html>")) as (url, asked):
        sink = InfluxSink(Influx(url=url, org="o", bucket="b", token_file="t"), token, store.dir)
        with pytest.raises(UnavailableError) as caught:
            sink.step()
        wait_s = sink._note_failure(caught.value, 3)
    assert (caught.value.retry_after_s, caught.value.lasting) == (retry_after_s, lasting)
    assert wait_s >= (retry_after_s or 0)
    assert 4 <= wait_s <= 60
    assert len(asked) == 1, "never retried below the sink"
    state = sink.files.load_state()
    assert str(status) in state.last_error
    assert "secret" not in state.last_error
    assert sink.files.load_cursor().rev == 0


def test_too_large_request_is_split(token):
    with answering(lambda body: (413 if len(body) > 100 else 204, {}, b"")) as (url, asked):
        client = InfluxClient(Influx(url=url, org="o", bucket="b", token_file="t"), token)
        lines = [b"m v=%d.0 %d" % (i, i) for i in range(50)]
        assert client.write([*lines, b"m v=1 " + b"9" * 200]).written == 50
        client.close()
    assert [line for body in asked if len(body) <= 100 for line in body.split(b"\n")] == lines


def test_url_without_scheme_is_told(token):
    with pytest.raises(UnavailableError, match=r"\[influx\] url|does not answer"):
        InfluxClient(Influx(url="localhost:8086", org="o", bucket="b", token_file="t"), token).write([b"m v=1 1"])
