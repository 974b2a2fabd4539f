"""P9: each reading stands where its kit's clock, its boot's uptime and its receipt put it, and says how well."""

import itertools

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_derive_late import RECIPE, derive_all
from test_intake import NOW_MS, T0, Bench, batch

from gateway import intake
from gateway.clock import ERROR_ANCHOR_S, ERROR_RECEIPT_S, ERROR_SET_S, LIVE_SPAN_MS
from gateway.derive.verify import verify
from gateway.records import HOUR_S, Reason, TimeSource
from gateway.store import derived, readings
from gateway.store.changes import changes
from gateway.store.tombstones import Kind


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, trusted=True)


def release(bench, now_ms, monkeypatch):
    monkeypatch.setattr(intake, "now_ms", lambda: now_ms)
    while bench.intake.release_waiting():
        pass


def placed(db, kit="kit-1"):
    some = readings.read(db, kit, 0, 10**7)
    facts = zip(some.boot, some.seq, some.time_ms, some.time_source, some.time_error_s, strict=True)
    return {(int(b), int(s)): (int(t) - T0 * 1000, int(source), int(error)) for b, s, t, source, error in facts}


def withdrawn(db, kind=Kind.RAW):
    return [t for x in changes(db, 0, rows_after=0).withdrawn if x.kind == kind for t in x.times_ms.tolist()]


def test_two_rows_of_a_kit_at_one_second_stand_a_millisecond_apart(bench):
    bench.send(batch([1, 2], boot=9, bench=bench), batch([1, 2], boot=7, bench=bench))
    assert {name: where[0] for name, where in placed(bench.db).items()} == {
        (7, 1): 60_000, (9, 1): 60_001, (7, 2): 120_000, (9, 2): 120_001,
    }  # fmt: skip
    derive_all(bench.db)
    (air,) = derived.read_air(bench.db)
    assert [bool(reason & Reason.TIME_SHIFTED) for reason in air.reasons.tolist()] == [False, True, False, True]
    assert not verify(bench.db, RECIPE).different


@settings(max_examples=40)
@given(st.permutations([(7, 1), (7, 2), (8, 1), (9, 1), (9, 2), (9, 3)]), st.integers(1, 3), st.booleans())
def test_the_milliseconds_do_not_depend_on_the_order_of_arrival(tmp_path_factory, order, size, restarts):
    bench = Bench(tmp_path_factory.mktemp("store"))
    for at in range(0, len(order), size):
        bench.send(*[batch([s], boot=b, t0=T0 - 60 * s, bench=bench) for b, s in order[at : at + size]])
        if restarts:
            bench.open()
    times = {name: where[0] for name, where in placed(bench.db).items()}
    assert times == {name: shift for shift, name in enumerate(sorted(order))}


def test_a_row_that_is_moved_is_withdrawn_where_it_stood(bench):
    bench.send(batch([1], boot=9, bench=bench))
    assert withdrawn(bench.db) == []
    bench.send(batch([1], boot=7, bench=bench))
    assert withdrawn(bench.db) == [(T0 + 60) * 1000]
    found = changes(bench.db, 0, rows_after=0)
    (rows,) = found.raw
    assert found.withdrawn[-1].rev < rows.rev.min()  # so that what stands there now is written after the removal


def test_more_rows_than_milliseconds_in_a_second_wait_and_are_kept(bench):
    flood = [batch(list(range(low, low + 200)), t0=T0, first=0, bench=bench) for low in range(0, 1200, 200)]
    payloads = [msgspec.json.decode(message.payload) for message in flood]
    for body in payloads:
        for row in body["rows"]:
            row[2] = T0
    bench.send(*[bench.message("lichen/v1/kit-1/backlog", msgspec.json.encode(body)) for body in payloads])
    assert sorted(where[0] for where in placed(bench.db).values()) == list(range(1000))
    (state,) = readings.kits(bench.db)
    assert (state.row_count, state.waiting_count) == (1200, 200)
    assert bench.receipts() == {("kit-1", 7): 1199}


