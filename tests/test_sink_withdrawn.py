"""P8 against a real InfluxDB: what no longer holds is deleted there, what holds is written; both end equal."""

import json
import os
import random
import signal
import time
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from influxd import wait_until
from sink_store import Connection, expected_air, expected_hours, expected_indices, expected_raw
from test_derive_late import derive_all
from test_intake import Bench
from test_sink_influx import answering, drain
from test_sink_lineprotocol import parse

from gateway import intake
from gateway.records import HourRecord, IndexRecord, SubIndex
from gateway.settings import Influx
from gateway.sinks import influx as sink_module
from gateway.sinks import lineprotocol, withdraw
from gateway.sinks.influx import InfluxSink
from gateway.sinks.influx_client import InfluxClient, Outcome, UnavailableError
from gateway.sinks.process import SinkProcess
from gateway.store import derived, registry, tombstones
from gateway.store.database import RAW_HORIZON, last_revision, transaction, write_meta
from gateway.store.tombstones import Kind

T0 = 1_795_215_600  # a whole hour
HOUR = T0 // 3600
COLUMNS = ["seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "env_n", "env_bad", "temp", "rh"]
HOSTILE = (
    'a"b', "a'b", "a b", "a,b", "a=b", "a AND b", "ü€", "50 %d", "a\"'b", '" OR "kit"="', "(x)", "a\\nb", "x\\", "a/b",
)  # fmt: skip


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "store", trusted=True)


def send(bench, seqs, *, boot=7, kit="kit-1", t0=T0, q=2, kind="backlog", received_s=T0 + 400_000, value=80, step=60):
    """Send readings of a kit, `step` seconds apart, without a clock where `q` is 0; 200 a message."""
    seqs = list(seqs)
    for at in range(0, len(seqs), 200):
        rows = [
            [s, step * s, t0 + step * s if q else None, q, step, 12, 0, value + s % 50, 12, 0, 2100 + s % 9, 5000]
            for s in seqs[at : at + 200]
        ]
        body = {"v": 1, "boot": boot, "first": 0, "cols": COLUMNS, "rows": rows}
        bench.send(bench.message(f"lichen/v1/{kit}/{kind}", msgspec.json.encode(body), received_s * 1000))


def send_live(bench, seqs, *, boot, late_s=7):
    """Send readings of a boot without a clock as they are made, so that their receipts tell their times."""
    seqs = list(seqs)
    send(bench, seqs[:1], boot=boot, q=0, kind="obs", received_s=T0 + 60 * seqs[0] + late_s)
    send(bench, seqs[1:-1], boot=boot, q=0)
    send(bench, seqs[-1:], boot=boot, q=0, kind="obs", received_s=T0 + 60 * seqs[-1] + late_s)


def release(bench, monkeypatch, now_s=T0 + 500_000):
    monkeypatch.setattr(intake, "now_ms", lambda: now_s * 1000)
    while bench.intake.release_waiting():
        pass


def stones(db, kind):
    return [
        at for stone in tombstones.between(db, 0, 2**60) if stone.kind == kind for at in stone.times_ms.tolist()
    ]  # fmt: skip


def sink_of(server, bucket, bench, **more):
    return InfluxSink(server.settings(bucket, **more), server.token_path, bench.folder)


def assert_same(server, bucket, db):
    """Compare all that InfluxDB holds with all that the store holds."""
    assert server.points("raw", bucket) == expected_raw(db)
    assert server.points("air", bucket) == expected_air(db)
    assert server.points("hour", bucket) == expected_hours(db)
    assert server.points("index", bucket) == expected_indices(db)


@pytest.mark.influxdb
def test_a_boot_placed_again_by_another_anchor_ends_equal_to_the_store(server, bucket, bench, monkeypatch):
    send(bench, range(300), boot=9)
    send_live(bench, range(200), boot=8)
    release(bench, monkeypatch)
    derive_all(bench.db)
    sink = sink_of(server, bucket, bench)
    drain(sink)
    before = server.points("raw", bucket)
    assert len(before) == 500
    send(bench, [200], boot=8, q=2, t0=T0 - 7_200)
    release(bench, monkeypatch)
    derive_all(bench.db)
    assert len(stones(bench.db, Kind.RAW)) >= 200
    drain(sink)
    assert_same(server, bucket, bench.db)
    assert sink.state.points_withdrawn >= 200


