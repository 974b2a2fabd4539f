"""What a process loads before it works: a library that only some gateways or commands need is loaded by those."""

import os
import subprocess
import sys

import httpx
import pytest
from components import REPO
from influxd import wait_until
from live_gateway import LiveGateway
from main_job import LICHEN

COMMAND_LINE = {"typer", "rich", "pydantic"}
ON_DEMAND = {"pint", "prometheus_client", "influxdb_client", "urllib3"}
OF_COMMANDS = {"gateway.drift", "gateway.tables", "gateway.status"}
PAGE = {"starlette", "uvicorn", "jinja2", "anyio", "asyncio", "h11"}
SERVICE = {"gateway.service", "gateway.broker", "gateway.intake", "paho"}
IMPORT_TIMES = {"PYTHONPROFILEIMPORTTIME": "1"}


def loaded(text):
    """Modules, with their packages, that a process has loaded, as `-X importtime` told it."""
    names = {line.rpartition("|")[2].strip() for line in text.splitlines() if line.startswith("import time:")}
    return names | {name.partition(".")[0] for name in names}


def config_of(folder, page):
    path = folder / "gateway.toml"
    path.write_text(f'[broker]\nport = 1\n[clock]\ntrusted = "auto"\n[web]\n{page}\n')  # no broker there
    return path


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(REPO), "COLUMNS": "200"}
    return subprocess.run(
        [*LICHEN, *map(str, arguments)], check=False, capture_output=True, text=True, env=environment
    )  # fmt: skip


def after(*arguments, then):
    """Run a command in a process of its own and something after it; returns what that prints."""
    code = f"""
import sys
sys.argv = ["lichen", *{[str(a) for a in arguments]}]
from gateway import cli
try:
    cli.main()
except SystemExit:
    pass
{then}"""
    environment = {name: value for name, value in os.environ.items() if "OPENBLAS" not in name}
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment,
                          cwd=REPO).stdout  # fmt: skip


def loaded_after(*arguments):
    return set(after(*arguments, then="print(*sys.modules)").splitlines()[-1].split())


def test_a_gateway_without_a_page_loads_what_it_needs(tmp_path):
    with LiveGateway(config_of(tmp_path, "enabled = false"), env=IMPORT_TIMES) as live:
        wait_until(lambda: live.status, "its first turn is over")
        live.terminate()
    found = loaded(live.log)
    assert found >= {"gateway.service", "numpy", "paho"}
    assert not found & (COMMAND_LINE | ON_DEMAND | PAGE | OF_COMMANDS)


def test_a_gateway_with_a_page_loads_that_beside_its_work(tmp_path):
    with LiveGateway(config_of(tmp_path, "port = 0"), env=IMPORT_TIMES) as live:
        live.wait_for_log("the page is at")
        url = next(word for word in live.log.split() if word.startswith("http://"))
        assert httpx.get(url, timeout=30).status_code == 200
        found = loaded(live.log)
        live.terminate()
    assert found >= PAGE
    assert not found & (COMMAND_LINE | ON_DEMAND)


@pytest.mark.parametrize("written", [["-c"], ["--config"], ["--config="]])
def test_the_gateway_starts_however_its_configuration_is_given(tmp_path, written):
    absent = tmp_path / "absent.toml"
    refused = command("run", *([f"{written[0]}{absent}"] if written[0].endswith("=") else [*written, absent]))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"lichen: {absent}: ")
    assert "Traceback" not in refused.stderr


def test_a_gateway_started_in_another_way_of_writing_works_too(tmp_path):
    live = LiveGateway(config_of(tmp_path, "enabled = false"))
    live._command = [*LICHEN, "run", f"--config={tmp_path / 'gateway.toml'}"]
    with live:
        wait_until(lambda: live.status, "its first turn is over")
        live.terminate()
    assert "READY=1" in [text for _, text in live.notices]


def test_help_loads_no_gateway_and_a_command_no_other(tmp_path):
    helped = loaded_after("--help")
    assert {"gateway.commands.backup", "gateway.commands.influx"} < helped
    assert not helped & (SERVICE | ON_DEMAND | PAGE)
    shown = loaded_after("status", "-c", config_of(tmp_path, "enabled = false"))
    assert "gateway.status" in shown
    others = {"gateway.commands.backup", "gateway.commands.influx", "gateway.control_handlers", "rich.progress"}
    assert not shown & (SERVICE | ON_DEMAND | PAGE | others)


def test_a_command_that_does_not_exist_is_answered_with_those_that_do():
    refused = command("stats")
    assert refused.returncode == 2
    assert "status" in refused.stderr


def test_garbage_is_looked_for_again_when_all_is_loaded():
    counted = "import gc; from gateway.loading import loading; print(gc.get_freeze_count())\n"
    failing = "try:\n with loading():\n  print(gc.isenabled()); 1 / 0\nexcept ZeroDivisionError: pass\n"
    told = "print(gc.isenabled(), gc.get_freeze_count() > 1000)"
    found = subprocess.run(
        [sys.executable, "-c", counted + failing + told], check=True, capture_output=True, text=True, cwd=REPO
    ).stdout  # fmt: skip
    assert found.split() == ["0", "False", "True", "True"]


def test_numpy_has_no_threads_of_its_own():
    found = after("run", "-c", "absent.toml", then="import os, numpy; print(len(os.listdir('/proc/self/task')))")
    assert found.split()[-1] == "1"
