"""P1 to P4 of intake: committed before acknowledged, once, nothing vanishes, one bad input stops nothing."""

import sqlite3

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire import golden

from gateway import intake, wire
from gateway.broker import Message
from gateway.intake import Intake
from gateway.records import HOUR_S
from gateway.store import chunks, counters, deadletters, readings
from gateway.store.database import open_reader, open_writer

T0 = 1_795_217_400
NOW_MS = (T0 + 86_400) * 1000


class Bench:
    """An intake over a real store, with what it acknowledged and published."""

    def __init__(self, folder, *, trusted=False):
        self.folder = folder
        self.acknowledged = []
        self.published = []
        self.mid = 0
        self.open(trusted=trusted)

    def open(self, *, trusted=False):
        self.db = open_writer(self.folder)
        self.intake = Intake(
            self.db,
            base="lichen/v1",
            publish=lambda topic, payload, qos: self.published.append((topic, payload, qos)),
            acknowledge=lambda messages: self.acknowledged.extend(m.mid for m in messages),
            clock_error_s=lambda: 0 if trusted else None,
        )

    def message(self, topic, payload, received_ms=NOW_MS):
        self.mid += 1
        return Message(topic, payload, received_ms, self.mid, 1, 1)

    def send(self, *messages):
        self.intake.store(list(messages))

    def rows(self):
        with_db = open_reader(self.folder)
        try:
            return {
                (r.kit, int(b), int(s)) for r in readings.each_hour(with_db) for b, s in zip(r.boot, r.seq, strict=True)
            }
        finally:
            with_db.close()

    def receipts(self):
        self.intake._sent_s.clear()
        self.published.clear()
        self.intake.send_receipts()
        return {
            (t.split("/")[0], m["boot"]): m["seq"]
            for t, p, _ in self.published
            if t.endswith("/stored")
            for m in [msgspec.json.decode(p)]
        }


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def batch(seqs, *, boot=7, first=None, kit="kit-1", value=83, q=2, t0=T0, topic="obs", bench=None, **kw):
    rows = [[s, 60 * s, t0 + 60 * s if q else None, q, 60, 12, 0, value] for s in seqs]
    body = {"v": 1, "boot": boot, "first": seqs[0] if first is None else first}
    body |= {"cols": ["seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1"], "rows": rows}
    return bench.message(f"lichen/v1/{kit}/{topic}", msgspec.json.encode(body), **kw)


def test_a_message_is_acknowledged_after_its_rows_are_committed(bench):
    seen = []
    # Read by another connection, which sees commits only.
    bench.intake._acknowledge = lambda messages: seen.append((len(messages), len(bench.rows())))
    bench.send(batch([1, 2], bench=bench), batch([3], bench=bench))
    assert seen == [(2, 3)]


