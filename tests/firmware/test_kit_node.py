"""The whole node on the unix port against a real broker, in simulated time."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from firmware_bench import Broker, Gateway, wait_for

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
T0 = 1_693_526_400  # a full hour
MASSES = ("cf1_a", "atm_a", "cf1_b", "atm_b")


def recording(bench, rows, seed=1, step=900):
    """A signal with other values every `step` seconds."""
    rng = random.Random(seed)
    signal = []
    for i in range(rows):
        row = {name: rng.randrange(0, 9000) for name in MASSES}
        row |= {"end_s": T0 + (i + 1) * step, "n03_a": rng.randrange(0, 400000), "n03_b": rng.randrange(0, 400000)}
        row |= {"temp": rng.randrange(-2000, 4500), "rh": rng.randrange(0, 10001)}
        signal.append(row)
    bench.signal(signal)
    return signal


def whole(ledger):
    """Per boot: seq rises by one, and dt sums to uptime without a hole."""
    up = {}
    for kit, boot, seq in sorted(ledger):
        row = ledger[kit, boot, seq]
        last_seq, last_up = up.get((kit, boot), (0, 0))
        assert (row["seq"], row["up"]) == (last_seq + 1, last_up + row["dt"])
        assert 30 <= row["dt"] <= 95
        up[kit, boot] = seq, row["up"]


def test_offline_hours_then_drain(bench, gateway, broker):
    signal = recording(bench, 12)
    offline = bench.config(end=T0 + 7200, offline=True)
    bench.finish(bench.start(offline, T0))
    online = bench.config(end=T0 + 10800, at_end="drain", port=broker.port)
    process = bench.start(online, T0 + 7200, speed=1000)
    bench.finish(process)
    ledger = bench.ledger()
    assert len(ledger) == 180
    whole(ledger)
    wait_for(lambda: len(gateway.statuses) >= 2 and gateway.statuses[-1]["up"] == 0, 5, "status says down")
    assert gateway.rows == ledger
    assert not gateway.conflicts
    kinds = {name for _, name, _ in gateway.messages}
    assert kinds == {"obs", "backlog"}
    # the last progress line says that nothing is left
    last = json.loads((bench.folder / "kit.out").read_text().splitlines()[-1])
    assert last["pending"] == 0
    for hour in range(3):
        rows = [r for r in ledger.values() if T0 + hour * 3600 < r["t"] <= T0 + (hour + 1) * 3600]
        assert sum(r["dt"] for r in rows) == 3600
        for channel, column in zip(MASSES, ("pm25_cf1", "pm25_atm", "pm25_cf1_b", "pm25_atm_b"), strict=True):
            measured = sum(r[column] * r["dt"] for r in rows) / 3600 / 10
            true = sum(s[channel] for s in signal[hour * 4 : hour * 4 + 4]) / 4 / 100
            assert measured == pytest.approx(true, abs=0.1)
        assert all(r["pm_n"] == 12 and r["pm_bad"] == 0 and r["env_n"] == 12 for r in rows)


def test_broker_killed_in_between(bench, gateway, broker):
    recording(bench, 24)
    process = bench.start(bench.config(end=T0 + 4 * 3600, at_end="drain", port=broker.port), T0, speed=4000)
    for _ in range(2):
        n = len(gateway.rows)
        wait_for(lambda n=n: len(gateway.rows) > n + 15, 10, "rows come")
        broker.stop()
        seen = len(gateway.rows)
        wait_for(lambda n=seen: len(bench.ledger()) > n + 20, 10, "sampling goes on without a broker")
        broker.start()
    bench.finish(process)
    ledger = bench.ledger()
    assert len(ledger) == 240
    whole(ledger)
    wait_for(lambda: gateway.rows == ledger, 5, "every row arrived")
    assert not gateway.conflicts
    assert all(r["pm_n"] == 12 and r["pm_bad"] == 0 for r in ledger.values())


def test_kill_and_power_cuts_lose_no_row(bench, gateway, broker):
    recording(bench, 24)
    offline = bench.config(offline=True, end=None)
    process = bench.start(offline, T0, speed=4000)
    wait_for(lambda: len(bench.ledger()) > 40, 10, "rows are made")
    process.kill()
    process.wait()
    first = len(bench.ledger())
    # offline again, and then with a broker, as the third boot
    bench.finish(bench.start(offline | {"end": T0 + 10800}, T0 + 7200))
    process = bench.start(
        offline | {"end": T0 + 14400, "at_end": "drain", "offline": False, "port": broker.port}, T0 + 10800
    )
    bench.finish(process)
    ledger = bench.ledger()
    assert len(ledger) == first + 120
    wait_for(lambda: gateway.rows == ledger, 5, "every row arrived")
    assert len({boot for _, boot, _ in ledger}) == 3
    assert gateway.retained["k1", "about"]["boots"] == 3
    assert gateway.copies == 0
    whole(ledger)


def test_silent_sensors_are_null_and_counted(bench):
    quiet = {"cf1_a": 100, "atm_a": 100, "cf1_b": 100, "atm_b": 100, "temp": 100, "rh": 100}
    spans = [{}, {"cf1_a": None}, {"atm_b": None}, {"temp": None}, {"cf1_a": None, "cf1_b": None, "rh": None}, {}]
    bench.signal([quiet | s | {"end_s": T0 + 120 * (i + 1)} for i, s in enumerate(spans)])
    bench.finish(bench.start(bench.config(end=T0 + 720, offline=True), T0))
    rows = list(bench.ledger().values())
    assert len(rows) == 12
    for i, (a, b, env) in enumerate([(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0, 0), (1, 1, 1)]):
        for row in rows[2 * i : 2 * i + 2]:
            for good, suffix in ((a, ""), (b, "_b")):
                assert (row["pm_n" + suffix], row["pm_bad" + suffix]) == ((12, 0) if good else (0, 12))
                assert row["pm25_cf1" + suffix] == (10 if good else None)
            assert (row["env_n"], row["env_bad"], row["temp"]) == ((12, 0, 100) if env else (0, 12, None))


def test_without_a_gateway_it_holds_and_patience_sends_again(bench, broker):
    recording(bench, 48)
    silent = Gateway(broker.port, receipts=False)
    silent.ticking = False
    try:
        process = bench.start(bench.config(end=None, port=broker.port), T0, speed=10000)
        wait_for(lambda: len(bench.ledger()) > 400, 20, "400 rows are made")
        assert max(silent.rows)[2] <= 256
        assert not silent.copies
        silent.ticking = True
        wait_for(lambda: silent.copies > 200, 20, "sent again after three time messages")
        boot = next(iter(silent.rows))[1]
        silent.receipts = True
        silent.receipt("k1", boot)
        made = len(bench.ledger())
        wait_for(lambda: max(silent.rows)[2] > made, 20, "it goes on where the receipts are")
        assert not silent.conflicts
        process.kill()
    finally:
        silent.close()


def test_lossy_mode_frees_on_puback(bench, broker):
    recording(bench, 8)
    deaf = Gateway(broker.port, receipts=False)
    try:
        config = bench.config(end=T0 + 7200, at_end="drain", port=broker.port, receipts=False)
        bench.finish(bench.start(config, T0, speed=4000))
        assert deaf.rows == bench.ledger()
        assert len(deaf.rows) == 120
    finally:
        deaf.close()


def test_without_a_clock_until_a_trusted_gateway_says_the_time(bench, gateway, broker):
    recording(bench, 8)
    process = bench.start(bench.config(end=None, port=broker.port, rtc=False), T0, speed=1000)
    wait_for(lambda: len(gateway.rows) >= 5, 10, "rows arrive")
    assert all(r["t"] is None and r["q"] == 0 and r["dt"] == 60 for r in gateway.rows.values())
    gateway.clock, gateway.sync = lambda: 1_800_000_000.25, 1
    wait_for(lambda: any(r["q"] == 2 for r in gateway.rows.values()), 10, "the clock is set")
    process.kill()
    whole(bench.ledger())
    assert all(1_800_000_000 <= r["t"] < 1_800_000_300 for r in gateway.rows.values() if r["q"])


def test_real_time_and_what_is_said_about_the_kit(bench, gateway, broker):
    recording(bench, 1)
    process = bench.start(bench.config(port=broker.port, ledger=None), T0, real_time=True)
    wait_for(lambda: ("k1", "status") in gateway.retained, 10, "status")
    about = gateway.retained["k1", "about"]
    assert [c["name"] for c in about["cols"]][-2:] == ["temp", "rh"]
    assert about["fw"]["version"]
    process.kill()
    wait_for(lambda: gateway.statuses[-1] == {"v": 1, "up": 0}, 10, "the last will")


def test_channels_are_configurable(bench):
    recording(bench, 1)
    bench.finish(bench.start(bench.config(end=T0 + 300, offline=True, pm_channels=["pm25_cf1", "n25", "n100"]), T0))
    row = bench.ledger()[max(bench.ledger())]
    names = ["pm25_cf1", "n25", "n100", "pm_n_b", "pm_bad_b", "pm25_cf1_b", "n25_b", "n100_b", "env_n"]
    assert list(row)[7:16] == names


def test_words_of_32_bit_measure_the_same(bench, micropython32):
    recording(bench, 8)
    bench.finish(bench.start(bench.config(end=T0 + 7200, offline=True), T0))
    other = bench.config(
        end=T0 + 7200, offline=True, ledger=str(bench.folder / "b.csv"), flash=str(bench.folder / "b.img")
    )
    bench.finish(bench.start(other, T0, micropython=micropython32))
    assert list(bench.ledger().values()) == list(bench.ledger("b.csv").values())


def test_what_a_board_runs_starts_on_the_stand_ins(bench, gateway, broker):
    config = {
        "kit": "k7",
        "board": "picow",
        "host": "127.0.0.1",
        "port": broker.port,
        "ssid": "x",
        "wifi_password": "y",
    }
    (bench.folder / "board.json").write_text(json.dumps(config))
    main = f"start.main('{bench.folder}/board.json', '{bench.folder}')"
    text = f"from lichen import start\nimport asyncio\nasyncio.run({main})\n"
    process = bench.start_script(text)
    wait_for(lambda: ("k7", "status") in gateway.retained, 10, "status")
    assert gateway.retained["k7", "about"]["board"] == "picow"
    assert process.poll() is None


def test_a_backlog_goes_through_a_small_heap(bench, gateway, broker, micropython32):
    recording(bench, 16)
    bench.finish(bench.start(bench.config(end=T0 + 14400, offline=True), T0))
    # 32 bit, so that bytes count as on a board; compiled from source, which takes the most of it (.mpy: 80k is enough)
    config = bench.config(port=broker.port, ledger=None)
    process = bench.start(config, T0, real_time=True, micropython=micropython32, heap="220k")
    wait_for(lambda: len(gateway.rows) == 240, 10, "the backlog arrives")
    assert gateway.rows == bench.ledger()
    process.kill()


def test_a_kit_confined_by_the_access_list_works(bench, mosquitto, tmp_path):
    """Credentials and the patterns of the design: it may write its own topics and read what is for it."""
    tool = Path(mosquitto).with_name("mosquitto_passwd")
    tool = tool if tool.exists() else shutil.which("mosquitto_passwd")
    if not tool:
        pytest.skip("mosquitto_passwd is absent")
    for i, (user, password) in enumerate((("gateway", "g-secret"), ("k1", "k-secret"))):
        subprocess.run([tool, "-b", *(["-c"] if not i else []), tmp_path / "users", user, password], check=True)
    topics = [f"pattern write lichen/v1/%u/{t}" for t in ("obs", "backlog", "about", "status", "diag", "reply")]
    topics += [f"pattern read lichen/v1/{t}" for t in ("%u/cmd", "%u/stored", "gateway/time")]
    (tmp_path / "acl").write_text("\n".join([*topics, "user gateway", "topic readwrite lichen/v1/#"]) + "\n")
    access = f"allow_anonymous false\npassword_file {tmp_path}/users\nacl_file {tmp_path}/acl\n"
    broker = Broker(mosquitto, tmp_path, access)
    broker.start()
    gateway = Gateway(broker.port, password="g-secret")
    try:
        recording(bench, 4)
        config = bench.config(end=T0 + 3600, at_end="drain", port=broker.port, user="k1", password="k-secret")
        bench.finish(bench.start(config, T0, speed=4000))
        assert gateway.rows == bench.ledger()
        assert len(gateway.rows) == 60
        assert gateway.retained["k1", "about"]["kit"] == "k1"
    finally:
        gateway.close()
        broker.stop()
