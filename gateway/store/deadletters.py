"""Messages that could not become rows: kept with reason and payload; used inside a transaction."""

import hashlib
import sqlite3

from gateway.wire import MAX_MESSAGE_BYTES, Rows


def keep(
    db: sqlite3.Connection,
    *,
    received_ms: int,
    topic: str,
    kit: str | None,
    reason: str,
    detail: str,
    payload: bytes,
    rows: Rows | None = None,
) -> bool:
    """Keep a message, or count one more copy of it; returns whether it is new.

    Of a message larger than any that could be replayed the beginning is kept, and the digest of the whole. `rows`, a
    run without gaps, counts as held by the receipts.
    """
    digest = hashlib.sha256(f"{topic}\0{reason}\0".encode() + payload).digest()
    boot, seq_from, seq_to = (rows.boot, rows.seqs[0], rows.seqs[-1]) if rows else (None, None, None)
    changed = db.execute(
        "INSERT INTO dead_letter (digest, received_ms, topic, kit, boot, seq_from, seq_to, reason, detail, payload) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET copies = copies + 1 RETURNING copies",
        (digest, received_ms, topic, kit, boot, seq_from, seq_to, reason, detail, payload[:MAX_MESSAGE_BYTES]),
    ).fetchone()
    return bool(changed[0] == 1)


def count(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many distinct dead letters there are by reason."""
    return dict(db.execute("SELECT reason, count(*) FROM dead_letter GROUP BY reason"))
