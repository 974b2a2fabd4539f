"""A kit and what it asks of the network: names, time, a broker that falls silent, poison on its own topics, diag."""

import json
import socket
import struct
import subprocess
import threading

import pytest
from firmware_bench import BASE, FIRMWARE, HERE, Gateway, wait_for
from jsonschema import Draft202012Validator
from test_kit_node import T0, recording, whole

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
SCHEMA = json.loads((HERE.parent / "wire/schema/diag.json").read_text())


class Datagrams:
    """Answers each datagram with what `reply` makes of it."""

    def __init__(self, reply):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.asked = []
        self._reply = reply
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                data, who = self.socket.recvfrom(512)
            except OSError:
                return
            self.asked.append(data)
            for answer in self._reply(data):
                self.socket.sendto(answer, who)


def ntp(seconds, stratum):
    def reply(data):
        true, forged = (struct.pack(">II", s + 2_208_988_800 & 0xFFFFFFFF, 1 << 31) for s in (seconds, seconds + 10**7))
        head = bytes((0x24, stratum, 0, 0)) + bytes(20)
        return [b"noise", head + b"forged!!" + bytes(8) + forged, head + data[40:48] + bytes(8) + true]

    return reply


def test_diag_passes_its_schema_and_names_what_is_wrong(bench, gateway, broker):
    recording(bench, 8)
    faults = [["pms_b", "silent", T0, None], ["sht31", "noisy", T0, None]]
    config = bench.config(
        end=T0 + 7200, at_end="drain", port=broker.port, faults=faults, more_sensors=["bme280", "ads1115"],
        cause="BROWNOUT_RESET",
    )  # fmt: skip
    bench.finish(bench.start(config, T0, speed=2000))
    assert gateway.diags
    for diag in gateway.diags:
        Draft202012Validator(SCHEMA).validate(diag)
    last = gateway.diags[-1]
    states = {s["name"]: s["state"] for s in last["sensors"]}
    assert states == {"pms_a": "ok", "pms_b": "absent", "sht31": "noisy", "bme280": "ok", "ads1115": "ok"} | {
        "ads1115": states["ads1115"]
    }
    assert last["reset"] == "brownout"
    assert last["brownouts"] == 1
    assert last["bad_frames"] > 0
    assert gateway.rows == bench.ledger()
    row = max(gateway.rows.values(), key=lambda row: row["seq"])
    assert 200_000 < row["no2_ae"] < row["no2_we"] < 300_000
    assert abs(row["pressure"] - 101_325) < 100
    names = [c["name"] for c in gateway.retained["k1", "about"]["cols"]]
    assert names[-3:] == ["temp_amb", "rh_amb", "pressure"]


@pytest.mark.parametrize(("stratum", "quality"), [(2, 2), (10, 1)])
def test_the_gateways_machine_is_asked_for_the_time(bench, gateway, broker, stratum, quality):
    server = Datagrams(ntp(1_800_000_000, stratum))
    recording(bench, 8)
    config = bench.config(end=T0 + 3600, at_end="drain", port=broker.port, rtc=False, ntp=True, ntp_port=server.port)
    bench.finish(bench.start(config, T0, speed=500))
    server.socket.close()
    rows = list(gateway.rows.values())
    assert rows
    assert all(row["q"] == quality and 1_800_000_000 <= row["t"] < 1_800_010_000 for row in rows[3:])
    whole(bench.ledger())


def test_a_name_is_looked_up_without_stopping_the_loop(bench, micropython):
    def reply(data):
        answer = data[:2] + b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + data[12:]
        return [
            b"",
            data[:2][::-1] + answer[2:],
            answer + b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x05",
        ]

    server = Datagrams(reply)
    path = bench.folder / "names.py"
    path.write_text(
        f"""
import asyncio
from lichen.udp import resolve
ticks = [0]
async def tick():
    while True:
        ticks[0] += 1
        await asyncio.sleep_ms(10)
async def main():
    task = asyncio.create_task(tick())
    print(await resolve("gateway.example", ("127.0.0.1", {server.port})))
    try:
        await resolve("gateway.example", ("127.0.0.1", 9))
    except OSError as e:
        print(e.errno, ticks[0] > 50)
    task.cancel()
asyncio.run(main())
"""
    )
    env = {"MICROPYPATH": f"{FIRMWARE}/host:{FIRMWARE}:.frozen"}
    done = subprocess.run([micropython, path], env=env, capture_output=True, text=True, timeout=30, check=False)
    server.socket.close()
    assert done.stdout.split() == ["192.0.2.5", "113", "True"], done.stderr


