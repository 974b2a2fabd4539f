"""In a system with systemd as its first process: install, start, kill, watchdog, upgrade, go back, uninstall.

The tests share one machine and go from top to bottom.
"""

import json
import shutil
import time

import deploy_machine
import pytest
from components import REPO
from figures import record
from influxd import wait_until

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(400)]
UNIT = "lichen-gateway"
CONFIG = "/etc/lichen/gateway.toml"
INSTALL = "sh /src/deploy/install.sh install --wheels /wheels"
SHIPPED = (
    "pyproject.toml",
    "requirements.lock",
    "README.md",
    "gateway",
    "calibration",
    "firmware_micropython",
    "deploy",
    "docs",
)
# Quick restarts and a short patience; all else is as shipped.
IMPATIENT = "[Service]\nRestartSec=1s\nWatchdogSec=4s\n"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The checkout as it is now: an upgrade is tried by changing it."""
    folder = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        copy = shutil.copytree if (REPO / name).is_dir() else shutil.copy
        copy(REPO / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def machine(source, tmp_path_factory):
    found = deploy_machine.need_machine()
    binds = [(source, "/src"), (found / "wheels", "/wheels"), (REPO / "tests", "/tests")]
    with deploy_machine.Machine(tmp_path_factory.mktemp("machine"), binds=binds) as machine:
        yield machine


def main_pid(machine):
    return int(machine.show(UNIT, "MainPID"))


def is_well(machine):
    """Whether systemd has been told that it is ready, and it receives."""
    return machine.show(UNIT, "ActiveState") == "active" and machine.show(UNIT, "StatusText").startswith("receiving")


def wait_until_well(machine, *, but_not=0):
    wait_until(lambda: is_well(machine) and main_pid(machine) != but_not, "the gateway receives", 60)
    return main_pid(machine)


def test_it_is_installed_and_ready(machine):
    said = machine.run(INSTALL + " --dry-run").stdout
    assert "nothing was done" in said
    assert machine.run("ls -d /opt/lichen /etc/lichen /var/lib/lichen", check=False).stdout == ""
    said = machine.run(INSTALL).stdout
    for done in (
        "add the user and group lichen",
        "make a random password",
        "write /etc/lichen/gateway.toml",
        "restart mosquitto",
    ):
        assert done in said
    assert "Active: active (running)" in said
    wait_until_well(machine)


def test_installing_again_changes_nothing(machine):
    pid = main_pid(machine)
    listing = "find /etc/lichen /etc/mosquitto /etc/systemd /opt/lichen -type f -printf '%p %T@ %m %u\\n' | sort"
    before = machine.run(listing).stdout
    said = machine.run(INSTALL).stdout
    assert said.splitlines()[0].endswith("is installed already")
    assert "write" not in said
    assert main_pid(machine) == pid
    assert machine.run(listing).stdout == before


def test_secrets_are_roots_and_no_command_line_or_log_has_one(machine):
    modes = machine.run(
        "stat -c '%a %U %n' /etc/lichen/credentials /etc/lichen/credentials/* /etc/mosquitto/lichen.*"
    ).stdout
    assert "700 root /etc/lichen/credentials\n600 root /etc/lichen/credentials/broker-password" in modes
    assert "640 root /etc/mosquitto/lichen.passwords" in modes
    password = machine.run("cat /etc/lichen/credentials/broker-password").stdout.strip()
    assert len(password) == 32
    assert password not in machine.run("journalctl -q --no-pager; ps axww; cat /var/log/mosquitto/mosquitto.log").stdout
    assert machine.run("systemctl show lichen-gateway").stdout.count(password) == 0


def drop_in(machine, text, *, place="/etc"):
    """Change the unit as `systemctl edit` does; no text takes it back."""
    folder = f"{place}/systemd/system/{UNIT}.service.d"
    machine.run(f"mkdir -p {folder}; cat > {folder}/test.conf; systemctl daemon-reload", given=text)


def test_the_sandbox_lets_the_gateway_do_its_work_and_nothing_else(machine):
    probe = "/opt/lichen/current/bin/python /tests/deploy_probe.py"
    instead = (
        f"Type=oneshot\nRestart=no\nWatchdogSec=0\nStandardOutput=file:/run/probe\nExecStart=\nExecStart={probe}\n"
    )
    drop_in(machine, f"[Service]\n{instead}", place="/run")
    machine.run(f"systemctl stop {UNIT} && systemctl start {UNIT}")
    found = json.loads(machine.run("cat /run/probe").stdout)
    drop_in(machine, "", place="/run")
    machine.run(f"systemctl restart {UNIT}")
    assert found == {
        "adjtimex": True, "boot_id": True, "child": 0, "password": "works", "state": "works", "tcp": "works",
        "home": [], "root's password": "Permission denied", "etc": "Read-only file system",
        "opt": "Read-only file system", "netlink": "Address family not supported by protocol",
        "clock": "Operation not permitted",
    }  # fmt: skip


def test_its_exposure_is_at_most_two(machine):
    said = machine.run(f"systemd-analyze security --no-pager {UNIT}").stdout
    score = float(said.splitlines()[-1].split(": ")[1].split()[0])
    record("gw.security_score", score, unit="", goal="<= 2.0", how="systemd-analyze security of the installed unit")
    assert score <= 2.0


def test_a_kit_made_by_hand_is_stored_and_gets_its_receipt(machine):
    wait_until_well(machine)
    machine.run(
        "mosquitto_passwd /etc/mosquitto/lichen.passwords kit-1 && systemctl reload mosquitto", given="secret\nsecret\n"
    )
    machine.run("/opt/lichen/current/bin/python /tests/deploy_kit.py kit-1 secret")
    kits = json.loads(machine.run(f"lichen kit list -c {CONFIG} --json").stdout)
    assert [(k["kit"], k["rows"]) for k in kits] == [("kit-1", 10)]


def test_who_is_in_the_group_reads_the_store_and_gives_commands_and_nobody_else(machine):
    machine.run("useradd -m -G lichen ann && useradd -m bob")
    as_user = "setpriv --reuid={0} --regid={0} --init-groups lichen {1} -c " + CONFIG
    assert "kit-1" in machine.run(as_user.format("ann", "kit list")).stdout
    assert "stands at roof" in machine.run(as_user.format("ann", "kit deploy kit-1 roof")).stdout
    assert "roof" in machine.run(as_user.format("ann", "kit show kit-1")).stdout
    refused = machine.run(as_user.format("bob", "kit list"), check=False)
    assert refused.returncode
    assert "readable" in refused.stderr


def test_what_root_asks_for_leaves_no_file_of_root_in_the_store(machine):
    begun_s = time.monotonic()
    machine.run(f"systemctl stop {UNIT}")
    assert time.monotonic() - begun_s < 10
    assert machine.show(UNIT, "Result") == "success"
    for command in ("kit deploy kit-1 yard", "verify", "clock show"):
        machine.run(f"lichen {command} -c {CONFIG}")
    assert machine.run("find /var/lib/lichen ! -user lichen").stdout == ""
    machine.run(f"systemctl start {UNIT}")


def test_root_makes_a_backup_and_restores_it(machine):
    machine.run("install -d -o lichen -g lichen -m 750 /var/backups/lichen")
    machine.run(f"lichen backup /var/backups/lichen -c {CONFIG}")
    assert machine.run("stat -c %U /var/backups/lichen/*").stdout.split() == ["lichen"]
    machine.run(f"systemctl stop {UNIT} && lichen restore /var/backups/lichen/*.sqlite -c {CONFIG}")
    assert machine.run("find /var/lib/lichen ! -user lichen").stdout == ""
    machine.run(f"systemctl start {UNIT}")
    kits = json.loads(machine.run(f"lichen kit list -c {CONFIG} --json").stdout)
    assert [(k["kit"], k["rows"]) for k in kits] == [("kit-1", 10)]
    machine.run("rm -r /var/backups/lichen")


def test_killed_it_is_started_again(machine):
    drop_in(machine, IMPATIENT)
    machine.run(f"systemctl restart {UNIT}")
    pid = wait_until_well(machine)
    machine.run(f"kill -9 {pid}")
    wait_until_well(machine, but_not=pid)
    assert "Main process exited, code=killed, status=9/KILL" in machine.journal(UNIT)


def test_hanging_it_is_killed_by_the_watchdog_and_started_again(machine):
    pid = wait_until_well(machine)
    machine.run(f"kill -STOP {pid}")
    wait_until_well(machine, but_not=pid)
    assert "Watchdog timeout" in machine.journal(UNIT)


def test_the_log_has_priorities(machine):
    machine.run("systemctl stop mosquitto")
    wait_until(lambda: "connection to the broker lost" in machine.journal(UNIT), "it notices", 30)
    machine.run("systemctl start mosquitto")
    warned = machine.journal(UNIT, "-p", "warning", "_TRANSPORT=stdout")
    assert "gateway.broker: connection to the broker lost" in warned
    assert "connected to the broker at" not in warned
    assert "<4>" not in machine.journal(UNIT)
    wait_until_well(machine)


def test_with_an_influxdb_the_sink_runs_in_the_sandbox_too(machine):
    section = (
        '[influx]\nurl = "http://127.0.0.1:9"\norg = "o"\nbucket = "b"\n'
        'token_file = "/run/credentials/lichen-gateway.service/influx-token"\n'
    )
    machine.run(f"cat >> {CONFIG}; systemctl restart {UNIT}", given=section)
    wait_until(lambda: "127.0.0.1:9" in machine.journal(UNIT), "the sink says that no InfluxDB answers", 30)
    assert (
        len(
            machine.run(
                f"cat /sys/fs/cgroup/systemd/$(systemctl show --value -p ControlGroup {UNIT})/cgroup.procs"
            ).stdout.split()
        )
        == 2
    )
    wait_until_well(machine)


def test_an_upgrade_keeps_what_was_edited_and_stored(machine, source):
    old = machine.run("readlink /opt/lichen/current").stdout
    (source / "gateway" / "newer.py").write_text('"""A change."""\n')
    (source / "deploy" / "gateway.toml").write_text((REPO / "deploy" / "gateway.toml").read_text() + "\n# newer\n")
    pid = wait_until_well(machine)
    said = machine.run(INSTALL).stdout
    assert f"{CONFIG} was edited and stays; the new one becomes {CONFIG}.new" in said
    assert machine.run("readlink /opt/lichen/current").stdout != old
    wait_until_well(machine, but_not=pid)
    assert "[influx]" in machine.run(f"cat {CONFIG}").stdout
    assert "# newer" in machine.run(f"cat {CONFIG}.new").stdout
    kits = json.loads(machine.run(f"lichen kit list -c {CONFIG} --json").stdout)
    assert [(k["kit"], k["rows"]) for k in kits] == [("kit-1", 10)]


def test_a_version_that_does_not_start_is_taken_back(machine, source):
    good = machine.run("readlink /opt/lichen/current").stdout
    service = source / "gateway" / "service.py"
    whole = service.read_text()
    service.write_text(whole.replace('notify("READY=1")', 'raise RuntimeError("broken on purpose")'))
    drop_in(machine, IMPATIENT.replace("RestartSec=1s", "RestartSec=1min"))
    failed = machine.run(INSTALL, check=False)
    service.write_text(whole)
    assert failed.returncode == 1
    assert "the upgrade failed and" in failed.stderr
    assert machine.run("readlink /opt/lichen/current").stdout == good
    wait_until_well(machine)


def test_uninstalled_it_leaves_the_readings_and_purged_nothing(machine):
    said = machine.run("sh /src/deploy/install.sh uninstall").stdout
    assert "kept: readings in /var/lib/lichen" in said
    assert (
        machine.run(
            f"systemctl cat {UNIT}; ls -d /opt/lichen /usr/local/bin/lichen /etc/mosquitto/conf.d/lichen.conf",
            check=False,
        ).stdout
        == ""
    )
    assert "lichen.sqlite" in machine.run("ls /var/lib/lichen/store").stdout
    assert machine.run("systemctl is-active mosquitto").stdout.strip() == "active"
    assert machine.run("sh /src/deploy/install.sh uninstall --purge", check=False).returncode == 1  # nobody to ask
    assert "lichen.sqlite" in machine.run("ls /var/lib/lichen/store").stdout
    machine.run("sh /src/deploy/install.sh uninstall --purge --yes")
    not_its = "".join(f" -not -path '{path}/*'" for path in ("/proc", "/src", "/tests", "/var/lib/mosquitto"))
    left = machine.run(f"getent passwd lichen; find / -xdev -name '*lichen*'{not_its}", check=False).stdout
    assert left == ""
