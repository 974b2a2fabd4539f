"""Counts that outlive the process; used inside a transaction."""

import sqlite3
from collections.abc import Mapping


def add(db: sqlite3.Connection, kit: int, counts: Mapping[str, int]) -> None:
    """Add to the counters of a kit (0: of no kit)."""
    db.executemany(
        "INSERT INTO counter (kit, name, value) VALUES (?, ?, ?) "
        "ON CONFLICT (kit, name) DO UPDATE SET value = value + excluded.value",
        [(kit, name, value) for name, value in counts.items() if value],
    )


def totals(db: sqlite3.Connection) -> dict[str, int]:
    """Return the sums over all kits; a row that came alone is counted itself until it is gathered."""
    return dict(
        db.execute(
            "SELECT name, sum(value) FROM (SELECT name, value FROM counter UNION ALL SELECT name, 1 FROM fresh "
            "CROSS JOIN (SELECT 'batches' AS name UNION ALL SELECT 'rows')) GROUP BY name"
        )
    )
