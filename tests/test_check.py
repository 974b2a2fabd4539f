"""`lichen check`: what would fail is found, each with its fix, and nothing is left behind."""

import json
import os
import re
import socket
import sqlite3
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest
from components import REPO
from influxd import BUCKET, ORG, Influxd
from made_store import MadeStore
from test_commands import lichen

from gateway.check import clock, disk, files, versions
from gateway.check.everything import Options, check_everything, check_settings
from gateway.check.finding import Level, Subject, worst
from gateway.check.influx import check_influx
from gateway.settings import Broker, Clock, Influx, Retention, Settings, Store, load
from gateway.simulate.mosquitto import free_port

NOW_MS = 1_795_222_800_000


def errors(findings):
    return [f"{f.subject}: {f.what}" for f in findings if f.level is Level.ERROR]


def bad(findings):
    """What is no ok; each must say what to do."""
    found = [f for f in findings if f.level is not Level.OK]
    assert all(f.fix for f in found)
    return [(f.level.value, f.what) for f in found]


def one(findings, words):
    """The one finding that is no ok has these words."""
    found = bad(findings)
    assert len(found) == 1, found
    assert words in found[0][1], found
    return found[0][0]


# Settings, files, clock, disk, versions


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[broker]\nhots = 'x'\n", "unknown key hots in [broker]; did you mean host?"),
        ("[stroe]\n", "unknown section [stroe]; did you mean store?"),
        ("[broker]\nport = 'x'\n", "port"),
        ("[derive]\ncorrection = 'barkjohn21'\n", "barkjohn2021"),
        ("[[[", "is not TOML"),
    ],
)
def test_a_mistake_in_the_settings_is_named_with_the_nearest_known(tmp_path, text, words):
    config = tmp_path / "gateway.toml"
    config.write_text(text)
    assert one(check_settings(config)[1], words) == "error"


def test_settings_without_a_mistake_are_fine(tmp_path):
    config = tmp_path / "gateway.toml"
    config.write_text("[clock]\ntrusted = true\n")
    assert bad(check_settings(config)[1]) == []


@pytest.fixture
def place(tmp_path):
    """Settings with a store and a password, all of it right."""
    MadeStore(tmp_path / "store").db.close()
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    secret.chmod(0o600)
    return Settings(
        broker=Broker(password_file="password"), store=Store(dir="store", budget_mb=200, reserve_mb=0),
        path=tmp_path / "gateway.toml",
    )  # fmt: skip


def test_files_as_they_should_be_are_fine(place):
    assert bad(files.check_files(place)) == []


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o660, 0o607])
def test_a_secret_that_others_may_read_or_change_is_an_error(place, mode):
    place.beside("password").chmod(mode)
    assert one(files.check_files(place), f"mode {mode:o}") == "error"


def test_a_secret_that_only_its_group_reads_is_fine(place):
    place.beside("password").chmod(0o640)
    assert bad(files.check_files(place)) == []


@pytest.mark.parametrize(("content", "words"), [(None, "cannot be read"), ("\n", "is empty")])
def test_a_secret_that_cannot_be_used_is_an_error(place, content, words):
    if content is None:
        place.beside("password").unlink()
    else:
        place.beside("password").write_text(content)
    assert one(files.check_files(place), words) == "error"


