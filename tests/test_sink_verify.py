"""`lichen verify --influx` finds exactly what differs between a real InfluxDB and the store, while both go on."""

import json
import subprocess
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from main_job import LICHEN
from sink_store import GAS, T0_S, Store
from test_sink_influx import drain

from gateway.errors import LichenError
from gateway.settings import Influx
from gateway.sinks.compare import Expected, compare
from gateway.sinks.cursor import Cursor
from gateway.sinks.influx import InfluxSink
from gateway.sinks.influx_read import END_MS, InfluxReader
from gateway.sinks.lineprotocol import Column
from gateway.sinks.verify_influx import Verifier, spans
from gateway.store import health, tombstones
from gateway.store.database import RAW_HORIZON, read_meta, transaction, write_meta
from gateway.store.tombstones import Kind

HOUR = T0_S // 3600
MS = T0_S * 1000


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "store")
    for kit in ("k1", 'k 2,="'):
        store.add_raw(kit, 1, 0, 700)
        store.add_raw(kit, 2, 700, 300, cols=GAS, step_s=60)
        store.add_air(kit, HOUR, [7.1, float("nan"), 0.1 + 0.2])
        store.add_hour(kit, HOUR, 7.5)
    store.add_index(HOUR, 42)
    store.add_index(HOUR + 1, None)
    with transaction(store.db):
        health.add(store.db, health.GATEWAY, MS, {"rows": 1, "store_mb": 2.5})
        health.add(store.db, 1, MS + 7, {"rssi": -61})
    return store


def sink_of(server, bucket, store):
    return InfluxSink(server.settings(bucket), server.token_path, store.dir)


