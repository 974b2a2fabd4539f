"""Joining quiet hours changes no value, lets no sink miss a row, and is done or not done, whatever stops it."""

import random
import sqlite3

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sink_store import by_kit

from gateway.derive.dirty import Deriver
from gateway.derive.recipe import Recipe
from gateway.derive.verify import verify
from gateway.records import HOUR_MS
from gateway.settings import Derive
from gateway.store import chunks, merge, readings
from gateway.store.changes import changes
from gateway.store.chunks import Packed
from gateway.store.database import last_revision, open_writer, transaction
from gateway.store.log import LOOSE_MS
from gateway.store.merge import QUIET_MS, merge_quiet
from gateway.store.raw import RawWriter
from gateway.wire import Batch

T0 = 1_795_215_600  # a whole hour
PM = ("seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "env_n", "env_bad", "temp", "rh")
GAS = ("seq", "up", "t", "q", "dt", "gas_n", "gas_bad", "no2_we", "no2_ae")
LATER_MS = (T0 + 10**7) * 1000


class Log:
    def __init__(self, folder):
        self.db = open_writer(folder)
        self.writer = RawWriter(self.db)

    def add(self, rows, *, kit="kit-1", boot=7, cols=PM, received_ms=None, error_s=None, live=False):
        """Commit rows as one message."""
        heard_ms = received_ms or (T0 + max(row[1] for row in rows)) * 1000
        with transaction(self.db):
            batch = Batch(v=1, boot=boot, first=0, cols=cols, rows=rows)
            self.writer.add(kit, batch, heard_ms, error_s, live=live)
            self.writer.flush()

    def add_live(self, seqs, **kw):
        for seq in seqs:
            self.add([minute(seq)], **kw)
        self.release()

    def release(self):
        """Place again what is to be, as intake does all the time."""
        with transaction(self.db):
            while self.writer.release_waiting(LATER_MS, 0):
                pass
            self.writer.flush()

    def merge(self, now_ms=LATER_MS):
        before = after = 0
        while (done := merge_quiet(self.db, now_ms)) != merge.Merged():
            before, after = before + done.before, after + done.after
        return before, after

    def chunks(self):
        return self.db.execute("SELECT count(*) FROM chunk").fetchone()[0]

    def dump(self):
        chunks = self.db.execute("SELECT * FROM chunk ORDER BY id").fetchall()
        return chunks, self.db.execute("SELECT * FROM loose ORDER BY kit, hour").fetchall()

    def values(self):
        return {name: by_row(found) for name in names(self.db) if (found := readings.read(self.db, name, 0, 10**7))}

    def revisions(self):
        return {
            (name, int(b), int(s)): int(rev)
            for name in names(self.db)
            for found in [readings.read(self.db, name, 0, 10**7)]
            for b, s, rev in zip(found.boot, found.seq, found.rev, strict=True)
        }


@pytest.fixture
def log(tmp_path):
    return Log(tmp_path)


def minute(seq, *, value=50, q=2, t0=T0):
    return [seq, 60 * seq, t0 + 60 * seq, q, 60, 12, 0, value + seq % 7, 12, 0, 2100, 4000]


def names(db):
    return [name for (name,) in db.execute("SELECT name FROM kit ORDER BY name")]


def by_row(found):
    """Everything of the readings but their revisions, in order, as bytes."""
    facts = [found.time_ms, found.boot, found.seq, found.time_source, found.time_error_s]
    return [*(f.tobytes() for f in facts), *((n, v.tobytes()) for n, v in sorted(found.columns.items()))]


def rows_of(found):
    return {(some.kit, int(b), int(s)) for some in found for b, s in zip(some.boot, some.seq, strict=True)}


def test_the_live_rows_of_an_hour_become_one_chunk(log):
    log.add_live(range(1, 61))
    before = log.values()
    assert log.chunks() == 60
    assert log.merge() == (60, 1)
    assert log.chunks() == 1
    assert log.values() == before
    facts = log.db.execute("SELECT seq_from, seq_to, row_count, time_from_ms, time_to_ms, received_ms FROM chunk")
    assert facts.fetchone() == (1, 60, 60, (T0 + 60) * 1000, (T0 + 3600) * 1000, (T0 + 3600) * 1000)
    assert log.db.execute("SELECT count(*) FROM loose").fetchone() == (0,)


def test_an_hour_is_joined_once_nothing_of_it_came_for_an_hour_and_again_after_a_late_row(log):
    log.add_live([1, 2, 4])
    last_ms = (T0 + 240) * 1000
    assert merge_quiet(log.db, last_ms + QUIET_MS - 1) == merge.Merged()
    assert merge_quiet(log.db, last_ms + QUIET_MS + LOOSE_MS) == merge.Merged(1, 3, 1)
    log.add([minute(3)], received_ms=last_ms + 2 * QUIET_MS)
    assert merge_quiet(log.db, last_ms + 3 * QUIET_MS - 1) == merge.Merged()
    assert merge_quiet(log.db, last_ms + 3 * QUIET_MS + LOOSE_MS) == merge.Merged(1, 2, 1)
    assert readings.read(log.db, "kit-1", 0, 10**7).seq.tolist() == [1, 2, 3, 4]
    packed = Packed(*log.db.execute("SELECT width, rows FROM chunk").fetchone())
    assert chunks.unpack(packed, len(PM))[:, 0].tolist() == [1, 2, 3, 4]


def test_a_mark_of_a_clock_that_was_ahead_does_not_wait_for_it(log):
    log.add_live([1, 2], received_ms=LATER_MS + 50 * 365 * 24 * HOUR_MS)
    assert log.merge(LATER_MS) == (2, 1)


def test_a_wide_value_widens_its_chunk_and_null_stays_null(log):
    wide, null = minute(2), minute(3)
    wide[PM.index("temp")] = 2**40
    null[PM.index("temp")] = None
    for row in (minute(1), wide, null):
        log.add([row])
    log.release()
    before = log.values()
    assert log.merge() == (3, 1)
    assert log.values() == before
    assert np.isnan(readings.read(log.db, "kit-1", 0, 10**7).columns["temp"][2])


def test_rows_placed_after_their_receipt_keep_the_chunk_that_tells_it(log):
    early_ms = (T0 + 60) * 1000
    log.add([minute(1)], received_ms=early_ms, error_s=0)
    doubtful = [minute(2), minute(3)]
    for row in doubtful:
        row[2] += 100_000  # a time that is not believed: the anchor of row 1 places it
        log.add([row], received_ms=early_ms + 60_000, error_s=0)
    assert readings.read(log.db, "kit-1", 0, 10**7).time_source.tolist() == [0, 1, 1]
    log.add_live([4, 5], error_s=0)
    before = log.values()
    log.merge()
    assert log.values() == before
    receipts = log.db.execute("SELECT received_ms FROM chunk WHERE seq_from IN (2, 3) AND row_count = 1").fetchall()
    assert receipts == [(early_ms + 60_000,)] * 2


def test_a_kit_with_rows_to_place_again_waits(log):
    log.add_live([1, 2])
    log.db.execute("UPDATE boot SET moved = 1")
    assert log.merge() == (0, 0)
    log.db.execute("UPDATE boot SET moved = 0")
    assert log.merge() == (2, 1)


def test_a_step_is_bounded_and_the_next_goes_on(log, monkeypatch):
    monkeypatch.setattr(merge, "ROWS_A_STEP", 50)
    monkeypatch.setattr(merge, "MOST_ROWS", 40)
    for first in range(1, 3501, 5):
        log.add([[s, s, T0 + s, 2, 1, 12, 0, 5, 12, 0, 2, 4] for s in range(first, first + 5)])
    log.release()
    before, steps = log.values(), 0
    while merge_quiet(log.db, LATER_MS) != merge.Merged():
        steps += 1
        assert log.db.execute("SELECT max(row_count) FROM chunk").fetchone()[0] <= 40
    assert steps > 3500 / 90
    assert log.chunks() <= 3500 / 40 + 2
    assert log.values() == before


ROW = st.tuples(
    st.integers(1, 170),
    st.sampled_from([(PM, 7), (PM, 8), (GAS, 7)]),
    st.sampled_from([0, 1, 2, 2, 2]),
    st.sampled_from([0, 3, None]),
    st.sampled_from([None, 5, 2**35]),
)


@settings(max_examples=60)
@given(st.lists(ROW, min_size=1, max_size=60, unique_by=lambda r: (r[0], r[1][1])), st.integers(0, 2**32))
def test_values_stay_and_no_sink_misses_a_row_whatever_its_cursor(tmp_path_factory, rows, seed):
    log = Log(tmp_path_factory.mktemp("store"))
    rng = random.Random(seed)
    for seq, (cols, boot), q, error_s, value in rows:
        row = minute(seq, q=q)[: len(cols)]
        row[7] = value
        late_ms = rng.choice([0, 0, 5 * HOUR_MS])
        early_ms = rng.choice([0, 0, 0, 200_000])  # a clock that is ahead: rows from the future
        log.add([row], boot=boot, cols=cols, error_s=error_s, received_ms=(T0 + 60 * seq) * 1000 + late_ms - early_ms)
    log.release()
    before, revisions, last = log.values(), log.revisions(), last_revision(log.db)
    log.merge()
    assert log.values() == before
    assert last_revision(log.db) == last
    for cursor in range(last + 1):
        given_rows = rows_of(by_kit(changes(log.db, cursor, rows_after=0, record_limit=10**6).raw))
        assert given_rows >= {name for name, rev in revisions.items() if rev > cursor}
    deriver = Deriver(log.db, Recipe.of(Derive()))
    while deriver.step():
        pass
    assert not verify(log.db, Recipe.of(Derive())).different


class Crashing:
    """A connection that fails before its nth statement."""

    def __init__(self, db, at):
        self._db, self._left = db, at

    def _count(self):
        self._left -= 1
        if self._left == 0:
            raise sqlite3.OperationalError("crash")

    def execute(self, *args):
        self._count()
        return self._db.execute(*args)

    @property
    def in_transaction(self):
        return self._db.in_transaction

    def executemany(self, *args):
        self._count()
        return self._db.executemany(*args)


def test_a_crash_between_any_two_statements_leaves_the_old_or_the_new(log):
    log.add_live(range(1, 8))
    log.add_live(range(3, 8), kit="kit-2", boot=9)
    old, statements = log.dump(), 0
    while True:
        statements += 1
        try:
            merge_quiet(Crashing(log.db, statements), LATER_MS)
        except sqlite3.OperationalError:
            if log.db.in_transaction:  # it crashed at COMMIT: the process ends and SQLite takes it back
                log.db.execute("ROLLBACK")
            assert log.dump() == old
        else:
            break
    assert statements > 10
    assert log.dump() != old
    assert log.chunks() == 2


def test_what_a_reading_costs_before_and_after(tmp_path, capsys):
    log = Log(tmp_path)
    kits, hours = 3, 24
    for kit in range(kits):
        log.add_live(range(1, 60 * hours + 1), kit=f"kit-{kit}")
    rows = 60 * hours * kits
    before = used_bytes(log.db, "chunk") / rows
    count, chunks = log.merge()
    after = used_bytes(log.db, "chunk") / rows
    assert count == rows
    assert chunks <= kits * (hours + 1)
    assert after < 0.5 * before
    assert after < 80
    with capsys.disabled():
        print(f"\nbytes a raw reading of {len(PM)} columns, with indices: {before:.0f} live, {after:.0f} joined")  # noqa: T201


def used_bytes(db, table):
    """Bytes of a table with its indices, but free room inside its pages counts."""
    (size,) = db.execute(
        "SELECT sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_schema WHERE tbl_name = ?)", (table,)
    ).fetchone()
    return size
