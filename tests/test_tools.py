"""The scripts that obtain real components: help, what is there already, what is missing, and the lock files."""

import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tools"
SCRIPTS = ("all", "build_influxd", "get_chromium", "get_micropython", "get_mosquitto", "get_telegraf", "lock")
BASICS = (
    "sh", "dirname", "mkdir", "sed", "head", "sort", "timeout", "mv", "chmod", "grep", "awk", "cat", "uname", "tail",
    "rm", "find",
)  # fmt: skip
PACKAGES = ["clang", "protobuf-compiler", "pkg-config", "faketime", "gcc", "systemd", "chromium"]


@pytest.fixture
def machine(tmp_path):
    """A machine of its own: a PATH with basic programs only, and an empty folder for tools."""
    return Machine(tmp_path)


class Machine:
    def __init__(self, root):
        self.bin, self.tools = root / "bin", root / "tools"
        self.bin.mkdir()
        for name in BASICS:
            (self.bin / name).symlink_to(shutil.which(name))
        self.put("id", "echo 1000")

    def put(self, name, script, folder=None):
        """A program that is a line of shell."""
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def run(self, script, *arguments):
        environment = {"PATH": str(self.bin), "LICHEN_TOOLS": str(self.tools)}
        command = ["/bin/sh", str(TOOLS / f"{script}.sh"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


MOSQUITTO = 'echo "mosquitto version 2.0.11"; exit 3'
INFLUXD = 'echo "InfluxDB 2.7.12 (git: none)"'
TELEGRAF = 'echo "Telegraf 1.37.2"'


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_the_head_comment_and_does_nothing(machine, script):
    done = machine.run(script, "-h")
    head = (TOOLS / f"{script}.sh").read_text().splitlines()[1].removeprefix("# ")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, head)
    assert f"{script}.sh" in done.stdout
    assert machine.run(script, "--help").stdout == done.stdout
    assert not machine.tools.exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_an_unknown_argument_is_wrong_usage(machine, script):
    done = machine.run(script, "--surprise")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")
    assert not machine.tools.exists()


@pytest.mark.parametrize("script", [*SCRIPTS, "common"])
def test_a_script_is_sound_posix_shell(script):
    path = TOOLS / f"{script}.sh"
    subprocess.run(["/bin/sh", "-n", str(path)], check=True, timeout=20)
    assert bool(path.stat().st_mode & stat.S_IXUSR) == (script != "common")
    if checker := shutil.which("shellcheck"):
        subprocess.run([checker, "-x", "-s", "sh", str(path)], check=True, timeout=60, cwd=TOOLS)


@pytest.mark.parametrize(("script", "name", "program", "line"), [
    ("get_mosquitto", "mosquitto", MOSQUITTO, "mosquitto 2.0.11: "),
    ("get_micropython", "micropython", "echo 1.25.0 64", "micropython 1.25.0 (64 bit): "),
    ("build_influxd", "influxd", INFLUXD, "influxd 2.7.12: "),
    ("get_telegraf", "telegraf", TELEGRAF, "telegraf 1.37.2: "),
])  # fmt: skip
def test_what_is_there_is_left_alone_and_said_in_one_line(machine, script, name, program, line):
    there = machine.put(name, program, machine.tools / name)
    before = there.stat().st_mtime_ns
    done = machine.run(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{line}{there}\n", "")
    assert there.stat().st_mtime_ns == before
    assert [p.name for p in there.parent.iterdir()] == [name]


@pytest.mark.parametrize(("script", "name", "program"), [
    ("get_mosquitto", "mosquitto", MOSQUITTO),
    ("get_micropython", "micropython", "echo 1.25.0 64"),
    ("build_influxd", "influxd", INFLUXD),
    ("get_telegraf", "telegraf", TELEGRAF),
])  # fmt: skip
def test_an_installed_program_is_taken(machine, script, name, program):
    machine.put(name, program)
    machine.put("mosquitto_passwd", "exit 0")
    assert machine.run(script).returncode == 0
    asked = subprocess.run([machine.tools / name / name], capture_output=True, text=True, check=False)
    assert asked.stdout.split()[-1] in program


@pytest.mark.parametrize("program", ["echo 1.22.0 64", "echo 1.25.0 32", "exit 1"])
def test_a_micropython_that_is_too_old_or_of_the_wrong_word_size_is_not_taken(machine, program):
    machine.put("micropython", program)
    done = machine.run("get_micropython")
    assert (done.returncode, done.stdout) == (3, "")
    assert not (machine.tools / "micropython/micropython").exists()


@pytest.mark.parametrize(("script", "package"), [
    ("get_mosquitto", "mosquitto"),
    ("get_micropython", "micropython"),
    ("get_chromium", "chromium"),
    ("build_influxd", "golang-go"),
    ("get_telegraf", "golang-go"),
])  # fmt: skip
def test_a_bare_machine_is_told_the_one_package(machine, script, package):
    done = machine.run(script)
    assert (done.returncode, done.stdout) == (3, "")
    assert re.search(rf"{script}\.sh: .*\b(apt-get install|the package) {package}\b", done.stderr)
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("lacks", "package"), [
    ("cargo", "cargo"), ("clang", "clang"), ("protoc", "protobuf-compiler"), ("pkg-config", "pkg-config"),
])  # fmt: skip
def test_a_build_names_the_tool_it_lacks(machine, lacks, package):
    for name in {"go", "cargo", "clang", "protoc", "pkg-config"} - {lacks}:
        machine.put(name, "echo go1.24.1")
    done = machine.run("build_influxd")
    assert done.returncode == 3
    assert done.stderr == f"build_influxd.sh: needs {lacks}; run: apt-get install {package}\n"


def test_a_go_that_is_too_old_is_refused_before_the_build(machine):
    for name in ("go", "cargo", "clang", "protoc", "pkg-config"):
        machine.put(name, "echo go1.19.8")
    done = machine.run("build_influxd")
    assert done.returncode == 3
    assert "this is go1.19.8" in done.stderr


def test_a_failed_build_says_where_its_log_is_and_leaves_no_program(machine):
    for name in ("cargo", "clang", "protoc", "pkg-config", "env"):
        machine.put(name, "echo broken; exit 1")
    machine.put("go", "echo go1.24.1")
    done = machine.run("build_influxd")
    assert done.returncode == 3
    assert str(machine.tools / "influxd/build.log") in done.stderr
    assert not (machine.tools / "influxd/influxd").exists()


def test_a_folder_that_cannot_be_made_is_said_with_a_way_out(machine):
    machine.tools.write_text("a file, not a folder")
    done = machine.run("get_mosquitto")
    assert done.returncode == 3
    assert "set LICHEN_TOOLS" in done.stderr


def furnish(machine):
    machine.put("mosquitto", MOSQUITTO, machine.tools / "mosquitto")
    machine.put("micropython", "echo 1.25.0 64", machine.tools / "micropython")
    machine.put("micropython32", "echo 1.25.0 32", machine.tools / "micropython")
    machine.put("influxd", INFLUXD, machine.tools / "influxd")


def test_all_as_an_ordinary_user_names_what_is_missing_and_gets_the_rest(machine):
    furnish(machine)
    machine.put("apt-get", f"echo called > {machine.tools}/apt")
    done = machine.run("all")
    assert done.returncode == 3
    assert f"apt-get install {' '.join(PACKAGES)}\n" in done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "mosquitto",
        "micropython",
        "micropython",
        "influxd",
    ]
    assert not (machine.tools / "apt").exists()


