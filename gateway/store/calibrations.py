"""Calibrations that an operator gave, as their texts; one is never changed, another has another label."""

import sqlite3

import msgspec


class StoredCalibration(msgspec.Struct, frozen=True):
    """A calibration as it was given: TOML, when [ms since 1970] and by whom."""

    label: str
    record: str
    added_ms: int
    added_by: str


def add(db: sqlite3.Connection, one: StoredCalibration) -> bool:
    """Keep a calibration, inside a transaction; tells whether the label is free or has this very text already."""
    db.execute(
        "INSERT OR IGNORE INTO calibration (label, record, added_ms, added_by) VALUES (?, ?, ?, ?)",
        (one.label, one.record, one.added_ms, one.added_by),
    )
    known = find(db, one.label)
    return known is not None and known.record == one.record


def find(db: sqlite3.Connection, label: str) -> StoredCalibration | None:
    """Return a calibration by its label."""
    found = db.execute("SELECT label, record, added_ms, added_by FROM calibration WHERE label = ?", (label,)).fetchone()
    return None if found is None else StoredCalibration(*found)


def everything(db: sqlite3.Connection) -> list[StoredCalibration]:
    """Return every calibration, by label."""
    return [
        StoredCalibration(*line)
        for line in db.execute("SELECT label, record, added_ms, added_by FROM calibration ORDER BY label")
    ]
