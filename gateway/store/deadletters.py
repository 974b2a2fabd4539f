"""Messages that could not become rows: kept with reason and payload; used inside a transaction."""

import hashlib
import sqlite3
from collections.abc import Sequence


def keep(
    db: sqlite3.Connection,
    *,
    received_ms: int,
    topic: str,
    kit: str | None,
    reason: str,
    detail: str,
    payload: bytes,
    boot: int | None = None,
    seqs: Sequence[int] = (),
) -> bool:
    """Keep a message, or count one more copy of it; returns whether it is new."""
    digest = hashlib.sha256(f"{topic}\0{reason}\0".encode() + payload).digest()
    ranged = boot is not None and len(seqs) > 0
    changed = db.execute(
        "INSERT INTO dead_letter (digest, received_ms, topic, kit, boot, seq_from, seq_to, reason, detail, payload) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET copies = copies + 1 RETURNING copies",
        (
            digest, received_ms, topic, kit, boot, min(seqs) if ranged else None, max(seqs) if ranged else None,
            reason, detail, payload,
        ),
    ).fetchone()  # fmt: skip
    return bool(changed[0] == 1)


def count(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many distinct dead letters there are by reason."""
    return dict(db.execute("SELECT reason, count(*) FROM dead_letter GROUP BY reason"))
