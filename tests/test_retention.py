"""What is kept how long, to the hour; pruned hours are sealed; a clock that is wrong for an hour prunes little."""

import io
import logging

import msgspec
import pytest
from test_intake import Bench

from gateway import housekeeping
from gateway.derive.dirty import Deriver
from gateway.derive.recipe import Recipe
from gateway.derive.verify import verify
from gateway.export import write_csv
from gateway.housekeeping import Housekeeper
from gateway.records import HOUR_MS
from gateway.settings import DeadLetters, Derive, Influx, Retention, Settings, Store
from gateway.sinks.cursor import Cursor, SinkFiles
from gateway.store import counters, derived, readings, tombstones
from gateway.store.database import horizon_hour, transaction

RECIPE = Recipe.of(Derive())
T0 = 1_795_215_600  # a whole hour
FIRST = T0 // 3600
DAY_MS = 24 * HOUR_MS
RAW_DAYS, AIR_DAYS, HOUR_DAYS, TOMBSTONE_DAYS, LETTER_DAYS = 20, 10, 40, 15, 12
COLUMNS = ["seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "env_n", "env_bad", "temp", "rh"]
STEP_S = 900
EVERY = range(3600 // STEP_S)


class House(Bench):
    """An intake with a housekeeper, both by a clock of the test's own."""

    def __init__(self, folder, *, trusted=True, influx=None, budget_mb=8000, reserve_mb=0):
        super().__init__(folder, trusted=trusted)
        self.now_ms = T0 * 1000
        self.error_s = 0 if trusted else None
        self.settings = Settings(
            store=Store(dir=str(folder), budget_mb=budget_mb, reserve_mb=reserve_mb),
            retention=Retention(
                raw_days=RAW_DAYS, air_days=AIR_DAYS, hour_days=HOUR_DAYS, tombstone_days=TOMBSTONE_DAYS
            ),
            dead_letters=DeadLetters(days=LETTER_DAYS),
            influx=influx,
            path=folder / "gateway.toml",
        )
        self.keeper = Housekeeper(self.db, self.settings, lambda: self.error_s, lambda: self.now_ms)

    def rows_message(self, hour, numbers=EVERY, *, kit="kit-1", boot=7, value=80, received_ms=None, q=2):
        """Readings of one hour, counted from the first, a quarter of an hour each."""
        rows = []
        for i in numbers:
            seq = (FIRST + hour) * len(EVERY) + i
            t = T0 + hour * 3600 + (i + 1) * STEP_S
            rows.append([seq, seq, t if q else None, q, STEP_S, 12, 0, value + i, 12, 0, 2100, 4000])
        body = {"v": 1, "boot": boot, "first": rows[0][0], "cols": COLUMNS, "rows": rows}
        heard_ms = T0 * 1000 + (hour + 1) * HOUR_MS if received_ms is None else received_ms
        return self.message(f"lichen/v1/{kit}/backlog", msgspec.json.encode(body), heard_ms)

    def fill(self, hours, **kw):
        self.send(*[self.rows_message(hour, **kw) for hour in hours])
        self.derive()

    def derive(self):
        with transaction(self.db):
            while self.intake._raw.release_waiting(self.now_ms, self.error_s):
                pass
            self.intake._raw.flush()
        self.intake.gather()
        deriver = Deriver(self.db, RECIPE)
        while deriver.step():
            pass

    def keep(self, steps=1):
        return [self.keeper.step() for _ in range(steps)]

    def at(self, hour, days, ms=0):
        """Make it the moment when the end of an hour is so many days ago."""
        self.now_ms = T0 * 1000 + (hour + 1) * HOUR_MS + days * DAY_MS + ms

    def raw_hours(self):
        return sorted({hour - FIRST for _, hour in readings.hours(self.db)})

    def air_hours(self):
        return sorted({air.hour - FIRST for air in derived.read_air(self.db)})

    def hour_hours(self):
        return sorted({record.hour - FIRST for record in derived.read_hours(self.db)})

    def sealed_below(self):
        return horizon_hour(self.db) - FIRST

    def counts(self):
        return counters.totals(self.db)

    def is_clean(self):
        verdict = verify(self.db, RECIPE)
        return verdict.compared > 0 and not verdict.different and not verdict.waiting


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_raw_hours_go_when_their_end_is_as_old_as_told_and_not_a_millisecond_before(house):
    house.fill(range(5))
    house.at(1, RAW_DAYS, -1)
    house.keep(3)
    assert house.raw_hours() == [1, 2, 3, 4]
    assert house.sealed_below() == 1
    house.at(1, RAW_DAYS)
    (done,) = house.keep()
    assert done.pruned == 4
    assert house.raw_hours() == [2, 3, 4]
    assert house.sealed_below() == 2
    assert house.counts()["pruned"] == 8


def test_calibrated_rows_go_before_raw_ones_and_verify_knows(house):
    house.fill(range(6))
    house.at(2, AIR_DAYS, -1)
    house.keep(3)
    assert house.air_hours() == [2, 3, 4, 5]
    house.at(2, AIR_DAYS)
    house.keep()
    assert house.air_hours() == [3, 4, 5]
    assert house.raw_hours() == list(range(6))
    assert house.is_clean()
    house.fill([1], kit="kit-2")  # late, derived again: its calibrated rows do not come back
    house.keep()
    assert house.air_hours() == [3, 4, 5]
    assert house.is_clean()


def test_hours_and_indices_stay_after_their_raw_rows_and_go_at_their_own_edge(house):
    house.fill(range(200))
    house.at(150, RAW_DAYS)
    house.keep(100)
    assert house.raw_hours() == list(range(151, 200))
    assert house.hour_hours() == list(range(200))
    assert {i.hour - FIRST for i in derived.read_indices(house.db)} >= set(range(5, 200))
    house.at(2, HOUR_DAYS, -1)
    for _ in range(100):
        house.keep()
        house.keeper._places.rest.clear()
    assert house.hour_hours() == list(range(2, 200))
    house.at(2, HOUR_DAYS)
    house.keep()
    assert house.hour_hours() == list(range(3, 200))
    assert min(i.hour - FIRST for i in derived.read_indices(house.db)) >= 3
    assert house.counts()["pruned_hour_records"] == 3


def test_hours_are_kept_as_long_as_verify_reads_them_whatever_is_configured(house):
    house.settings = msgspec.structs.replace(house.settings, retention=Retention(raw_days=RAW_DAYS, hour_days=7))
    house.keeper = Housekeeper(house.db, house.settings, lambda: 0, lambda: house.now_ms)
    house.fill(range(200))
    house.at(120, RAW_DAYS)
    for _ in range(150):
        house.keep()
        house.keeper._places.rest.clear()
    assert house.raw_hours() == list(range(121, 200))
    assert house.hour_hours() == list(range(121 - 48, 200))
    verdict = verify(house.db, RECIPE)
    assert verdict.compared > 200
    assert not verdict.different  # indices beside what has gone are left alone
    house.fill([121], kit="kit-2", received_ms=house.now_ms)
    assert not verify(house.db, RECIPE).different


def test_tombstones_and_dead_letters_go_at_their_age(house):
    house.send(house.message("lichen/v1/kit-1/obs", b"poison", T0 * 1000))
    with transaction(house.db):
        tombstones.leave(house.db, tombstones.Kind.RAW, "kit-1", "", [1, 2])
        house.db.execute("UPDATE tombstone SET made_ms = ?", (T0 * 1000,))
    for count, days in (
        ("SELECT count(*) FROM dead_letter", LETTER_DAYS),
        ("SELECT count(*) FROM tombstone", TOMBSTONE_DAYS),
    ):
        house.now_ms = T0 * 1000 + days * DAY_MS - 1
        house.keeper._places.rest.clear()
        house.keep()
        assert house.db.execute(count).fetchone() == (1,)
        house.now_ms += 2
        house.keeper._places.rest.clear()
        house.keep()
        assert house.db.execute(count).fetchone() == (0,)


def test_a_row_sent_again_after_its_chunk_has_gone_is_a_copy(house):
    house.fill(range(3))
    house.at(2, RAW_DAYS)
    house.keep(3)
    assert house.raw_hours() == []
    before = house.counts()
    house.send(house.rows_message(0, received_ms=house.now_ms))
    house.open(trusted=True)  # and after a restart
    house.send(house.rows_message(1, received_ms=house.now_ms))
    house.derive()
    assert house.raw_hours() == []
    assert house.counts()["duplicates"] - before.get("duplicates", 0) == 8
    assert house.counts()["rows"] == before["rows"] == 12
    assert house.receipts() == {("kit-1", 7): (FIRST + 3) * len(EVERY) - 1}


def test_a_late_row_of_a_sealed_hour_is_stored_counted_exported_and_rebuilds_nothing(house):
    house.fill(range(60), kit="kit-2")
    house.fill(range(60))
    house.at(50, RAW_DAYS)
    house.keep(30)
    assert house.sealed_below() == 51
    sealed = {h.hour: h for h in derived.read_hours(house.db)}
    heard_ms = house.now_ms
    house.fill([10, 11], boot=9, value=9000, received_ms=heard_ms)
    assert house.counts()["late_rows"] == 8
    assert derived.count_dirty(house.db) == 0
    assert {h.hour: h for h in derived.read_hours(house.db)} == sealed
    assert house.raw_hours() == [10, 11, *range(51, 60)]
    assert house.is_clean()
    exported = io.StringIO()
    assert write_csv(house.db, "raw", exported, hour_to=FIRST + 50) == 8
    assert exported.getvalue().count("900") >= 8
    house.now_ms = heard_ms + RAW_DAYS * DAY_MS - 1
    house.keep(30)
    assert house.raw_hours() == [10, 11]
    house.now_ms += 1
    house.keep(2)
    assert house.raw_hours() == []
    assert house.sealed_below() == 60


def test_rows_too_old_at_their_receipt_are_derived_once_and_stay_as_long_as_others(house):
    house.fill([500])
    house.at(400, RAW_DAYS)
    heard_ms = house.now_ms
    house.fill([3], boot=9, received_ms=heard_ms)
    house.keep(3)
    assert house.sealed_below() == 4
    assert house.hour_hours() == [3, 500]
    assert house.raw_hours() == [3, 500]
    house.now_ms = heard_ms + RAW_DAYS * DAY_MS
    house.keep(3)
    assert 3 not in house.raw_hours()
    assert house.is_clean() or not house.raw_hours()


def test_rows_that_wait_stay_until_as_long_after_their_receipt(house):
    heard_ms = T0 * 1000
    house.send(house.rows_message(0, q=0, received_ms=heard_ms))
    house.send(house.rows_message(1, q=0, received_ms=heard_ms, kit="kit-2"))
    house.error_s = None
    house.db.execute("UPDATE chunk SET clock_error_s = NULL WHERE kit = 2")  # by a clock that was not trusted
    house.error_s = 0
    for ms, left in ((-1, 8), (0, 4)):
        house.now_ms = heard_ms + RAW_DAYS * DAY_MS + ms
        house.keep(4)
        assert sum(state.waiting_count for state in readings.kits(house.db)) == left


def test_the_horizon_only_grows(house):
    house.fill(range(10))
    house.at(5, RAW_DAYS)
    seen = []
    for hour in (5, 5, 2, 0, 7, 1, 9):
        house.at(hour, RAW_DAYS)
        house.keep()
        seen.append(house.sealed_below())
    assert seen == sorted(seen) == [2, 4, 4, 4, 6, 6, 8]


@pytest.mark.parametrize("off_ms", [50 * 365 * DAY_MS, DAY_MS * 10_000])
def test_a_clock_that_is_wrong_for_an_hour_prunes_little(house, off_ms):
    house.fill(range(0, 300, 1))
    house.now_ms = T0 * 1000 + 300 * HOUR_MS
    right_ms = house.now_ms
    for minute in range(60):
        house.now_ms = right_ms + off_ms + minute * 60_000
        house.keep()
    assert house.raw_hours() == list(range(120, 300))
    assert len(house.air_hours()) == 180
    house.now_ms = right_ms + HOUR_MS
    house.keep(5)
    assert house.raw_hours() == list(range(120, 300))
    assert house.is_clean()
    house.fill([300], received_ms=house.now_ms)
    assert house.hour_hours()[-1] == 300


def test_one_kit_that_lies_cannot_move_the_time_of_a_gateway_without_a_clock(tmp_path):
    house = House(tmp_path, trusted=False)
    for kit in ("kit-1", "kit-2", "kit-3"):
        house.fill(range(5), kit=kit)
    house.fill([400_000], kit="liar")
    house.now_ms = 10**15  # not asked
    house.keep(20)
    assert house.raw_hours() == [0, 1, 2, 3, 4, 400_000]
    house.fill([RAW_DAYS * 24 + 2], kit="kit-1")
    house.fill([RAW_DAYS * 24 + 2], kit="kit-2")
    house.keep(3)
    assert house.raw_hours()[:3] == [3, 4, RAW_DAYS * 24 + 2]


def test_hours_still_to_be_derived_are_not_pruned(house, monkeypatch):
    house.fill(range(4))
    house.at(3, RAW_DAYS)
    house.send(house.rows_message(1, boot=9))
    house.keep(3)
    assert house.raw_hours() == [1, 2, 3]
    house.derive()
    house.keep(3)
    assert house.raw_hours() == []
    monkeypatch.setattr(housekeeping, "_PATIENCE", 5)
    house.fill([10, 11])
    house.send(house.rows_message(10, boot=9))  # and never derived
    house.at(11, RAW_DAYS)
    house.keep(5)
    assert house.raw_hours() == [10, 11]
    house.keep(2)
    assert house.raw_hours() == []
    assert house.counts()["pruned_underived"] == 1
    assert derived.count_dirty(house.db) == 0


def test_what_no_sink_was_given_is_counted(tmp_path):
    influx = Influx(url="http://127.0.0.1:1", org="o", bucket="b", token_file="t")
    house = House(tmp_path, influx=influx)
    house.fill([0])
    (rev,) = house.db.execute("SELECT max(rev) FROM chunk").fetchone()
    house.fill([1, 2])
    house.at(0, RAW_DAYS)
    house.keep()
    assert house.counts()["pruned_unsent"] == 4  # it has confirmed nothing yet
    SinkFiles(tmp_path, "influx").save_cursor(Cursor(rev=10**9, complete=10**9))
    house.at(1, RAW_DAYS)
    house.keep()
    assert house.counts()["pruned_unsent"] == 4
    SinkFiles(tmp_path, "second").save_cursor(Cursor(rev=rev, complete=rev))
    house.at(2, RAW_DAYS)
    (done,) = house.keep()
    assert done.unsent == 4
    assert house.counts()["pruned_unsent"] == 8


def test_pruned_merged_and_late_leaves_verify_clean(house):
    for kit in ("kit-1", "kit-2"):
        for hour in range(100):
            house.send(*[house.rows_message(hour, [i], kit=kit) for i in EVERY])
    house.derive()
    house.at(70, RAW_DAYS)
    house.keep(60)
    assert house.raw_hours() == list(range(71, 100))
    assert house.db.execute("SELECT count(*) FROM chunk").fetchone() == (2 * 29,)
    assert house.db.execute("SELECT count(*) FROM loose").fetchone() == (0,)
    house.fill([69, 70, 71, 72], boot=3, received_ms=house.now_ms)
    assert house.counts()["late_rows"] == 8
    house.now_ms += 2 * HOUR_MS
    house.keep(5)
    assert house.is_clean()


def test_a_store_that_cannot_be_written_now_stops_nothing(house, caplog):
    house.fill(range(3))
    house.at(2, RAW_DAYS)
    house.db.execute("PRAGMA query_only = ON")
    with caplog.at_level(logging.WARNING):
        first, second = house.keep(2)
    assert "readonly" in first.problem
    assert second.problem
    assert len({record.message for record in caplog.records}) == len(caplog.records)
    house.db.execute("PRAGMA query_only = OFF")
    house.keep(2)
    assert house.raw_hours() == []
