"""P3 and P5 of dead letters: what failed can be tried again, stays counted, and takes a bounded room."""

import sqlite3

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_intake import NOW_MS, Bench, batch

from gateway import wire
from gateway.intake import Intake
from gateway.settings import DeadLetters
from gateway.store import counters, deadletters, readings
from gateway.store.database import read_meta
from gateway.store.deadletters import Choice


def limited(bench, *, max_kits=10_000, **limits):
    """An intake like the bench's with these limits."""
    bench.intake = Intake(
        bench.db,
        base="lichen/v1",
        publish=lambda topic, payload, qos: bench.published.append((topic, payload, qos)),
        acknowledge=lambda messages: bench.acknowledged.extend(m.mid for m in messages),
        clock_error_s=lambda: None,
        dead_letters=DeadLetters(**limits),
        max_kits=max_kits,
    )
    return bench


@pytest.fixture
def bench(tmp_path):
    return limited(Bench(tmp_path))


def of_version_2(message, bench):
    return bench.message(message.topic, message.payload.replace(b'"v":1', b'"v":2'), message.received_ms)


def letters(bench, **chosen):
    return deadletters.choose(bench.db, Choice(**chosen), limit=100_000)


def held(bench):
    """What the counters say of each kit's letters, and what is there."""
    said = {
        (kit, name): value
        for kit, name, value in bench.db.execute("SELECT kit, name, value FROM counter WHERE name LIKE '%_held%'")
        if value
    }
    bench.db.execute("SAVEPOINT look")
    deadletters.recount(bench.db)
    changed = bench.db.execute("SELECT kit, name, value FROM counter WHERE name LIKE '%_held%'").fetchall()
    bench.db.execute("ROLLBACK TO look")
    bench.db.execute("RELEASE look")
    return said, {(kit, name): value for kit, name, value in changed if value}


def test_a_letter_that_is_understood_now_becomes_readings_as_at_its_receipt(bench, monkeypatch):
    first = of_version_2(batch([1, 2], bench=bench), bench)
    bench.send(first)
    assert bench.rows() == set()
    monkeypatch.setattr(wire, "VERSION", 2)
    (outcome,) = bench.intake.replay(letters(bench))
    assert outcome.reason is None
    assert bench.rows() == {("kit-1", 7, 1), ("kit-1", 7, 2)}
    assert letters(bench) == []
    assert counters.totals(bench.db)["replayed"] == 1
    assert bench.db.execute("SELECT DISTINCT received_ms FROM chunk").fetchall() == [(NOW_MS,)]
    bench.send(first)  # and the kit's own copy is one
    assert counters.totals(bench.db)["duplicates"] == 2


def test_a_letter_that_fails_again_stays_with_its_new_reason(bench, monkeypatch):
    message = of_version_2(batch([2, 3], first=1, bench=bench), bench)
    bench.send(bench.message(message.topic, message.payload.replace(b"pm25_cf1", b"pm25_new")))
    monkeypatch.setattr(wire, "VERSION", 2)
    (outcome,) = bench.intake.replay(letters(bench))
    assert outcome.reason == "unknown_column"
    assert [(x.id, x.reason) for x in letters(bench)] == [(outcome.id, "unknown_column")]
    bench.send(of_version_2(batch([1], bench=bench), bench))
    assert bench.receipts() == {("kit-1", 7): 3}  # its rows are known now, and count as held
    said, there = held(bench)
    assert said == there


def test_a_letter_that_becomes_equal_to_another_is_counted_as_its_copy(bench):
    db = bench.db
    for reason in ("not_json", "internal"):
        deadletters.keep(
            db, received_ms=NOW_MS, topic="lichen/v1/kit-1/obs", kit=None, reason=reason, detail="x", payload=b"{"
        )
    first, second = letters(bench)
    deadletters.change_reason(db, second, first.reason, "y")
    (left,) = letters(bench)
    assert (left.id, left.copies) == (first.id, 2)
    said, there = held(bench)
    assert said == there


