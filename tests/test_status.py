"""`lichen status`: what is stored, late, missing, stuck and behind; each line and each call for attention."""

import io
import json
import time
from contextlib import redirect_stdout

import msgspec
import pytest
from influxd import wait_until
from live_gateway import Kit, LiveGateway, batch, read_store, write_config
from made_store import COLS, MadeStore, settings_of
from test_commands import lichen

from gateway.commands import status as command
from gateway.metrics import Vitals
from gateway.own_numbers import flat
from gateway.records import HOUR_MS
from gateway.settings import Influx, Store
from gateway.simulate.mosquitto import DemoBroker
from gateway.sinks.cursor import Cursor, SinkFiles, SinkState
from gateway.status import Status, read_status
from gateway.status_problems import problems
from gateway.store import deadletters, numbers
from gateway.store.database import open_reader, transaction
from gateway.wire import Batch

NOW_MS = 1_795_222_800_000  # 2026-11-21T03:00:00Z less some hours: a whole hour
NOW_S = NOW_MS // 1000
VITALS = Vitals(
    pid=1, version="0", mark="m", started_ms=NOW_MS - 60_000, status="receiving", receiving=True, troubles=(), stuck=(),
    queue_messages=0, queue_bytes=0, queue_age_s=None, messages=5, payload_bytes=500, commits=2, commits_s=0.02,
    last_commit_ms=NOW_MS - 1000, last_commit_s=0.01, clock_error_s=0, clock_steps=0, rss_mb=50.0, sink=None,
)  # fmt: skip


@pytest.fixture
def made(tmp_path):
    store = MadeStore(tmp_path / "store")
    yield store
    store.db.close()


def read(made, vitals=VITALS, settings=None, now_ms=NOW_MS):
    db = open_reader(made.dir)
    try:
        return read_status(db, settings or settings_of(made.dir), vitals, 1, lambda: now_ms)
    finally:
        db.close()


def day(made, kit="kit-1", end_s=NOW_S, hours=48, **more):
    made.add_span(kit, end_s - hours * 3600, end_s, lambda _: 8.0, dt_s=60, **more)


def texts(status):
    return [problem.what for problem in problems(status)]


def shown(status, wrong=(), *, every=False):
    out = io.StringIO()
    with redirect_stdout(out):
        command._show(status, list(wrong), every=every)
    return out.getvalue()


def test_a_healthy_gateway_needs_no_attention(made):
    day(made)
    found = read(made)
    assert problems(found) == []
    (kit,) = found.kits
    assert (kit.state, kit.day_rows, kit.day_expected, kit.interval_s) == ("ok", 1440, 1440, 60)
    assert (kit.awaited_rows, kit.lost_rows, kit.waiting_rows) == (0, 0, 0)


def test_a_kit_without_a_word_for_a_quarter_of_an_hour_is_silent(made):
    day(made, end_s=NOW_S - 901)
    assert texts(read(made)) == ["silent: kit-1"]
    assert texts(read(made, now_ms=NOW_MS - 2000)) == []


def test_a_kit_that_sends_slowly_is_silent_after_three_intervals_only(made):
    made.add_span("slow", NOW_S - 40 * 3600, NOW_S - 1200, lambda _: 8.0, dt_s=1200)
    assert read(made).kits[0].state == "ok"
    assert read(made, now_ms=NOW_MS + 2_500_000).kits[0].state == "silent"


def test_a_kit_that_is_gone_for_two_weeks_is_shown_and_asks_for_nothing(made):
    day(made, end_s=NOW_S - 15 * 86_400)
    found = read(made)
    assert found.kits[0].state == "gone"
    assert problems(found) == []


def test_a_kit_whose_new_rows_are_not_here_is_behind(made):
    day(made, end_s=NOW_S - 3600)
    with transaction(made.db):
        made.writer.heard("kit-1", NOW_MS)
        made.writer.flush()
    assert texts(read(made)) == ["behind: kit-1"]


def test_rows_that_are_missing_are_counted_against_the_kits_own_interval(made):
    day(made, end_s=NOW_S - 6 * 3600)
    made.add_span("kit-1", NOW_S - 2 * 3600, NOW_S, lambda _: 8.0, dt_s=60, boot=8)
    found = read(made)
    assert (found.kits[0].day_rows, found.kits[0].day_expected) == (1200, 1440)
    assert texts(found) == ["missing over 5 % of 24 h: kit-1"]