def test_a_lower_row_that_tells_the_clock_places_its_boot_again(bench, monkeypatch):
    bench.send(batch([1, 2], q=0, first=1, bench=bench), batch([5], t0=T0 + 30, first=1, bench=bench))
    release(bench, NOW_MS, monkeypatch)
    assert placed(bench.db)[7, 1] == (90_000, TimeSource.ANCHOR, ERROR_ANCHOR_S)
    bench.send(batch([4], first=1, bench=bench))  # the clock was set back by half a minute between the two
    release(bench, NOW_MS, monkeypatch)
    assert placed(bench.db)[7, 1] == (60_000, TimeSource.ANCHOR, ERROR_ANCHOR_S)
    assert withdrawn(bench.db) == [(T0 + 90) * 1000, (T0 + 150) * 1000]
    assert not verify(bench.db, RECIPE).different


def test_rows_that_follow_one_another_into_each_others_seconds_are_placed_again(bench, monkeypatch):
    for row in (batch([1], q=0, bench=bench), batch([2], q=0, first=1, bench=bench)):
        bench.send(row)
    bench.send(batch([5], t0=T0 - 60, first=1, bench=bench))
    release(bench, NOW_MS, monkeypatch)
    assert [placed(bench.db)[7, seq][0] for seq in (1, 2)] == [0, 60_000]
    bench.send(batch([4], first=1, bench=bench))
    release(bench, NOW_MS, monkeypatch)
    assert [placed(bench.db)[7, seq][0] for seq in (1, 2)] == [60_000, 120_000]
    assert not verify(bench.db, RECIPE).different


def test_a_row_that_another_moved_meanwhile_is_placed_again_too(bench, monkeypatch):
    bench.send(batch([1], q=0, bench=bench), batch([5], t0=T0 + 30, first=1, bench=bench))
    release(bench, NOW_MS, monkeypatch)
    bench.send(batch([4], first=1, bench=bench))  # tells the clock; nothing is placed again yet
    bench.send(batch([1], boot=3, t0=T0 + 30, bench=bench))
    assert placed(bench.db)[7, 1][0] == 90_001
    release(bench, NOW_MS, monkeypatch)
    assert (placed(bench.db)[7, 1][0], placed(bench.db)[3, 1][0]) == (60_000, 90_000)
    assert not verify(bench.db, RECIPE).different


def test_a_boot_moved_by_another_in_the_same_step_is_placed_again_too(bench, monkeypatch):
    bench.send(batch([1], q=0, boot=9, bench=bench), batch([5], boot=9, t0=T0 + 30, first=1, bench=bench))
    release(bench, NOW_MS, monkeypatch)
    assert placed(bench.db)[9, 1][0] == 90_000
    bench.send(batch([1], q=0, boot=3, bench=bench))
    bench.send(batch([5], boot=3, t0=T0 + 30, first=1, bench=bench))  # its row 1 will stand where that of boot 9 is
    bench.send(batch([4], boot=9, first=1, bench=bench))
    release(bench, NOW_MS, monkeypatch)
    assert (placed(bench.db)[9, 1][0], placed(bench.db)[3, 1][0]) == (60_000, 90_000)
    assert not verify(bench.db, RECIPE).different


@settings(max_examples=30)
@given(st.permutations([*range(1, 9)]), st.booleans())
def test_where_rows_without_a_clock_stand_does_not_depend_on_the_order(tmp_path_factory, order, restarts):
    bench = Bench(tmp_path_factory.mktemp("store"))
    for seq in order:  # 1 to 4 have no clock, 5 to 8 tell it, each a second later than the one before
        bench.send(batch([seq], q=0 if seq < 5 else 2, t0=T0 + seq, first=0, bench=bench))
        bench.intake.release_waiting()
        if restarts:
            bench.open()
    while bench.intake.release_waiting():
        pass
    assert [placed(bench.db)[7, seq][0] for seq in (1, 2, 3, 4)] == [1000 * (60 * seq + 5) for seq in (1, 2, 3, 4)]


def test_a_boot_that_never_tells_the_time_is_placed_by_its_quickest_receipt(bench, monkeypatch):
    delays_s = dict(zip(range(1, 31), itertools.cycle([9, 3, 30, 4]), strict=False))
    for seq, delay_s in delays_s.items():
        bench.send(batch([seq], q=0, first=1, received_ms=(T0 + 60 * seq + delay_s) * 1000, bench=bench))
        release(bench, NOW_MS, monkeypatch)
        if 60_000 * (seq - 1) < LIVE_SPAN_MS - 60_000:
            assert placed(bench.db) == {}
    assert placed(bench.db)[7, 1] == (63_000, TimeSource.RECEIPT, ERROR_RECEIPT_S)
    assert len(placed(bench.db)) == 30
    bench.send(batch([31], first=1, bench=bench))  # its own clock says more than receipts do
    release(bench, NOW_MS, monkeypatch)
    assert placed(bench.db)[7, 1] == (60_000, TimeSource.ANCHOR, ERROR_ANCHOR_S)


