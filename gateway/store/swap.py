"""Putting another store in the place of the present one, which is set aside; a kill at any moment is made good.

`restore.new/` is being made and counts for nothing. Renaming it to `restore.ready/` decides: from then on the swap is
carried out, by this process or by the next one that opens the store.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from gateway.store.copying import give_to_owner_of, remove, sync_file, sync_folder

FILE_NAME: Final = "lichen.sqlite"
MAKING: Final = "restore.new"
_READY: Final = "restore.ready"
_ASIDE: Final = "aside"
_LOG: Final = f"{FILE_NAME}-wal"


def begin(store_dir: Path) -> Path:
    """Return the path at which the other store is to be made, checked and closed."""
    remove(store_dir / MAKING)
    (store_dir / MAKING).mkdir(parents=True)
    return store_dir / MAKING / FILE_NAME


def commit(store_dir: Path, aside: str, *, with_cursors: bool) -> None:
    """Put what was made in its place, the present store (and how far its sinks have come) into the folder `aside`."""
    making, ready = store_dir / MAKING, store_dir / _READY
    (making / _ASIDE).write_text(f"{aside}\n{int(with_cursors)}\n", "utf-8")
    with closing(sqlite3.connect(making / FILE_NAME)) as db:
        db.execute("PRAGMA journal_mode = WAL")  # copies have none, and an earlier program would leave it so
    present = store_dir / FILE_NAME
    (making / FILE_NAME).chmod(present.stat().st_mode & 0o777 if present.exists() else 0o644)
    give_to_owner_of(store_dir, making / FILE_NAME, making / _ASIDE, making)
    for path in (making / FILE_NAME, making / _ASIDE, making):
        sync_file(path)
    making.rename(ready)
    sync_folder(store_dir)
    finish(store_dir)


def finish(store_dir: Path) -> None:
    """Carry out a swap that was decided, whatever of it is done; called before the store is opened for writing."""
    ready = store_dir / _READY
    remove(store_dir / MAKING)
    if not ready.exists():
        return
    if (ready / FILE_NAME).exists():
        name, with_cursors = (ready / _ASIDE).read_text("utf-8").split()
        aside = store_dir / name
        aside.mkdir(exist_ok=True)
        give_to_owner_of(store_dir, aside)
        for part in (_LOG, FILE_NAME):  # the log first: what is left without it is older, but never mixed with another
            if (store_dir / part).exists():
                (store_dir / part).replace(aside / part)
        (store_dir / f"{FILE_NAME}-shm").unlink(missing_ok=True)
        if int(with_cursors):
            for cursor in (store_dir / "sinks").glob("*.cursor"):
                cursor.replace(aside / cursor.name)
        sync_folder(aside)
        (ready / FILE_NAME).replace(store_dir / FILE_NAME)
        sync_folder(store_dir)
    remove(ready)
