"""Copies of the store that can be relied on: what stands under its final name was copied whole, checked and synced."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from gateway.errors import StoreError

Progress = Callable[[str, float, float], None]
"""Told what is done, how much of it, and of how much; also called while nothing can be counted, as a sign of life."""

PIECE_BYTES: Final = 1 << 20
MARGIN_BYTES: Final = 16_000_000
"""Free beyond a copy itself: for the log of what follows."""
_SYNC_EVERY_BYTES: Final = 8 << 20
_ALIVE_INSTRUCTIONS: Final = 200_000
_MB: Final = 1_000_000


def need_room(folder: Path, size: int, purpose: str) -> None:
    """Refuse what would not have room.

    Raises
    ------
    StoreError
        If the file system of the folder has no room for so many bytes and some more.
    """
    needed, free = size + max(MARGIN_BYTES, size // 10), shutil.disk_usage(folder).free
    if free < needed:
        raise StoreError(
            folder, f"{purpose} needs {-(-needed // _MB)} MB free here, and there are {free // _MB} MB",
            "free some space and try again",
        )  # fmt: skip


def copy_database(source: sqlite3.Connection, target: Path, show: Progress, pause: float = 0.0) -> None:
    """Copy the state that the source's transaction sees, or a store that nobody writes, into a new file, and sync it.

    After each piece it waits `pause` times as long as the piece took, so that others get at the disk.
    """
    (page,) = source.execute("PRAGMA page_size").fetchone()
    pages = max(1, PIECE_BYTES // page)
    descriptor = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    started_s, unsynced = time.monotonic(), 0

    def step(_status: int, remaining: int, total: int) -> None:
        nonlocal started_s, unsynced
        unsynced += pages * page
        if unsynced >= _SYNC_EVERY_BYTES:  # bit by bit: a writer's sync would wait for all of it at the end
            os.fdatasync(descriptor)
            unsynced = 0
        show("copied MB", (total - remaining) * page / _MB, total * page / _MB)
        time.sleep(pause * (time.monotonic() - started_s))
        started_s = time.monotonic()

    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = OFF")  # what is not finished is thrown away
            copy.execute("PRAGMA synchronous = OFF")
            source.backup(copy, pages=pages, progress=step)
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = DELETE")  # one file alone, also on a medium that is read only
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def copy_file(source: Path, target: Path, show: Progress) -> None:
    """Copy a file that nobody writes; whoever needs it to last syncs it."""
    total = max(1, source.stat().st_size) / _MB
    done = 0
    with source.open("rb") as found, create(target) as made:
        while piece := found.read(PIECE_BYTES):
            made.write(piece)
            done += len(piece)
            show("copied MB", done / _MB, total)


def create(path: Path, mode: int = 0o600) -> BinaryIO:
    """Open a new file, which its owner alone may read unless told otherwise."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb")


def check(path: Path, show: Progress) -> str:
    """Return what is wrong with a file that nobody writes; empty where nothing is."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            return check_open(db, show)
    except sqlite3.Error as error:
        return str(error)


def check_open(db: sqlite3.Connection, show: Progress) -> str:
    """Return what is wrong with an open store; empty where nothing is."""
    show("checked", 0, 1)
    try:
        with signs_of_life(db, lambda: show("checked", 0, 1)):
            found = [str(text) for (text,) in db.execute("PRAGMA integrity_check(3)")]
    except sqlite3.DatabaseError as error:
        return str(error)
    show("checked", 1, 1)
    return "" if found == ["ok"] else "; ".join(found)


@contextmanager
def signs_of_life(db: sqlite3.Connection, alive: Callable[[], None]) -> Iterator[None]:
    """Call `alive` every so often while a long statement runs."""
    db.set_progress_handler(alive, _ALIVE_INSTRUCTIONS)  # it returns None: go on
    try:
        yield
    finally:
        db.set_progress_handler(None, 0)


def counts(db: sqlite3.Connection) -> dict[str, int]:
    """Return how much is in a store, of whatever schema: the lines of each table, the readings, the last revision."""
    tables = [
        name
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' "
            "AND name <> 'backup_file' ORDER BY name"
        )
    ]
    found = {name: int(db.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]) for name in tables}  # noqa: S608 - names of tables
    (found["readings"],) = db.execute("SELECT coalesce(sum(row_count), 0) FROM chunk").fetchone()
    found["readings"] += found.get("fresh", 0)
    (found["revision"],) = db.execute("SELECT value FROM revision").fetchone()
    if found.get("fresh"):
        (found["revision"],) = db.execute("SELECT max(rev) FROM fresh").fetchone()
    return found


def is_same(path: Path, other: Path) -> bool:
    """Tell whether two files of stores that nobody writes hold the same pages, but for counters of their headers."""
    if not other.is_file() or path.stat().st_size != other.stat().st_size:
        return False
    with path.open("rb") as one, other.open("rb") as two:
        if _without_counters(one.read(4096)) != _without_counters(two.read(4096)):
            return False
        while piece := one.read(PIECE_BYTES):
            if piece != two.read(PIECE_BYTES):
                return False
    return True


def _without_counters(head: bytes) -> bytes:
    """Leave out the format version of the journal, the change counter, the schema cookie and the writer's version."""
    return head[:18] + head[20:24] + head[28:40] + head[44:92] + head[100:]


def sync_folder(folder: Path) -> None:
    """Keep the names in a folder through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Keep the content of a file through a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give_to_owner_of(model: Path, *paths: Path) -> None:
    """Where root works on a store of another user, let what was made belong to that user too."""
    if os.geteuid() == 0:
        owner = model.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)


def remove(path: Path) -> None:
    """Remove a folder, or nothing."""
    with suppress(FileNotFoundError):
        shutil.rmtree(path)
