"""Where kits stand and which correction they have, from an hour on; a change marks exactly what it touches."""

import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.store.database import horizon_hour

_ALWAYS: Final = -(2**62)
_FOR_EVER: Final = 2**62


@dataclass(frozen=True, slots=True)
class Line:
    """From `from_hour` on, until the next line: a site or a correction; None takes the last one back."""

    from_hour: int
    value: str | None


@dataclass(frozen=True, slots=True)
class KitHistory:
    """The lines of one kit, by hour."""

    kit: str
    sites: Sequence[Line]
    corrections: Sequence[Line]

    def site(self, hour: int) -> str:
        """Return where the kit stands in an hour; without a deployment it is at a site named after itself."""
        return _at(self.sites, hour) or self.kit

    def correction(self, hour: int) -> str | None:
        """Return the correction assigned to the kit in an hour, None where the configured one holds."""
        return _at(self.corrections, hour)

    def spans(self, first: int, last: int) -> Iterator[tuple[int, int, str, str | None]]:
        """Yield (first hour, last hour, site, correction) of the parts of a span of hours in which both stay."""
        edges = sorted({line.from_hour for line in (*self.sites, *self.corrections) if first < line.from_hour <= last})
        for start, end in zip([first, *edges], [*(edge - 1 for edge in edges), last], strict=True):
            yield start, end, self.site(start), self.correction(start)


def _at(lines: Sequence[Line], hour: int) -> str | None:
    i = bisect_right([line.from_hour for line in lines], hour)
    return lines[i - 1].value if i else None


def history(db: sqlite3.Connection, kit: str) -> KitHistory:
    """Return the lines of a kit; empty for a kit that is not known."""
    return KitHistory(kit, _lines(db, _SITES, kit), _lines(db, _CORRECTIONS, kit))


def kits_with_sites(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return every kit with the site of its last line, by kit."""
    names = [name for (name,) in db.execute("SELECT name FROM kit ORDER BY name")]
    return [(name, history(db, name).site(_FOR_EVER)) for name in names]


def kits_with_history(db: sqlite3.Connection) -> list[tuple[str, set[str]]]:
    """Return every kit with all the sites at which any of its hours may be."""
    names = [name for (name,) in db.execute("SELECT name FROM kit ORDER BY name")]
    lines = [(name, history(db, name).sites) for name in names]
    return [(name, {name, *(line.value for line in found if line.value)}) for name, found in lines]


def set_site(db: sqlite3.Connection, kit: str, from_hour: int, site: str | None) -> int:
    """Let a kit stand at a site from an hour on (None: at its own); returns how many hours are derived again.

    Inside a transaction, as the others. Sealed hours keep what they have.
    """
    return _set(db, _SITES, kit, from_hour, site)


def drop_site(db: sqlite3.Connection, kit: str, from_hour: int) -> int:
    """Take a line back; the one before it holds again. Returns how many hours are derived again."""
    return _drop(db, _SITES, kit, from_hour)


def set_correction(db: sqlite3.Connection, kit: str, from_hour: int, correction: str | None) -> int:
    """Assign a correction to a kit from an hour on (None: the configured one); returns as `set_site`."""
    return _set(db, _CORRECTIONS, kit, from_hour, correction)


def drop_correction(db: sqlite3.Connection, kit: str, from_hour: int) -> int:
    """Take an assignment back; returns as `set_site`."""
    return _drop(db, _CORRECTIONS, kit, from_hour)


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    column: str


_SITES: Final = _Table("deployment", "site")
_CORRECTIONS: Final = _Table("assignment", "correction")

# ruff: noqa: S608 - the names come from the two constants above


def _lines(db: sqlite3.Connection, table: _Table, kit: str) -> list[Line]:
    found = db.execute(
        f"SELECT from_hour, {table.column} FROM {table.name} JOIN kit ON kit.id = kit WHERE kit.name = ? "
        "ORDER BY from_hour",
        (kit,),
    )
    return [Line(*line) for line in found]


def _set(db: sqlite3.Connection, table: _Table, kit: str, from_hour: int, value: str | None) -> int:
    db.execute(
        f"REPLACE INTO {table.name} (kit, from_hour, {table.column}) SELECT id, ?, ? FROM kit WHERE name = ?",
        (from_hour, value, kit),
    )
    return _mark(db, table, kit, from_hour)


def _drop(db: sqlite3.Connection, table: _Table, kit: str, from_hour: int) -> int:
    gone = db.execute(
        f"DELETE FROM {table.name} WHERE kit = (SELECT id FROM kit WHERE name = ?) AND from_hour = ?", (kit, from_hour)
    )
    return _mark(db, table, kit, from_hour) if gone.rowcount else 0


def _mark(db: sqlite3.Connection, table: _Table, kit: str, from_hour: int) -> int:
    """Mark the hours from here to the kit's next line."""
    later = [line.from_hour for line in _lines(db, table, kit) if line.from_hour > from_hour]
    marked = db.execute(
        "INSERT INTO dirty (kit, hour) SELECT DISTINCT kit.id, hour FROM chunk JOIN kit ON kit.id = chunk.kit "
        "WHERE kit.name = ? AND hour >= ? AND hour < ? ON CONFLICT (kit, hour) DO UPDATE SET failed = 0",
        (kit, max(from_hour, horizon_hour(db)), min([_FOR_EVER, *later])),
    )
    return marked.rowcount
