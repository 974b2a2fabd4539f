"""What is shipped for an installation, without one: the unit, the broker's files, the installer's dry run, the log."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import components
import pytest
from components import REPO
from influxd import wait_until
from main_job import LICHEN

from gateway import settings
from gateway.errors import PartFailedError, TakenOverError
from gateway.simulate import mosquitto as demo

DEPLOY = REPO / "deploy"
UNIT = DEPLOY / "lichen-gateway.service"


def bare(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def need_systemd_analyze():
    if not shutil.which("systemd-analyze"):
        components.refuse("systemd-analyze", "install the package systemd")


def test_systemd_takes_the_unit(tmp_path):
    need_systemd_analyze()
    copy = tmp_path / UNIT.name
    copy.write_text(re.sub(r"(?m)^ExecStart=.*$", "ExecStart=/bin/true", UNIT.read_text()))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "lichen" in line]) == (0, [])


def test_the_units_exposure_is_at_most_two():
    need_systemd_analyze()
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", UNIT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        components.refuse("systemd-analyze security --offline", "install systemd 250 or newer")
    assert float(re.search(r"exposure level for .*: ([\d.]+)", done.stdout)[1]) <= 2.0


def test_systemd_starts_it_again_after_all_but_a_session_taken_over():
    unit = UNIT.read_text()
    assert "Restart=on-failure\n" in unit
    assert "StartLimitIntervalSec=0\n" in unit
    assert "WatchdogSec=60s\n" in unit
    assert f"RestartPreventExitStatus={TakenOverError.exit_status}\n" in unit


def test_the_brokers_access_list_is_the_one_that_is_tested():
    shipped = (DEPLOY / "mosquitto" / "lichen.acl").read_text()
    assert bare(shipped) == bare(demo._ACL.format(gateway="gateway", base="lichen/v1"))


@pytest.mark.mosquitto
def test_mosquitto_takes_its_configuration_beside_the_distributions(mosquitto, tmp_path):
    port = demo.free_port()
    for name in ("lichen.passwords", "lichen.acl"):
        (tmp_path / name).write_text((DEPLOY / "mosquitto" / "lichen.acl").read_text() if name.endswith("acl") else "")
    conf = (DEPLOY / "mosquitto" / "lichen.conf").read_text().replace("/etc/mosquitto", str(tmp_path))
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "lichen.conf").write_text(conf.replace("listener 1883 ", f"listener {port} "))
    user = "user root\n" if os.geteuid() == 0 else ""
    (tmp_path / "mosquitto.conf").write_text(  # as Debian ships it
        f"{user}persistence true\npersistence_location {tmp_path}/\nlog_dest file {tmp_path}/log\n"
        f"include_dir {tmp_path}/conf.d\n"
    )
    broker = subprocess.Popen([mosquitto, "-c", str(tmp_path / "mosquitto.conf")], stderr=subprocess.PIPE, text=True)
    try:

        def answers():
            assert broker.poll() is None, broker.stderr.read()
            with suppress(PartFailedError):
                demo.probe("127.0.0.1", port)
                return True
            return False

        wait_until(answers, "the broker answers", 15)
    finally:
        broker.kill()
        broker.wait()
        broker.stderr.close()


def test_the_gateway_takes_the_configuration_that_is_installed():
    found = settings.load(DEPLOY / "gateway.toml")
    credentials = re.findall(r"(?m)^LoadCredential=([\w-]+):", UNIT.read_text())
    assert found.broker.password_file == f"/run/credentials/{UNIT.name}/broker-password"
    assert set(credentials) == {"broker-password", "influx-token"}
    assert found.store_dir.parent.name == re.search(r"(?m)^StateDirectory=(\w+)$", UNIT.read_text())[1]


@pytest.mark.parametrize("script", ["install.sh", "lichen"])
def test_the_scripts_are_plain_sh(script):
    assert subprocess.run(["sh", "-n", DEPLOY / script], check=False).returncode == 0


def test_a_dry_run_says_all_and_does_nothing():
    def there():
        places = map(Path, ("/opt/lichen", "/etc/lichen", "/etc/mosquitto", "/etc/chrony", "/usr/local/bin/lichen"))
        return {place: place.stat().st_mtime_ns for place in places if place.exists()}

    before = there()
    done = subprocess.run([DEPLOY / "install.sh", "install", "--dry-run"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, there()) == (0, "", before)
    if Path("/opt/lichen") not in before:
        assert "would: make an environment in /opt/lichen/releases/" in done.stdout
        assert "would: write /etc/systemd/system/lichen-gateway.service" in done.stdout
    assert done.stdout.endswith("nothing was done\n")


def test_the_installer_used_wrongly_explains_itself():
    done = subprocess.run([DEPLOY / "install.sh", "instal"], capture_output=True, text=True, check=False)
    assert (done.returncode, "uninstall" in done.stderr) == (2, True)


def log_of(code, *, journal):
    """What a process says to standard error, which is the journal's or not."""
    reads, writes = os.pipe()
    stream = os.fstat(writes)
    env = {**os.environ, "JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino}" if journal else "1:1"}
    subprocess.run(code, stderr=writes, env=env, check=False, cwd=REPO)
    os.close(writes)
    with os.fdopen(reads) as said:
        return said.read()


LOGS = """
import logging
from gateway import log
log.set_up()
part = logging.getLogger("part")
part.info("fine")
try:
    1 / 0
except ArithmeticError:
    part.exception("bad")
"""


def test_in_the_journal_each_line_has_its_priority():
    lines = log_of([sys.executable, "-c", LOGS], journal=True).splitlines()
    assert lines[0] == "<6>part: fine"
    assert lines[1] == "<3>part: bad"
    assert len(lines) > 4  # the traceback
    assert all(line.startswith("<3>") for line in lines[1:])


def test_elsewhere_the_log_is_for_people():
    said = log_of([sys.executable, "-c", LOGS], journal=False)
    assert said.startswith("INFO part: fine\nERROR part: bad\nTraceback")


def test_why_a_gateway_ended_is_an_error_in_the_journal(tmp_path):
    command = [*LICHEN, "run", "-c", tmp_path / "gateway.toml"]
    (tmp_path / "gateway.toml").write_text("[broker]\nprot = 1883\n")
    assert log_of(command, journal=True).startswith(f"<3>lichen: {tmp_path}/gateway.toml: unknown key prot in [broker]")
    assert log_of(command, journal=False).startswith(f"lichen: {tmp_path}")
