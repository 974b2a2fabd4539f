"""A Debian system with systemd as its first process, in which the installer is tried; made by tools/get_machine.sh."""

import os
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import components
from influxd import wait_until

FOLDER = Path(os.environ.get("LICHEN_TOOLS") or components.REPO / ".tools") / "machine"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def need_machine():
    """Return the system's folder, or skip (or fail) the test."""
    why = ""
    if os.geteuid() != 0:
        why = "run the tests as root"
    elif not (FOLDER / "root" / "complete").exists() or not shutil.which("systemd-nspawn"):
        why = "get it with tools/get_machine.sh, as root"
    if why:
        components.refuse("a machine with systemd", why)
    return FOLDER


class Machine:
    """A booted copy of the system, without a network; as a context manager, so that it always ends."""

    def __init__(self, folder, *, binds=()):
        self._folder = folder
        self._root = folder / "root"
        self._binds = [f"--bind-ro={outside}:{inside}" for outside, inside in binds]
        self._process = None
        self.leader = None

    def __enter__(self):
        for name in ("changes", "work", "root"):
            (self._folder / name).mkdir(parents=True)
        layers = f"lowerdir={FOLDER}/root,upperdir={self._folder}/changes,workdir={self._folder}/work"
        mounted = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, self._root], check=False)
        if mounted.returncode:
            components.refuse("a machine with systemd", "overlay file systems cannot be mounted here")
        try:
            self._boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self._process:
            self._process.send_signal(signal.SIGTERM)  # nspawn shuts the system down
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        subprocess.run(["umount", self._root], check=False)
        for tree in (
            "systemd",
            "unified",
            "",
        ):  # what nspawn made at the top, where this machine has no systemd of its own
            for name in ("payload", "supervisor"):
                _remove_groups(Path("/sys/fs/cgroup") / tree / name)

    def _boot(self):
        command = [
            "systemd-nspawn", f"--directory={self._root}", f"--machine=lichen-{os.getpid()}", "--boot",
            "--register=no", "--keep-unit", "--private-network", "--console=pipe", "--resolv-conf=off",
            "--timezone=off",
            "--system-call-filter=adjtimex clock_adjtime", *self._binds,
        ]  # fmt: skip
        with (self._folder / "console").open("wb") as console:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        self.leader = wait_until(lambda: self._alive() and self._first_process(), "the system starts")
        wait_until(
            lambda: self._alive() and self.run("systemctl is-system-running", check=False).stdout.strip() == "running",
            "the system is up", timeout_s=60,
        )  # fmt: skip

    def _first_process(self):
        """Return the system's systemd; nspawn has another child before it."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        with suppress(OSError):
            return next((pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "systemd\n"), None)
        return None

    def _alive(self):
        if self._process.poll() is not None:
            said = (self._folder / "console").read_text(errors="replace").strip().splitlines()[-1:]
            components.refuse("a machine with systemd", f"systemd-nspawn cannot run here: {said}")
        return True

    def run(self, command, *, check=True, given=""):
        """Run a shell command as root in it; returns what it said."""
        done = subprocess.run(
            ["nsenter", f"--target={self.leader}", "--all", "--", "env", "-i", f"PATH={PATH}", "sh", "-c", command],
            capture_output=True, text=True, check=False, input=given,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def show(self, unit, name):
        """Return a property of a unit."""
        return self.run(f"systemctl show --value -p {name} {shlex.quote(unit)}").stdout.strip()

    def journal(self, unit, *more):
        """Return what a unit has logged."""
        return self.run(f"journalctl -q --no-pager -o cat -u {unit} {' '.join(more)}").stdout


def _remove_groups(top):
    """Remove a tree of empty control groups."""
    for folder in (*sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True), top) if top.is_dir() else ():
        try:
            folder.rmdir()
        except OSError:
            return
