"""Opening the SQLite file: pragmas, schema, the revision counter, transactions."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Final

from gateway.errors import StoreError

SCHEMA_VERSION: Final = 1
FILE_NAME: Final = "lichen.sqlite"
_BUSY_TIMEOUT_S: Final = 10.0


def _connect(path: Path, *, uri: str) -> sqlite3.Connection:
    # Autocommit: transactions are begun where they are meant, by `transaction`.
    try:
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S, check_same_thread=False
        )
        connection.execute("PRAGMA temp_store = MEMORY")
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise StoreError(path, f"cannot be opened ({error})", "check the path and its permissions") from error
    if version > SCHEMA_VERSION:
        raise StoreError(path, f"was written by a newer Lichen (schema {version})", "upgrade this program")
    return connection


def open_writer(store_dir: Path) -> sqlite3.Connection:
    """Open the store for the one process that writes it, creating it where there is none.

    Raises
    ------
    StoreError
        If the directory or file cannot be used.
    """
    path = store_dir / FILE_NAME
    try:
        store_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(store_dir, f"cannot be created ({error.strerror})", "check the path") from error
    connection = _connect(path, uri=f"file:{path}?mode=rwc")
    if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # only takes before the first table
        connection.execute("PRAGMA journal_mode = WAL")
        schema = resources.files(__package__).joinpath("schema.sql").read_text("utf-8")
        connection.executescript(f"BEGIN;\n{schema}\nPRAGMA user_version = {SCHEMA_VERSION};\nCOMMIT;")
    # FULL: the log is synced at every commit, so that what was acknowledged survives a power cut.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


def open_reader(store_dir: Path) -> sqlite3.Connection:
    """Open the store for reading beside the writing process.

    Raises
    ------
    StoreError
        If there is no store.
    """
    path = store_dir / FILE_NAME
    if not path.exists():
        raise StoreError(path, "no store here", "name the folder that holds store/, or run the gateway first")
    connection = _connect(path, uri=f"file:{path}?mode=rw")  # a WAL reader needs its shared-memory file
    connection.execute("PRAGMA query_only = ON")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write all or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


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
    (last,) = connection.execute("UPDATE revision SET value = value + ? RETURNING value", (count,)).fetchone()
    return int(last) - count + 1


def last_revision(connection: sqlite3.Connection) -> int:
    """Return the newest revision in the store."""
    return int(connection.execute("SELECT value FROM revision").fetchone()[0])
