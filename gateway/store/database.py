"""Opening the SQLite file: pragmas, schema, the revision counter, transactions."""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gateway.errors import StoreError
from gateway.store import migrate, swap

SCHEMA_VERSION: Final = migrate.SCHEMA_VERSION
FILE_NAME: Final = swap.FILE_NAME
RAW_HORIZON: Final = "horizon_hour"
AIR_HORIZON: Final = "air_horizon_hour"
RECORD_HORIZON: Final = "record_horizon_hour"
_BUSY_TIMEOUT_S: Final = 10.0
_LAST: Final = "max(value, coalesce((SELECT max(rev) FROM fresh), 0))"
"""Fresh rows have revisions of their own: a page less to write in each commit."""
_locks: Final[dict[tuple[int, Path], int]] = {}
"""Descriptors of the locks that this process holds, by its id (a fork has none of them) and the file's path."""


def open_writer(store_dir: Path, alive: Callable[[], None] = lambda: None) -> sqlite3.Connection:
    """Open the store for the one process that writes it, creating it where there is none.

    An older store is upgraded, which can take minutes: `alive` is called all the while.

    Raises
    ------
    StoreError
        If the directory or file cannot be used, or another process writes it.
    """
    path = store_dir / FILE_NAME
    try:
        store_dir.mkdir(parents=True, exist_ok=True)
        lock(store_dir)
        swap.finish(store_dir)
    except OSError as error:
        raise StoreError(store_dir, f"cannot be used ({error.strerror})", "check the path") from error
    try:
        connection, version = _connect(path, "rwc")
        if version == 0:
            migrate.create(connection)
        elif version < SCHEMA_VERSION:
            connection.close()  # closing a file that a connection has open, as a comparison does, undoes its locks
            is_copied = migrate.is_copied(store_dir)
            connection, version = _connect(path, "rw")
            migrate.upgrade(connection, store_dir, version, alive, is_copied=is_copied)
        else:
            migrate.prove(connection, store_dir)  # a kill may have come between an upgrade and its check
        connection.execute("PRAGMA journal_mode = WAL")  # a restored file is in none
        # FULL: the log is synced at every commit, so that what was acknowledged survives a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 67108864")
    except sqlite3.Error as error:
        raise StoreError(path, f"cannot be opened ({error})", "check the path and its permissions") from error
    return connection


def open_reader(store_dir: Path, *, any_schema: bool = False) -> sqlite3.Connection:
    """Open the store for reading beside the writing process; `any_schema` takes one that is still to be upgraded.

    Raises
    ------
    StoreError
        If there is no store, or none yet.
    """
    path = store_dir / FILE_NAME
    if not path.exists():
        raise StoreError(path, "no store here", "name the folder that holds store/, or run the gateway first")
    try:
        connection, version = _connect(path, "rw")  # a reader of a WAL needs its shared-memory file
        connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error as error:
        raise StoreError(path, f"cannot be opened ({error})", "check the path and its permissions") from error
    if version == 0:
        raise StoreError(path, "is empty", "the gateway has not made its store yet; try again, or look at its log")
    if version < SCHEMA_VERSION and not any_schema:
        raise StoreError(
            path, f"is of an older Lichen (schema {version})", "start the gateway once, it brings it up to date"
        )
    return connection


def _connect(path: Path, mode: str) -> tuple[sqlite3.Connection, int]:
    # Autocommit: transactions are begun where they are meant, by `transaction`.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S,
        check_same_thread=False,
    )  # fmt: skip
    connection.execute("PRAGMA temp_store = MEMORY")
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreError(path, f"was written by a newer Lichen (schema {version})", "upgrade this program")
    return connection, version


def lock(store_dir: Path) -> None:
    """Hold the store for this process until it ends; a second writer would store readings twice."""
    path = store_dir / "writer.lock"
    mine = os.getpid(), path.absolute()
    if (held := _locks.get(mine)) is not None:
        if path.exists() and path.stat().st_ino == os.fstat(held).st_ino:
            return  # and not opened again: closing any descriptor of it would give the lock up
        os.close(held)  # of a store that is no more
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreError(
            store_dir, "is written by another gateway", "stop that one, or name another [store] dir"
        ) from error
    _locks[mine] = descriptor


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors, as of a full disk, have rolled it back already
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Read one state of the store, whatever is written meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def take_revisions(connection: sqlite3.Connection, count: int) -> int:
    """Reserve `count` revisions inside a transaction; returns the first of them."""
    (last,) = connection.execute(f"UPDATE revision SET value = {_LAST} + ? RETURNING value", (count,)).fetchone()  # noqa: S608
    return int(last) - count + 1


def last_revision(connection: sqlite3.Connection) -> int:
    """Return the newest revision in the store."""
    return int(connection.execute(f"SELECT {_LAST} FROM revision").fetchone()[0])  # noqa: S608 - a constant


def read_meta(connection: sqlite3.Connection, name: str) -> str | None:
    """Return a fact of the store itself, `None` where it is not known."""
    found = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return str(found[0]) if found else None


def write_meta(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Keep a fact of the store itself, inside a transaction."""
    connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))


def horizon_hour(connection: sqlite3.Connection, name: str = RAW_HORIZON) -> int:
    """Return the first hour whose raw readings (or calibrated rows) are kept; hours below the raw one are sealed."""
    return int(read_meta(connection, name) or -(2**62))