def test_a_burst_from_the_queue_and_a_clock_that_is_not_trusted_place_nothing(tmp_path, monkeypatch):
    for name, trusted, every_s in (("burst", True, 0), ("untrusted", False, 60)):
        bench = Bench(tmp_path / name, trusted=trusted)
        for seq in range(1, 31):
            received_ms = NOW_MS + 1000 * every_s * seq
            bench.send(batch([seq], q=0, first=1, received_ms=received_ms, bench=bench))
        release(bench, NOW_MS, monkeypatch)
        assert placed(bench.db) == {}
        assert readings.kits(bench.db)[0].waiting_count == 30


def test_a_backlog_tells_nothing_about_when_it_was_made(bench, monkeypatch):
    for seq in range(1, 31):
        received_ms = NOW_MS + 60_000 * seq
        bench.send(batch([seq], q=0, first=1, topic="backlog", received_ms=received_ms, bench=bench))
    release(bench, NOW_MS, monkeypatch)
    assert placed(bench.db) == {}


def test_a_clock_that_lies_ahead_is_not_believed_once_its_boot_has_an_anchor(bench, monkeypatch):
    received_ms = (T0 + 600) * 1000
    liar = batch([2], t0=T0 + 4 * 86_400, first=1, received_ms=received_ms, bench=bench)
    bench.send(liar)
    assert placed(bench.db) == {}
    bench.send(batch([3], first=1, received_ms=received_ms, bench=bench))
    release(bench, received_ms, monkeypatch)
    assert placed(bench.db) == {
        (7, 2): (120_000, TimeSource.ANCHOR, ERROR_ANCHOR_S), (7, 3): (180_000, TimeSource.KIT, ERROR_SET_S),
    }  # fmt: skip


def test_a_held_row_stands_at_its_time_with_the_disagreement_as_its_error_and_in_no_mean(bench, monkeypatch):
    ahead_s = 7200
    received_ms = (T0 + 60) * 1000
    bench.send(batch([1], t0=T0 + ahead_s, received_ms=received_ms, bench=bench))
    assert readings.kits(bench.db)[0].waiting_count == 1
    release(bench, received_ms + ahead_s * 1000, monkeypatch)
    assert placed(bench.db) == {(7, 1): ((60 + ahead_s) * 1000, TimeSource.KIT, ahead_s)}
    derive_all(bench.db)
    (hour,) = derived.read_hours(bench.db)
    assert hour.reasons & Reason.TIME_DOUBTFUL
    assert hour.valid_pct["pm25_cf1"] == 0


def test_the_error_that_an_operator_stated_is_carried_by_each_reading(bench):
    bench.intake.clock_error_s = lambda: 45
    bench.send(batch([1], received_ms=(T0 + 60 - 100) * 1000, bench=bench))  # within 60 s and the stated error
    assert placed(bench.db) == {(7, 1): (60_000, TimeSource.KIT, ERROR_SET_S + 45)}


def test_an_hour_whose_rows_all_moved_away_is_withdrawn(bench, monkeypatch):
    seqs = list(range(1, 40))
    bench.send(batch(seqs, q=0, first=1, bench=bench), batch([60], t0=T0 + 2 * HOUR_S, first=1, bench=bench))
    release(bench, NOW_MS, monkeypatch)
    derive_all(bench.db)
    moved = {hour.hour for hour in derived.read_hours(bench.db)}
    bench.send(batch([59], first=1, bench=bench))
    release(bench, NOW_MS, monkeypatch)
    derive_all(bench.db)
    gone = moved - {hour.hour for hour in derived.read_hours(bench.db)}
    assert gone
    assert {t // 3_600_000 for t in withdrawn(bench.db, Kind.HOUR)} >= gone
    assert {t // 3_600_000 for t in withdrawn(bench.db, Kind.INDEX)} & gone
    assert not verify(bench.db, RECIPE).different