def verify(server, bucket, store, cursor=None, **more):
    sink = sink_of(server, bucket, store)
    reader = InfluxReader(server.settings(bucket), server.token_path)
    known = (lambda: cursor) if cursor else (lambda: sink.files.cursor_of(read_meta(store.db, "store_id")))
    return Verifier(store.db, reader, known, wait_s=0.01, **more).run(time.time_ns() // 1_000_000)


@pytest.mark.influxdb
def test_what_the_sink_has_sent_is_equal(server, bucket, store):
    drain(sink_of(server, bucket, store))
    found = verify(server, bucket, store)
    assert found.equal, found.examples
    compared = {name: counts.compared for name, counts in found.measurements.items()}
    assert compared == {"raw": 2000, "air": 6, "hour": 2, "index": 2, "kit_health": 1, "gateway": 1}


@pytest.mark.influxdb
def test_every_kind_of_difference_is_counted_once(server, bucket, store):
    drain(sink_of(server, bucket, store))
    series = "raw,kit=k1"
    org, second = server, MS + 1000
    org.write(f"{series} pm25_cf1=99.5 {second}\n{series} stranger=1i {second + 1000}", bucket)  # two differ
    org.write(f"{series} pm25_cf1=1.0 {second + 1}\nraw,kit=nobody rh=1.0 {MS}\nhour,kit=k1,site=x v=1 {MS}", bucket)
    body = {"start": "2000-01-01T00:00:00Z", "stop": "2100-01-01T00:00:00Z", "predicate": '_measurement="index"'}
    org.request("POST", f"/api/v2/delete?org=lichen&bucket={bucket}", json.dumps(body).encode())
    found = verify(server, bucket, store)
    assert not found.equal
    told = {name: (c.missing, c.foreign, c.different) for name, c in found.measurements.items()}
    nothing = (0, 0, 0)
    assert told == {
        "raw": (0, 2, 2), "air": nothing, "hour": (0, 1, 0), "index": (2, 0, 0), "kit_health": nothing,
        "gateway": nothing,
    }  # fmt: skip
    assert "missing: index,scheme=us-2024,site=s at 2026-11-20" in " ".join(found.examples)
    assert len(found.examples) == 7


@pytest.mark.parametrize(("value", "there"), [(42, 42.0), (42.0, 42), ("42", 42), (42, "42")])
def test_another_type_of_a_value_differs(value, there):
    expected = Expected()
    expected.add_record((("site", "s"),), 7, 1, {"value": value})
    for stored, differs in ((value, False), (there, True)):
        column = np.array([stored], object if isinstance(stored, str) else type(stored))
        found = compare(expected.series(), {(("site", "s"),): {"value": (np.array([7]), column)}}, 1)
        assert bool(found.different) == differs


@pytest.mark.influxdb
def test_what_is_not_confirmed_is_pending_whether_it_is_there_or_not(server, bucket, store):
    sink = sink_of(server, bucket, store)
    drain(sink)
    confirmed = sink.files.load_cursor()
    store.add_raw("k3", 1, 0, 50)
    store.add_air("k1", HOUR, [7.1, 5.0])
    with transaction(store.db):
        tombstones.leave(store.db, Kind.RAW, "gone", "", [MS])
    server.write(f"raw,kit=gone rh=1.0 {MS}", bucket)
    found = verify(server, bucket, store)
    assert found.equal, found.examples
    assert (found.measurements["raw"].pending, found.measurements["air"].pending) == (50, 1)
    store.add_raw("k4", 1, 0, 30)
    drain(sink)
    found = verify(server, bucket, store, cursor=confirmed)
    assert found.equal, found.examples
    assert verify(server, bucket, store).measurements["raw"].compared == 2080
    assert not verify(server, bucket, store, cursor=Cursor()).measurements["raw"].compared


@pytest.mark.influxdb
def test_the_archive_is_counted_and_what_the_store_still_holds_there_is_compared(server, bucket, store):
    drain(sink_of(server, bucket, store))
    server.write("\n".join(f"raw,kit=k1 rh=1.0 {MS - 86_400_000 + i}" for i in range(100)), bucket)
    assert verify(server, bucket, store).measurements["raw"].foreign == 100
    with transaction(store.db):
        write_meta(store.db, RAW_HORIZON, str(HOUR - 2))
    found = verify(server, bucket, store)
    assert found.equal
    assert (found.measurements["raw"].archive, found.measurements["raw"].compared) == (100, 2000)


@pytest.mark.influxdb
def test_points_that_the_bucket_keeps_no_longer_are_left_out(server, request, store):
    name = request.node.name[:60]
    server.create_bucket(name, keep_s=7200)
    sink = sink_of(server, name, store)
    drain(sink)
    assert sink.state.lines_expired > 700  # all but those of the last two hours, by the clock of this machine
    found = verify(server, name, store)
    assert found.equal, found.examples
    assert found.measurements["raw"].expired >= 700


@pytest.mark.influxdb
def test_a_store_and_a_sink_that_go_on_make_no_difference(server, bucket, store):
    """Small spans, rows and withdrawals all the while: what differs for a moment is not told."""
    sink = sink_of(server, bucket, store)
    drain(sink)
    stop = threading.Event()

    def work():
        live = Store.__new__(Store)
        live.__dict__ = {**store.__dict__}
        for i in range(100):
            if stop.is_set():
                return
            live.add_raw("k5", 1, 20 * i, 20)
            live.add_air("k1", HOUR + i % 3, [float(i), 1.0][: 1 + i % 2])
            while sink.step():
                pass
            sink._keep(now=True)

    # The writer has the store's one connection; the verification another.
    from gateway.store.database import open_reader

    reading = open_reader(store.dir)
    thread = threading.Thread(target=work)
    thread.start()
    try:
        reader = InfluxReader(server.settings(bucket), server.token_path)
        for _ in range(4):
            cursor = sink.files.load_cursor
            found = Verifier(reading, reader, cursor, wait_s=0.2).run(time.time_ns() // 1_000_000)
            assert found.equal, found.examples
    finally:
        stop.set()
        thread.join()
        reading.close()
        sink.close()


@pytest.mark.influxdb
def test_the_command_tells_and_exits_with_1_where_they_differ(server, bucket, store, tmp_path):
    drain(sink_of(server, bucket, store))
    config = tmp_path / "gateway.toml"
    config.write_text(server.toml(bucket))
    command = [*LICHEN, "verify", "--influx", "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "raw: 2000 compared" in done.stdout) == (0, True), done.stderr
    server.write(f"raw,kit=k1 stranger=1.0 {MS}", bucket)
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=60)
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert (told["equal"], told["measurements"]["raw"]["foreign"]) == (False, 1)


@pytest.mark.influxdb
def test_a_token_that_may_not_read_says_which_one_is_needed(server, bucket, store, tmp_path):
    (tmp_path / "writer").write_text(server.create_token("write", bucket))
    with pytest.raises(LichenError, match="token that may read"):
        InfluxReader(server.settings(bucket), tmp_path / "writer").keeps_s()
    (tmp_path / "wrong").write_text("not-our-secret")
    with pytest.raises(LichenError, match=r"401.*--token-file") as caught:
        InfluxReader(server.settings(bucket), tmp_path / "wrong").read("raw", 0, 1)
    assert "not-our-secret" not in str(caught.value)
    (tmp_path / "reader").write_text(server.create_token("read", bucket))
    reader = InfluxReader(server.settings(bucket), tmp_path / "reader")
    assert reader.keeps_s() == 0
    assert reader.read("raw", 0, END_MS) == {}


def test_a_server_that_is_away_is_told(tmp_path):
    (tmp_path / "token").write_text("t")
    reader = InfluxReader(Influx(url="http://127.0.0.1:9", org="o", bucket="b", token_file="t"), tmp_path / "token")
    with pytest.raises(LichenError, match="does not answer"):
        reader.keeps_s()


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 90)), max_size=30, unique_by=lambda pair: pair[0]),
    st.integers(0, 3000 * 3_600_000),
)
@example([(2999, 41)], 3000 * 3_600_000 - 1)
def test_spans_cover_all_time_once(weights, from_ms):
    found = list(spans(sorted(weights), from_ms, most=40))
    assert found[0][0] == from_ms
    assert found[-1][1] == END_MS
    assert all(a[1] == b[0] and a[0] < a[1] for a, b in pairwise(found))
    inner = found[:-1]
    for start, end in inner:
        inside = [n for hour, n in weights if start <= hour * 3_600_000 and (hour + 1) * 3_600_000 <= end]
        assert sum(inside) <= 90