def test_a_conflict_stays_a_conflict_and_changes_nothing(bench):
    bench.send(batch([1, 2], bench=bench), batch([2, 3], bench=bench, value=99))
    before = bench.rows()
    (outcome,) = bench.intake.replay(letters(bench))
    assert outcome.reason == "conflict"
    assert bench.rows() == before
    assert deadletters.count(bench.db) == {"conflict": 1}


def test_a_letter_of_which_only_the_beginning_was_kept_says_so(bench):
    bench.send(bench.message("lichen/v1/kit-1/obs", b"x" * 20_000))
    (outcome,) = bench.intake.replay(letters(bench))
    assert outcome.reason == "too_large"
    assert "beginning" in outcome.detail
    assert len(letters(bench)) == 1


def test_a_replay_that_cannot_be_committed_leaves_letters_and_readings_as_they_were(bench, monkeypatch):
    bench.send(of_version_2(batch([1, 2], bench=bench), bench), bench.message("lichen/v1/kit-1/obs", b"{"))
    monkeypatch.setattr(wire, "VERSION", 2)
    bench.db.execute("CREATE TRIGGER full BEFORE DELETE ON dead_letter BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    before = letters(bench)
    with pytest.raises(sqlite3.Error):
        bench.intake.replay(before)
    assert letters(bench) == before
    assert bench.rows() == set()
    bench.db.execute("DROP TRIGGER full")
    bench.intake.replay(before)
    assert bench.rows() == {("kit-1", 7, 1), ("kit-1", 7, 2)}


def test_a_mistake_of_the_program_costs_the_one_letter_that_meets_it(bench, monkeypatch):
    bench.send(*[of_version_2(batch([seq], first=1, bench=bench), bench) for seq in (1, 2, 3)])
    monkeypatch.setattr(wire, "VERSION", 2)
    real = bench.intake._raw.add

    def add(name, found, *rest, **named):
        if found.rows[0][0] == 2:
            raise ZeroDivisionError("a mistake")
        return real(name, found, *rest, **named)

    monkeypatch.setattr(bench.intake._raw, "add", add)
    outcomes = bench.intake.replay(letters(bench))
    assert [o.reason for o in outcomes] == [None, "internal", None]
    assert bench.rows() == {("kit-1", 7, 1), ("kit-1", 7, 3)}


def test_an_old_status_or_birth_certificate_does_not_replace_a_newer_one(bench, monkeypatch):
    about = {"v": 2, "kit": "kit-1", "board": "old", "fw": {"version": "1", "hash": None}}
    bench.send(
        bench.message("lichen/v1/kit-1/about", msgspec.json.encode(about)),
        bench.message("lichen/v1/kit-1/status", b'{"v":2,"up":0}'),
    )
    new = msgspec.json.encode({**about, "v": 1, "board": "new"})
    bench.send(
        bench.message("lichen/v1/kit-1/about", new), bench.message("lichen/v1/kit-1/status", b'{"v":1,"up":1,"boot":7}')
    )
    monkeypatch.setattr(wire, "VERSION", 2)
    assert [o.reason for o in bench.intake.replay(letters(bench))] == [None, None]
    (kit,) = readings.kits(bench.db)
    assert (kit.about, kit.up) == (new, 1)


def test_the_receipt_of_a_replayed_letter_places_no_row(tmp_path, monkeypatch):
    minutes = [NOW_MS + 60_000 * n for n in range(60)]
    waiting = {}
    for how in ("live", "replayed"):
        bench = Bench(tmp_path / how, trusted=True)
        sent = [batch([n], first=0, q=0, bench=bench, received_ms=received_ms) for n, received_ms in enumerate(minutes)]
        if how == "live":
            bench.send(*sent)
        else:
            bench.send(*[of_version_2(message, bench) for message in sent])
            with monkeypatch.context() as patch:
                patch.setattr(wire, "VERSION", 2)
                assert all(o.reason is None for o in bench.intake.replay(letters(bench)))
        while bench.intake.release_waiting():
            pass
        waiting[how] = readings.kits(bench.db)[0].waiting_count
    assert waiting == {"live": 0, "replayed": 60}


def poison(bench, number, *, kit="kit-1", size=10_000):
    return bench.message(f"lichen/v1/{kit}/obs", f"{{{number:06}".encode() + b"x" * size, NOW_MS + number)


def test_beyond_its_room_the_oldest_letters_of_that_kit_go_and_are_counted(bench, caplog):
    limited(bench, kit_mb=1)
    bench.send(poison(bench, 0, kit="kit-2"))
    unknown = batch([2, 3], first=2, bench=bench)
    bench.send(bench.message(unknown.topic, unknown.payload.replace(b"pm25_cf1", b"pm25_new")))
    for start in range(0, 300, 50):
        bench.send(*[poison(bench, n) for n in range(start, start + 50)])
    mine = letters(bench, kit="kit-1")
    assert 90 < len(mine) < 100
    assert [x.received_ms - NOW_MS for x in mine] == list(range(300 - len(mine), 300))
    assert len(letters(bench, kit="kit-2")) == 1
    total = counters.totals(bench.db)
    assert total["dead_letters_evicted"] == 301 - len(mine)
    assert total["dead.not_json"] == 301
    assert total["dead.unknown_column"] == 1
    assert len([r for r in caplog.records if "are full" in r.getMessage()]) == 1
    assert bench.receipts() == {("kit-1", 7): 3}  # although the letter with these rows has gone
    limited(bench, kit_mb=1)
    bench.send(batch([4], first=2, bench=bench))
    assert bench.receipts() == {("kit-1", 7): 4}


def test_small_letters_are_bounded_by_their_number(bench, monkeypatch):
    monkeypatch.setattr(deadletters, "MAX_LETTERS", 50)
    for n in range(200):
        bench.send(poison(bench, n, size=1), bench.message("elsewhere", str(n).encode()))
    assert len(letters(bench)) == 100
    assert len(letters(bench, kit="kit-1")) == 50


def test_all_letters_together_are_bounded_at_the_cost_of_the_kit_with_most(bench):
    limited(bench, kit_mb=4, total_mb=5)
    bench.send(*[poison(bench, n, kit="quiet") for n in range(20)])
    for kit in ("loud-1", "loud-2", "loud-3"):
        for start in range(0, 300, 50):
            bench.send(*[poison(bench, n, kit=kit) for n in range(start, start + 50)])
    assert sum(len(x.payload) for x in letters(bench)) < 5_000_000
    assert len(letters(bench, kit="quiet")) == 20
    assert len(letters(bench, kit="loud-3")) > 100
    said, there = held(bench)
    assert said == there


def test_letters_of_an_older_version_are_counted_at_the_first_commit(bench):
    bench.send(*[poison(bench, n) for n in range(3)])
    bench.db.execute("DELETE FROM counter")
    limited(bench).send(poison(bench, 9))
    said, there = held(bench)
    assert said == there
    assert said[(1, "dead_letters_held")] == 4


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from("kpreot"), st.integers(0, 5), st.integers(1, 16_000)), max_size=40))
def test_what_is_held_is_counted_right_whatever_happens(tmp_path_factory, steps):
    bench = limited(Bench(tmp_path_factory.mktemp("store")), kit_mb=1, total_mb=1)
    for what, number, size in steps:
        if what == "k":
            bench.send(*[poison(bench, 100 * number + i, kit=f"kit-{number % 3}", size=size) for i in range(20)])
        elif what == "p":
            bench.send(poison(bench, number, kit="kit-1", size=size))
        elif what == "r":
            bench.intake.replay(letters(bench)[:number])
        elif what == "e":
            deadletters.expire(bench.db, Choice(kit=f"kit-{number}"), 3)
        elif what == "o":
            deadletters.expire_older(bench.db, NOW_MS + 100 * number, 10)
        else:
            bench.open()
            limited(bench, kit_mb=1, total_mb=1)
    said, there = held(bench)
    assert said == there
    assert sum(value for (_, name), value in said.items() if name.endswith("bytes")) <= 1_000_000