@pytest.mark.influxdb
def test_a_kit_moved_in_the_past_ends_equal_to_the_store(server, bucket, bench):
    """Also back again, to sites with hostile names; calibrated rows, hours and indices of the old site go."""
    for kit in ("kit-1", "kit-2"):
        send(bench, range(60 * 30), kit=kit)
    derive_all(bench.db)
    sink = sink_of(server, bucket, bench)
    drain(sink)
    for from_hour, site in (
        (HOUR + 5, 'Rose\'s, 1 = "home"'),
        (HOUR + 5, "b\\c"),
        (HOUR, "d AND e"),
        (HOUR + 20, None),
    ):
        with transaction(bench.db):
            assert registry.set_site(bench.db, "kit-1", from_hour, site)
        derive_all(bench.db)
        drain(sink)
        expected = {
            ((tags[0], ("site", tags[1][1].replace("\\", "/"))), at): fields
            for (tags, at), fields in expected_air(bench.db).items()
        }
        assert server.points("air", bucket) == expected, site
    with transaction(bench.db):
        registry.drop_site(bench.db, "kit-1", HOUR + 5)
    derive_all(bench.db)
    drain(sink)
    assert_same(server, bucket, bench.db)


@pytest.mark.influxdb
def test_an_hour_and_an_index_that_lose_a_field_lose_it_there_too(server, bucket, bench):
    send(bench, [1])
    sink = sink_of(server, bucket, bench)
    for values, sub in (
        ({"pm25_ugm3": 7.5, "temp": 21.0}, SubIndex(concentration=7.5, index=42, valid_pct=75.0)),
        ({"temp": 21.0}, SubIndex(valid_pct=75.0)),
    ):
        hours = [
            HourRecord(kit="kit-1", site="s", hour=HOUR + i, values=values, valid_pct={}, qc=1, reasons=0, cal="c")
            for i in range(3)
        ]
        index = IndexRecord(
            site="s", scheme="us-2024", hour=HOUR, value=sub.index, category=None, pollutant=None, table="t",
            subs={"pm25": sub},
        )  # fmt: skip
        with transaction(bench.db):
            derived.write_hours(bench.db, 1, hours)
            derived.write_indices(bench.db, "s", HOUR, HOUR, [index])
        drain(sink)
    assert len(stones(bench.db, Kind.HOUR)) == 3
    assert stones(bench.db, Kind.INDEX)
    assert_same(server, bucket, bench.db)
    assert all("pm25_ugm3" not in fields for fields in server.points("hour", bucket).values())


@pytest.mark.influxdb
def test_exactly_the_withdrawn_millisecond_of_the_series_goes(server, bucket, bench):
    """Older data that the store has let go stay in InfluxDB, and so do neighbours, other kits and measurements."""
    ms = T0 * 1000
    lines = [f"{m},kit={k} v=1.0 {ms + d}" for m in ("raw", "other") for k in ("kit-1", "kit-2") for d in (-1, 0, 1, 2)]
    server.write("\n".join(lines), bucket)
    send(bench, [1])
    with transaction(bench.db):
        write_meta(bench.db, RAW_HORIZON, str(HOUR + 1))
        tombstones.leave(bench.db, Kind.RAW, "kit-1", "", [ms, ms + 2])
    drain(sink_of(server, bucket, bench))
    left = {at - ms for (tags, at), _ in server.points("raw", bucket).items() if tags == (("kit", "kit-1"),)}
    assert left == {-1, 1, 60_000}
    assert len(server.points("other", bucket)) == 8
    assert len(server.points("raw", bucket)) == 7


@pytest.mark.influxdb
def test_names_cannot_widen_or_break_a_deletion(server, bucket):
    client = InfluxClient(server.settings(bucket), server.token_path)
    for name in HOSTILE:
        tags = lineprotocol.air_tags("k", name)
        text = ",".join(["m", *(f"{n}={v}".replace(",", "\\,").replace(" ", "\\ ") for n, v in tags[:1])])
        series = lineprotocol.series("m", tags)
        client.write([f"{series} v=1.0 {T0 * 1000}".encode(), f"{text},site=kept v=1.0 {T0 * 1000}".encode()])
        assert len(server.points("m", bucket)) == 2, name
        assert client.delete(lineprotocol.predicate("m", tags), T0 * 1000, T0 * 1000) == ""
        ((tags, _),) = server.points("m", bucket)
        assert dict(tags)["site"] == "kept", name
    client.close()


