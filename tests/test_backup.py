"""A backup made beside a gateway under load restores to a store that holds what the kits were told is stored."""

import json
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import components
import killed
import old_store
import pytest
from components import REPO
from influxd import wait_until
from live_gateway import T0_S, Kit, LiveGateway, batch, read_store, write_config
from main_job import LICHEN
from stores import record
from test_intake import Bench
from test_intake import batch as rows_of

from gateway.errors import StoreError
from gateway.simulate.mosquitto import DemoBroker
from gateway.store import backup, copying, readings, swap
from gateway.store.database import FILE_NAME, SCHEMA_VERSION, open_writer

SECRET = "correct-horse-battery"


def quiet(*_):
    """Stand in for a progress bar."""


def lichen(*args, check=True):
    done = subprocess.run(
        [*LICHEN, *map(str, args)], capture_output=True, text=True, check=False, cwd=REPO, timeout=120
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def place(tmp_path):
    """A folder with a configuration and a store of an earlier program brought up to date."""
    store = old_store.make(tmp_path / "gw" / "store", 1)
    assert old_store.start(store).wait() == 0  # another process: this one would keep the lock
    shutil.rmtree(store / f"before-schema-{SCHEMA_VERSION}")
    (tmp_path / "gw" / "password").write_text(SECRET)
    (tmp_path / "gw" / "gateway.toml").write_text('[broker]\npassword_file = "password"\n[web]\nenabled = false\n')
    (tmp_path / "out").mkdir()
    return tmp_path / "gw"


def without_id(path):
    return [line for line in old_store.dump(path) if "store_id" not in str(line)]


def seqs(folder, kit="kit-1"):
    found = read_store(folder, lambda db: list(readings.each_hour(db, kit=kit)))
    return sorted((int(b), int(s)) for some in found for b, s in zip(some.boot, some.seq, strict=True))


@pytest.mark.mosquitto
def test_a_backup_under_load_restores_to_what_kits_were_told_is_stored(mosquitto, tmp_path):
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1"])
    broker.start()
    config = write_config(tmp_path / "gw", broker)
    stop = threading.Event()
    try:
        with LiveGateway(config) as gateway, Kit(broker) as kit:
            gateway.receives()

            def send():
                first = 0
                while not stop.is_set():
                    kit.send(batch(1, range(first, first + 20), t0_s=T0_S - 90 * 86_400))
                    first += 20

            sender = threading.Thread(target=send)
            sender.start()
            told = lambda: max((r["seq"] for r in kit.heard_on("/stored")), default=-1)  # noqa: E731
            wait_until(lambda: told() > 1000, "receipts")
            before = told()
            done = json.loads(lichen("backup", tmp_path / "b.sqlite", "-c", config, "--json").stdout)
            after = told()
            wait_until(lambda: told() > after, "receipts after the backup")
            stop.set()
            sender.join()
            refused = lichen("restore", tmp_path / "b.sqlite", "-c", config, check=False)
            assert refused.returncode == 1
            assert "is written by another gateway; stop that one" in refused.stderr.replace("\n", " ")
            gateway.terminate()
        whole = seqs(tmp_path / "gw")
        lichen("restore", tmp_path / "b.sqlite", "-c", config)
        found = seqs(tmp_path / "gw")
        assert found == whole[: len(found)]  # a prefix of what was sent, without a gap
        assert before < len(found) == done["counts"]["readings"] < len(whole)
        with LiveGateway(config) as gateway:
            gateway.receives()
            wait_until(lambda: verified(config), "everything derived")
            gateway.terminate()
    finally:
        stop.set()
        broker.stop()


def verified(config):
    found = json.loads(lichen("verify", "-c", config, "--json").stdout)
    assert found["different"] == []
    return found["compared"] > 0 and found["waiting"] == 0


@pytest.mark.parametrize("compress", [False, True])
def test_what_is_restored_is_what_was_backed_up_and_what_stood_there_is_set_aside(place, compress):
    config, out = place / "gateway.toml", place.parent / "out"
    before = without_id(place / "store" / FILE_NAME)
    (place / "store" / "sinks").mkdir()
    (place / "store" / "sinks" / "influx.cursor").write_text('{"rev": 5}')
    made = json.loads(lichen("backup", out, "-c", config, "--json", *["--compress"] * compress).stdout)
    assert Path(made["path"]).suffix == (".gz" if compress else ".sqlite")
    assert [path.name for path in out.iterdir()] == [Path(made["path"]).name]
    assert made["counts"]["readings"] == len(record.STORED | record.WAITING)
    with closing(sqlite3.connect(place / "store" / FILE_NAME)) as db, db:
        db.execute("UPDATE kit SET heard_ms = heard_ms + 1")
    changed = old_store.dump(place / "store" / FILE_NAME)
    told = lichen("restore", out, "-c", config).stdout
    assert without_id(place / "store" / FILE_NAME) == before
    (aside,) = (place / "store").glob("replaced-*")
    assert str(aside) in told.replace("\n", "")
    assert old_store.dump(aside / FILE_NAME) == changed
    assert (aside / "influx.cursor").read_text() == '{"rev": 5}'
    assert not (place / "store" / "sinks" / "influx.cursor").exists()  # so that sinks send everything again
    with closing(sqlite3.connect(place / "store" / FILE_NAME)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)  # for an earlier program, which never sets it


def test_a_restored_store_is_another_one_to_sinks(place):
    out = place.parent / "out" / "b.sqlite"
    store_id = "SELECT value FROM meta WHERE name = 'store_id'"
    with closing(sqlite3.connect(place / "store" / FILE_NAME)) as db:
        first = db.execute(store_id).fetchone()
    backup.make(place / "store", out, {}, quiet, program="test")
    backup.restore(out, place / "store", quiet)
    with closing(sqlite3.connect(place / "store" / FILE_NAME)) as db:
        assert db.execute(store_id).fetchone() not in {first, None}


def test_secrets_are_in_a_backup_only_where_asked_for(place):
    config, out = place / "gateway.toml", place.parent / "out"
    lichen("backup", out / "plain.sqlite", "-c", config)
    lichen("backup", out / "secret.sqlite", "-c", config, "--with-secrets")
    assert SECRET.encode() not in (out / "plain.sqlite").read_bytes()
    assert SECRET.encode() in (out / "secret.sqlite").read_bytes()
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {0o600}


@pytest.mark.parametrize("compress", [False, True])
def test_an_empty_machine_gets_settings_and_secrets_from_the_backup(place, compress):
    config, out = place / "gateway.toml", place.parent / "out"
    lichen("backup", out, "-c", config, "--with-secrets", *["--compress"] * compress)
    new = place.parent / "new"
    new.mkdir()
    lichen("restore", out, "-c", new / "gateway.toml")
    assert (new / "gateway.toml").read_bytes() == config.read_bytes()
    assert (new / "password").read_text() == SECRET
    assert (new / "password").stat().st_mode & 0o777 == 0o600
    assert without_id(new / "store" / FILE_NAME) == without_id(place / "store" / FILE_NAME)


def test_what_root_restores_belongs_to_the_user_of_the_store(place):
    if os.geteuid():
        components.refuse("root", "run the tests as root, who may give files to others")
    store, user = place / "store", 65_534
    for path in (store, *store.iterdir()):
        os.chown(path, user, user)
    mode = (store / FILE_NAME).stat().st_mode
    backup.make(store, place.parent / "out", {}, quiet, program="test")
    backup.restore(place.parent / "out", store, quiet)
    assert {path.name: path.stat().st_uid for path in store.rglob("*") if path.stat().st_uid != user} == {}
    assert (store / FILE_NAME).stat().st_mode == mode


def test_present_settings_and_secrets_are_never_replaced(place):
    config, out = place / "gateway.toml", place.parent / "out"
    lichen("backup", out, "-c", config, "--with-secrets")
    kept = config.read_text()
    config.write_text(f"{kept}port = 0\n")
    (place / "password").write_text("another")
    lichen("restore", out, "-c", config)
    assert config.read_text() == f"{kept}port = 0\n"
    assert (place / "password").read_text() == "another"
    assert (place / "gateway.toml.from-backup").read_text() == kept


def test_the_newest_backups_of_a_folder_are_kept_and_nothing_else_is_removed(place):
    out = place.parent / "out"
    names = [f"lichen-2025010{n}T000000Z.sqlite" for n in range(1, 6)]
    for name in [*names, "lichen-notes.txt", "holiday.jpg"]:
        (out / name).write_text("x")
    made = backup.make(place / "store", out, {}, quiet, program="test", keep=3)
    left = {path.name for path in out.iterdir()}
    assert left == {*names[3:], Path(made.path).name, "lichen-notes.txt", "holiday.jpg"}
    assert sorted(made.removed) == names[:3]
    assert lichen("backup", out / "one.sqlite", "--keep", 3, "-c", place / "gateway.toml", check=False).returncode == 2


def test_a_file_that_is_there_is_never_overwritten(place):
    out = place.parent / "out" / "mine.sqlite"
    out.write_text("x")
    with pytest.raises(StoreError, match="is there already"):
        backup.make(place / "store", out, {}, quiet, program="test")
    assert out.read_text() == "x"


def test_a_packed_backup_is_known_by_its_content(place):
    out = place.parent / "out" / "mine"
    backup.make(place / "store", out, {}, quiet, program="test", compress=True)
    before = without_id(place / "store" / FILE_NAME)
    backup.restore(out, place / "store", quiet)
    assert without_id(place / "store" / FILE_NAME) == before


def test_a_killed_backup_leaves_nothing_once_another_is_made(place):
    left = place.parent / "out" / ".lichen-backup-left"
    left.mkdir()
    (left / FILE_NAME).write_text("half")
    backup.make(place / "store", place.parent / "out" / "b.sqlite", {}, quiet, program="test")
    assert not left.exists()


@pytest.mark.parametrize("harm", ["cut", "cut.gz", "changed", "no backup", "newer", "fewer rows", "in use"])
def test_what_is_no_whole_backup_is_refused_and_the_store_untouched(place, harm):
    store, out = place / "store", place.parent / "out" / f"b.sqlite{'.gz' * harm.endswith('.gz')}"
    backup.make(store, out, {}, quiet, program="test", compress=harm.endswith(".gz"))
    content = out.read_bytes()
    if harm.startswith("cut"):
        out.write_bytes(content[: len(content) * 2 // 3])
    elif harm == "changed":
        out.write_bytes(content[:20_480] + b"\x55" * 4096 + content[24_576:])
    elif harm == "no backup":
        out.write_bytes(b"holiday" * 5000)
    elif harm == "in use":
        out.with_name("b.sqlite-wal").write_bytes(b"x")
    else:
        with closing(sqlite3.connect(out)) as db, db:
            db.execute(
                f"PRAGMA user_version = {SCHEMA_VERSION + 1}" if harm == "newer" else "DELETE FROM chunk WHERE id = 3"
            )
    before = old_store.dump(store / FILE_NAME)
    done = lichen("restore", out, "-c", place / "gateway.toml", check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(out) in done.stderr.replace("\n", "")
    assert old_store.dump(store / FILE_NAME) == before
    assert not list(store.glob("restore.*"))
    assert not list(store.glob("replaced-*"))


def test_a_kill_at_any_line_of_a_restore_leaves_the_old_store_or_the_restored_one(place, tmp_path):
    out, store, source = place.parent / "out" / "b.sqlite", tmp_path / "store", place / "store"
    backup.make(source, out, {}, quiet, program="test")
    restored = without_id(source / FILE_NAME)
    with closing(sqlite3.connect(source / FILE_NAME)) as db, db:
        db.execute("UPDATE kit SET heard_ms = heard_ms + 1")
    present = without_id(source / FILE_NAME)
    seen = []

    def prepare():
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(source, store)

    def judge(n):
        open_writer(store).close()  # the next start
        found = without_id(store / FILE_NAME)
        seen.append(found == restored)
        assert found in (present, restored), n
        assert not list(store.glob("restore.*")), n
        aside = list(store.glob("replaced-*"))
        assert [without_id(path / FILE_NAME) for path in aside] == ([present] if seen[-1] else []), n

    kills = killed.at_each_line(
        [backup, swap, copying], prepare, lambda: backup.restore(out, store, quiet), judge, every=5
    )
    assert kills > 100
    assert seen == sorted(seen)
    assert set(seen) == {False, True}


def test_a_kill_at_any_line_of_a_backup_leaves_none_or_a_whole_one(place):
    out = place.parent / "out" / "b.sqlite"

    def judge(n):
        if out.exists():
            assert copying.check(out, quiet) == "", n
            out.unlink()
        backup.make(place / "store", out, {}, quiet, program="test")
        assert [path.name for path in out.parent.iterdir()] == ["b.sqlite"], n  # and nothing of it is left over
        out.unlink()

    act = lambda: backup.make(place / "store", out, {}, quiet, program="test")  # noqa: E731
    assert killed.at_each_line([backup, copying], quiet, act, judge, every=2) > 30


def test_commits_meanwhile_neither_wait_nor_start_the_copy_again(place):
    store = old_store.make(place.parent / "large", 1, chunk_count=20_000)
    steps, stop, slowest_s = [], threading.Event(), []
    with closing(open_writer(store)) as db:

        def write():
            while not stop.is_set():
                started_s = time.monotonic()
                db.execute("UPDATE kit SET heard_ms = heard_ms + 1")
                slowest_s.append(time.monotonic() - started_s)
                time.sleep(0.005)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            show = lambda what, done, total: steps.append((what, done, total))  # noqa: E731
            backup.make(store, place.parent / "out", {}, show, program="test")
        finally:
            stop.set()
            writer.join()
    copied = [done for what, done, _ in steps if what.startswith("copied")]
    assert len(slowest_s) > 20
    assert copied == sorted(copied)
    assert len(copied) > 20
    assert max(slowest_s) < 2


def test_a_backup_of_an_older_schema_can_be_made_before_the_upgrade_and_restored(tmp_path):
    store = old_store.make(tmp_path / "store", 1)
    before = old_store.dump(store / FILE_NAME)
    backup.make(store, tmp_path / "b.sqlite", {}, quiet, program="test")
    open_writer(store).close()
    backup.restore(tmp_path / "b.sqlite", store, quiet)
    assert old_store.dump(store / FILE_NAME) == before


def test_going_back_after_an_upgrade_gives_the_earlier_program_its_store(place):
    store = old_store.make(place / "store2", 1)
    before = old_store.dump(store / FILE_NAME)
    (place / "gateway.toml").write_text('[store]\ndir = "store2"\n')
    assert old_store.start(store).wait() == 0
    lichen("restore", store / f"before-schema-{SCHEMA_VERSION}", "-c", place / "gateway.toml")
    assert old_store.dump(store / FILE_NAME) == before


def test_after_a_restore_receipts_pass_what_kits_have_freed_and_copies_stay_copies(tmp_path):
    bench = Bench(tmp_path / "store")
    bench.send(rows_of(range(10), first=0, bench=bench))
    bench.db.close()
    backup.make(tmp_path / "store", tmp_path / "b.sqlite", {}, quiet, program="test")
    bench.open()
    bench.send(rows_of(range(10, 20), first=0, bench=bench))  # told to be stored, so the kit frees them
    bench.db.close()
    backup.restore(tmp_path / "b.sqlite", tmp_path / "store", quiet)
    bench.open()
    bench.send(rows_of(range(20, 25), first=20, bench=bench))  # what it still holds
    lost = {("kit-1", 7, s) for s in range(10, 20)}
    assert bench.rows() == {("kit-1", 7, s) for s in range(25)} - lost
    assert bench.receipts() == {("kit-1", 7): 24}
    bench.send(rows_of(range(20, 22), bench=bench), rows_of([22], first=20, value=99, bench=bench))
    assert bench.rows() == {("kit-1", 7, s) for s in range(25)} - lost
    (reasons,) = bench.db.execute("SELECT group_concat(reason) FROM dead_letter").fetchone()
    assert reasons == "conflict"
    bench.send(rows_of(range(10, 20), bench=bench))  # a kit that had kept them after all
    assert bench.rows() == {("kit-1", 7, s) for s in range(25)}
