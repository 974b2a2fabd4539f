"""A store of every earlier schema becomes one of this program, whole, or stays what it was."""

import random
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from contextlib import closing

import components
import killed
import old_store
import pytest
from components import REPO
from sink_store import by_kit
from stores import record

from gateway.broker import Message
from gateway.derive.dirty import Deriver
from gateway.derive.recipe import Recipe
from gateway.derive.verify import verify
from gateway.errors import StoreError
from gateway.intake import Intake
from gateway.settings import Derive
from gateway.store import changes, copying, counters, database, deadletters, migrate, readings, swap
from gateway.store.database import FILE_NAME, SCHEMA_VERSION, open_reader, open_writer

RECIPE = Recipe.of(Derive())
COPY = f"before-schema-{SCHEMA_VERSION}"
older = pytest.mark.parametrize("schema", old_store.OLDER)


def intake_of(db, published=None):
    return Intake(
        db, base=record.BASE, acknowledge=lambda _: None, clock_error_s=lambda: 1,
        publish=lambda *message: published.append(message) if published is not None else None,
    )  # fmt: skip


def derive(db):
    deriver = Deriver(db, RECIPE)
    while deriver.step():
        pass


def keys(parts):
    return {(p.kit, int(b), int(s)) for p in parts for b, s in zip(p.boot, p.seq, strict=True)}


def test_every_earlier_schema_has_a_recorded_store():
    assert sorted(migrate._steps()) == list(range(1, SCHEMA_VERSION + 1))
    missing = set(old_store.OLDER) - set(old_store.RECORDED)
    assert not missing, "record it with tests/stores/record.py and the last program of that schema"


@older
def test_every_row_of_an_older_store_is_there_with_its_values(tmp_path, schema):
    store = old_store.make(tmp_path / "store", schema)
    with closing(open_writer(store)) as db:
        assert old_store.version(store / FILE_NAME) == SCHEMA_VERSION
        assert old_store.rows(db) == old_store.sent_rows()
        assert keys(readings.each_hour(db)) == record.STORED
        waiting = {(w.kit, w.boot, int(s)) for w in readings.waiting(db) for s in w.seq}
        assert waiting == record.WAITING
        assert deadletters.count(db) == record.REASONS
        assert {k.name: k.up for k in readings.kits(db)} == {"kit-1": True, "kit-2": None}
        assert counters.totals(db)["duplicates"] == 20


@older
def test_receipts_pass_what_an_older_store_settled(tmp_path, schema):
    with closing(open_writer(old_store.make(tmp_path / "store", schema))) as db:
        intake = intake_of(db)
        assert {key: intake._raw.receipt(*key) for key in record.RECEIPTS} == record.RECEIPTS


@older
def test_an_older_store_verifies_once_derived_and_its_waiting_rows_are_placed(tmp_path, schema):
    with closing(open_writer(old_store.make(tmp_path / "store", schema))) as db:
        derive(db)
        found = verify(db, RECIPE)
        assert (found.different, found.waiting) == ([], 0)
        assert found.compared > 10
        intake = intake_of(db)
        while intake.release_waiting():
            pass
        derive(db)
        assert {(w.kit, w.boot) for w in readings.waiting(db)} == {("kit-1", 8)}  # still nobody knows its time
        late = record.batch(8, [5], t0_s=record.T0_S + 50_000)
        record.send(intake, Message, 1, "kit-1", "backlog", late)
        while intake.release_waiting():
            pass
        derive(db)
        assert keys(readings.each_hour(db)) == record.STORED | record.WAITING | {("kit-1", 8, 5)}
        found = verify(db, RECIPE)
        assert (found.different, found.waiting) == ([], 0)


@older
def test_a_sink_that_had_everything_gets_only_what_is_new(tmp_path, schema):
    store = old_store.make(tmp_path / "store", schema)
    with closing(sqlite3.connect(store / FILE_NAME)) as old:
        (sent,) = old.execute("SELECT value FROM revision").fetchone()
    with closing(open_writer(store)) as db:
        assert database.last_revision(db) >= sent
        record.send(intake_of(db), Message, 1, "kit-2", "backlog", record.batch(3, [100]))
        derive(db)
        found = changes.changes(db, sent, rows_after=sent)
        assert keys(by_kit(found.raw)) == {("kit-2", 3, 100)}
        assert {hour.kit for hour in found.hours} == {"kit-2"}