def test_nothing_is_acknowledged_when_the_commit_fails(bench):
    bench.send(batch([1], bench=bench))
    for table in ("chunk", "fresh"):
        bench.db.execute(
            f"CREATE TRIGGER full_{table} BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    later = batch([2], bench=bench)
    with pytest.raises(sqlite3.Error):
        bench.send(later)
    assert bench.acknowledged == [1]
    bench.db.executescript("DROP TRIGGER full_chunk; DROP TRIGGER full_fresh")
    bench.send(later)
    assert bench.acknowledged == [1, 2]
    assert bench.rows() == {("kit-1", 7, 1), ("kit-1", 7, 2)}


def test_acknowledgements_follow_the_order_of_arrival(bench):
    bench.send(batch([3], bench=bench), bench.message("lichen/v1/kit-1/obs", b"poison"), batch([1], bench=bench))
    assert bench.acknowledged == [1, 2, 3]


def test_copies_change_nothing_and_are_counted(bench):
    first = batch([1, 2, 3], bench=bench)
    bench.send(first)
    bench.send(first, batch([2, 3, 4], bench=bench, topic="backlog"))
    assert bench.rows() == {("kit-1", 7, s) for s in (1, 2, 3, 4)}
    assert counters.totals(bench.db) == {"batches": 3, "rows": 4, "duplicates": 5}


def test_a_copy_with_other_content_is_a_conflict_and_its_new_rows_are_stored(bench):
    bench.send(batch([1, 2], bench=bench))
    bench.send(batch([2, 3], bench=bench, value=99))
    assert deadletters.count(bench.db) == {"conflict": 1}
    assert ("kit-1", 7, 3) in bench.rows()
    stored = readings.read(bench.db, "kit-1", 0, 10**6)
    assert stored.columns["pm25_cf1"].tolist() == [8.3, 8.3, 9.9]


def test_rows_on_both_sides_of_stored_ones_are_no_copies(bench):
    bench.send(batch([2, 3], first=0, bench=bench))
    bench.send(batch([1, 4], first=0, bench=bench))
    assert bench.rows() == {("kit-1", 7, s) for s in (1, 2, 3, 4)}
    assert deadletters.count(bench.db) == {}


def test_a_receipt_goes_up_to_the_first_row_that_is_missing(bench):
    bench.send(batch([1, 2, 4], first=1, bench=bench))
    assert bench.receipts() == {("kit-1", 7): 2}
    bench.send(batch([3], first=1, bench=bench))
    assert bench.receipts() == {("kit-1", 7): 4}


def test_first_passes_what_the_kit_dropped(bench):
    bench.send(batch([1, 2], bench=bench))
    bench.send(batch([9], first=8, bench=bench))
    assert bench.receipts() == {("kit-1", 7): 7}
    bench.send(batch([8], first=8, bench=bench))
    assert bench.receipts() == {("kit-1", 7): 9}


def test_dead_lettered_rows_count_as_held(bench):
    known = batch([1], bench=bench)
    unknown = bench.message(known.topic, batch([2, 3], first=1, bench=bench).payload.replace(b"pm25_cf1", b"pm25_new"))
    bench.send(known, unknown)
    assert deadletters.count(bench.db) == {"unknown_column": 1}
    assert bench.receipts() == {("kit-1", 7): 3}
    bench.open()  # and still after a restart
    bench.send(batch([4], first=1, bench=bench))
    assert bench.receipts() == {("kit-1", 7): 4}


def test_a_dead_letter_that_comes_first_does_not_pass_the_rows_before_it(bench):
    unknown = batch([100], first=0, bench=bench)
    bench.send(bench.message(unknown.topic, unknown.payload.replace(b"pm25_cf1", b"pm25_new")))
    assert bench.receipts() == {}  # nothing below 100 is here
    bench.open()
    bench.send(batch([101], first=0, bench=bench))
    assert bench.receipts() == {}
    bench.send(batch(list(range(100)), bench=bench))
    assert bench.receipts() == {("kit-1", 7): 101}


def test_a_mistake_of_the_program_costs_one_message_only(bench, monkeypatch):
    def mistaken(real):
        def add(name, found, *rest, **named):
            added = real(name, found, *rest, **named)
            if found.first == 2 and added:
                raise ZeroDivisionError("a mistake")
            return added

        return add

    for name in ("add", "add_run"):
        monkeypatch.setattr(bench.intake._raw, name, mistaken(getattr(bench.intake._raw, name)))
    bench.send(batch([1], first=1, bench=bench), batch([2], bench=bench), batch([3], first=1, bench=bench))
    assert bench.acknowledged == [1, 2, 3]
    assert bench.rows() == {("kit-1", 7, 1), ("kit-1", 7, 3)}
    assert deadletters.count(bench.db) == {"internal": 1}
    assert counters.totals(bench.db)["rows"] == 2


def test_a_mistake_that_shows_when_rows_are_written_costs_one_message_only(bench, monkeypatch):
    real = chunks.pack

    def pack(rows):
        if any(row[0] == 2 for row in rows):
            raise OverflowError("a mistake")
        return real(rows)

    monkeypatch.setattr(chunks, "pack", pack)
    bench.send(*[batch([seq], first=1, bench=bench) for seq in (1, 2, 3)])
    assert bench.acknowledged == [1, 2, 3]
    assert bench.rows() == {("kit-1", 7, 1), ("kit-1", 7, 3)}
    assert deadletters.count(bench.db) == {"internal": 1}


def test_a_huge_message_is_kept_in_part(bench):
    bench.send(bench.message("lichen/v1/kit-1/obs", b"x" * 10_000_000))
    ((size, detail),) = bench.db.execute("SELECT length(payload), detail FROM dead_letter").fetchall()
    assert size == wire.MAX_MESSAGE_BYTES
    assert "10000000 bytes" in detail


def test_a_kit_that_comes_up_gets_its_receipts_and_the_time(bench):
    bench.send(batch([1, 2], bench=bench), batch([1], boot=8, bench=bench))
    bench.receipts()
    bench.send(bench.message("lichen/v1/kit-1/status", b'{"v":1,"up":1,"boot":8}'))
    times = [p for t, p, _ in bench.published if t == "gateway/time"]
    assert msgspec.json.decode(times[0])["sync"] == 0
    assert bench.receipts() == {("kit-1", 7): 2, ("kit-1", 8): 1}


def test_every_poison_becomes_one_dead_letter_with_its_reason(bench):
    poison = list(golden.invalid("obs", "backlog", "about", "status"))
    bench.send(*[bench.message(m.topic, m.payload) for m in poison])
    bench.send(*[bench.message(m.topic, m.payload) for m in poison])
    expected = {}
    for m in {(m.topic, m.payload): m for m in poison}.values():
        expected[m.reason] = expected.get(m.reason, 0) + 1
    assert deadletters.count(bench.db) == expected
    assert len(bench.acknowledged) == 2 * len(poison)
    assert bench.rows() == set()


def test_a_reading_from_the_future_is_held_until_its_time_has_come(tmp_path, monkeypatch):
    bench = Bench(tmp_path, trusted=True)
    received_ms = (T0 + 60) * 1000
    bench.send(
        batch([1], bench=bench, received_ms=received_ms), batch([100], boot=8, bench=bench, received_ms=received_ms)
    )
    assert bench.rows() == {("kit-1", 7, 1)}
    assert readings.kits(bench.db)[0].waiting_count == 1
    for time_ms, error_s in ((received_ms + 60_000, 0), ((T0 + 6000) * 1000, None)):  # None: the clock tells nothing
        monkeypatch.setattr(intake, "now_ms", lambda time_ms=time_ms: time_ms)
        bench.intake.clock_error_s = lambda error_s=error_s: error_s
        while bench.intake.release_waiting():
            pass
        assert bench.rows() == {("kit-1", 7, 1)}
    bench.intake.clock_error_s = lambda: 60
    assert bench.intake.release_waiting() == 1
    assert bench.rows() == {("kit-1", 7, 1), ("kit-1", 8, 100)}


def test_rows_without_a_clock_are_placed_once_the_boot_tells_its_offset(bench):
    bench.send(batch([1, 2], q=0, bench=bench))
    assert bench.rows() == set()
    assert readings.kits(bench.db)[0].waiting_count == 2
    assert bench.receipts() == {("kit-1", 7): 2}
    bench.send(batch([3], bench=bench, first=1))
    bench.intake.release_waiting()
    stored = readings.read(bench.db, "kit-1", 0, 10**6)
    assert stored.time_ms.tolist() == [(T0 + 60 * s) * 1000 for s in (1, 2, 3)]
    assert stored.time_source.tolist() == [1, 1, 0]


def test_values_beyond_32_bits_and_null_come_back_as_they_were(bench):
    wide = batch([1], bench=bench, value=2**40)
    null = batch([2], bench=bench, value=None)
    bench.send(wide, null)
    stored = readings.read(bench.db, "kit-1", 0, 10**6)
    assert stored.columns["pm25_cf1"][0] == 2**40 / 10
    assert stored.columns["pm25_cf1"][1] != stored.columns["pm25_cf1"][1]  # NaN


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(1, 60), st.integers(1, 12), st.integers(7, 8), st.booleans()), min_size=1, max_size=25
    ),
    st.randoms(),
)
def test_whatever_the_order_and_the_copies_each_row_is_stored_once(tmp_path_factory, sends, rng):
    bench = Bench(tmp_path_factory.mktemp("store"))
    sent = set()
    messages = []
    for start, count, boot, again in sends:
        seqs = list(range(start, start + count))
        sent |= {("kit-1", boot, s) for s in seqs}
        messages += [batch(seqs, boot=boot, first=1, bench=bench)] * (2 if again else 1)
    rng.shuffle(messages)
    while messages:
        size = rng.randint(1, 4)
        bench.send(*messages[:size])
        messages = messages[size:]
        if rng.random() < 0.2:
            bench.open()
    stored = readings.read(bench.db, "kit-1", 0, 10**6)
    assert len(stored) == len(sent)
    assert bench.rows() == sent
    assert counters.totals(bench.db)["rows"] == len(sent)
    hours = {int(h) for (h,) in bench.db.execute("SELECT hour FROM dirty")}
    assert hours == {((T0 + 60 * s) - 30) // HOUR_S for _, _, s in sent}


def test_receipts_are_at_most_one_a_second_and_kit(bench):
    bench.send(batch([1], bench=bench))
    bench.intake.send_receipts()
    bench.send(batch([2], first=1, bench=bench))
    bench.published.clear()
    bench.intake.send_receipts()
    assert not bench.published
    assert bench.receipts() == {("kit-1", 7): 2}


def test_a_time_message_is_the_wire_format(bench):
    bench.intake.announce_time()
    topic, payload, qos = bench.published[-1]
    assert (topic, qos) == ("gateway/time", 0)
    assert set(msgspec.json.decode(payload)) == {"v", "t", "ms", "sync"}
    assert wire.GatewayTime(**msgspec.json.decode(payload)).sync == 0