def test_a_kit_that_began_today_misses_nothing_before(made):
    made.add_span("kit-1", NOW_S - 3 * 3600 - 1800, NOW_S, lambda _: 8.0, dt_s=60)
    found = read(made)
    assert (found.kits[0].day_rows, found.kits[0].day_expected) == (180, 180)
    assert problems(found) == []


def rows(seqs, *, t0=NOW_S - 7200):
    return [[s, 10 + 60 * s, t0 + 60 * s, 2, 60, 12, 0, 80, 77, 12, 0, 2130, 5500] for s in seqs]


def send(made, content, *, first=0, boot=7):
    with transaction(made.db):
        made.writer.add("kit-1", Batch(v=1, boot=boot, first=first, cols=COLS, rows=content), NOW_MS, None, live=False)
        made.writer.flush()


def test_gaps_tell_what_may_still_come_from_what_the_kit_has_lost(made):
    send(made, rows(range(10)), first=0)
    send(made, rows(range(15, 20)), first=0)
    (kit,) = read(made).kits
    assert (kit.awaited_rows, kit.gaps, kit.lost_rows) == (5, 1, 0)
    send(made, rows(range(18, 30)), first=18)  # the kit no longer holds what is below
    (kit,) = read(made).kits
    assert (kit.awaited_rows, kit.gaps, kit.lost_rows) == (0, 0, 5)


def test_rows_of_the_last_hour_are_those_that_arrived_in_it(made):
    send(made, rows(range(7), t0=NOW_S - 20 * 86_400))
    assert read(made, now_ms=NOW_MS + 3_600_000).rows_last_hour == 7
    assert read(made, now_ms=NOW_MS + 3_600_001).rows_last_hour == 0


def test_rows_that_wait_for_a_time_ask_for_attention_a_day_long(made):
    day(made)
    send(made, [[s, 10 + 60 * s, None, 0, 60, 12, 0, 80, 77, 12, 0, 2130, 5500] for s in range(4)], boot=9)
    assert read(made).kits[0].waiting_rows == 4
    assert texts(read(made)) == ["waiting for a time: kit-1"]
    later = NOW_MS + 25 * HOUR_MS
    day(made, end_s=later // 1000, boot=10, hours=25)
    found = read(made, now_ms=later)
    assert found.kits[0].waiting_rows == 4
    assert problems(found) == []


def test_new_dead_letters_ask_for_attention_and_old_ones_are_only_shown(made):
    day(made)
    with transaction(made.db):
        deadletters.keep(
            made.db, received_ms=NOW_MS - 1000, topic="lichen/v1/kit-1/obs", kit="kit-1", reason="not_json",
            detail="", payload=b"{",
        )  # fmt: skip
    assert texts(read(made)) == ["new dead letters in the last 24 h: not_json 1"]
    assert read(made).kits[0].dead_letters == {"not_json": 1}
    later = read(made, now_ms=NOW_MS + 25 * HOUR_MS)
    assert not any("dead letters" in text for text in texts(later))
    assert "not_json 1" in shown(later)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stuck": ("store is stuck since 09:00, at: storing",)}, "store is stuck"),
        ({"troubles": ("deriving fails (KeyError); the log tells more",)}, "deriving fails"),
        ({"receiving": False, "status": "no broker answers at x:1"}, "no broker answers"),
        ({"queue_age_s": 61.0, "queue_messages": 4}, "messages wait since 61 s"),
        ({"clock_error_s": None}, "clock is not trusted"),
    ],
)
def test_what_the_process_says_is_wrong_is_told(made, change, said):
    day(made)
    assert any(said in text for text in texts(read(made, msgspec.structs.replace(VITALS, **change))))


def test_a_clock_that_is_not_to_be_trusted_by_the_settings_is_no_trouble(made):
    day(made)
    found = read(made, msgspec.structs.replace(VITALS, clock_error_s=None))
    replayed = msgspec.structs.replace(found, clock_setting=False)
    assert not any("clock" in text for text in texts(replayed))


