"""Backups: one file each, an ordinary store with one more table that holds the settings and what was counted.

Made beside the running gateway from one state of the store; nothing is called a backup before it was checked.
"""

import fcntl
import gzip
import hashlib
import json
import os
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from gateway.errors import StoreError
from gateway.store import copying, swap
from gateway.store.copying import PIECE_BYTES, Progress
from gateway.store.database import SCHEMA_VERSION, lock, open_reader, snapshot

SETTINGS: Final = "gateway.toml"
SECRET: Final = "secret:"  # noqa: S105 - a part of a name
"""What a name of a secret begins with; the rest is the key that names its file."""
_NOTE: Final = "note"
_NAME: Final = re.compile(r"lichen-\d{8}T\d{6}Z\.sqlite(\.gz)?")
_PAUSE: Final = 1.0
"""Time left to others after each piece, as a multiple of the piece's own."""
_MB: Final = 1_000_000
_WORK: Final = ".lichen-backup-"


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds, as told when it was made or restored."""

    path: str
    bytes: int
    made: str
    schema: int
    counts: dict[str, int]
    secrets: list[str]
    removed: list[str]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored and where the store that stood there is now; `files` are those that the backup brought."""

    source: str
    made: str | None
    schema: int
    counts: dict[str, int]
    aside: str | None
    files: dict[str, bytes]


def name_of(made: datetime, *, compress: bool) -> str:
    """Return the name of a backup in a folder of backups."""
    return f"lichen-{made:%Y%m%dT%H%M%SZ}.sqlite{'.gz' if compress else ''}"