@pytest.mark.influxdb
def test_ten_thousand_withdrawn_rows_take_seconds(server, bucket, bench, monkeypatch):
    send(bench, range(10_000), boot=9, t0=T0 + 30)
    send_live(bench, range(10_000), boot=8)
    release(bench, monkeypatch, T0 + 700_000)
    sink = sink_of(server, bucket, bench)
    drain(sink)
    assert server.count("raw", "seq", bucket) == 20_000
    send(bench, [10_000], boot=8, q=2, t0=T0, received_s=T0 + 700_000)
    release(bench, monkeypatch, T0 + 800_000)
    assert len(stones(bench.db, Kind.RAW)) == 10_000
    asked = []
    real = InfluxClient.delete
    monkeypatch.setattr(InfluxClient, "delete", lambda *a: asked.append(a) or real(*a))
    started_s = time.monotonic()
    drain(sink)
    took_s = time.monotonic() - started_s
    assert server.points("raw", bucket) == expected_raw(bench.db)
    assert len(asked) <= 20
    assert took_s < 20


@pytest.mark.influxdb
def test_killed_between_deletions_and_writes_ends_right(server, bucket, bench, tmp_path, monkeypatch):
    """The server has deleted, and the process dies with the write on its way: nothing of it was confirmed."""
    send_live(bench, range(300), boot=8)
    release(bench, monkeypatch)
    send(bench, range(300), boot=9)
    config = tmp_path / "gateway.toml"
    seen = []
    process = SinkProcess(config)

    def forward(body, path):
        deleting = path.startswith("/api/v2/delete")
        if "delete" in seen and not deleting and "killed" not in seen:
            seen.append("killed")
            os.kill(process.pid, signal.SIGKILL)
            return 503, {}, b""
        seen.append("delete" if deleting else "write")
        server.request("POST", path, body)
        return 204, {}, b""

    with answering(forward, with_path=True) as (url, _):
        config.write_text(server.toml(bucket).replace(server.url, url))
        files = sink_of(server, bucket, bench).files
        process.start()
        try:
            wait_until(lambda: files.load_cursor().rev == last_revision(bench.db), "the first delivery")
            send(bench, [300], boot=8, q=2, t0=T0 - 7_200)
            release(bench, monkeypatch)
            wait_until(lambda: "killed" in seen, "the kill")
            assert server.count("raw", "seq", bucket) < 601
            wait_until(lambda: not process.poll(), "the end of the process", 5)
            assert files.load_cursor().rev < last_revision(bench.db)
            wait_until(lambda: process.poll() and files.load_cursor().rev == last_revision(bench.db), "the rest", 60)
        finally:
            process.stop()
    assert server.points("raw", bucket) == expected_raw(bench.db)


def test_a_token_without_the_right_to_delete_is_told_and_nothing_is_confirmed(bench, tmp_path):
    """A recorded answer: InfluxDB 2.7 knows no token that may write and not delete, a proxy or a successor may."""
    (tmp_path / "token").write_text("secret-of-this-test")
    send(bench, range(5))

    def answer(_, path):
        refused = path.startswith("/api/v2/delete")
        return (
            (403, {}, b'{"code":"forbidden","message":"insufficient permissions to delete"}')
            if refused
            else (204, {}, b"")
        )

    with answering(answer, with_path=True) as (url, _):
        settings = Influx(url=url, org="o", bucket="b", token_file="t")
        sink = InfluxSink(settings, tmp_path / "token", bench.folder)
        drain(sink)
        confirmed = sink.files.load_cursor().rev
        with transaction(bench.db):
            tombstones.leave(bench.db, Kind.RAW, "kit-1", "", [(T0 + 60) * 1000])
        with pytest.raises(UnavailableError, match="may delete points") as caught:
            sink.step()
        assert caught.value.lasting
        assert sink._note_failure(caught.value, 0) >= 30
    assert sink.files.load_cursor().rev == confirmed
    state = sink.files.load_state()
    assert "insufficient permissions to delete" in state.last_error
    assert "secret" not in state.last_error


@pytest.mark.influxdb
def test_a_token_that_may_only_read_is_refused_by_the_real_server(server, bucket, tmp_path):
    (tmp_path / "token").write_text(server.create_token("read", bucket))
    client = InfluxClient(server.settings(bucket), tmp_path / "token")
    with pytest.raises(UnavailableError, match="may delete points") as caught:
        client.delete(lineprotocol.predicate("raw", lineprotocol.raw_tags("kit-1")), 0, 1)
    client.close()
    assert caught.value.lasting


@pytest.mark.influxdb
def test_a_deletion_the_server_cannot_read_is_a_dead_letter_and_blocks_nothing(server, bucket, bench, monkeypatch):
    send(bench, range(5))
    with transaction(bench.db):
        tombstones.leave(bench.db, Kind.RAW, "kit-1", "", [(T0 + 60) * 1000 + 1])
    monkeypatch.setattr(withdraw.Removal, "predicate", property(lambda _: '_measurement="raw" OR kit="x"'))
    sink = sink_of(server, bucket, bench)
    drain(sink)
    (dead,) = [json.loads(line) for line in sink.files.dead_path.read_text("utf-8").splitlines()]
    assert dead["line"].startswith("delete _measurement")
    assert server.count("raw", "seq", bucket) == 5