@older
def test_the_copy_is_what_the_store_was_and_only_the_last_is_kept(tmp_path, schema, caplog):
    caplog.set_level("INFO")
    store = old_store.make(tmp_path / "store", schema)
    before = old_store.dump(store / FILE_NAME)
    (store / "before-schema-0").mkdir()
    open_writer(store).close()
    assert sorted(path.name for path in store.glob("before-schema-*")) == [COPY]
    assert [path.name for path in (store / COPY).iterdir()] == [FILE_NAME]
    assert old_store.dump(store / COPY / FILE_NAME) == before
    assert f"lichen restore {store / COPY}" in caplog.text


def test_a_store_of_this_schema_is_neither_copied_nor_changed(tmp_path):
    store = old_store.make(tmp_path / "store", 1)
    open_writer(store).close()
    shutil.rmtree(store / COPY)
    before = old_store.dump(store / FILE_NAME)
    open_writer(store).close()
    assert old_store.dump(store / FILE_NAME) == before
    assert not list(store.glob("before-schema-*"))


def test_a_newer_store_is_refused_untouched(tmp_path):
    store = old_store.make(tmp_path / "store", 1)
    with closing(sqlite3.connect(store / FILE_NAME)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = old_store.dump(store / FILE_NAME)
    for opener in (open_writer, open_reader):
        with pytest.raises(StoreError, match=f"newer Lichen \\(schema {SCHEMA_VERSION + 1}\\); upgrade this program"):
            opener(store)
    assert old_store.dump(store / FILE_NAME) == before


def test_a_kill_at_any_line_of_an_upgrade_ends_right_at_the_next_start(tmp_path):
    store, source = tmp_path / "store", old_store.make(tmp_path / "source", 1)
    before = old_store.dump(source / FILE_NAME)
    open_writer(old_store.make(tmp_path / "done", 1)).close()
    after = [line for line in old_store.dump(tmp_path / "done" / FILE_NAME) if "store_id" not in str(line)]
    seen = set()

    def prepare():
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(source, store)

    def judge(n):
        seen.add(old_store.version(store / FILE_NAME))
        open_writer(store).close()
        found = [line for line in old_store.dump(store / FILE_NAME) if "store_id" not in str(line)]
        assert found == after, n
        assert old_store.dump(store / COPY / FILE_NAME) == before, n
        assert [p.name for p in (store / COPY).iterdir()] == [FILE_NAME], n
        assert [p.name for p in store.glob("*.new")] == [], n

    kills = killed.at_each_line([migrate, copying, swap, database], prepare, lambda: open_writer(store), judge)
    assert kills > 60
    assert seen == {1, SCHEMA_VERSION}


def test_kills_at_random_moments_of_a_large_upgrade_end_right(tmp_path):
    source, store = old_store.make(tmp_path / "source", 1, chunk_count=20_000), tmp_path / "store"
    shutil.copytree(source, store)
    process = old_store.start(store)
    process.stdout.readline()
    started_s = time.monotonic()
    process.wait(60)
    whole_s = time.monotonic() - started_s
    expected = old_store.dump(store / FILE_NAME)
    chance, landed = random.Random(5), 0
    for i in range(8):
        shutil.rmtree(store)
        shutil.copytree(source, store)
        for _ in range(2):  # and the next start is killed too
            process = old_store.start(store)
            process.stdout.readline()
            time.sleep(whole_s * (i + chance.random()) / 8)
            process.kill()
            landed += process.wait() == -signal.SIGKILL
        done = old_store.start(store)
        _, told = done.communicate(timeout=60)
        assert done.returncode == 0, told
        found = old_store.dump(store / FILE_NAME)
        assert [x for x in found if "store_id" not in str(x)] == [x for x in expected if "store_id" not in str(x)]
        assert old_store.dump(store / COPY / FILE_NAME)[-1] == 1
    assert landed >= 6


@pytest.fixture
def tree(tmp_path):
    """A copy of the program that can be given another migration."""
    for package in ("gateway", "calibration"):
        shutil.copytree(REPO / package, tmp_path / "tree" / package, ignore=shutil.ignore_patterns("__pycache__"))

    def with_step(sql):
        (tmp_path / "tree" / "gateway" / "store" / "migrations" / "9999.sql").write_text(sql)
        return tmp_path / "tree"

    return with_step


@older
def test_a_failing_migration_leaves_the_store_as_it_was(tmp_path, tree, schema):
    store = old_store.make(tmp_path / "store", schema)
    before = old_store.dump(store / FILE_NAME)
    broken = tree("CREATE TABLE more (a);\nDELETE FROM chunk;\nINSERT INTO no_such_table VALUES (1);\n")
    for attempt in range(2):
        process = old_store.start(store, tree=broken)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 1
        assert (
            f"could not be brought from schema {schema} to 9999 (no such table: no_such_table) and is as it was" in told
        )
        assert ("is a copy of it already" in told) == (attempt == 1)  # a service that is started again and again
        assert old_store.dump(store / FILE_NAME) == before
        assert old_store.dump(store / "before-schema-9999" / FILE_NAME) == before


def test_a_copy_that_is_older_than_the_store_is_made_again(tmp_path, tree):
    store = old_store.make(tmp_path / "store", 1)
    broken = tree("INSERT INTO no_such_table VALUES (1);")
    old_store.start(store, tree=broken).communicate(timeout=60)
    with closing(sqlite3.connect(store / FILE_NAME)) as db, db:  # the earlier program goes on in between
        db.execute("UPDATE kit SET heard_ms = heard_ms + 1")
    old_store.start(store, tree=broken).communicate(timeout=60)
    copy = store / "before-schema-9999" / FILE_NAME
    assert old_store.dump(copy) == old_store.dump(store / FILE_NAME)


def test_a_store_that_a_migration_damages_is_put_back(tmp_path, tree):
    store = old_store.make(tmp_path / "store", 1)
    before = old_store.dump(store / FILE_NAME)
    damaging = tree(
        "PRAGMA writable_schema = ON;\nUPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master "
        "WHERE name = 'chunk') WHERE name = 'counter';\nPRAGMA schema_version = 77;\nPRAGMA writable_schema = OFF;\n"
    )
    process = old_store.start(store, tree=damaging)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "was damaged after its upgrade" in told
    assert "as it was before it is back" in told
    assert old_store.dump(store / FILE_NAME) == before
    assert [(path / FILE_NAME).exists() for path in store.glob("damaged-*")] == [True]
    open_writer(store).close()  # a program that is right takes it
    assert old_store.version(store / FILE_NAME) == SCHEMA_VERSION


def test_a_store_that_is_damaged_already_is_not_upgraded(tmp_path):
    store = old_store.make(tmp_path / "store", 1, chunk_count=200)
    with (store / FILE_NAME).open("r+b") as file:
        file.seek(40 * 4096)
        file.write(b"\x55" * 8192)
    before = (store / FILE_NAME).read_bytes()
    with pytest.raises(StoreError, match=r"is damaged .* and was not upgraded; check the disk and restore a backup"):
        open_writer(store)
    assert (store / FILE_NAME).read_bytes() == before
    assert not list(store.glob("before-schema-*"))


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", place], capture_output=True, check=False)
    if done.returncode:
        components.refuse("a small file system", "run the tests as root, who may mount one")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_without_room_for_the_copy_the_store_stays_as_it_is(small_disk):
    store = old_store.make(small_disk / "store", 1, chunk_count=3000)
    before = old_store.dump(store / FILE_NAME)
    with pytest.raises(StoreError, match=r"copies the store first, which needs \d+ MB free here, and there are \d+ MB"):
        open_writer(store)
    assert old_store.dump(store / FILE_NAME) == before
    assert not list(store.glob("before-schema-*"))


def test_a_disk_that_fills_up_while_it_copies_is_told_and_leaves_no_half_copy(small_disk, monkeypatch):
    store = old_store.make(small_disk / "store", 1, chunk_count=3500)
    before = old_store.dump(store / FILE_NAME)
    monkeypatch.setattr(copying, "need_room", lambda *_: None)
    (small_disk / "ballast").write_bytes(b"x" * (10 << 20))
    with pytest.raises(
        StoreError, match=r"could not be copied before its upgrade .* and is as it was; free some space"
    ):
        open_writer(store)
    (small_disk / "ballast").unlink()
    assert old_store.dump(store / FILE_NAME) == before
    assert not list(store.glob("before-schema-*"))


def test_every_test_that_the_page_on_upgrades_names_exists():
    text = (REPO / "docs" / "upgrades.md").read_text()
    defined = "".join((REPO / "tests" / name).read_text() for name in ("test_migrations.py", "test_backup.py"))
    names = set(re.findall(r"test_\w+", text)) - {"test_migrations", "test_backup"}
    assert len(names) > 20
    assert [name for name in sorted(names) if f"def {name}(" not in defined] == []


def test_the_page_and_a_reader_are_told_to_wait_for_the_upgrade(tmp_path):
    store = old_store.make(tmp_path / "store", 1)
    with pytest.raises(StoreError, match=r"is of an older Lichen \(schema 1\); start the gateway once"):
        open_reader(store)