points = st.dictionaries(
    st.tuples(st.sampled_from("ab"), st.integers(0, 5)),
    st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 2).map(float), min_size=1),
)


@given(points, points, st.integers(0, 6))
def test_comparing_columns_is_comparing_points(wanted, there, sent_rev):
    """Against dicts; the revision of a point is its time."""
    expected = Expected()
    for kit in sorted({kit for kit, _ in wanted}):
        times = sorted(at for name, at in wanted if name == kit)
        columns = [Column(f, np.array([wanted[kit, at].get(f, np.nan) for at in times])) for f in ("x", "y")]
        expected.add_columns((("kit", kit),), np.array(times), np.array(times), columns)
    found = {}
    for (kit, at), fields in sorted(there.items()):
        for name, value in fields.items():
            table = found.setdefault((("kit", kit),), {}).setdefault(name, ([], []))
            table[0].append(at)
            table[1].append(value)
    arrays = {tags: {f: (np.array(t), np.array(v)) for f, (t, v) in some.items()} for tags, some in found.items()}
    result = compare(expected.series(), arrays, sent_rev)
    name = lambda keys: {((("kit", kit),), at) for kit, at in keys}  # noqa: E731
    sent = {key for key in wanted if key[1] <= sent_rev}
    assert result.foreign == name(there.keys() - wanted.keys())
    assert result.missing == name(sent - there.keys())
    assert result.different == name({key for key in sent & there.keys() if wanted[key] != there[key]})