class Model:
    """InfluxDB in memory: points merge their fields, deletions take ranges of one series."""

    def __init__(self):
        self.points = {}

    def write(self, lines):
        for line in lines:
            measurement, tags, fields, at = parse(line)
            key = measurement, tuple(sorted(tags.items())), at
            self.points.setdefault(key, {}).update(fields)
        return Outcome(written=len(lines))

    def delete(self, predicate, first_ms, last_ms):
        for key in [key for key in self.points if first_ms <= key[2] <= last_ms]:
            if lineprotocol.predicate(key[0], key[1]) == predicate:
                del self.points[key]
        return ""

    def close(self):
        pass

    def of(self, measurement):
        return {key[1:]: fields for key, fields in self.points.items() if key[0] == measurement}


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_withdrawn_whenever_the_sink_looks_all_ends_equal(bench, tmp_path, monkeypatch, seed):
    """Random: boots without clocks that find one, crowded seconds, late rows, moved kits; small and broken batches."""
    rng = random.Random(seed)
    model = Model()
    monkeypatch.setattr(sink_module, "InfluxClient", lambda *_: Connection(model))
    monkeypatch.setattr(withdraw, "DELETION_LINES", rng.choice([0, 3, 400]))
    sink = InfluxSink(Influx(url="http://x", org="o", bucket="b", token_file="t"), tmp_path, bench.folder)
    at = dict.fromkeys(((kit, boot) for kit in ("kit-1", "kit-2") for boot in (1, 2, 3)), 0)
    for _ in range(40):
        kit, boot = rng.choice(list(at))
        first = at[kit, boot]
        match rng.choice(["rows", "rows", "clock", "move", "derive", "send", "send", "break"]):
            case "rows":
                at[kit, boot] += rng.randint(1, 90)
                q = 2 if boot == 1 else 0
                kind, now_s = rng.choice(["obs", "backlog"]), T0 + 60 * at[kit, boot] + rng.randint(0, 9000)
                send(bench, range(first, at[kit, boot]), boot=boot, kit=kit, q=q, kind=kind, received_s=now_s)
            case "clock":
                at[kit, boot] += 1
                send(bench, [first], boot=boot, kit=kit, q=2, t0=T0 + rng.choice([0, 60, -3600, 17]))
                release(bench, monkeypatch)
            case "move" if sum(at.values()):
                with transaction(bench.db):
                    registry.set_site(bench.db, kit, HOUR + rng.randint(-2, 4), rng.choice(["a", "b", "a\\b", None]))
            case "derive":
                derive_all(bench.db)
            case "send":
                sink._rows = rng.choice([1, 20, 200, 25_000])
                sink.step()
            case "break":
                with monkeypatch.context() as broken:
                    broken.setattr(InfluxSink, "_keep", lambda *_, **__: 1 / 0)
                    before = sink._cursor
                    try:
                        sink.step()
                    except ZeroDivisionError:
                        sink._cursor = before  # killed after all was written, before it was confirmed
    derive_all(bench.db)
    drain(sink)
    clean = lambda points: {  # noqa: E731
        (tuple((n, v.replace("\\", "/")) for n, v in tags), ms): fields for (tags, ms), fields in points.items()
    }
    assert model.of("raw") == expected_raw(bench.db)
    assert model.of("air") == clean(expected_air(bench.db))
    assert model.of("hour") == clean(expected_hours(bench.db))
    assert model.of("index") == clean(expected_indices(bench.db))
    assert stones(bench.db, Kind.AIR) or seed


@given(st.sets(st.integers(0, 60), min_size=1), st.sets(st.integers(0, 60)), st.integers(0, 4))
def test_ranges_hold_every_withdrawn_time_and_few_others(withdrawn, held, most):
    times = np.array(sorted(withdrawn))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(withdraw, "DELETION_LINES", most)
        ranges = withdraw._ranges(times, np.array(sorted(held), dtype=int))
    inside = {at for first, last in ranges for at in range(first, last + 1)}
    assert withdrawn <= inside
    assert all(first in withdrawn and last in withdrawn for first, last in ranges)
    between = [sum(a < at < b for at in held) for a, b in pairwise(times)]
    assert len(ranges) <= 1 + sum(count >= most for count in between)


def test_pieces_end_at_gaps_and_are_not_too_long():
    times = np.array([0, 10, 20, 100, 110, 120, 130, 140])
    assert [piece.tolist() for piece in withdraw._pieces(times, 50, 35)] == [[0, 10, 20], [100, 110, 120, 130], [140]]
