"""Versions: Python, SQLite, the store's schema, and libraries against the lock."""

import re
import sqlite3
import sys
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from gateway.check.finding import Finding, Findings, Subject
from gateway.settings import Settings
from gateway.store.database import FILE_NAME, SCHEMA_VERSION

PYTHON: Final = (3, 11)
SQLITE: Final = (3, 35, 0)
"""RETURNING."""

_HERE: Final = Path(__file__).resolve().parent.parent
_LOCKS: Final = (_HERE / "requirements.lock", _HERE.parent / "requirements.lock")  # installed, or in a checkout
_PINNED: Final = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)(?:\s*;\s*([^\\\n]*))?", re.MULTILINE)
_BUILD_ONLY: Final = frozenset({"hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers"})


def check_versions(settings: Settings) -> Findings:
    """Compare what is there with what is needed."""
    subject = Subject("versions")
    yield _at_least(subject, "Python", sys.version_info[:3], PYTHON)
    yield _at_least(subject, "SQLite", sqlite3.sqlite_version_info, SQLITE)
    yield _schema(Subject("versions", str(settings.store_dir / FILE_NAME)), settings.store_dir / FILE_NAME)
    lock = next((path for path in _LOCKS if path.exists()), None)
    if lock:
        yield check_lock(Subject("versions", str(lock)), lock.read_text("utf-8"))


def _at_least(subject: Subject, name: str, found: tuple[int, ...], needed: tuple[int, ...]) -> Finding:
    told, wanted = (".".join(map(str, numbers)) for numbers in (found, needed))
    if found < needed:
        return subject.error(f"{name} {told} is too old", f"install {name} {wanted} or newer")
    return subject.ok(f"{name} {told}")


def _schema(subject: Subject, path: Path) -> Finding:
    if not path.exists():
        return subject.ok(f"no store yet; it will have schema {SCHEMA_VERSION}")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            (found,) = db.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        return subject.error(f"the store cannot be read ({error})", "see the finding on files; or lichen restore")
    if found > SCHEMA_VERSION:
        return subject.error(
            f"the store has schema {found}, this program knows {SCHEMA_VERSION}", "upgrade this program"
        )
    if found < SCHEMA_VERSION:
        return subject.warning(
            f"the store has schema {found}: the next start brings it to {SCHEMA_VERSION}",
            "nothing; or lichen backup first, for going back",
        )
    return subject.ok(f"the store has schema {found}")


def check_lock(subject: Subject, lock: str) -> Finding:
    """Compare the libraries of this environment with those that were tested."""
    tested: dict[str, list[str]] = {}  # more than one where it depends on the version of Python
    elsewhere = set()
    for name, wanted, marker in _PINNED.findall(lock):
        tested.setdefault(name, []).append(wanted)
        if marker:
            elsewhere.add(name)
    other = []
    for name in tested.keys() - _BUILD_ONLY:
        found = _version(name)
        if found not in tested[name] and not (found is None and name in elsewhere):
            other.append(f"{name} {found or 'absent'} (tested: {' or '.join(tested[name])})")
    other.sort()
    if other:
        return subject.warning(
            f"other libraries than the tested ones: {', '.join(other)}",
            "pip install --require-hashes -r requirements.lock in the gateway's environment",
        )
    return subject.ok("the libraries are the tested ones")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
