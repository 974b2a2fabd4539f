"""/metrics: the pipeline's numbers for Prometheus, readable by its own parser, bounded in labels."""

import time
import urllib.request

import msgspec
import pytest
from influxd import wait_until
from live_gateway import Kit, LiveGateway, batch, write_config
from made_store import MadeStore, settings_of
from prometheus_client.parser import text_string_to_metric_families
from test_status import NOW_MS, NOW_S, VITALS, day, with_sink

from gateway import exposition as page
from gateway.metrics import Histogram, Live
from gateway.simulate.mosquitto import DemoBroker, free_port
from gateway.sinks.cursor import SinkState
from gateway.store import counters
from gateway.store.database import transaction


@pytest.fixture
def made(tmp_path):
    store = MadeStore(tmp_path / "store")
    yield store
    store.db.close()


def parsed(text):
    """Return {name: {labels: value}}."""
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def metrics(made, *, live=None, vitals=VITALS, settings=None, now_ms=NOW_MS):
    return parsed(page.exposition(settings or settings_of(made.dir), live or Live(), vitals, now_ms))


def test_a_histogram_counts_each_at_the_first_bound_that_holds_it():
    found = Histogram((0.1, 1.0))
    for seconds in (0.05, 0.1, 0.5, 7.0):
        found.add(seconds)
    assert found.counts == [2, 1, 1]
    assert found.sum_s == pytest.approx(7.65)


def test_commits_are_counted_with_their_messages_and_time(made):
    live = Live()
    live.committed(3, 300, 0.02)
    live.committed(4, 400, 0.3)
    found = metrics(made, live=live)
    assert (live.messages, live.payload_bytes, live.last_commit_s) == (7, 700, 0.3)
    assert found["lichen_commit_seconds_count"][()] == 2
    assert found["lichen_commit_seconds_sum"][()] == pytest.approx(0.32)
    buckets = {dict(labels)["le"]: value for labels, value in found["lichen_commit_seconds_bucket"].items()}
    assert (buckets["0.01"], buckets["0.025"], buckets["0.5"], buckets["+Inf"]) == (0, 1, 2, 2)


def test_the_numbers_are_those_of_store_process_and_sink(made):
    day(made, hours=1)
    with transaction(made.db):
        counters.add(made.db, 1, {"rows": 60, "duplicates": 3, "dead.not_json": 2})
    vitals = msgspec.structs.replace(VITALS, queue_messages=4, queue_bytes=900, queue_age_s=2.5, stuck=("x",))
    settings = with_sink(made, SinkState(last_error="down", lines_written=9), 0)
    found = metrics(made, vitals=vitals, settings=settings, now_ms=NOW_MS + 60_000)
    assert found["lichen_rows_stored_total"][()] == 60
    assert found["lichen_duplicates_total"][()] == 3
    assert found["lichen_dead_letters_total"][(("reason", "not_json"),)] == 2
    assert found["lichen_queue_messages"][()] == 4
    assert found["lichen_queue_age_seconds"][()] == 2.5
    assert found["lichen_stuck_parts"][()] == 1
    assert found["lichen_dirty_hours"][()] > 0
    assert found["lichen_clock_trusted"][()] == 1
    assert found["lichen_disk_free_bytes"][()] > 0
    assert found["lichen_kit_newest_reading_age_seconds"][(("kit", "kit-1"),)] == 60
    assert found["lichen_sink_lag_revisions"][()] > 0
    assert found["lichen_sink_lag_seconds"][()] == pytest.approx(60)
    assert (found["lichen_sink_failing"][()], found["lichen_sink_lines_written_total"][()]) == (1, 9)


def test_without_a_trusted_clock_no_age_is_told(made):
    day(made, hours=1)
    found = metrics(made, vitals=msgspec.structs.replace(VITALS, clock_error_s=None))
    assert found["lichen_clock_trusted"][()] == 0
    assert "lichen_kit_newest_reading_age_seconds" not in found


def test_labels_are_bounded_and_the_kits_silent_for_longest_are_kept(made, monkeypatch):
    monkeypatch.setattr(page, "MOST_KITS", 5)
    for number in range(8):
        day(made, f"kit-{number}", end_s=NOW_S - 60 * number, hours=1)
    found = metrics(made)
    kits = {dict(labels)["kit"] for labels in found["lichen_kit_newest_reading_age_seconds"]}
    assert kits == {"kit-3", "kit-4", "kit-5", "kit-6", "kit-7"}
    assert found["lichen_kits_left_out"][()] == 3
    assert found["lichen_kits"][()] == 8


def fetch(port):
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        f"http://127.0.0.1:{port}/metrics", timeout=10
    ) as response:
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        return parsed(response.read())


@pytest.mark.mosquitto
def test_a_running_gateway_shows_its_metrics(mosquitto, tmp_path):
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1"])
    broker.start()
    port = free_port()
    try:
        config = write_config(tmp_path / "gw", broker, web=f"[web]\nport = {port}\n")
        with LiveGateway(config) as gateway, Kit(broker) as kit:
            gateway.receives()
            now_s = int(time.time())
            kit.send(batch(7, range(10), t0_s=now_s - 600), "obs")
            kit.send(batch(7, range(10), t0_s=now_s - 600), "obs")
            kit.send(b"{", "obs")
            wait_until(lambda: gateway.totals().get("dead.not_json") == 1, "it is stored")
            found = wait_until(lambda: (m := fetch(port))["lichen_messages_received_total"][()] == 3 and m, "counted")
            assert found["lichen_rows_stored_total"][()] == 10
            assert found["lichen_duplicates_total"][()] == 10
            assert found["lichen_dead_letters_total"][(("reason", "not_json"),)] == 1
            assert found["lichen_receiving"][()] == 1
            assert found["lichen_queue_messages"][()] == 0
            assert 0 < found["lichen_commit_seconds_count"][()] <= 3
            assert 0 < found["lichen_kit_newest_reading_age_seconds"][(("kit", "kit-1"),)] < 120
    finally:
        broker.stop()