def test_poison_on_its_own_topics_stops_nothing(bench, gateway, broker):
    """Too large, malformed, retained and in a persistent session: the kit passes over it, once."""
    recording(bench, 8)
    process = bench.start(bench.config(end=None, port=broker.port), T0, speed=1000)
    wait_for(lambda: len(gateway.rows) > 3, 15, "rows arrive")
    for payload in (b"x" * 60_000, b"{", b'{"v":1,"boot":1}', b"\xff\xfe", b"[" * 3000, b""):
        for topic in ("stored", "cmd"):
            gateway.client.publish(f"{BASE}/k1/{topic}", payload, 1, retain=topic == "cmd")
        gateway.client.publish(f"{BASE}/gateway/time", payload, 0)
    n = len(gateway.rows)
    wait_for(lambda: len(gateway.rows) > n + 20, 15, "rows go on arriving")
    assert len(gateway.statuses) == 1  # on the same connection
    process.kill()
    whole(bench.ledger())


def test_a_network_that_comes_and_goes_makes_no_hole(bench, gateway, broker):
    recording(bench, 24)
    outages = [[T0 + 1000, T0 + 4000], [T0 + 7000, T0 + 7100], [T0 + 9000, T0 + 15_000]]
    config = bench.config(end=T0 + 21_600, at_end="drain", port=broker.port, outages=outages, erase_ms=400)
    bench.finish(bench.start(config, T0, speed=4000))
    ledger = bench.ledger()
    assert 359 <= len(ledger) <= 360  # a slow flash starts late
    whole(ledger)
    assert all(row["pm_n"] == row["dt"] // 5 and not row["pm_bad"] for row in ledger.values())
    assert gateway.rows == ledger
    last = json.loads((bench.folder / "kit.out").read_text().splitlines()[-1])
    assert last["holes"] == 0
    assert last["connects"] >= 4
    assert max(d["lag_ms"] for d in gateway.diags) >= 400  # the flash did stop everything else


def test_a_kit_on_a_battery_sleeps_between_its_windows(bench, gateway, broker):
    recording(bench, 24)
    config = bench.config(end=T0 + 7230, at_end="drain", port=broker.port, cycle_s=600)
    bench.finish(bench.start(config, T0, speed=1000))
    ledger = bench.ledger()
    assert [row["dt"] for row in ledger.values()] == [600] * 12
    assert all((row["pm_n"], row["pm_bad"]) == (12, 0) for row in ledger.values())
    assert gateway.rows == ledger
    last = json.loads((bench.folder / "kit.out").read_text().splitlines()[-1])
    assert last["asleep_ms"] > 0.6 * 7_200_000


def test_a_broker_that_stops_reading_is_left(bench, broker):
    """Sampling goes on, the connection is given up within a minute or so, and the next one works."""
    recording(bench, 48)
    deaf = socket.create_server(("127.0.0.1", 0))
    accepted = []
    threading.Thread(target=lambda: [accepted.append(deaf.accept()) for _ in range(2)], daemon=True).start()
    process = bench.start(bench.config(end=T0 + 7200, port=deaf.getsockname()[1]), T0, speed=200)
    wait_for(lambda: len(accepted) == 2, 20, "it tries again")
    process.kill()
    deaf.close()
    whole(bench.ledger())


def test_patience_sets_one_batch_after_the_other_aside_and_diag_counts_them(bench, broker):
    """The first boot's 120 rows never get a receipt: 100 go aside, then 20; the next boot's do, and go on."""
    recording(bench, 48)
    bench.finish(bench.start(bench.config(end=T0 + 7200, offline=True), T0))
    picky = Gateway(broker.port, receipts=False, tick_s=0.05)

    def all_aside():
        for kit, boot in list(picky.first):
            if boot != old:
                picky.receipt(kit, boot)
        return picky.diags and picky.diags[-1]["set_aside"] == 120

    try:
        old = next(iter(bench.ledger()))[1]
        process = bench.start(bench.config(end=None, port=broker.port), T0 + 7200, speed=400)
        wait_for(all_aside, 40, "both batches are set aside")
        process.kill()
        assert {diag["set_aside"] for diag in picky.diags} <= {0, 100, 120}
        assert picky.first["k1", old] == 101  # the second batch was sent past the first
    finally:
        picky.close()
