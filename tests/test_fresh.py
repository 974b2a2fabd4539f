"""Rows that come one by one are stored, answered for and seen as any others, whenever they are gathered."""

import contextlib
import shutil
import sqlite3
from collections import Counter
from pathlib import Path
from tempfile import mkdtemp

import hypothesis.strategies as st
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sink_store import by_kit
from test_intake import Bench

from gateway.derive.dirty import Deriver
from gateway.derive.recipe import Recipe
from gateway.derive.verify import verify
from gateway.records import HOUR_MS, AirHour
from gateway.settings import Derive
from gateway.store import boots, counters, derived, fresh, merge, numbers, readings
from gateway.store.air_pack import pack_air, unpack_air
from gateway.store.changes import changes
from gateway.store.database import last_revision, open_reader, snapshot

T0 = 1_795_215_600  # a whole hour
COLUMNS = ["seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "env_n", "env_bad", "temp", "rh"]
KITS = ("kit-a", "kit-b", "kit-c")
RECIPE = Recipe.of(Derive())
STEP_S = 600


def row_of(kit, boot, seq):
    up = 30 + STEP_S * seq
    wide = 2**40 if seq % 9 == 8 else None if seq % 7 == 6 else 2100
    return [seq, up, T0 + STEP_S + 40 * boot + up, 2, STEP_S, 12, 0, 50 + 3 * seq + len(kit), 12, 0, wide, 4000]


def message(bench, kit, boot, seqs, kind="obs", *, first=0, rows=None):
    rows = rows or [row_of(kit, boot, seq) for seq in seqs]
    body = {"v": 1, "boot": boot, "first": first, "cols": COLUMNS, "rows": rows}
    return bench.message(f"lichen/v1/{kit}/{kind}", msgspec.json.encode(body), (rows[-1][2] + 1) * 1000)


def one_by_one(bench, kit="kit-a", boot=1, seqs=range(6)):
    """The first tells the boot's clock and becomes a chunk; the others are fresh."""
    for seq in seqs:
        bench.send(message(bench, kit, boot, [seq]))


def gather_and_derive(bench):
    bench.intake.gather()
    deriver = Deriver(bench.db, RECIPE)
    while deriver.step():
        pass


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path, trusted=True)


def test_rows_of_many_kits_share_a_page_of_the_log(bench):
    """A commit of a live row of each of 200 kits writes a page for some 40 of them, and no index."""
    kits = [f"kit-{n:03}" for n in range(200)]
    for seq in range(2):
        bench.send(*[message(bench, kit, 1, [seq]) for kit in kits])
    bench.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    bench.send(*[message(bench, kit, 1, [2]) for kit in kits])
    assert fresh.count(bench.db) == 2 * len(kits)
    (page,) = bench.db.execute("PRAGMA page_size").fetchone()
    assert (bench.folder / "lichen.sqlite-wal").stat().st_size < 10 * page