def as_nobody(work):
    """Run something in a process of a user without rights; returns what it returns, as text."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writing, str(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody without rights")
@pytest.mark.parametrize(("folder", "words"), [("store", "cannot write there"), ("not/there/yet", "it cannot be made")])
def test_a_store_that_cannot_be_written_is_an_error(place, folder, words):
    for parent in (place.store_dir, *place.store_dir.parents[:3]):  # the way there is open, the folder is not
        parent.chmod(0o755)
    said = as_nobody(lambda: files._store(Subject("files"), place.beside(folder)))
    assert "level=<Level.ERROR" in said
    assert words in said


def test_a_store_folder_that_is_a_file_is_an_error(place):
    place.beside("file").write_text("")
    settings = msgspec.structs.replace(place, store=Store(dir="file"))
    assert "it is a file" in bad(files.check_files(settings))[0][1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_check_by_another_user_than_the_stores_says_so(place):
    os.chown(place.store_dir / "lichen.sqlite", 65534, -1)
    assert one(files.check_files(place), "it belongs to") == "warning"


def clock_of(settings, db=None, *, now_ms=None, kept=True):
    now_ms = now_ms or time.time_ns() // 1_000_000
    return list(clock.check_clock(settings, db, now_ms=lambda: now_ms, synchronised=lambda: kept))


def with_clock(trusted):
    return Settings(clock=Clock(trusted=trusted))


def test_a_clock_that_the_system_keeps_right_is_fine():
    assert bad(clock_of(with_clock("auto"))) == []


@pytest.mark.parametrize(
    ("trusted", "words"), [("auto", "nobody keeps it right"), (True, "a wrong time would be believed")]
)
def test_a_clock_that_nobody_keeps_right_is_a_warning(trusted, words):
    assert one(clock_of(with_clock(trusted), kept=False), words) == "warning"


def test_a_clock_that_is_not_to_be_trusted_need_not_be_right():
    assert bad(clock_of(with_clock(False), kept=False)) == []  # noqa: FBT003


def test_a_time_before_the_program_was_installed_is_an_error():
    assert one(clock_of(with_clock("auto"), now_ms=86_400_000), "this program was installed at") == "error"


def test_a_time_before_the_newest_reading_is_an_error_but_for_replays(tmp_path):
    made = MadeStore(tmp_path / "store")
    ahead_s = int(time.time()) + 7200
    made.add_span("kit-1", ahead_s - 3600, ahead_s, lambda _: 8.0)
    assert one(clock_of(with_clock("auto"), made.db), "the newest reading is of") == "error"
    assert bad(clock_of(with_clock(False), made.db)) == []  # noqa: FBT003
    made.db.close()


def test_a_disk_with_room_is_fine_and_nothing_stays_on_it(place):
    before = sorted(p.name for p in place.store_dir.iterdir())
    found = list(disk.check_disk(place, None))
    assert errors(found) == []
    assert any("a synced write takes" in f.what for f in found)
    assert before == sorted(p.name for p in place.store_dir.iterdir())


@pytest.mark.parametrize(
    ("store", "level", "words"),
    [
        (Store(dir="store", reserve_mb=10**9), Level.ERROR, "less than [store] reserve_mb"),
        (Store(dir="store", budget_mb=10**9), Level.WARNING, "cannot grow to [store] budget_mb"),
    ],
)
def test_a_disk_that_is_too_small_is_told_before_it_is_full(place, store, level, words):
    found = list(disk.check_disk(msgspec.structs.replace(place, store=store), None))
    assert [f.level for f in found if words in f.what] == [level]


@pytest.mark.parametrize(
    ("kind", "level"),
    [("nfs4", "error"), ("cifs", "error"), ("vfat", "warning"), ("tmpfs", "warning"), ("ext4", "ok"), ("", "ok")],
)
def test_a_file_system_that_is_no_place_for_a_store_is_told(kind, level):
    assert disk.judge_kind(Subject("disk"), kind).level == level


def test_the_file_system_is_read_from_the_kernel():
    assert disk.file_system(Path("/proc")) == "proc"
    assert disk.file_system(Path("/dev/shm")) == "tmpfs"  # noqa: S108


def test_a_disk_that_is_slow_at_syncing_is_told(place, monkeypatch):
    monkeypatch.setattr(disk, "WRITES", 3)
    found = disk.check_disk(place, None, sync=lambda _: time.sleep(0.21))
    assert [f.level for f in found if "a synced write takes" in f.what] == [Level.WARNING]


def test_versions_here_are_fine(place):
    found = list(versions.check_versions(place))
    assert bad(found) == []
    assert "the libraries are the tested ones" in [f.what for f in found]


def test_an_old_python_or_sqlite_is_an_error(place, monkeypatch):
    monkeypatch.setattr(versions, "PYTHON", (9, 0))
    monkeypatch.setattr(versions, "SQLITE", (9, 0, 0))
    assert [e.split(" ")[1] for e in errors(versions.check_versions(place))] == ["Python", "SQLite"]


@pytest.mark.parametrize(
    ("schema", "level", "words"), [(1, "warning", "the next start brings it"), (99, "error", "99")]
)
def test_a_store_of_another_schema_is_told(place, schema, level, words):
    with closing(sqlite3.connect(place.store_dir / "lichen.sqlite")) as db:
        db.execute(f"PRAGMA user_version = {schema}")
    found = [f for f in versions.check_versions(place) if "schema" in f.what and f.level is not Level.OK]
    assert [(f.level.value, words in f.what) for f in found] == [(level, True)]


def test_other_libraries_than_the_tested_ones_are_a_warning():
    lock = "msgspec==0.0.1 \\\n    --hash=x\nnever-heard-of==1.0 \\\nabsent-here==2 ; sys_platform == 'win32' \\\n"
    here = version("jinja2")
    lock += f"jinja2==0.1 ; python_version < '3' \\\njinja2=={here} ; python_version >= '3' \\\n"
    found = versions.check_lock(Subject("versions"), lock)
    assert found.level is Level.WARNING
    assert "(tested: 0.0.1)" in found.what
    assert "never-heard-of absent" in found.what
    assert "absent-here" not in found.what
    assert "jinja2" not in found.what


# InfluxDB


@pytest.fixture(scope="module")
def influx(influxd, tmp_path_factory):
    with Influxd(influxd, tmp_path_factory.mktemp("influx")) as server:
        server.create_bucket("short", keep_s=30 * 86_400)
        yield server


def token_for(server, rights, bucket=BUCKET):
    """Make a token with rights on one bucket; returns its file."""
    org = json.loads(server.request("GET", f"/api/v2/orgs?org={ORG}"))["orgs"][0]["id"]
    found = json.loads(server.request("GET", f"/api/v2/buckets?name={bucket}"))["buckets"][0]["id"]
    permissions = [{"action": r, "resource": {"type": "buckets", "id": found, "orgID": org}} for r in rights]
    body = json.dumps({"orgID": org, "permissions": permissions}).encode()
    path = server.folder / f"token-{time.monotonic_ns()}"
    path.write_text(json.loads(server.request("POST", "/api/v2/authorizations", body))["token"])
    path.chmod(0o600)
    return path


def influx_settings(server, token, *, bucket=BUCKET, org=ORG, url=None, **more):
    section = Influx(url=url or server.url, org=org, bucket=bucket, token_file=str(token))
    return Settings(influx=section, path=server.folder / "gateway.toml", **more)


@pytest.mark.influxdb
def test_a_token_that_may_write_and_read_is_fine_and_nothing_is_written(influx):
    found = list(check_influx(influx_settings(influx, token_for(influx, ["read", "write"]))))
    assert bad(found) == []
    assert any(f.what == "the bucket keeps its points for ever" for f in found)
    flux = f'import "influxdata/influxdb/schema" schema.measurements(bucket: "{BUCKET}", start: 0)'
    assert influx.query(flux) == []


@pytest.mark.influxdb
def test_what_a_token_lacks_is_told(influx):
    assert one(check_influx(influx_settings(influx, token_for(influx, ["write"]))), "may not read") == "warning"
    assert one(check_influx(influx_settings(influx, token_for(influx, ["read"]))), "may not write") == "error"
    bogus = influx.folder / "bogus"
    bogus.write_text("nonsense")
    assert one(check_influx(influx_settings(influx, bogus)), "it does not know the token") == "error"
    assert one(check_influx(influx_settings(influx, influx.folder / "absent")), "the token cannot be read") == "error"


@pytest.mark.influxdb
def test_a_bucket_or_organisation_that_is_not_there_is_told(influx):
    token = token_for(influx, ["read", "write"])
    found = check_influx(influx_settings(influx, token, bucket="nope"))
    assert any('bucket "nope" not found' in text for text in errors(found))
    found = check_influx(influx_settings(influx, token, org="nope"))
    assert any('organization name "nope" not found' in text for text in errors(found))


@pytest.mark.influxdb
def test_a_bucket_that_keeps_less_than_the_store_is_told(influx):
    token = token_for(influx, ["read", "write"], "short")
    assert (
        one(check_influx(influx_settings(influx, token, bucket="short")), "keeps 30 days, the store 730") == "warning"
    )
    shorter = influx_settings(influx, token, bucket="short", retention=Retention(raw_days=30))
    assert bad(check_influx(shorter)) == []
    replay = influx_settings(influx, token, bucket="short", clock=Clock(trusted=False))
    assert one(check_influx(replay), "replays old times") == "error"


def test_an_influxdb_that_does_not_answer_is_told(tmp_path):
    (tmp_path / "token").write_text("x")
    section = Influx(url=f"http://127.0.0.1:{free_port()}", org="o", bucket="b", token_file="token")
    settings = Settings(influx=section, path=tmp_path / "gateway.toml")
    assert one(check_influx(settings), "it does not answer") == "error"
    wrong = msgspec.structs.replace(settings, influx=msgspec.structs.replace(section, url="127.0.0.1:8086"))
    assert one(check_influx(wrong), "is no address") == "error"
    assert bad(check_influx(Settings())) == []


# The command


def test_check_exits_1_where_something_fails_and_prints_each_fix(tmp_path):
    config = tmp_path / "gateway.toml"
    config.write_text(f"[broker]\nport = {free_port()}\n[web]\nport = 0\n")
    result = lichen("check", "-c", config)
    assert result.returncode == 1
    assert "error   broker: it does not answer" in result.stdout
    assert "systemctl start mosquitto" in result.stdout
    assert "\x1b" not in result.stdout
    assert not (tmp_path / "store").exists()
    config.write_text("[broker]\nprot = 1\n")
    told = json.loads(lichen("check", "-c", config, "--json").stdout)
    assert told["errors"] == 1
    assert "did you mean port?" in told["findings"][0]["what"]


def test_check_is_used_rightly_or_says_how(tmp_path):
    config = tmp_path / "gateway.toml"
    config.write_text("")
    assert lichen("check", "-c", config, "--kit", "kit-1").returncode == 2
    assert lichen("check", "-c", config, "--kit", "gateway", "--kit-password-file", config).returncode == 2


def test_a_port_that_is_taken_is_found_before_the_gateway_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = tmp_path / "gateway.toml"
        config.write_text(f"[broker]\nport = {free_port()}\n[web]\nport = {taken.getsockname()[1]}\n")
        found = list(check_everything(load(config), Options()))
    assert any("the page cannot listen there" in text for text in errors(found))


def test_the_worst_level_counts():
    subject = Subject("x")
    assert worst([]) is Level.OK
    assert worst([subject.ok("a"), subject.error("b", "c"), subject.warning("d", "e")]) is Level.ERROR


@pytest.mark.parametrize("page", ["operations.md"])
def test_every_test_that_the_page_names_exists(page):
    text = (REPO / "docs" / page).read_text()
    named = set(re.findall(r"`(test_\w+)`", text))
    files = ("check", "check_broker", "status", "metrics")
    defined = "".join((REPO / "tests" / f"test_{name}.py").read_text() for name in files)
    assert len(named) > 40
    assert [name for name in sorted(named) if f"def {name}(" not in defined] == []
