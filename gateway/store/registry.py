"""Where kits stand and how they are calibrated, from an hour on; a change marks exactly what it touches."""

import json
import sqlite3
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from gateway.records import Void
from gateway.store import voids
from gateway.store.database import horizon_hour

MAIN_QUANTITY: Final = "pm25_ugm3"
"""The quantity that has a configured correction where a kit has none of its own."""

_FOR_EVER: Final = 2**62


class Line(msgspec.Struct, frozen=True):
    """From `from_hour` on, until the next line: a site or a calibration; None takes the last one back."""

    from_hour: int
    value: str | None


class Span(msgspec.Struct, frozen=True):
    """Hours, the last included, in which a kit has one site and one label of a calibration for each quantity."""

    first: int
    last: int
    site: str
    calibrations: Mapping[str, str]


class KitHistory(msgspec.Struct, frozen=True):
    """The lines of one kit by hour, those of calibrations by quantity, and what of it is voided."""

    kit: str
    sites: Sequence[Line]
    calibrations: Mapping[str, Sequence[Line]]
    voids: tuple[Void, ...] = ()

    @property
    def corrections(self) -> Sequence[Line]:
        """Lines of the quantity that has a configured correction."""
        return self.calibrations.get(MAIN_QUANTITY, ())

    def site(self, hour: int) -> str:
        """Return where the kit stands in an hour; without a deployment it is at a site named after itself."""
        return _at(self.sites, hour) or self.kit

    def labels(self, hour: int) -> dict[str, str]:
        """Return the label of each calibration assigned to the kit in an hour, by quantity."""
        found = {quantity: _at(lines, hour) for quantity, lines in self.calibrations.items()}
        return {quantity: label for quantity, label in found.items() if label is not None}

    def spans(self, first: int, last: int) -> Iterator[Span]:
        """Yield the parts of a span of hours in which site and calibrations stay."""
        lines = (*self.sites, *(line for some in self.calibrations.values() for line in some))
        edges = sorted({line.from_hour for line in lines if first < line.from_hour <= last})
        for start, end in zip([first, *edges], [*(edge - 1 for edge in edges), last], strict=True):
            yield Span(start, end, self.site(start), self.labels(start))


def _at(lines: Sequence[Line], hour: int) -> str | None:
    i = bisect_right([line.from_hour for line in lines], hour)
    return lines[i - 1].value if i else None


def history(db: sqlite3.Connection, kit: str) -> KitHistory:
    """Return the lines of a kit; empty for a kit that is not known."""
    return histories(db, [kit])[kit]


def histories(db: sqlite3.Connection, kits: Sequence[str]) -> dict[str, KitHistory]:
    """Return the lines of each kit, as `history`."""
    calibrations: dict[str, dict[str, list[Line]]] = {kit: {} for kit in kits}
    found = db.execute(
        "SELECT kit.name, quantity, from_hour, correction FROM assignment JOIN kit ON kit.id = kit "
        "WHERE kit.name IN (SELECT value FROM json_each(?)) ORDER BY quantity, from_hour",
        (json.dumps(kits),),
    )
    for kit, quantity, *line in found:
        calibrations[kit].setdefault(quantity, []).append(Line(*line))
    sites, voided = _sites(db, kits), voids.in_force(db, kits)
    return {kit: KitHistory(kit, sites[kit], calibrations[kit], voided.get(kit, ())) for kit in calibrations}


def kits_with_sites(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return every kit with the site of its last line, by kit."""
    return [(kit, KitHistory(kit, lines, {}).site(_FOR_EVER)) for kit, lines in _sites(db, _names(db)).items()]


def kits_with_history(db: sqlite3.Connection) -> list[tuple[str, set[str]]]:
    """Return every kit with all the sites at which any of its hours may be."""
    lines = _sites(db, _names(db))
    return [(name, {name, *(line.value for line in found if line.value)}) for name, found in lines.items()]


def set_site(db: sqlite3.Connection, kit: str, from_hour: int, site: str | None) -> int:
    """Let a kit stand at a site from an hour on (None: at its own); returns how many hours are derived again.

    Inside a transaction, as the others. Sealed hours keep what they have.
    """
    db.execute(
        "REPLACE INTO deployment (kit, from_hour, site) SELECT id, ?, ? FROM kit WHERE name = ?", (from_hour, site, kit)
    )
    return _mark(db, kit, from_hour, _sites(db, [kit])[kit])


def drop_site(db: sqlite3.Connection, kit: str, from_hour: int) -> int:
    """Take a line back; the one before it holds again. Returns how many hours are derived again."""
    gone = db.execute(
        "DELETE FROM deployment WHERE kit = (SELECT id FROM kit WHERE name = ?) AND from_hour = ?", (kit, from_hour)
    )
    return _mark(db, kit, from_hour, _sites(db, [kit])[kit]) if gone.rowcount else 0


def set_correction(
    db: sqlite3.Connection, kit: str, from_hour: int, correction: str | None, quantity: str = MAIN_QUANTITY
) -> int:
    """Assign a calibration of a quantity to a kit from an hour on, by its label; returns as `set_site`.

    None takes it back: then the configured correction holds, or none where the quantity has no configured one.
    """
    db.execute(
        "REPLACE INTO assignment (kit, quantity, from_hour, correction) SELECT id, ?, ?, ? FROM kit WHERE name = ?",
        (quantity, from_hour, correction, kit),
    )
    return _mark(db, kit, from_hour, history(db, kit).calibrations[quantity])


def drop_correction(db: sqlite3.Connection, kit: str, from_hour: int, quantity: str = MAIN_QUANTITY) -> int:
    """Take an assignment back; returns as `set_site`."""
    gone = db.execute(
        "DELETE FROM assignment WHERE kit = (SELECT id FROM kit WHERE name = ?) AND quantity = ? AND from_hour = ?",
        (kit, quantity, from_hour),
    )
    return _mark(db, kit, from_hour, history(db, kit).calibrations.get(quantity, ())) if gone.rowcount else 0


def _names(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM kit ORDER BY name")]


def _sites(db: sqlite3.Connection, kits: Sequence[str]) -> dict[str, list[Line]]:
    """Return the lines of deployments of each kit."""
    lines: dict[str, list[Line]] = {kit: [] for kit in kits}
    found = db.execute(
        "SELECT kit.name, from_hour, site FROM deployment JOIN kit ON kit.id = kit "
        "WHERE kit.name IN (SELECT value FROM json_each(?)) ORDER BY from_hour",
        (json.dumps(kits),),
    )
    for kit, *line in found:
        lines[kit].append(Line(*line))
    return lines


def _mark(db: sqlite3.Connection, kit: str, from_hour: int, lines: Sequence[Line]) -> int:
    """Mark the hours from here to the next of these lines."""
    later = [line.from_hour for line in lines if line.from_hour > from_hour]
    marked = db.execute(
        "INSERT INTO dirty (kit, hour) SELECT DISTINCT kit.id, hour FROM chunk JOIN kit ON kit.id = chunk.kit "
        "WHERE kit.name = ? AND hour >= ? AND hour < ? ON CONFLICT (kit, hour) DO UPDATE SET failed = 0",
        (kit, max(from_hour, horizon_hour(db)), min([_FOR_EVER, *later])),
    )
    return marked.rowcount
