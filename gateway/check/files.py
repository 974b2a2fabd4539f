"""Files and who may do what with them: the store's folder, secrets, the control socket."""

import os
import pwd
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.check.finding import Finding, Findings, Subject
from gateway.errors import SettingsError
from gateway.settings import Settings, read_secret
from gateway.store.database import FILE_NAME

_EVERYBODY: Final = stat.S_IRWXO
_GROUP_WRITES: Final = stat.S_IWGRP


def check_files(settings: Settings) -> Findings:
    """Look at the store's folder and at each secret."""
    yield _store(Subject("files", str(settings.store_dir)), settings.store_dir)
    named: list[tuple[str, str | None]] = [("[broker] password_file", settings.broker.password_file)]
    if settings.influx:
        named.append(("[influx] token_file", settings.influx.token_file))
    for key, name in named:
        if name:
            yield _secret(key, settings.beside(name))


def _store(subject: Subject, folder: Path) -> Finding:
    if not folder.exists():
        parent = next((p for p in folder.resolve().parents if p.exists()), Path("/"))
        if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
            return subject.ok(f"it is made at the first start, in {parent}")
        return subject.error(
            f"it cannot be made: {user_of(os.geteuid())} may not write {parent}",
            f"mkdir -p {folder} && chown {user_of(os.geteuid())} {folder}",
        )
    if not folder.is_dir():
        return subject.error("it is a file", "name another [store] dir")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return subject.error(
            f"{user_of(os.geteuid())} cannot write there ({error.strerror})",
            f"chown -R {user_of(os.geteuid())} {folder}, or run as the user that the gateway has",
        )
    store = folder / FILE_NAME
    owner = (store if store.exists() else folder).stat().st_uid
    if owner != os.geteuid():
        return subject.warning(
            f"it belongs to {user_of(owner)}, and rights were tried as {user_of(os.geteuid())}",
            f"sudo -u {user_of(owner)} lichen check -c gateway.toml",
        )
    return subject.ok("the store can be written")


def _secret(key: str, path: Path) -> Finding:
    subject = Subject("files", f"{key}: {path}")
    try:
        read_secret(path)
        mode = path.stat().st_mode
    except (SettingsError, OSError) as error:
        problem = str(error).removeprefix(f"{path}: ")
        return subject.error(problem, f"let {user_of(os.geteuid())} read it, and nobody else: chmod 600")
    if mode & (_EVERYBODY | _GROUP_WRITES):
        return subject.error(
            f"others than its owner may read or change it (mode {stat.S_IMODE(mode):o})", f"chmod 600 {path}"
        )
    return subject.ok("readable, and not by everybody")


def user_of(number: int) -> str:
    """Return the name of a user."""
    with suppress(KeyError):
        return pwd.getpwuid(number).pw_name
    return str(number)
