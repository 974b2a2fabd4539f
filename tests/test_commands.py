"""The commands as a user gives them, with a running gateway and without one; mistakes are one clear line."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import main_job
import pytest
from components import REPO
from influxd import wait_until
from test_intake import NOW_MS, T0, Bench, batch

from gateway.commands import clock as clock_command
from gateway.store import counters, deadletters, readings
from gateway.store.database import open_reader, read_meta

CONFIG = (
    '[broker]\nport = 1\n[web]\nenabled = false\n[clock]\ntrusted = "auto"\n'  # no broker there: commands need none
)


def lichen(*arguments):
    """Run a command in this process, which is quicker than one of its own; the lock of the store is given up again."""
    from gateway import cli

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["lichen", *map(str, arguments)])
        patch.setattr(sys, "stdin", io.StringIO())
        patch.setattr(cli.signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    for config in [a for a in arguments if isinstance(a, Path)]:
        lock = config.parent / "store" / "writer.lock"
        if lock.exists():
            lock.open().close()
    return SimpleNamespace(returncode=ended.value.code, stdout=out.getvalue(), stderr=err.getvalue())


def done(*arguments):
    result = lichen(*arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(*arguments, status, says):
    result = lichen(*arguments)
    said = " ".join(result.stderr.replace("│", " ").split())
    assert result.returncode == status, said
    assert says in said
    assert "Traceback" not in said


def process(*arguments, folder=REPO):
    """Run a command as a user does; returns its exit status."""
    command = [*main_job.LICHEN, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, check=False, env={**os.environ, "PYTHONPATH": str(folder)}).returncode


@contextmanager
def running(place, folder=REPO):
    """A gateway over the store of `place`."""
    command = [sys.executable, "-m", "gateway.cli", "run", "-c", str(place / "gateway.toml")]
    log = (place / "gateway.log").open("a")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with log, subprocess.Popen(command, stderr=log, cwd=folder, env=environment) as process:
        try:
            wait_until(lambda: process.poll() is not None or (place / "store" / "control.sock").exists(), "it starts")
            assert process.poll() is None, (place / "gateway.log").read_text()
            yield process
        finally:
            process.terminate()
            process.wait(10)


def let_go(bench):
    """Close the store and give up its lock: closing any descriptor of the file does that for the whole process."""
    bench.db.close()
    (bench.folder / "writer.lock").open().close()


@pytest.fixture
def place(tmp_path):
    """A folder with a configuration and a store with readings of kit-1 and five dead letters."""
    (tmp_path / "gateway.toml").write_text(CONFIG)
    bench = Bench(tmp_path / "store")
    good = batch([1, 2], bench=bench)
    other = batch([3], first=1, kit="kit-2", bench=bench)
    bench.send(
        good,
        other,
        bench.message("lichen/v1/kit-1/obs", b"\x1b[31m"),
        bench.message("lichen/v1/kit-1/obs", b"{", NOW_MS + 1000),
        bench.message("lichen/v1/kit-1/obs", b"{", NOW_MS + 2000),
        bench.message(other.topic, batch([4], first=1, bench=bench).payload.replace(b"pm25_cf1", b"pm25_new")),
        bench.message("lichen/v1/kit-2/obs", b"x" * 20_000),
        bench.message("lichen/v1/kit-1/status", b"[]"),
    )
    let_go(bench)
    return tmp_path


@pytest.fixture(params=["stopped", "running"])
def both(place, request):
    """The same with a running gateway, and without one."""
    if request.param == "stopped":
        yield place
    else:
        with running(place):
            yield place


def at(place):
    return ("-c", place / "gateway.toml")


def stored(place, question):
    db = open_reader(place / "store")
    try:
        return question(db)
    finally:
        db.close()


def test_dead_letters_are_counted_by_kit_and_reason(place):
    found = json.loads(done("deadletter", "list", *at(place), "--json"))
    by = {(g["kit"], g["reason"]): (g["letters"], g["copies"]) for g in found["groups"]}
    assert by == {
        ("kit-1", "not_json"): (2, 3),
        ("kit-1", "wrong_type"): (1, 1),
        ("kit-2", "unknown_column"): (1, 1),
        ("kit-2", "too_large"): (1, 1),
    }
    assert found["ever"]["dead_letters"] == 5
    assert found["ever"]["dead.not_json"] == 2
    text = done("deadletter", "list", "--dir", place, "--kit", "kit-1", "--letters")
    assert "kit-2" not in text
    assert "not_json" in text
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW_MS // 1000 + 1))
    late = json.loads(done("deadletter", "list", *at(place), "--since", since, "--letters", "--json"))
    assert [x["detail"] for x in late["letters"]] == ["Input data was truncated"]


def test_a_letter_is_shown_with_its_payload_and_what_to_do(place):
    letters = stored(place, lambda db: deadletters.choose(db, deadletters.Choice(), limit=100))
    for letter in letters:
        text = done("deadletter", "show", letter.id, *at(place))
        found = json.loads(done("deadletter", "show", letter.id, *at(place), "--json"))
        assert "\x1b" not in text  # what a stranger sent steers no terminal
        payload = bytes.fromhex(found["payload"]) if found["encoding"] == "hex" else found["payload"].encode()
        assert payload == letter.payload
        assert len(found["advice"]) > 20
        assert found["truncated"] == (letter.reason == "too_large")
    refused("deadletter", "show", 99, *at(place), status=1, says="no dead letter 99")


def test_bytes_that_are_no_text_are_shown_as_hex():
    from gateway.commands.deadletter import _payload

    assert _payload(b"\xff{") == ("hex", "ff7b")
    assert _payload(b"{\x1b[31m") == ("hex", "7b1b5b33316d")  # it would steer a terminal
    assert _payload("{ü\n".encode()) == ("text", "{ü\n")


def test_every_reason_has_advice():
    from gateway.commands.deadletter import _ADVICE
    from gateway.wire import Reason

    assert set(_ADVICE) == set(Reason)
    page = (REPO / "docs" / "dead-letters.md").read_text()
    assert [r for r in Reason if f"| `{r}` |" not in page] == []


def test_replay_tells_what_stays_and_why(both):
    result = lichen("deadletter", "replay", "--all", *at(both), "--json")
    assert result.stdout, result.stderr
    assert result.returncode == 1, result.stderr
    found = json.loads(result.stdout)
    assert found["replayed"] == 0
    assert sorted(x["reason"] for x in found["staying"]) == [
        "not_json", "not_json", "too_large", "unknown_column", "wrong_type",
    ]  # fmt: skip
    assert any("only its beginning was kept" in x["detail"] for x in found["staying"])
    assert sum(stored(both, deadletters.count).values()) == 5
    result = lichen("deadletter", "replay", 1, 99, *at(both))
    assert (result.returncode, "99: no dead letter has this number" in result.stdout) == (1, True)


def test_what_can_be_stored_now_is_replayed(place):
    (place / "gateway.toml").write_text(CONFIG + "[store]\nmax_kits = 2\n")
    bench = Bench(place / "store")
    bench.intake._max_kits = 2
    bench.send(*[batch([1], kit=f"kit-{n}", bench=bench) for n in (3, 4)])
    let_go(bench)
    assert stored(place, deadletters.count)["too_many_kits"] == 2
    (place / "gateway.toml").write_text(CONFIG)
    for manner in ("stopped", "running"):
        first = stored(place, lambda db: deadletters.choose(db, deadletters.Choice(reason="too_many_kits"), limit=1))
        arguments = ("deadletter", "replay", first[0].id, *at(place))
        if manner == "running":
            with running(place):
                said = done(*arguments)
        else:
            said = done(*arguments)
        assert said == "1 replayed, 0 stay dead letters\n"
    assert {k.name for k in stored(place, readings.kits)} == {"kit-1", "kit-2", "kit-3", "kit-4"}
    assert stored(place, counters.totals)["replayed"] == 2


def test_expire_asks_first_and_counts(both):
    refused("deadletter", "expire", "--kit", "kit-1", *at(both), status=2, says="give --yes")
    assert sum(stored(both, deadletters.count).values()) == 5
    assert done("deadletter", "expire", "--kit", "kit-1", "--reason", "not_json", "--yes", *at(both)) == (
        "2 dead letters expired\n"
    )
    assert done("deadletter", "expire", "--older-than", 10_000, "--yes", *at(both)) == "0 dead letters expired\n"
    assert stored(both, counters.totals)["dead_letters_expired"] == 2
    assert json.loads(done("deadletter", "list", *at(both), "--json"))["ever"]["dead.not_json"] == 2


def test_a_kit_is_deployed_moved_retired_and_that_is_taken_back(both):
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(T0))
    result = lichen("kit", "deploy", "kit-1", "school roof", "--from", start, *at(both))
    hour = time.strftime("%Y-%m-%dT%H:00:00Z", time.gmtime(T0))
    assert result.returncode == 0, result.stderr
    assert f"from {hour}; 1 hours are derived again" in result.stdout
    assert f"whole hours only: from {hour}" in result.stderr
    assert {k["kit"]: k["site"] for k in json.loads(done("kit", "list", *at(both), "--json"))} == {
        "kit-1": "school roof", "kit-2": "kit-2",
    }  # fmt: skip
    done("kit", "move", "kit-1", "library", *at(both))
    done("kit", "retire", "kit-1", "--from", "2099-01-01T00:00:00Z", *at(both))
    found = json.loads(done("kit", "show", "kit-1", *at(both), "--json"))
    assert [x["site"] for x in found["sites"]] == ["school roof", "library", "kit-1"]
    assert [(b["boot"], b["rows"]) for b in found["boots"]] == [(7, 2)]
    assert "school roof" in done("kit", "show", "kit-1", *at(both))
    done("kit", "undeploy", "kit-1", "--from", "2099-01-01T00:00:00Z", *at(both))
    done("calibrate", "assign", "kit-1", "barkjohn2021", "--from", hour, *at(both))
    found = json.loads(done("kit", "show", "kit-1", *at(both), "--json"))
    assert [x["site"] for x in found["sites"]] == ["school roof", "library"]
    assert found["corrections"] == [{"from": hour, "correction": "barkjohn2021@1"}]
    done("calibrate", "unassign", "kit-1", "--from", hour, *at(both))
    assert json.loads(done("kit", "show", "kit-1", *at(both), "--json"))["corrections"] == []


def test_the_clock_is_declared_right_shown_and_that_withdrawn(both):
    assert json.loads(done("clock", "unset", *at(both), "--json")) == {"withdrawn": False}
    assert "within 30 s" in done("clock", "set", "now", "--error", 30, *at(both))
    record = json.loads(stored(both, lambda db: read_meta(db, "clock_set")))
    assert record["error_s"] == 30
    assert abs(record["at_ms"] - time.time() * 1000) < 60_000
    found = json.loads(done("clock", "show", *at(both), "--json"))
    assert found["declared"]["error_s"] == 30
    wait_until(
        lambda: json.loads(done("clock", "show", *at(both), "--json"))["error_s"] in (0, 30), "the gateway believes it"
    )
    assert json.loads(done("clock", "unset", *at(both), "--json")) == {"withdrawn": True}
    found = json.loads(done("clock", "show", *at(both), "--json"))
    assert found["declared"] is None


@pytest.mark.parametrize(
    ("setting", "declared", "error_s", "kernel", "says"),
    [
        (False, None, None, True, "trusted = false"),
        (True, None, 0, False, "trusted = true"),
        (True, None, None, False, "moved a moment ago"),
        ("auto", None, 0, True, "NTP"),
        ("auto", None, None, True, "moved a moment ago"),
        ("auto", None, None, False, "nobody keeps it right"),
        ("auto", "this", 30, False, "an operator has declared it"),
        ("auto", "other", None, False, "before the machine started again"),
        ("auto", "", None, False, "moved since"),
        ("auto", "this", None, False, "moved a moment ago"),
    ],
)
def test_the_reason_for_what_is_announced_is_told(setting, declared, error_s, kernel, says):
    from gateway.system_clock import HandSet

    record = None if declared is None else HandSet(boot_id=declared, error_s=30, at_ms=0)
    assert says in clock_command._why(setting, record, error_s, kernel=kernel, this_boot="this")


def test_the_system_clock_is_set_before_it_is_declared_and_only_with_the_right(place, monkeypatch):
    import typer

    from gateway.errors import LichenError

    seen = []

    def settime(_, time_ns):
        seen.append((time_ns, stored(place, lambda db: read_meta(db, "clock_set"))))

    monkeypatch.setattr(clock_command.time, "clock_settime_ns", settime)
    monkeypatch.chdir(place)
    clock_command.set_clock("2026-11-21T22:00:00+08:00", 60, None, place / "gateway.toml")
    assert seen == [(1_795_269_600 * 10**9, None)]
    assert json.loads(stored(place, lambda db: read_meta(db, "clock_set")))["error_s"] == 60

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(clock_command.time, "clock_settime_ns", refuse)
    with pytest.raises(LichenError, match="sudo"):
        clock_command.set_clock("2026-11-21T14:00:00Z", 5, None, place / "gateway.toml")
    assert json.loads(stored(place, lambda db: read_meta(db, "clock_set")))["error_s"] == 60
    with pytest.raises(typer.BadParameter):
        clock_command.set_clock("2019-12-31T23:00:00Z", 5, None, place / "gateway.toml")


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("clock set 2026-11-21T14:00:00 --error 60", 2, "names no zone"),
        ("clock set soon --error 60", 2, "no ISO-8601 time"),
        ("clock set now --error 0", 2, "give 1 to 86400 seconds"),
        ("clock set 2019-12-31T23:59:59Z --error 60", 2, "the year 2019 is not within 2020 and 2100"),
        ("clock set now", 2, "--error"),
        ("kit deploy kit-3 roof", 1, "did you mean kit-"),
        ("kit show Kit1", 1, "did you mean kit-1?"),
        ("kit deploy kit-1 roof --from 2026-11-01", 2, "names no zone"),
        ("kit undeploy kit-1 --from 2026-11-01T00:00:00Z", 1, "its lines are from: none"),
        ("calibrate assign kit-1 barkjon2021", 1, "barkjohn2021"),
        ("deadletter replay", 2, "say which"),
        ("deadletter replay 1 --all", 2, "say which"),
        ("deadletter expire --yes", 2, "say which"),
        ("deadletter list --reason none", 2, "known are not_json"),
        ("deadletter list --since yesterday", 2, "no ISO-8601 time"),
    ],
)
def test_a_wrong_command_is_told_clearly(place, command, status, says):
    refused(*command.split(), *at(place), status=status, says=says)


def test_a_site_has_a_name_that_can_be_printed(place):
    for name in ("", "x" * 65, "a\nb", " roof", "a\x1b[31m"):
        refused("kit", "deploy", "kit-1", name, *at(place), status=1, says="1 to 64 printable characters")


@pytest.mark.parametrize("group", ["deadletter", "clock", "kit", "calibrate", "void"])
def test_every_command_has_an_example(group):
    from typer.main import get_command

    from gateway.commands.tree import tree

    for name, command in get_command(tree()).commands[group].commands.items():
        assert f"lichen {group} {name}" in command.help, name
        assert any("--json" in option.opts for option in command.params), name


def test_a_command_is_a_process_of_its_own_beside_the_gateway(place):
    with running(place):
        assert process("clock", "set", "now", "--error", 7, *at(place)) == 0
        assert process("deadletter", "replay", "--all", *at(place)) == 1
        assert process("deadletter", "replay", *at(place)) == 2
    assert json.loads(stored(place, lambda db: read_meta(db, "clock_set")))["error_s"] == 7
    assert process("deadletter", "expire", "--kit", "kit-1", "--yes", *at(place)) == 0
    assert set(stored(place, deadletters.count)) == {"unknown_column", "too_large"}


def test_a_command_without_a_store_says_so(tmp_path):
    (tmp_path / "gateway.toml").write_text(CONFIG)
    refused("deadletter", "list", *at(tmp_path), status=1, says="no store here")
    refused("clock", "set", "now", "--error", 5, *at(tmp_path), status=1, says="no store here")
    refused("kit", "list", status=2, says="give one of --dir DIR and -c gateway.toml")


def test_an_upgrade_that_knows_the_column_replays_by_itself(place, tmp_path):
    with running(place):
        wait_until(lambda: stored(place, lambda db: read_meta(db, "columns")), "this program's columns are kept")
    assert stored(place, deadletters.count)["unknown_column"] == 1
    newer = tmp_path / "newer"
    for package in ("gateway", "calibration"):
        shutil.copytree(REPO / package, newer / package, ignore=shutil.ignore_patterns("__pycache__"))
    table = newer / "calibration" / "quantities.toml"
    table.write_text(
        table.read_text()
        + '[[channel]]\nname = "pm25_new"\ntitle = "New"\nunit = "ug/m**3"\ntext = "µg/m³"\nper_unit = 10\n'
        + 'plausible = [0, 5000]\nsensor = "pm"\n'
    )
    with running(place, newer):
        wait_until(lambda: "unknown_column" not in stored(place, deadletters.count), "the letter is replayed")
        wait_until(lambda: "pm25_new" in stored(place, lambda db: read_meta(db, "columns")), "the new columns are kept")
    assert ("kit-2", 7, 4) in stored(place, rows)
    assert stored(place, counters.totals)["replayed"] == 1
    assert process("verify", *at(place), folder=newer) == 0


def rows(db):
    found = db.execute("SELECT name, boot, seq_from, seq_to FROM cover JOIN kit ON kit.id = kit")
    return {(kit, boot, seq) for kit, boot, low, high in found for seq in range(low, high + 1)}
