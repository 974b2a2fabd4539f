"""Bringing a store of an older program up to date: copied before, all or nothing, and put back where it is damaged.

The copy stands in `<store>/before-schema-N/`, N being the schema it was not yet brought to. It is made again where a
start was interrupted and the store has changed since. The file `unproved` beside it says that the upgraded store is
still to be checked; the last copy is kept.
"""

import logging
import re
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Final

from gateway.errors import StoreError
from gateway.store import copying, swap

log = logging.getLogger(__name__)

Alive = Callable[[], None]
BEFORE: Final = "before-schema-"
_UNPROVED: Final = "unproved"
_SAY_EVERY_S: Final = 10.0


def _steps() -> dict[int, str]:
    """Return the name of each file of `migrations` by the schema it makes."""
    names = [entry.name for entry in resources.files(__package__).joinpath("migrations").iterdir()]
    return {int(name[:4]): name for name in sorted(names) if re.fullmatch(r"\d{4}\.sql", name)}


SCHEMA_VERSION: Final = max(_steps())
"""That of this program: adding a file is enough."""


class _Teller:
    """Says in the log every so often how far it is, and tells whoever waits that it goes on."""

    def __init__(self, alive: Alive) -> None:
        self._alive = alive
        self._said_s = self._alive_s = time.monotonic()

    def __call__(self, what: str, done: float, total: float) -> None:
        now_s = time.monotonic()
        if now_s - self._alive_s >= 1:
            self._alive_s = now_s
            self._alive()
        if now_s - self._said_s >= _SAY_EVERY_S:
            self._said_s = now_s
            log.info("upgrading the store: %s %.0f of %.0f", what, done, total)


def script(version: int) -> str:
    """Return the SQL from a schema to the present one, one transaction: a store is never between two."""
    folder = resources.files(__package__).joinpath("migrations")
    parts = [
        f"{folder.joinpath(name).read_text('utf-8')}\nPRAGMA user_version = {step};\n"
        for step, name in _steps().items()
        if step > version
    ]
    return f"BEGIN IMMEDIATE;\n{''.join(parts)}COMMIT;"


def create(db: sqlite3.Connection) -> None:
    """Make the tables of a store that has none."""
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only takes before the first table
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(script(0))


def upgrade(db: sqlite3.Connection, store_dir: Path, version: int, alive: Alive, *, is_copied: bool = False) -> None:
    """Bring a store of an older schema to this program's, or leave it as it is.

    Raises
    ------
    StoreError
        If it cannot be copied or changed, or is damaged; it is then as it was, or the copy is in its place.
    """
    tell = _Teller(alive)
    started_s = time.monotonic()
    log.info("the store is of schema %d, this program's is %d: it is upgraded", version, SCHEMA_VERSION)
    copy = _copy_place(store_dir)
    if is_copied:
        log.info("%s is a copy of it already, of an attempt before", copy)
        (copy / _UNPROVED).touch()
        copying.sync_folder(copy)
    else:
        _copy(db, store_dir, version, tell)
    try:
        with copying.signs_of_life(db, lambda: tell("changed, steps", 0, SCHEMA_VERSION - version)):
            db.executescript(script(version))
    except sqlite3.Error as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        prove(db, store_dir, tell)
        raise StoreError(
            store_dir / swap.FILE_NAME, f"could not be brought from schema {version} to {SCHEMA_VERSION} ({error}) "
            "and is as it was", "free some space if there was none, else install the earlier program again",
        ) from error  # fmt: skip
    prove(db, store_dir, tell)
    log.info(
        "the store is upgraded, in %.0f s; what it was before stays in %s until the next upgrade; to go back to it: "
        "lichen restore %s", time.monotonic() - started_s, copy, copy,
    )  # fmt: skip


def prove(db: sqlite3.Connection, store_dir: Path, tell: copying.Progress = lambda *_: None) -> None:
    """Check a store whose upgrade has ended, now or before a kill, and put the copy back where it is damaged.

    Raises
    ------
    StoreError
        If it is damaged; the copy is then in its place.
    """
    copy = _copy_place(store_dir)
    if not (copy / _UNPROVED).exists():
        return
    if problem := copying.check_open(db, tell):
        db.close()
        aside = f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        made = swap.begin(store_dir)
        copying.copy_file(copy / swap.FILE_NAME, made, tell)
        swap.commit(store_dir, aside, with_cursors=False)
        raise StoreError(
            store_dir / swap.FILE_NAME, f"was damaged after its upgrade ({problem}); as it was before it is back, the "
            f"damaged one is in {aside}", "check the disk, then start again or install the earlier program",
        )  # fmt: skip
    (copy / _UNPROVED).unlink()
    for older in store_dir.glob(f"{BEFORE}*"):
        if older != copy:
            copying.remove(older)


def is_copied(store_dir: Path) -> bool:
    """Tell whether an attempt before has copied the store as it is now; for a store that this process has not open."""
    log_path = store_dir / f"{swap.FILE_NAME}-wal"
    if log_path.exists() and log_path.stat().st_size:
        return False  # somebody else has it open
    return copying.is_same(store_dir / swap.FILE_NAME, _copy_place(store_dir) / swap.FILE_NAME)


def _copy_place(store_dir: Path) -> Path:
    return store_dir / f"{BEFORE}{SCHEMA_VERSION}"


def _copy(db: sqlite3.Connection, store_dir: Path, version: int, tell: copying.Progress) -> None:
    """Copy the store, and check the copy."""
    copy, new = _copy_place(store_dir), store_dir / f"{BEFORE}{SCHEMA_VERSION}.new"
    copying.remove(new)
    size = db.execute("PRAGMA page_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0]
    kept = [path.name for path in store_dir.glob(f"{BEFORE}*")]
    copying.need_room(
        store_dir, size, f"upgrading from schema {version} copies the store first, which"
        + (f" (what {', '.join(kept)} holds may go)" if kept else ""),
    )  # fmt: skip
    log.info("it is copied to %s first (%.1f MB)", copy, size / 1e6)
    try:
        new.mkdir()
        (new / _UNPROVED).touch()
        copying.copy_database(db, new / swap.FILE_NAME, tell)
        problem = copying.check(new / swap.FILE_NAME, tell)
    except (OSError, sqlite3.Error) as error:
        copying.remove(new)
        raise StoreError(
            store_dir, f"the store could not be copied before its upgrade ({error}) and is as it was",
            "free some space or check the disk, then start again",
        ) from error  # fmt: skip
    if problem:
        copying.remove(new)
        raise StoreError(
            store_dir / swap.FILE_NAME, f"is damaged ({problem}) and was not upgraded",
            "check the disk and restore a backup with lichen restore",
        )  # fmt: skip
    copying.sync_folder(new)
    copying.remove(copy)
    new.rename(copy)
    copying.sync_folder(store_dir)