def test_a_fresh_row_is_seen_by_every_reader(bench):
    one_by_one(bench)
    assert fresh.count(bench.db) == 5
    with open_reader(bench.folder) as db:
        (state,) = readings.kits(db)
        found = readings.read(db, "kit-a", 0, 10**7)
        assert found.seq.tolist() == list(range(6))
        assert (state.row_count, state.last_time_ms) == (6, int(found.time_ms[-1]))
        assert state.heard_ms == int(found.time_ms[-1]) + 1000
        assert readings.hours(db) == [("kit-a", T0 // 3600)]
        assert numbers.newest_ms(db) == {"kit-a": int(found.time_ms[-1])}
        assert numbers.stored_since(db, 0) == 6
        assert counters.totals(db)["rows"] == counters.totals(db)["batches"] == 6
        assert derived.count_dirty(db) == numbers.dirty_hours(db)[0] == 1
        assert verify(db, RECIPE).waiting == 1
    assert bench.receipts() == {("kit-a", 1): 5}
    bench.intake.gather()
    assert fresh.count(bench.db) == 0
    assert readings.kits(bench.db) == [state]
    assert counters.totals(bench.db)["rows"] == counters.totals(bench.db)["batches"] == 6
    gather_and_derive(bench)
    assert verify(bench.db, RECIPE).waiting == 0


def test_other_content_under_the_seq_of_a_fresh_row_is_a_conflict_and_a_copy_is_a_copy(bench):
    one_by_one(bench)
    other = row_of("kit-a", 1, 4)
    other[7] += 1
    bench.send(message(bench, "kit-a", 1, [4]), message(bench, "kit-a", 1, [4], rows=[other]))
    assert counters.totals(bench.db)["duplicates"] == 1
    assert counters.totals(bench.db)["dead.conflict"] == 1
    bench.intake.gather()  # they stand in an open chunk now
    bench.send(message(bench, "kit-a", 1, [5]), message(bench, "kit-a", 1, [4], rows=[other]))
    assert counters.totals(bench.db)["duplicates"] == 2
    assert counters.totals(bench.db)["dead_letter_copies"] == 1


@pytest.mark.parametrize("gathered", [False, True])
def test_another_start_that_claims_the_second_of_a_fresh_row_gets_a_millisecond_of_its_own(bench, gathered):
    one_by_one(bench)
    if gathered:
        bench.intake.gather()
    same = row_of("kit-a", 1, 3)
    bench.send(message(bench, "kit-a", 0, [0], rows=[[0, 5, *same[2:]]]))
    found = readings.read(bench.db, "kit-a", 0, 10**7)
    at = {(int(b), int(s)): int(t) for b, s, t in zip(found.boot, found.seq, found.time_ms, strict=True)}
    assert at[0, 0] == same[2] * 1000
    assert at[1, 3] == same[2] * 1000 + 1


def test_the_rows_of_an_hour_become_one_chunk_that_is_closed_when_it_is_quiet(bench):
    for seqs in ([0], [1, 2], [3, 4]):
        one_by_one(bench, seqs=seqs)
        bench.intake.gather()
    bench.intake.release_waiting()
    assert bench.db.execute("SELECT row_count, open FROM chunk ORDER BY id").fetchall() == [(1, None), (4, 1)]
    late_ms = (T0 + 10**6) * 1000
    assert merge.merge_quiet(bench.db, late_ms) == merge.Merged(1, 2, 1)
    assert bench.db.execute("SELECT row_count, open FROM chunk").fetchall() == [(5, None)]


def test_a_sink_that_has_seen_some_of_what_is_gathered_is_given_the_rest(bench):
    one_by_one(bench)
    with snapshot(bench.db):
        some = changes(bench.db, 0, rows_after=0, record_limit=3)
    assert len(keys(by_kit(some.raw))) == 3
    bench.intake.gather()
    with snapshot(bench.db):
        rest = changes(bench.db, some.high, rows_after=some.high)
        nothing = changes(bench.db, rest.high, rows_after=rest.high)
    assert keys(by_kit(some.raw)) | keys(by_kit(rest.raw)) == {("kit-a", 1, seq) for seq in range(6)}
    assert not nothing


def test_a_chunk_is_added_to_until_it_is_large(bench, monkeypatch):
    monkeypatch.setattr(fresh, "OPEN_ROWS", 3)
    for seq in range(6):
        one_by_one(bench, seqs=[seq])
        bench.intake.gather()
    assert bench.db.execute("SELECT row_count FROM chunk ORDER BY id").fetchall() == [(1,), (3,), (2,)]


def test_nothing_searches_the_whole_log(bench):
    """Every statement on chunks that a message, a round or a page needs has an index."""
    said = []
    one_by_one(bench)
    gather_and_derive(bench)
    bench.db.set_trace_callback(said.append)
    bench.send(message(bench, "kit-a", 1, [5]), message(bench, "kit-a", 1, [6]), message(bench, "kit-a", 0, [2]))
    gather_and_derive(bench)
    bench.intake.release_waiting()
    readings.kits(bench.db)
    bench.db.set_trace_callback(None)
    plans = [
        (text, row[3])
        for text in said
        if " chunk" in text and text.startswith(("SELECT", "WITH", "UPDATE", "DELETE"))
        for row in bench.db.execute(f"EXPLAIN QUERY PLAN {text}")
    ]
    assert len(plans) > 10
    assert not [plan for plan in plans if plan[1].startswith("SCAN chunk")]


class Two(RuleBasedStateMachine):
    """Two stores get the same messages; one gathers, breaks and starts at any time, the other gathers each at once."""

    @initialize()
    def begin(self):
        self.folder = Path(mkdtemp(prefix="lichen-fresh-"))
        self.ours, self.plain = (Bench(self.folder / name, trusted=True) for name in ("ours", "plain"))
        self.sent, self.seen, self.cursor = [], Counter(), 0
        self.known_boots, boots._KNOWN_BOOTS = boots._KNOWN_BOOTS, 3  # what is in memory is forgotten at times

    @rule(
        kit=st.sampled_from(KITS), boot=st.sampled_from((1, 2)), first=st.integers(0, 30), count=st.integers(1, 9),
        together=st.booleans(), gap=st.booleans(),
    )  # fmt: skip
    def send(self, kit, boot, first, count, together, gap):
        """Rows one by one, or in one message; `gap`: the kit does not hold earlier ones any more."""
        seqs = range(first, first + count)
        lowest = first if gap else 0
        if together:
            self.store([(kit, boot, list(seqs), "backlog", lowest)])
        else:
            for seq in seqs:
                self.store([(kit, boot, [seq], "obs", lowest)])

    @rule(data=st.data())
    def send_again(self, data):
        if self.sent:
            self.store([data.draw(st.sampled_from(self.sent))])

    def store(self, some):
        self.sent += some
        for bench in (self.ours, self.plain):
            bench.send(*[message(bench, kit, boot, seqs, kind, first=low) for kit, boot, seqs, kind, low in some])
        self.plain.intake.gather()

    @rule(instructions=st.one_of(st.none(), st.integers(0, 4000)))
    def gather(self, instructions):
        self.broken(self.ours.intake.gather, instructions)

    @rule(kit=st.sampled_from(KITS), seq=st.integers(0, 40), instructions=st.integers(0, 1500))
    def fail(self, kit, seq, instructions):
        """A commit that is broken is rolled back in the program that goes on; both stores get the message then."""
        name = (kit, 1, [seq], "obs", 0)
        self.broken(lambda: self.ours.send(message(self.ours, *name[:4])), instructions)
        self.store([name])

    @rule()
    def restart(self):
        self.ours.db.close()
        self.ours.open(trusted=True)

    @rule()
    def deliver(self):
        """What a sink is given, a piece at a time: each row once at least, and nothing passes the cursor unseen."""
        with snapshot(self.ours.db):
            found = changes(self.ours.db, self.cursor, rows_after=self.cursor, record_limit=7)
        self.cursor = found.high
        self.seen.update(keys(by_kit(found.raw)))

    @rule()
    def derive(self):
        gather_and_derive(self.ours)
        assert not verify(self.ours.db, RECIPE).different

    def broken(self, work, instructions):
        left = [-1 if instructions is None else instructions]

        def count():
            left[0] -= 1
            return left[0] == 0

        self.ours.db.set_progress_handler(count, 1)
        with contextlib.suppress(sqlite3.OperationalError):
            work()
        self.ours.db.set_progress_handler(None, 1)
        if self.ours.db.in_transaction:  # it was its first statement that broke
            self.ours.db.execute("ROLLBACK")

    @invariant()
    def both_say_the_same(self):
        if not self.sent:
            return
        ours, plain = (
            {name: by_row(readings.read(bench.db, name, 0, 10**7)) for name in KITS}
            for bench in (self.ours, self.plain)
        )
        assert ours == plain
        states, others = ([(k.name, k.row_count, k.last_time_ms) for k in readings.kits(b.db)]
                          for b in (self.ours, self.plain))  # fmt: skip
        assert states == others
        counted, count = (counters.totals(bench.db) for bench in (self.ours, self.plain))
        assert counted.get("rows") == count.get("rows")

    def teardown(self):
        if not hasattr(self, "ours"):
            return
        boots._KNOWN_BOOTS = self.known_boots
        if self.sent:
            self.both_say_the_same()
            for bench in self.ours, self.plain:
                bench.intake.gather()
                bench.intake._owed = {kit: {1, 2} for kit in KITS}
            assert self.ours.receipts() == self.plain.receipts()
            assert self.covers(self.ours) == self.covers(self.plain)
            while self.cursor < last_revision(self.ours.db):
                self.deliver()
            assert set(self.seen) == {
                key for name in KITS for key in keys([readings.read(self.ours.db, name, 0, 10**7)])
            }
        for bench in (self.ours, self.plain):
            bench.db.close()
        shutil.rmtree(self.folder)

    def covers(self, bench):
        names = dict(bench.db.execute("SELECT id, name FROM kit"))
        found = bench.db.execute("SELECT kit, boot, seq_from, seq_to FROM cover").fetchall()
        return sorted((names[kit], *rest) for kit, *rest in found)


def keys(found):
    return {(some.kit, int(b), int(s)) for some in found for b, s in zip(some.boot, some.seq, strict=True)}


def by_row(found):
    facts = [found.time_ms, found.boot, found.seq, found.time_source, found.time_error_s]
    return [*(f.tobytes() for f in facts), *((n, v.tobytes()) for n, v in sorted(found.columns.items()))]


TestTwo = Two.TestCase
TestTwo.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(
    n=st.integers(0, 70), same=st.booleans(), far=st.sampled_from([0, 2**33, -(2**40)]),
    many=st.sampled_from([0, 2**31, 2**40]),
)  # fmt: skip
def test_an_hour_of_calibrated_rows_is_the_same_after_packing(n, same, far, many):
    at = np.arange(n, dtype=np.int64)
    air = AirHour(
        kit="k", site="s", hour=495_000, time_ms=495_000 * HOUR_MS + 60_000 * at + far * (at == 3),
        values={"pm25_ugm3": np.where(at % 7 == 0, np.nan, at / 3)}, lo={}, hi={"pm25_ugm3": at / 2.0},
        qc=np.where(same | (at % 5 > 0), 1, 9), reasons=np.zeros(n, np.int64) if same else at % 4 * 2**13, cal="c@1",
        rev=np.zeros(n, np.int64),
    )  # fmt: skip
    rev = 7 + many * (at % 3) + at // 20
    found = unpack_air("k", air.hour, pack_air(air, rev))
    for name in ("time_ms", "qc", "reasons"):
        assert getattr(found, name).tolist() == getattr(air, name).tolist(), name
    assert found.rev.tolist() == rev.tolist()
    assert found.values["pm25_ugm3"].tobytes() == air.values["pm25_ugm3"].tobytes()
