"""`lichen run` and `lichen simulate` as processes: rows are stored once, a stop is quick, poison stops nothing."""

import csv
import os
import signal
import subprocess
import time

import main_job
import paho.mqtt.client as mqtt
import pytest
from influxd import wait_until
from wire import golden

from gateway.simulate.gateway_process import GatewayProcess
from gateway.simulate.mosquitto import GATEWAY_USER, DemoBroker
from gateway.store import counters, deadletters, readings
from gateway.store.database import open_reader

pytestmark = [pytest.mark.mosquitto, pytest.mark.micropython]
HEADER = "datetime_utc,pm2_5_cf_1,pm2_5_cf_1_b,pm2_5_atm,pm2_5_atm_b,current_temp_f,current_humidity"


@pytest.fixture
def place(mosquitto, micropython, tmp_path):
    """A broker and a gateway that does not trust its clock."""
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1", "kit-2"])
    broker.start()
    config = tmp_path / "gateway.toml"
    config.write_text(
        f'[broker]\nport = {broker.port}\npassword_file = "broker/gateway.password"\n'
        "[clock]\ntrusted = false\n[web]\nport = 0\n"
    )
    gateway = GatewayProcess(config, pid_file=tmp_path / "gateway.pid", log_file=tmp_path / "gateway.log")
    gateway.wait_until_it_receives()
    yield broker, gateway, tmp_path
    gateway.stop()
    broker.stop()


def write_recording(path, *, gap=False):
    """Four hours of two-minute values, with a part of an hour without power in between."""
    with path.open("w", newline="") as out:
        out.write(HEADER + "\n")
        rows = csv.writer(out, lineterminator="\n")
        for i in range(120):
            if not (gap and 50 <= i < 70):
                stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(1693526400 + 120 * i))
                rows.writerow([stamp, 10 + i % 7, 11 + i % 5, 9.5, 10.5, 71.6, 48])


def store_of(folder, query):
    db = open_reader(folder / "store")
    try:
        return query(db)
    finally:
        db.close()


def test_a_simulated_kit_with_power_cuts_is_stored_once(place):
    broker, _, folder = place
    write_recording(folder / "r.csv", gap=True)
    (folder / "kit.password").write_text(broker.passwords["kit-1"])
    main_job.lichen(
        *("simulate", "--replay", folder / "r.csv", "--port", broker.port, "--kit", "kit-1", "--speed", 0),
        *("--password-file", folder / "kit.password", "--dir", folder / "kits"),
    )
    ledger = list(csv.DictReader((folder / "kits" / "ledger.csv").open()))
    assert len({row["boot"] for row in ledger}) == 2
    expected = {(row["boot"], row["seq"], row["pm25_cf1"]) for row in ledger}
    assert len(expected) == len(ledger) > 180

    def stored(db):
        return {
            (str(b), str(s), str(round(v * 10)))
            for r in readings.each_hour(db, kit="kit-1")
            for b, s, v in zip(r.boot, r.seq, r.columns["pm25_cf1"], strict=True)
        }

    assert store_of(folder, stored) == expected
    assert store_of(folder, counters.totals)["rows"] == len(ledger)


def test_poison_through_the_real_broker_stops_nothing(place):
    broker, gateway, folder = place
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.username_pw_set(GATEWAY_USER, broker.passwords[GATEWAY_USER])
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    poison = [m for m in golden.invalid("obs", "backlog", "status", "about") if m.reason != "bad_topic"]
    poison = [m for m in poison if len(m.payload) < 60_000]  # a larger one is refused by the broker already
    good = next(golden.valid("obs"))
    for message in (*poison, good):
        client.publish(message.topic, message.payload, 1).wait_for_publish(10)
    wait_until(lambda: store_of(folder, counters.totals).get("rows"), "the good reading is stored")
    client.disconnect()
    client.loop_stop()
    letters = {(m.topic, m.payload) for m in poison}
    assert sum(store_of(folder, deadletters.count).values()) == len(letters)
    assert gateway.restarts == 0


def test_sigterm_ends_the_gateway_within_five_seconds(place):
    _, gateway, folder = place
    pid = int((folder / "gateway.pid").read_text())
    started_s = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: gateway.restarts == 1, "the gateway ends and is started again", timeout_s=5)
    assert time.monotonic() - started_s < 5
    gateway.wait_until_it_receives()


def test_a_second_gateway_on_the_same_store_is_refused(place):
    _, _, folder = place
    second = folder / "second.toml"
    second.write_text((folder / "gateway.toml").read_text().replace("[broker]", '[broker]\nclient_id = "other"'))
    done = subprocess.run([*main_job.LICHEN, "run", "-c", second], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is written by another gateway" in done.stderr


def test_nobody_who_listens_to_notices_is_no_reason_to_stop(place):
    broker, _, folder = place
    other = folder / "other"
    other.mkdir()
    text = (folder / "gateway.toml").read_text().replace("[broker]", '[broker]\nclient_id = "other"')
    (other / "gateway.toml").write_text(text.replace("broker/gateway.password", str(broker.gateway_password_file)))
    command = [*main_job.LICHEN, "run", "-c", str(other / "gateway.toml")]
    environment = {**os.environ, "NOTIFY_SOCKET": str(folder / "nobody")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        said = next((line for line in process.stderr if "connected to the broker" in line), "")
        process.terminate()
        process.stderr.read()
    assert said
    assert process.returncode == 0


@pytest.mark.parametrize("script", ["exit 0", "echo '{oops'", "echo no; exit 3"])
def test_a_kit_that_fails_fails_the_demonstration(mosquitto, tmp_path, script):
    write_recording(tmp_path / "r.csv")
    program = tmp_path / "micropython"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    done = subprocess.run(
        [*main_job.LICHEN, "demo", "--replay", tmp_path / "r.csv", "--once", "--dir", tmp_path / "a #b%41"],
        capture_output=True, text=True, check=False, env={**os.environ, "LICHEN_MICROPYTHON": str(program)},
    )  # fmt: skip
    assert done.returncode == 1
    assert "kit kit-1 ended" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a #b%41" / "gateway.pid").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[web]\nprot = 1\n", "unknown key prot in [web]; did you mean port?"),
        ("[brokr]\n", "unknown section [brokr]; did you mean broker?"),
        ("[web]\nport = 'x'\n", "Expected `int`, got `str` - at `web.port`"),
        ('[broker]\npassword_file = "none"\n', "cannot be read"),
        ('[derive]\nschemes = ["us-2042"]\n', "us-2024"),
        ('[derive]\ncorrection = "barkjohn21"\n', "barkjohn2021"),
        ("not toml", "is not TOML"),
        ("[broker]\nbase = 'lichen/#'\n", "broker.base"),
        ("[broker]\nhost = ''\n", "broker.host"),
        ("[broker]\nhost = 'mqtt..local'\n", "broker.host"),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(tmp_path, text, said):
    config = tmp_path / "gateway.toml"
    config.write_text(text)
    done = subprocess.run([*main_job.LICHEN, "run", "-c", config], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