def test_a_letter_costs_the_same_however_many_there_are(bench):
    limited(bench, kit_mb=100)

    def steps(message):
        count = [0]
        bench.db.set_progress_handler(lambda: count.__setitem__(0, count[0] + 1), 10)
        bench.send(message)
        bench.db.set_progress_handler(None, 0)
        return count[0]

    bench.send(*[poison(bench, n, kit="kit-2", size=1) for n in range(3000)])  # older ones of another kit
    bench.send(poison(bench, 0, size=1))
    few = steps(poison(bench, 1, size=1))
    bench.send(*[poison(bench, n, size=1) for n in range(2, 3000)])
    assert steps(poison(bench, 3000, size=1)) < few + 20
    deadletters_max = deadletters.MAX_LETTERS
    try:
        deadletters.MAX_LETTERS = 3001  # every further one lets one go
        assert steps(poison(bench, 3001, size=1)) < 3 * few
    finally:
        deadletters.MAX_LETTERS = deadletters_max


def test_expired_letters_are_gone_and_counted(bench):
    bench.send(*[poison(bench, n, kit=kit) for n in range(5) for kit in ("kit-1", "kit-2")])
    assert deadletters.expire(bench.db, Choice(kit="kit-1"), 3) == 3
    assert deadletters.expire_older(bench.db, NOW_MS + 2, 100) == 2
    assert counters.totals(bench.db)["dead_letters_expired"] == 5
    assert [(x.kit, x.received_ms - NOW_MS) for x in letters(bench)] == [
        ("kit-2", 2), ("kit-1", 3), ("kit-2", 3), ("kit-1", 4), ("kit-2", 4),
    ]  # fmt: skip


