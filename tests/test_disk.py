"""A disk that is full: the oldest raw hours go, exactly so many are counted, the rest is whole, nothing restarts."""

import contextlib
import errno
import logging
import sqlite3
import subprocess

import components
import msgspec
import pytest
from test_retention import RECIPE, T0, House

from gateway.derive.verify import verify
from gateway.housekeeping import SHORT_STEP_S, STEP_S
from gateway.records import HOUR_MS
from gateway.store import readings, room
from gateway.store.database import FILE_NAME

MB = 1_000_000
TMPFS_MB = 40


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={TMPFS_MB}m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        components.refuse("a small file system", f"run the tests as root, mount says: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


class Filled(House):
    """A house whose kits send many rows an hour, and a ledger of what was acknowledged."""

    def __init__(self, folder, **kw):
        super().__init__(folder, **kw)
        self.ledger = set()
        self.hour = 0

    def fill_hour(self, boot=7):
        """Store and derive an hour of 1,200 rows; returns whether the store took it."""
        first = self.hour * 1200
        messages = []
        for start in range(0, 1200, 100):
            rows = []
            for i in range(start, start + 100):
                t = T0 + self.hour * 3600 + 3 * i + 3
                values = [(first + i) * 7919 % 2000 + n for n in range(20)]
                rows.append([first + i, first + i, t, 2, 3, 12, 0, *values])
            body = {"v": 1, "boot": boot, "first": first + start, "cols": COLS, "rows": rows}
            payload = msgspec.json.encode(body)
            self.now_ms = T0 * 1000 + (self.hour + 1) * HOUR_MS
            messages.append(self.message("lichen/v1/kit-1/backlog", payload, self.now_ms))
        try:
            self.send(*messages)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}:
                raise
            return False
        assert self.counts()["rows"] == self.counts().get("batches") * 100, "a mistake of the test"
        self.ledger |= {(boot, first + i) for i in range(1200)}
        self.hour += 1
        with contextlib.suppress(sqlite3.OperationalError):  # no room for what is derived: it stays to be derived
            self.derive()
        return True

    def fill_surely(self):
        """Store an hour as the gateway does: what is refused comes again after room was made."""
        for _ in range(40):
            if self.fill_hour():
                return
            self.keeper.make_room()
        pytest.fail(f"no room was made: {self.keeper.done}, {self.measured()}")

    def stored(self):
        found = readings.read(self.db, "kit-1", 0, 10**7)
        assert (found.columns["n03"] == found.seq * 7919 % 2000).all()  # its values are those sent
        return set(zip(found.boot.tolist(), found.seq.tolist(), strict=True))

    def measured(self):
        return room.measure(self.db, self.folder / FILE_NAME)

    def check(self):
        """What was acknowledged is stored, or counted as pruned and of the oldest hours."""
        stored = self.stored()
        gone = self.ledger - stored
        assert stored <= self.ledger
        assert len(gone) == self.counts().get("pruned", 0) == self.counts().get("pruned_for_room", 0)
        assert len({name[1] for name in gone}) == max([seq + 1 for _, seq in gone], default=0)  # from the first on
        assert self.sealed_below() == len(gone) // 1200 or not gone
        assert self.db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


COLS = [
    "seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "n03", "n05", "n10", "n25", "n50", "n100", "n03_b", "n05_b", "n10_b",
    "n25_b", "n50_b", "n100_b", "pm25_cf1", "pm25_atm", "pm25_cf1_b", "pm25_atm_b", "temp", "rh", "pressure", "no2_we",
]  # fmt: skip


def test_a_store_beyond_its_budget_lets_the_oldest_hours_go_and_gives_pages_back(tmp_path, caplog):
    house = Filled(tmp_path, budget_mb=16)
    with caplog.at_level(logging.WARNING):
        for _ in range(160):
            assert house.fill_hour()
            house.keeper.step()
    assert house.counts()["pruned_for_room"] > 0
    assert house.measured().held <= 16 * MB
    assert house.raw_hours()[-1] == 159
    assert [r.message for r in caplog.records if "no room" in r.message] == [caplog.records[-1].message]  # once a day
    assert "budget_mb" in caplog.records[-1].message
    house.check()
    house.derive()
    assert not verify(house.db, RECIPE).different


def test_pages_are_given_back_in_steps_when_the_file_holds_much_less_than_its_size(tmp_path):
    house = Filled(tmp_path)
    for _ in range(100):
        house.fill_hour()
    house.derive()
    before = house.measured()
    house.settings = msgspec.structs.replace(
        house.settings, store=msgspec.structs.replace(house.settings.store, budget_mb=14)
    )
    house.keeper._settings = house.settings
    sizes = []
    for _ in range(60):
        done = house.keeper.step()
        assert done.pages_given_back <= room.VACUUM_PAGES
        sizes.append((tmp_path / FILE_NAME).stat().st_size)
    assert sizes[-1] < before.file * 0.75
    measured = house.measured()
    assert measured.unused <= measured.file / 10 + 4096
    house.check()