def test_all_as_root_installs_only_what_is_missing(machine):
    furnish(machine)
    machine.put("id", "echo 0")
    for name in ("clang", "protoc", "faketime", "cc", "systemd-analyze"):
        machine.put(name, "exit 0")
    chromium = machine.bin / "chromium"
    machine.put("apt-get", f'echo "$@" >> {machine.tools}/apt\n'
        f"printf '#!/bin/sh\\necho Chromium 150.0.1.2 built\\n' > {chromium}; chmod +x {chromium}")  # fmt: skip
    done = machine.run("all")
    assert (done.returncode, done.stderr) == (0, "")
    assert (machine.tools / "apt").read_text() == "-qq install -y pkg-config chromium\n"
    assert done.stdout.splitlines()[-1] == f"chromium 150.0.1.2: {chromium}"


@pytest.mark.parametrize(("wanted", "have", "enough"), [
    ("1.23", "1.25.0", True), ("1.23", "1.23", True), ("1.23", "1.9", False), ("1.21", "1.19.8", False),
    ("9", "10", True),
])  # fmt: skip
def test_versions_are_compared_as_numbers(wanted, have, enough):
    script = f'. "$0"; at_least {wanted} {have}'
    done = subprocess.run(["/bin/sh", "-c", script, str(TOOLS / "common.sh")], check=False, timeout=20)
    assert (done.returncode == 0) == enough


def locked(name):
    """Requirement lines of a lock file with their hashes, joined."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def versions(name):
    out = {}
    for line in locked(name):
        requirement = Requirement(line.split(" --hash")[0])
        out.setdefault(canonicalize_name(requirement.name), set()).add(str(requirement.specifier).removeprefix("=="))
    return out


LOCKS = ["requirements.lock", "requirements-dev.lock", "requirements-bench.lock"]


def wanted():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    build = project["build-system"]["requires"]
    base = project["project"]["dependencies"]
    return {
        "requirements.lock": [*base, *build],
        "requirements-dev.lock": [*base, *build, *project["project"]["optional-dependencies"]["dev"]],
        "requirements-bench.lock": [*base, *project["project"]["optional-dependencies"]["bench"]],
    }


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_what_the_project_wants_with_hashes(name):
    have = versions(name)
    for text in wanted()[name]:
        requirement = Requirement(text)
        found = have[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in found), text
    for line in locked(name):
        assert re.search(r"==[^ ]+ .*--hash=sha256:[0-9a-f]{64}", line), line[:60]


def test_both_locks_agree():
    base, dev = versions("requirements.lock"), versions("requirements-dev.lock")
    assert {name: dev.get(name) for name in base} == base


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_says_nothing_of_the_machine_it_was_made_on(name):
    text = (ROOT / name).read_text()
    assert not re.search(r"://|--index|--find-links|--extra-index|file:|(^|\s)/", text)


def test_scripts_name_no_place_that_packages_come_from():
    for path in TOOLS.glob("*.sh"):
        assert "://" not in path.read_text(), path.name


def test_tools_go_beside_the_project_by_default_and_git_leaves_them_out(tmp_path):
    (tmp_path / "tools").mkdir()
    script = '. "$1/common.sh"; tool_dir part; echo "$DIR"'
    command = ["/bin/sh", "-c", script, str(tmp_path / "tools/any.sh"), str(TOOLS)]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout == f"{tmp_path}/.tools/part\n"
    assert ".tools/" in (ROOT / ".gitignore").read_text().split()