def test_by_a_clock_that_is_not_trusted_the_newest_reading_is_now(made):
    day(made, "kit-1")
    day(made, "kit-2", end_s=NOW_S - 7200)
    found = read(made, msgspec.structs.replace(VITALS, clock_error_s=None), now_ms=NOW_MS - 10 * 365 * 86_400_000)
    assert [kit.state for kit in found.kits] == ["ok", "behind"]


def test_a_stopped_gateway_and_one_that_does_not_answer_are_told_apart(made):
    day(made)
    found = read(made, None)
    assert texts(found)[0] == "the gateway (process 1) does not answer"
    stopped = msgspec.structs.replace(found, owner_pid=None)
    assert texts(stopped)[0] == "the gateway is not running"


def test_a_full_disk_and_a_full_budget_are_told(made):
    day(made)
    settings = settings_of(made.dir)
    full = msgspec.structs.replace(settings, store=Store(dir=str(made.dir), reserve_mb=10**9))
    assert any("free, less than reserve_mb" in text for text in texts(read(made, settings=full)))
    found = read(made)
    tight = msgspec.structs.replace(found, numbers=msgspec.structs.replace(found.numbers, budget_mb=0))
    assert any("has filled budget_mb" in text for text in texts(tight))


def with_sink(made, state, cursor):
    settings = msgspec.structs.replace(
        settings_of(made.dir), influx=Influx(url="u", org="o", bucket="b", token_file="t")
    )
    files = SinkFiles(made.dir, "influx")
    files.dir.mkdir(exist_ok=True)
    files.save_state(state)
    files.save_cursor(Cursor(rev=cursor))
    return settings


def test_a_sink_that_fails_or_lags_is_told_with_how_far_it_is(made):
    day(made, hours=1)
    settings = with_sink(made, SinkState(last_error="no answer; is it running?", lines_refused=3), 0)
    found = read(made, settings=settings)
    assert texts(found) == ["InfluxDB: no answer; is it running?"]
    assert found.numbers.sink.lag_revisions == found.numbers.revision > 0
    assert found.numbers.sink.refused == 3
    day(made, end_s=NOW_S + 600, boot=8, hours=1)
    lagging = read(made, settings=with_sink(made, SinkState(), 0), now_ms=NOW_MS + 600_000)
    assert lagging.numbers.sink.lag_s == pytest.approx(600)
    assert texts(lagging) == ["InfluxDB is 600 s behind"]
    state = SinkState(behind="7 readings are gone", missed={"pruned_unsent": 7}, refilled_to_ms=NOW_MS)
    behind = with_sink(made, state, 0)
    found = read(made, settings=behind, now_ms=NOW_MS + 600_000)
    assert texts(found) == ["InfluxDB is behind: 7 readings are gone"]
    assert (found.numbers.sink.missed, found.numbers.sink.refilled_to_ms) == (7, NOW_MS)
    told = shown(found, problems(found))
    assert "7 missed" in told
    assert f"sent again, up to {command.iso(NOW_MS)} so far" in told
    even = read(made, settings=with_sink(made, SinkState(), lagging.numbers.revision), now_ms=NOW_MS + 600_000)
    assert (even.numbers.sink.lag_revisions, even.numbers.sink.lag_s, texts(even)) == (0, 0.0, [])


def test_ten_kits_fit_a_screen_of_80_by_24(made):
    for number in range(10):
        day(made, f"a-kit-with-a-very-long-name-{number}", hours=1)
    found = read(made)
    told = shown(found, problems(found)).splitlines()
    assert len(told) <= 23
    assert max(map(len, told)) <= 80
    assert sum("a-kit-with" in line for line in told) == 10


def test_of_many_kits_the_worst_are_shown_first_and_the_rest_counted(made):
    for number in range(40):
        day(made, f"kit-{number:02}", hours=1)
    day(made, "kit-99", end_s=NOW_S - 3000, hours=1)
    found = read(made)
    told = shown(found, problems(found)).splitlines()
    assert len(told) <= 23
    kits = [line for line in told if line.startswith("kit-")]
    assert kits[0].split()[:2] == ["kit-99", "silent"]
    assert told[-1] == f"and {41 - len(kits)} more kits ({41 - len(kits)} ok): lichen status --all"
    assert len([line for line in shown(found, every=True).splitlines() if line.startswith("kit-")]) == 41


