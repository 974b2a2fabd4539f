"""How much room the store takes and has, and giving back what it does not need any more."""

import os
import sqlite3
from pathlib import Path
from typing import Final

import msgspec

VACUUM_PAGES: Final = 500
"""Pages given back in one step: 2 MB, some tens of ms."""

SPARE_BYTES: Final = 12_000_000
"""Deleting rows needs room in the log, and copying the log into the file too: about three times what the log holds."""

LONG_LOG_PAGES: Final = 32_000
"""131 MB of log before it is copied into the file: a page that changes each minute is then copied every ten. To read
such a log at the start after a crash takes 0.06 s, measured with SQLite 3.40 on 2 cores of a server."""

SHORT_LOG_PAGES: Final = 1000
"""Where room is scarce; `SPARE_BYTES` counts on it."""

LONG_LOG_NEEDS_BYTES: Final = 1_000_000_000
"""Of free disk, and of budget."""

_LOG_SHARE: Final = 32
"""The log takes so small a part of free disk and budget."""

_SPARE_NAME: Final = "spare-room"

_SPARE_SHARE: Final = 10
"""Free pages stay in the file up to a tenth of it: they are used again at once."""


class Room(msgspec.Struct, frozen=True):
    """Bytes: of the file, of its log, of pages in the file that are free; free on the file system, and all of that."""

    file: int
    log: int
    unused: int
    disk_free: int
    disk_size: int

    @property
    def held(self) -> int:
        """What the store needs now."""
        return self.file + self.log - self.unused

    def excess(self, budget: int, reserve: int) -> int:
        """Return by how much the store is larger than its budget, or than such a disk can hold at all."""
        return self.held - min(budget, self.disk_size - reserve - SPARE_BYTES)

    def lack(self, reserve: int) -> int:
        """Return how much less than the reserve is free, whoever fills the disk; not above 0 where there is room."""
        return reserve - self.disk_free - self.unused


def measure(db: sqlite3.Connection, path: Path) -> Room:
    """Measure the store's file; pages that were given back but still stand in the file count as unused."""
    log = path.with_name(path.name + "-wal")
    size = path.stat().st_size
    (page,) = db.execute("PRAGMA page_size").fetchone()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    disk = os.statvfs(path.parent)
    to_come = max(0, pages * page - size)  # what the log will add to the file
    return Room(
        file=max(size, pages * page),
        log=log.stat().st_size if log.exists() else 0,
        unused=free * page + max(0, size - pages * page),
        disk_free=max(0, disk.f_bavail * disk.f_frsize - to_come),
        disk_size=disk.f_blocks * disk.f_frsize,
    )


def set_log_length(db: sqlite3.Connection, measured: Room, budget: int) -> None:
    """Let the log become long before it is copied into the file, but where there is little room for it."""
    room = min(measured.disk_free, budget)
    (page,) = db.execute("PRAGMA page_size").fetchone()
    pages = min(LONG_LOG_PAGES, room // _LOG_SHARE // page) if room >= LONG_LOG_NEEDS_BYTES else SHORT_LOG_PAGES
    db.execute(f"PRAGMA wal_autocheckpoint = {pages}").fetchall()


def give_back(db: sqlite3.Connection, *, all_of_it: bool) -> int:
    """Take a bounded number of free pages out of the file, those beyond a tenth of it unless `all_of_it`.

    Returns how many. The file becomes shorter when the log is next copied into it, which is tried at once; it does not
    wait for readers.
    """
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    spare = 0 if all_of_it else pages // _SPARE_SHARE
    count = min(free - spare, VACUUM_PAGES)
    if count <= 0:
        return 0
    db.executescript(f"PRAGMA incremental_vacuum({count})")  # `execute` would stop after its first page
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    (left,) = db.execute("PRAGMA freelist_count").fetchone()
    return int(free - left)


class SpareRoom:
    """A file that takes room, to be given up when there is so little that not even rows can be deleted."""

    def __init__(self, store_dir: Path) -> None:
        self._path = store_dir / _SPARE_NAME

    @property
    def is_held(self) -> bool:
        """Whether the room is there to be given up."""
        return self._path.exists()

    def hold(self) -> None:
        """Take the room, for which the disk has to have it."""
        made = self._path.with_suffix(".new")
        try:
            with made.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, SPARE_BYTES)
            made.replace(self._path)
        except OSError:
            made.unlink(missing_ok=True)
            raise

    def give_up(self, db: sqlite3.Connection) -> None:
        """Free the room, and the log for what is to be written."""
        self._path.unlink(missing_ok=True)
        db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
