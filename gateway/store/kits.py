"""Which kits are known: asked before a new one is made."""

import difflib
import sqlite3

import msgspec


class Start(msgspec.Struct, frozen=True):
    """One start of a kit: how many of its rows are stored, and when it was last heard."""

    boot: int
    rows: int
    heard_ms: int


def is_known(db: sqlite3.Connection, name: str) -> bool:
    """Tell whether anything of a kit was ever received."""
    return db.execute("SELECT 1 FROM kit WHERE name = ?", (name,)).fetchone() is not None


def count(db: sqlite3.Connection) -> int:
    """Return how many kits are known."""
    return int(db.execute("SELECT count(*) FROM kit").fetchone()[0])


def nearest(db: sqlite3.Connection, name: str) -> str | None:
    """Return the known kit whose name is most like this one."""
    known = [found for (found,) in db.execute("SELECT name FROM kit")]
    lower = {found.lower(): found for found in known}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.4)
    return lower[close[0]] if close else None


def boots(db: sqlite3.Connection, name: str) -> list[Start]:
    """Return the starts of a kit, in the order they were last heard."""
    rows = db.execute(
        "SELECT boot.boot, coalesce((SELECT sum(seq_to - seq_from + 1) FROM cover "
        "WHERE cover.kit = boot.kit AND cover.boot = boot.boot), 0), boot.heard_ms "
        "FROM boot JOIN kit ON kit.id = boot.kit WHERE kit.name = ? ORDER BY boot.heard_ms, boot.boot",
        (name,),
    )
    return [Start(*row) for row in rows]
