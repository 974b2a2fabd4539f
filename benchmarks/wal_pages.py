"""What is written to disk: pages of SQLite's log by the table or index they belong to, over its last commits."""

import sqlite3
import struct
from collections import Counter

_HEADER_BYTES = 32
_FRAME_BYTES = 24


def by_table(store):
    """Return commits in the log, bytes a page, and pages a commit of each table or index, most first."""
    path = store / "lichen.sqlite"
    page_bytes, pages, commits = _frames((store / "lichen.sqlite-wal").read_bytes())
    if not commits:
        return {}
    db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        owner = dict(db.execute("SELECT pageno, name FROM dbstat"))
    finally:
        db.close()
    count = Counter(owner.get(page, "free or header") for page in pages)
    return {
        "commits": commits, "page_bytes": page_bytes, "pages_a_commit": round(len(pages) / commits, 1),
        "of": {name: round(number / commits, 2) for name, number in count.most_common()},
    }  # fmt: skip


def _frames(log):
    """Return page size, page numbers in the order written, and commits, of the log since it last began anew."""
    if len(log) < _HEADER_BYTES:
        return 0, [], 0
    (page_bytes,) = struct.unpack_from(">I", log, 8)
    salt = log[16:24]
    pages, commits, at = [], 0, _HEADER_BYTES
    while at + _FRAME_BYTES + page_bytes <= len(log) and log[at + 8 : at + 16] == salt:
        page, size_after = struct.unpack_from(">II", log, at)
        pages.append(page)
        commits += size_after > 0
        at += _FRAME_BYTES + page_bytes
    return page_bytes, pages, commits