def test_a_full_disk_loses_nothing_that_was_acknowledged_and_recovers_without_a_restart(small_disk):
    house = Filled(small_disk, reserve_mb=6)
    house.keeper.step()
    while house.fill_hour():
        pass
    acknowledged = len(house.acknowledged)
    assert acknowledged == len(house.ledger) // 100
    assert not house.fill_hour()  # it stays so while nothing is done
    assert len(house.acknowledged) == acknowledged
    assert house.measured().disk_free < 200_000
    house.fill_surely()
    for _ in range(20):
        house.keeper.step()
    assert house.keeper.done.short_mb == 0
    assert not house.keeper.done.problem
    for _ in range(60):  # from now on room is made before it is needed
        assert house.fill_hour()
        while house.keeper.step().short_mb and house.keeper.wait_s == SHORT_STEP_S:
            pass
    assert house.counts()["pruned_for_room"] > 0
    house.check()
    house.open(trusted=True)
    house.derive()
    house.check()


def stuff(place):
    """Fill a disk with a file."""
    stuffing = place / "stuffing"
    with stuffing.open("wb") as file:
        try:
            while True:
                file.write(bytes(2**16))
                file.flush()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return stuffing


def test_a_disk_that_others_fill_costs_no_reading_and_it_says_so(small_disk, caplog):
    house = Filled(small_disk, reserve_mb=4)
    house.keeper.step()
    for _ in range(80):
        assert house.fill_hour()
    house.derive()
    stuffing = stuff(small_disk)
    with caplog.at_level(logging.WARNING):
        for _ in range(80):
            house.keeper.step()
    assert house.keeper.done.short_mb > 0
    assert any("something else fills it" in r.message for r in caplog.records)
    stuffing.unlink()
    house.keeper.step()
    assert house.fill_hour()
    assert "pruned" not in house.counts()
    assert len(house.stored()) == len(house.ledger)


def test_a_disk_that_was_made_smaller_counts_as_filled_by_others(small_disk):
    house = Filled(small_disk, reserve_mb=4)
    house.keeper.step()
    for _ in range(60):
        assert house.fill_hour()
    used = house.measured().disk_size - house.measured().disk_free
    subprocess.run(["mount", "-o", f"remount,size={used}", str(small_disk)], check=True)
    while house.fill_hour():
        pass
    house.keeper.make_room()
    subprocess.run(["mount", "-o", f"remount,size={TMPFS_MB}m", str(small_disk)], check=True)
    house.fill_surely()
    assert "pruned" not in house.counts()


def test_a_disk_that_others_fill_for_long_keeps_the_newest_days(small_disk):
    house = Filled(small_disk, reserve_mb=4)
    elapsed_s = [0.0]
    house.keeper._elapsed_s = lambda: elapsed_s[0]
    house.keeper.step()
    for _ in range(80):
        assert house.fill_hour()
    house.derive()
    stuffing = stuff(small_disk)
    for elapsed_s[0] in range(0, 7200, 60):
        house.keeper.step()
    assert house.counts()["pruned_for_room"] > 0
    assert house.raw_hours()[-48:] == list(range(32, 80)), "the newest two days never go for room"
    stuffing.unlink()
    house.keeper.step()
    assert house.fill_hour()
    house.check()


def test_waiting_rows_and_then_calibrated_rows_go_for_room_too(tmp_path):
    house = House(tmp_path, budget_mb=0)
    house.send(house.rows_message(-30, q=0, boot=3))
    house.fill(range(100))
    house.at(99, 0)
    assert len(house.air_hours()) == 100
    house.keep(30)
    assert house.raw_hours() == list(range(99 - 47, 100))
    assert house.air_hours() == list(range(99 - 47, 100))
    assert sum(state.waiting_count for state in readings.kits(house.db)) == 0
    assert house.counts()["pruned_for_room"] == 4 + 4 * 52
    assert house.keeper.done.short_mb > 0
    assert house.keeper.wait_s == STEP_S
    assert house.sealed_below() == 52


def test_a_late_row_that_goes_for_room_opens_no_sealed_hour_again(tmp_path):
    house = House(tmp_path)
    house.fill(range(60))
    house.at(50, 20)
    house.keep(30)
    house.fill([5], boot=9, received_ms=house.now_ms)
    assert house.raw_hours() == [5, *range(51, 60)]
    house.keeper._settings = msgspec.structs.replace(
        house.settings, store=msgspec.structs.replace(house.settings.store, budget_mb=0)
    )
    house.keep(2)
    assert house.raw_hours() == list(range(51, 60))
    assert house.sealed_below() == 51
    assert house.is_clean()


@pytest.mark.parametrize(
    ("disk_free", "budget", "expected"),
    [(1 << 40, 8 << 30, 32_000), (1 << 40, 2 << 30, 16_384), (3 << 30, 1 << 40, 24_576), (500 << 20, 8 << 30, 1000)],
)
def test_the_log_is_as_long_as_disk_and_budget_allow(tmp_path, disk_free, budget, expected):
    house = House(tmp_path)
    measured = room.Room(file=0, log=0, unused=0, disk_free=disk_free, disk_size=1 << 40)
    room.set_log_length(house.db, measured, budget)
    assert house.db.execute("PRAGMA wal_autocheckpoint").fetchone() == (expected,)