def test_kits_beyond_the_limit_are_dead_letters_and_known_kits_go_on(bench):
    limited(bench, max_kits=2)
    bench.send(batch([1], kit="kit-1", bench=bench), batch([1], kit="kit-2", bench=bench))
    stranger = [batch([1], kit=f"stranger-{n}", bench=bench) for n in range(5)]
    bench.send(*stranger, batch([2], first=1, kit="kit-1", bench=bench))
    assert deadletters.count(bench.db) == {"too_many_kits": 5}
    assert [k.name for k in readings.kits(bench.db)] == ["kit-1", "kit-2"]
    assert ("kit-1", 7, 2) in bench.rows()
    assert set(bench.receipts()) == {("kit-1", 7), ("kit-2", 7)}
    limited(bench, max_kits=10)
    assert all(o.reason is None for o in bench.intake.replay(letters(bench)))
    assert ("stranger-4", 7, 1) in bench.rows()


def test_unknown_columns_are_tried_once_after_the_known_ones_have_changed(bench, monkeypatch, request):
    request.addfinalizer(wire._check_columns.cache_clear)  # it remembers what was known here
    from gateway import intake

    while bench.intake.replay_unknown_columns():
        pass
    assert read_meta(bench.db, "columns") == intake._KNOWN_COLUMNS
    sent = [batch([seq], first=1, bench=bench) for seq in range(1, 251)]
    bench.send(*[bench.message(m.topic, m.payload.replace(b"pm25_cf1", b"pm25_new")) for m in sent])
    bench.send(poison(bench, 1))
    limited(bench)
    assert not bench.intake.replay_unknown_columns()  # the same program again
    assert deadletters.count(bench.db) == {"unknown_column": 250, "not_json": 1}
    monkeypatch.setattr(wire, "WIRE_COLUMNS", {*wire.WIRE_COLUMNS, "pm25_new"})
    wire._check_columns.cache_clear()
    monkeypatch.setattr(intake, "_KNOWN_COLUMNS", "other")
    limited(bench)
    assert bench.intake.replay_unknown_columns()
    left = deadletters.count(bench.db)["unknown_column"]
    assert 100 <= left < 250  # a step is bounded
    assert read_meta(bench.db, "columns") != "other"
    limited(bench)  # killed in the middle
    steps = 0
    while bench.intake.replay_unknown_columns():
        steps += 1
    assert steps > 1
    assert deadletters.count(bench.db) == {"not_json": 1}
    assert bench.db.execute("SELECT sum(row_count) FROM chunk").fetchone() == (250,)
    assert read_meta(bench.db, "columns") == "other"
    assert not bench.intake.replay_unknown_columns()