def make(
    store_dir: Path, target: Path, files: Mapping[str, bytes], show: Progress, *, program: str, compress: bool = False,
    keep: int | None = None,
) -> Backup:  # fmt: skip
    """Back the store up into `target`, a file or an existing folder, in which it gets a name and `keep` of them stay.

    Raises
    ------
    StoreError
        If there is no store, no room, or the copy is not what the store is; nothing is left then.
    """
    made = datetime.now(UTC)
    path = target / name_of(made, compress=compress) if target.is_dir() else target
    if path.exists():
        raise StoreError(path, "is there already", "name another file, or a folder")
    if not path.parent.is_dir():
        raise StoreError(path.parent, "is no folder", "make it first")
    facts = {"made": f"{made:%Y-%m-%dT%H:%M:%SZ}", "program": program}
    try:
        with closing(open_reader(store_dir, any_schema=True)) as db, _workplace(path.parent) as work:
            note = _copy(db, work / swap.FILE_NAME, files, show, facts)
            whole = _compress(work / swap.FILE_NAME, show) if compress else work / swap.FILE_NAME
            whole.rename(path)
            copying.sync_folder(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(path, f"the backup could not be made ({error})", "free some space, or try again") from error
    removed = _remove_older(path.parent, keep) if keep is not None else []
    secrets = sorted(name.removeprefix(SECRET) for name in files if name.startswith(SECRET))
    return Backup(str(path), path.stat().st_size, note["made"], note["schema"], note["counts"], secrets, removed)


def restore(source: Path, store_dir: Path, show: Progress) -> Restored:
    """Put a backup, or the copy from before an upgrade, in the place of the store, which is set aside.

    Raises
    ------
    StoreError
        If a gateway has the store, or the file is no whole backup; the store is untouched then.
    """
    source = _file_in(source)
    if not store_dir.exists():
        store_dir.mkdir(parents=True)
        copying.give_to_owner_of(store_dir.parent, store_dir)
    lock(store_dir)
    copying.give_to_owner_of(store_dir, store_dir / "writer.lock")
    swap.finish(store_dir)
    try:
        made = swap.begin(store_dir)
        _fetch(source, made, show)
        facts = _take_out(source, made, show)
    except (OSError, EOFError, zlib.error, sqlite3.Error) as error:
        copying.remove(store_dir / swap.MAKING)
        raise StoreError(source, f"cannot be restored ({error})", "is it a backup, and is there room?") from error
    except BaseException:
        copying.remove(store_dir / swap.MAKING)
        raise
    stood = (store_dir / swap.FILE_NAME).exists()
    aside = _free_name(store_dir)
    swap.commit(store_dir, aside, with_cursors=True)
    return Restored(
        source=str(source), made=facts.made, schema=facts.schema, counts=facts.counts, files=facts.files,
        aside=str(store_dir / aside) if stood else None,
    )  # fmt: skip


def read_file(source: Path, name: str, folder: Path) -> bytes | None:
    """Return a file that a backup holds, None where it holds none; a packed one is unpacked in `folder` meanwhile.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    source = _file_in(source)
    try:
        with _workplace(folder) as work:
            plain = source
            if _is_packed(source):
                _fetch(source, plain := work / swap.FILE_NAME, lambda *_: None)
            with closing(sqlite3.connect(f"{plain.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
                if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'backup_file'").fetchone():
                    return None
                found = db.execute("SELECT content FROM backup_file WHERE name = ?", (name,)).fetchone()
                return bytes(found[0]) if found else None
    except (OSError, EOFError, zlib.error, sqlite3.Error) as error:
        raise StoreError(source, f"cannot be read ({error})", "is it a backup?") from error


def _free_name(store_dir: Path) -> str:
    name = f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    return next(n for n in (name, *(f"{name}-{i}" for i in range(1, 1000))) if not (store_dir / n).exists())


def _copy(
    db: sqlite3.Connection, partial: Path, files: Mapping[str, bytes], show: Progress, facts: dict[str, Any]
) -> dict[str, Any]:
    """Copy one state of the store, check it, and add what belongs to it; returns the note."""
    with snapshot(db):  # so that commits meanwhile do not start the copy again
        (schema,) = db.execute("PRAGMA user_version").fetchone()
        note = {**facts, "schema": schema, "counts": copying.counts(db)}
        size = db.execute("PRAGMA page_count").fetchone()[0] * db.execute("PRAGMA page_size").fetchone()[0]
        copying.need_room(partial.parent, size, "a backup")
        copying.copy_database(db, partial, show, _PAUSE)
    with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
        copy.execute("CREATE TABLE backup_file (name TEXT PRIMARY KEY, content BLOB NOT NULL) WITHOUT ROWID")
        every = [(_NOTE, json.dumps(note).encode()), *files.items()]
        copy.executemany("INSERT INTO backup_file (name, content) VALUES (?, ?)", every)
    copying.sync_file(partial)
    problem = copying.check(partial, show)
    with closing(sqlite3.connect(partial)) as copy:
        if not problem and copying.counts(copy) != note["counts"]:
            problem = "its counts differ"
    if problem:
        raise StoreError(partial, f"the copy is damaged ({problem})", "check both disks; the store itself may be hurt")
    return note


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """Yield a folder for what is not finished; it goes in any case, and so do those that killed runs have left."""
    for left in folder.glob(f"{_WORK}*"):
        with suppress(OSError), _locked(left):
            copying.remove(left)
    work = folder / f"{_WORK}{uuid4().hex}"
    work.mkdir(mode=0o700)
    try:
        with _locked(work):
            yield work
    finally:
        copying.remove(work)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes, or raise `BlockingIOError` where one holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _compress(path: Path, show: Progress) -> Path:
    """Compress a file and see that it reads back as it was."""
    packed = path.with_suffix(".gz")
    total = path.stat().st_size / _MB
    with path.open("rb") as found, copying.create(packed) as out:
        digest, done = hashlib.sha256(), 0
        with gzip.GzipFile(filename="", fileobj=out, mode="wb", compresslevel=1, mtime=0) as zipped:
            for piece in _pieces(found.read):
                digest.update(piece)
                zipped.write(piece)
                done += len(piece)
                show("compressed MB", done / _MB, total)
        out.flush()
        os.fsync(out.fileno())
    again = hashlib.sha256()
    with gzip.open(packed, "rb") as zipped:
        for piece in _pieces(zipped.read):
            again.update(piece)
    if again.digest() != digest.digest():
        raise StoreError(packed, "does not read back as it was written", "check the disk")
    return packed


def _pieces(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while piece := read(PIECE_BYTES):
        yield piece


def _remove_older(folder: Path, keep: int) -> list[str]:
    """Remove all but the newest backups of a folder; what is not named as one is left alone."""
    found = sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)
    for path in found[keep:]:
        path.unlink()
    return [path.name for path in found[keep:]]


def _file_in(source: Path) -> Path:
    """Return the file to restore: of a folder the copy it holds, or its newest backup."""
    if source.is_dir():
        found = sorted((path for path in source.iterdir() if _NAME.fullmatch(path.name)), reverse=True)
        copy = source / swap.FILE_NAME
        source = copy if copy.exists() else found[0] if found else copy
    if not source.is_file():
        raise StoreError(source, "no backup here", "name a file that lichen backup has made, or the folder of them")
    log = source.with_name(f"{source.name}-wal")
    if log.exists() and log.stat().st_size:
        raise StoreError(source, "is a store in use and no backup", "make a backup of it with lichen backup")
    return source


def _is_packed(source: Path) -> bool:
    with source.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _fetch(source: Path, made: Path, show: Progress) -> None:
    """Bring the file beside the store, unpacked."""
    if not _is_packed(source):
        copying.need_room(made.parent, source.stat().st_size, "restoring")
        copying.copy_file(source, made, show)
        return
    with gzip.open(source, "rb") as zipped, copying.create(made) as out:
        for piece in _pieces(zipped.read):
            out.write(piece)
            show("unpacked MB", out.tell() / _MB, max(out.tell(), source.stat().st_size) / _MB)


@dataclass(frozen=True, slots=True)
class _Facts:
    made: str | None
    schema: int
    counts: dict[str, int]
    files: dict[str, bytes]


def _take_out(source: Path, made: Path, show: Progress) -> _Facts:
    """Compare what was fetched with its note, and make it a store again: one that no sink has seen."""
    if problem := copying.check(made, show):
        raise StoreError(source, f"is damaged or no backup ({problem})", "take another one")
    with closing(sqlite3.connect(made, isolation_level=None)) as db:
        (schema,) = db.execute("PRAGMA user_version").fetchone()
        if schema > SCHEMA_VERSION:
            raise StoreError(source, f"was written by a newer Lichen (schema {schema})", "upgrade this program")
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        if schema == 0 or not {"chunk", "revision"} <= tables:
            raise StoreError(source, "holds no store of Lichen", "name a file that lichen backup has made")
        files: dict[str, bytes] = {}
        if "backup_file" in tables:
            files = dict(db.execute("SELECT name, content FROM backup_file"))
            db.execute("DROP TABLE backup_file")
        note = json.loads(files.pop(_NOTE, b"{}"))
        counts = copying.counts(db)
        if note and counts != note["counts"]:
            raise StoreError(source, "does not hold what it held when it was made", "take another one")
        if "meta" in tables:
            db.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('store_id', ?)", (uuid4().hex,))
    return _Facts(note.get("made"), schema, counts, files)
