"""What kits say of themselves, and the gateway of itself, is kept within bounds and reaches InfluxDB as numbers."""

import json

import pytest
from influxd import Influxd, wait_until
from live_gateway import Kit, LiveGateway, batch, read_store, write_config
from sink_store import expected_health
from test_intake import Bench
from test_retention import House
from test_sink_influx import drain
from wire import golden

from gateway import wire
from gateway.records import HOUR_MS
from gateway.simulate.mosquitto import DemoBroker
from gateway.sinks.cursor import Cursor, SinkFiles
from gateway.sinks.influx import InfluxSink
from gateway.store import counters, deadletters, health
from gateway.store.database import last_revision, transaction

DIAGS = {message.name: message.payload for message in golden.valid("diag")}
DAY_MS = 24 * HOUR_MS


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "store", trusted=True)


def diag(bench, payload, received_ms, kit="kit-7f3a"):
    bench.send(bench.message(f"lichen/v1/{kit}/diag", payload, received_ms))


def test_every_number_of_a_diag_is_kept_and_what_is_not_known_is_absent():
    well = wire.decode_diag(DIAGS["diag.well"]).numbers()
    assert well == {
        "boot": 3148731904, "up": 253200, "heap_free": 98304, "heap_block": 65536, "rssi": -61, "reset": 0,
        "brownouts": 0, "ring_used": 1, "ring_size": 10080, "ring_dropped": 0, "set_aside": 0, "bad_frames": 3,
        "lag_ms": 42, "sensors": 3, "sensors_ok": 3,
    }  # fmt: skip
    trouble = wire.decode_diag(DIAGS["diag.in_trouble"]).numbers()
    assert not {"heap_block", "rssi", "brownouts"} & set(trouble)
    assert (trouble["reset"], trouble["sensors"], trouble["sensors_ok"]) == (3, 3, 0)


def test_a_later_version_may_say_more_and_no_kit_can_make_up_names():
    more = json.loads(DIAGS["diag.well"]) | {"battery_mv": 3700, "reset": "magic"}
    more["sensors"] += [{"name": f"s{i}", "state": "ok", "bad": 0} for i in range(50)]
    known = wire.decode_diag(DIAGS["diag.well"]).numbers()
    found = wire.decode_diag(json.dumps(more).encode()).numbers()
    assert set(found) == set(known)
    assert (found["reset"], found["sensors"]) == (len(wire.RESETS), 53)


@pytest.mark.parametrize("change", [{"heap_free": 2**63}, {"boot": -1}, {"up": 2**40}, {"rssi": True}, {"lag_ms": 1.5}])
def test_numbers_beyond_bounds_are_refused(change):
    with pytest.raises(wire.WireError):
        wire.decode_diag(json.dumps(json.loads(DIAGS["diag.well"]) | change).encode())


def test_the_last_one_is_kept_and_the_history_is_thinned(bench):
    for i in range(20):
        diag(bench, json.dumps(json.loads(DIAGS["diag.well"]) | {"lag_ms": i}).encode(), 10_000 * i)
    assert [at for _, at in expected_health(bench.db, gateway=False)] == [30_000 * i for i in range(7)]
    ((kit, (at, payload)),) = health.last(bench.db).items()
    assert (kit, at, json.loads(payload)["lag_ms"]) == ("kit-7f3a", 190_000, 19)


def test_a_wrong_diag_is_a_dead_letter(bench):
    diag(bench, b'{"v":1}', 0)
    assert sum(deadletters.count(bench.db).values()) == 1
    assert not expected_health(bench.db, gateway=False)


def test_old_numbers_go_and_what_the_sink_never_got_is_counted(tmp_path):
    house = House(tmp_path / "store")
    with transaction(house.db):
        number = house.intake._raw.kit_id("kit-1", 0)
        for day in range(30):
            for kit in (health.GATEWAY, number):
                assert health.add(house.db, kit, house.now_ms - day * DAY_MS, {"up": day})
    SinkFiles(tmp_path / "store", "influx").save_cursor(Cursor(rev=last_revision(house.db) - 4))
    house.keeper.step()
    kept = [at for gateway in (False, True) for (_, at) in expected_health(house.db, gateway=gateway)]
    assert len(kept) == 2 * 15
    assert min(kept) >= house.now_ms - 14 * DAY_MS
    assert health.horizon_ms(house.db) == house.now_ms - 15 * DAY_MS + 1
    counted = counters.totals(house.db)
    assert (counted["pruned_health"], counted["pruned_unsent_health"]) == (30, 4)


@pytest.mark.influxdb
def test_influx_holds_the_numbers(influxd, bench, tmp_path):
    diag(bench, DIAGS["diag.well"], 1_795_215_600_123)
    diag(bench, DIAGS["diag.in_trouble"], 1_795_216_200_000, "kit-2")
    with transaction(bench.db):
        health.add(bench.db, health.GATEWAY, 1_795_216_200_000, {"rows": 7, "store_mb": 1.5, "queue_age_s": 0.0})
    with Influxd(influxd, tmp_path / "influxd") as server:
        drain(InfluxSink(server.settings(), server.token_path, bench.folder))
        assert server.points("kit_health") == expected_health(bench.db, gateway=False)
        assert server.points("gateway") == expected_health(bench.db, gateway=True)
        assert len(server.points("kit_health")) == 2


@pytest.mark.mosquitto
def test_a_running_gateway_keeps_what_kits_say_and_its_own_numbers(mosquitto, tmp_path):
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1"])
    broker.start()
    folder = tmp_path / "gw"
    try:
        with LiveGateway(write_config(folder, broker)) as gateway, Kit(broker) as kit:
            gateway.receives()
            kit.send(batch(7, range(10)))
            kit._client.publish("lichen/v1/kit-1/diag", DIAGS["diag.well"], 0).wait_for_publish(20)
            wait_until(lambda: read_store(folder, health.last).get("kit-1"), "the diag")
            own = wait_until(lambda: read_store(folder, lambda db: expected_health(db, gateway=True)), "the numbers")
    finally:
        broker.stop()
    (fields,) = own.values()
    assert {"rows", "queue_messages", "store_mb", "disk_free_mb", "commits"} <= set(fields)