def test_the_flat_numbers_are_numbers_with_names(made):
    day(made, hours=1)
    settings = with_sink(made, SinkState(), 0)
    fields = flat(read(made, settings=settings).numbers, VITALS)
    assert all(type(value) in (int, float) for value in fields.values())
    assert fields["messages"] == 5
    assert fields["sink_lag_revisions"] > 0
    assert {"rows", "duplicates", "queue_age_s", "dirty_hours", "disk_free_mb", "clock_trusted"} <= fields.keys()


def test_holes_that_dead_letters_settled_are_no_gaps():
    assert numbers._uncovered(5, 9, [(6, 7), (20, 30)]) == 3
    assert numbers._uncovered(5, 9, [(0, 30)]) == 0
    assert numbers._uncovered(9, 5, []) == 0


def test_status_of_a_stopped_gateway_is_a_screen_json_and_exit_1(tmp_path):
    store = MadeStore(tmp_path / "store")
    now_s = int(time.time())
    store.add_span("kit-1", now_s - 7200, now_s, lambda _: 8.0, dt_s=60)
    store.db.close()
    config = tmp_path / "gateway.toml"
    config.write_text("[clock]\ntrusted = true\n")
    before = sorted(p.name for p in (tmp_path / "store").iterdir())
    result = lichen("status", "-c", config)
    assert result.returncode == 1
    assert "the gateway is not running" in result.stdout
    assert "\x1b" not in result.stdout
    told = json.loads(lichen("status", "--dir", tmp_path, "--json").stdout)
    assert told["running"] is False
    assert told["attention"][0]["what"] == "the gateway is not running"
    assert told["kits"][0]["name"] == "kit-1"
    assert told["kits"][0]["newest"].endswith("Z")
    assert before == sorted(p.name for p in (tmp_path / "store").iterdir() if not p.name.endswith(("-wal", "-shm")))
    refused = lichen("status", "--dir", tmp_path / "elsewhere")
    assert refused.returncode == 1
    assert "no store here" in refused.stderr


@pytest.mark.mosquitto
def test_status_of_a_running_gateway_asks_it_and_is_0_when_all_is_well(mosquitto, tmp_path):
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1"])
    broker.start()
    try:
        config = write_config(tmp_path / "gw", broker)
        with LiveGateway(config) as gateway, Kit(broker) as kit:
            gateway.receives()
            t0_s = int(time.time()) - 600
            kit.send(batch(7, range(10), t0_s=t0_s), "obs")
            wait_until(lambda: gateway.totals().get("rows") == 10, "it is stored")
            wait_until(lambda: read_store(gateway.folder, numbers.dirty_hours) == (0, 0), "it is derived")
            result = lichen("status", "-c", config, "--json")
            told = json.loads(result.stdout)
            assert (result.returncode, told["attention"]) == (0, [])
            vitals = told["vitals"]
            assert vitals["pid"] == gateway.process.pid == told["owner_pid"]
            assert vitals["status"].startswith("receiving")
            assert vitals["messages"] == vitals["commits"] == 1
            assert vitals["queue_messages"] == 0
            assert 10 < vitals["rss_mb"] < 500
            assert told["rows_last_hour"] == 10
            assert "running since" in lichen("status", "-c", config).stdout
            broker.stop()
            gateway.wait_for_status("no broker answers")
            result = lichen("status", "-c", config)
            assert result.returncode == 1
            assert "no broker answers" in result.stdout
    finally:
        broker.stop()


@pytest.mark.mosquitto
def test_a_gateway_that_stands_still_is_told_as_one_that_does_not_answer(mosquitto, tmp_path, monkeypatch):
    import signal

    monkeypatch.setattr(command, "ANSWER_S", 0.5)
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1"])
    broker.start()
    try:
        config = write_config(tmp_path / "gw", broker)
        with LiveGateway(config) as gateway:
            gateway.receives()
            gateway.process.send_signal(signal.SIGSTOP)
            result = lichen("status", "-c", config)
            gateway.process.send_signal(signal.SIGCONT)
        assert result.returncode == 1
        assert f"the gateway (process {gateway.process.pid}) does not answer" in result.stdout
    finally:
        broker.stop()


def test_status_is_typed_all_through(made):
    day(made, hours=1)
    found = read(made)
    assert msgspec.convert(msgspec.to_builtins(found), Status) == found
