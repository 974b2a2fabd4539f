"""P5: a sink that is too far behind, or missed what the store let go, says so; a span can be sent again."""

import subprocess
import time

import pytest
from influxd import Influxd, wait_until
from main_job import LICHEN
from sink_store import (
    T0_S,
    Connection,
    Store,
    expected_air,
    expected_health,
    expected_hours,
    expected_indices,
    expected_raw,
)
from test_retention import House
from test_sink_influx import drain
from test_sink_withdrawn import Model

from gateway.records import HOUR_MS
from gateway.settings import Influx
from gateway.sinks import influx as sink_module
from gateway.sinks.cursor import Refill
from gateway.sinks.influx import InfluxSink
from gateway.sinks.influx_client import UnavailableError
from gateway.store import health
from gateway.store.database import transaction

HOUR = T0_S // 3600
MS = T0_S * 1000


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def model(monkeypatch):
    found = Model()
    monkeypatch.setattr(sink_module, "InfluxClient", lambda *_: Connection(found))
    return found


def sink_of(folder, **more):
    return InfluxSink(Influx(url="http://x", org="o", bucket="b", token_file="t", **more), folder / "t", folder)


def fill(store):
    for kit in ("k1", "k2"):
        store.add_raw(kit, 1, 0, 300, step_s=60)
        store.add_air(kit, HOUR, [1.0, 2.0])
        store.add_hour(kit, HOUR, 7.5)
    store.add_index(HOUR, 42)
    with transaction(store.db):
        health.add(store.db, 1, MS + 5, {"rssi": -61})
        health.add(store.db, health.GATEWAY, MS + 5, {"rows": 3})


def test_a_sink_beyond_its_budget_of_days_or_rows_is_behind_until_it_has_caught_up(store, model, tmp_path, caplog):
    store.add_raw("k1", 1, 0, 3000)  # received long ago, by the clock of this machine
    for budget, words in (({"lag_days": 0.0001}, "days ago"), ({"lag_rows": 1000}, "3000 readings")):
        sink = sink_of(store.dir, **({"lag_days": 1e5} | budget))
        sink._look_behind()
        assert words in sink.state.behind
        assert sink.state.unsent_rows == 3000
    assert "behind" in caplog.text
    drain(sink)
    sink._looked_s = -100
    sink.step()
    assert (sink.state.behind, sink.state.unsent_rows, sink.state.unsent_s) == ("", 0, 0)
    sink.close()


def test_a_server_that_is_away_for_long_is_told_as_behind_while_it_is(store, monkeypatch, tmp_path):
    """The look comes before the attempt that fails."""
    store.add_raw("k1", 1, 0, 3000)

    class Away(Model):
        def write(self, _):
            raise UnavailableError("away")

    monkeypatch.setattr(sink_module, "InfluxClient", lambda *_: Connection(Away()))
    sink = sink_of(store.dir, lag_days=0.001)
    with pytest.raises(UnavailableError) as caught:
        sink.step()
    sink._note_failure(caught.value, 0)
    assert "days ago" in sink.files.load_state().behind


def test_what_the_store_let_go_unsent_is_missed_until_it_was_filled_again(tmp_path, model):
    house = House(tmp_path / "store", influx=Influx(url="http://x", org="o", bucket="b", token_file="t"))
    house.fill(range(5))
    house.at(1, 20)
    house.keep(3)
    missed = house.counts()["pruned_unsent"]
    assert missed == 8
    sink = sink_of(tmp_path / "store", lag_days=1e5)
    drain(sink)
    sink._looked_s = -100
    sink.step()
    assert f"{missed} raw readings, 5 calibrated hours that InfluxDB was never given" in sink.state.behind
    assert sink.state.missed["pruned_unsent"] == missed
    sink.files.save_refill(Refill(from_ms=0, to_ms=house.now_ms, at_ms=0))
    while sink.refill_step():
        pass
    sink.step()
    assert (sink.state.behind, sink.state.missed) == ("", {})
    sink.close()
    again = sink_of(tmp_path / "store", lag_days=1e5)
    again.step()
    assert again.state.missed == {}
    again.close()


def expected(db):
    kinds = {"raw": expected_raw, "air": expected_air, "hour": expected_hours, "index": expected_indices}
    found = {(name, *key): fields for name, of in kinds.items() for key, fields in of(db).items()}
    for name, gateway in (("kit_health", False), ("gateway", True)):
        found |= {(name, *key): fields for key, fields in expected_health(db, gateway=gateway).items()}
    return found


@pytest.mark.parametrize("stops", [False, True])
def test_a_refill_sends_exactly_the_span_again_also_where_it_is_interrupted(store, model, tmp_path, stops):
    fill(store)
    sink = sink_of(store.dir)
    drain(sink)
    assert model.points == expected(store.db)
    model.points.clear()
    from_ms, to_ms = MS + 20 * 60_000, MS + 3 * HOUR_MS
    sink.files.save_refill(Refill(from_ms=from_ms, to_ms=to_ms, at_ms=from_ms))
    sink._rows = 10
    for _ in range(1000):
        if not sink.refill_step():
            break
        if stops:
            sink.close()
            sink = sink_of(store.dir)
            sink._rows = 10
    else:
        raise AssertionError("it does not end")
    assert set(model.points) == {key for key in expected(store.db) if from_ms <= key[2] < to_ms}
    assert model.points.items() <= expected(store.db).items()
    assert sink.files.load_refill() is None
    assert sink.state.refilled_to_ms is None


def test_a_refill_of_all_time_over_little_data_ends_at_once(store, model, tmp_path):
    fill(store)
    sink = sink_of(store.dir)
    sink.files.save_refill(Refill(from_ms=0, to_ms=2 * MS, at_ms=0))
    started_s = time.monotonic()
    while sink.refill_step():
        pass
    assert model.points == expected(store.db)
    assert time.monotonic() - started_s < 10


def test_an_unreadable_order_is_dropped(store, model, tmp_path):
    sink = sink_of(store.dir)
    sink.files.dir.mkdir()
    sink.files.refill_path.write_text("{")
    assert sink.refill_step() == 0
    assert not sink.files.refill_path.exists()


@pytest.mark.influxdb
def test_the_command_brings_back_what_the_database_lost(influxd, store, tmp_path):
    from gateway.sinks.process import SinkProcess

    fill(store)
    with Influxd(influxd, tmp_path / "influxd") as server:
        config = tmp_path / "gateway.toml"
        config.write_text(server.toml())
        process = SinkProcess(config)
        process.start()
        try:
            wait_until(lambda: len(server.points("raw")) == 600, "the first delivery")
            body = b'{"start":"2000-01-01T00:00:00Z","stop":"2100-01-01T00:00:00Z","predicate":""}'
            server.request("POST", "/api/v2/delete?org=lichen&bucket=air", body)
            assert server.points("raw") == {}
            done = subprocess.run(
                [*LICHEN, "influx", "refill", "-c", str(config), "--from", "2026-01-01T00:00:00Z", "--to",
                 "2027-01-01T00:00:00Z"], capture_output=True, text=True, check=False, timeout=30,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            wait_until(lambda: server.points("raw") == expected_raw(store.db), "the refill")
            wait_until(lambda: server.points("index") == expected_indices(store.db), "all of it")
        finally:
            process.stop()
    wrong = subprocess.run(
        [*LICHEN, "influx", "refill", "-c", str(config), "--from", "yesterday"], capture_output=True, text=True,
        check=False, timeout=30,
    )  # fmt: skip
    assert wrong.returncode == 2
    assert "ISO-8601" in wrong.stderr
