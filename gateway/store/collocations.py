"""Kits that stand beside a reference, and that stood: a few lines in a fact of the store itself."""

import sqlite3
from typing import Final

import msgspec

from gateway.store.database import read_meta, write_meta

_NAME: Final = "collocations"
MOST_ENDED: Final = 500
"""Lines of ended ones that are kept, the newest."""


class Collocation(msgspec.Struct, frozen=True, kw_only=True):
    """A kit beside a reference: which file or station, its column, since when [ms since 1970], and who said so.

    `to_ms` is None until it has ended; `report` is where its report was written.
    """

    kit: str
    reference: str
    target: str
    from_ms: int
    started_by: str
    to_ms: int | None = None
    ended_by: str = ""
    report: str = ""


def everything(db: sqlite3.Connection) -> list[Collocation]:
    """Return all that are known, in the order they began to be."""
    text = read_meta(db, _NAME)
    return msgspec.json.decode(text, type=list[Collocation]) if text else []


def running(db: sqlite3.Connection, kit: str) -> Collocation | None:
    """Return the one of a kit that has not ended."""
    return next((one for one in everything(db) if one.kit == kit and one.to_ms is None), None)


def start(db: sqlite3.Connection, one: Collocation) -> None:
    """Keep one, inside a transaction; a kit has one at a time."""
    _write(db, [*everything(db), one])


def end(db: sqlite3.Connection, kit: str, ended: Collocation | None) -> None:
    """Put the ended one in place of the running one of a kit, inside a transaction; None: as if it had not been."""
    others = [one for one in everything(db) if one.kit != kit or one.to_ms is not None]
    _write(db, others if ended is None else [*others, ended])


def _write(db: sqlite3.Connection, all_of_them: list[Collocation]) -> None:
    over = sum(one.to_ms is not None for one in all_of_them) - MOST_ENDED
    kept = []
    for one in all_of_them:
        if one.to_ms is not None and over > 0:
            over -= 1
        else:
            kept.append(one)
    write_meta(db, _NAME, msgspec.json.encode(kept).decode())
