"""`lichen simulate --kits`: faults and weather as told, characters by the seed, every ledger's rows stored once."""

import csv
import json

import main_job
import pytest

from gateway.simulate import fleet
from gateway.simulate.gateway_process import GatewayProcess
from gateway.simulate.mosquitto import GATEWAY_USER, DemoBroker
from gateway.store import readings
from gateway.store.database import open_reader

T0_S = 1_693_526_400


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("pm=stuck@2h", fleet.Fault("", ("pms_a", "pms_b"), "stuck", 7200, None)),
        ("pm_b=silent@90m+30m", fleet.Fault("", ("pms_b",), "silent", 5400, 7200)),
        ("kit-2:env=noisy@1d", fleet.Fault("kit-2", ("sht31",), "noisy", 86_400, None)),
        ("no2=zero", fleet.Fault("", ("ads1115",), "zero", 0, None)),
        ("weather=stuck@0+1.5h", fleet.Fault("", ("bme280",), "stuck", 0, 5400)),
    ],
)
def test_a_fault_is_read_as_written(text, fault):
    assert fleet.read_fault(text) == fault


@pytest.mark.parametrize(
    "text", ["", "pm", "pm=", "pm=stuck@", "pm=stuck@2", "pm=stuck@2h+", "pm=odd", "fan=stuck", "pm=stuck@0s"]
)
def test_a_fault_that_cannot_be_read_is_refused_with_what_it_said(text):
    with pytest.raises(fleet.PlanError) as caught:
        fleet.read_fault(text)
    assert repr(text) in str(caught.value) or "length of time" in str(caught.value)


@pytest.mark.parametrize("text", ["", "10m", "10m/", "/1h", "2h/1h", "1h/1h", "10/60"])
def test_an_outage_that_cannot_be_is_refused(text):
    with pytest.raises(fleet.PlanError):
        fleet.read_outage(text)


def plan(folder, **more):
    keys = {
        "names": ["kit-1"],
        "host": "127.0.0.1",
        "port": 1,
        "base": "lichen/v1",
        "passwords": lambda _: "",
        "speed": 0,
    }
    return fleet.FleetPlan(**keys | {"folder": folder, "start_s": T0_S, "end_s": T0_S + 86_400} | more)


def test_characters_and_weather_follow_the_seed_and_differ_between_kits(tmp_path):
    stormy = plan(tmp_path, outages=[fleet.Outage(600, 3600)], faults=[fleet.read_fault("kit-1:no2=zero@1h")])
    first = fleet.character("kit-1", stormy)
    assert fleet.character("kit-1", stormy) == first
    assert fleet.character("kit-2", stormy)["outages"] != first["outages"]
    assert fleet.character("kit-2", stormy)["faults"] == []
    assert "ads1115" in first["more_sensors"]
    assert first["faults"] == [["ads1115", "zero", T0_S + 3600, None]]
    assert all(end - start == 600 for start, end in first["outages"])
    assert {b[0] - a[0] for a, b in zip(first["outages"], first["outages"][1:], strict=False)} == {3600}


@pytest.mark.micropython
@pytest.mark.mosquitto
def test_three_kits_with_faults_and_outages_are_stored_once(mosquitto, micropython, tmp_path):
    names = ["kit-1", "kit-2", "kit-3"]
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", names)
    broker.start()
    config = tmp_path / "gateway.toml"
    password = broker.gateway_password_file
    config.write_text(
        f'[broker]\nport = {broker.port}\nusername = "{GATEWAY_USER}"\npassword_file = "{password}"\n'
        "[clock]\ntrusted = false\n[web]\nport = 0\n"
    )
    gateway = GatewayProcess(config, pid_file=tmp_path / "gateway.pid", log_file=tmp_path / "gateway.log")
    try:
        gateway.wait_until_it_receives()
        for name in names:
            (tmp_path / f"{name}.password").write_text(broker.passwords[name])
        said = main_job.lichen(
            *(
                "simulate",
                "--kits",
                3,
                "--hours",
                6,
                "--speed",
                2000,
                "--port",
                broker.port,
                "--dir",
                tmp_path / "kits",
            ),
            *("--password-file", tmp_path / "{kit}.password", "--fault", "kit-2:pm_a=silent@1h+2h"),
            *("--fault", "pm_b=stuck@3h", "--outage", "20m/2h", "--start", "2023-09-01T00:00:00", "--json"),
        )
        rows = json.loads(said)["rows"]
        assert list(rows) == names
        db = open_reader(tmp_path / "store")
        for name in names:
            ledger = list(csv.DictReader((tmp_path / "kits" / f"ledger-{name}.csv").open()))
            assert rows[name] == len(ledger)
            assert 355 <= len(ledger) <= 360
            expected = {(int(row["boot"]), int(row["seq"])) for row in ledger}
            stored = [
                (int(b), int(s)) for r in readings.each_hour(db, kit=name) for b, s in zip(r.boot, r.seq, strict=True)
            ]
            assert len(stored) == len(set(stored)) == len(expected)
            assert set(stored) == expected
            silent = [row for row in ledger if row["pm_n"] == "0"]
            assert len(silent) == pytest.approx(120 if name == "kit-2" else 0, abs=2)
            assert all(row["pm25_cf1"] == "" for row in silent)
            stuck = {row["pm25_cf1_b"] for row in ledger[-150:]}
            assert len(stuck) == 1
        db.close()
    finally:
        gateway.stop()
        broker.stop()
