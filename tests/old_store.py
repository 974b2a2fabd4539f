"""Stores of earlier programs for tests, from the SQL they were recorded as, and what has to be in them."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from components import REPO
from stores import record

from gateway.store import chunks
from gateway.store.database import FILE_NAME
from gateway.store.migrate import SCHEMA_VERSION

STORES = Path(__file__).parent / "stores"
RECORDED = sorted(int(path.stem.removeprefix("schema")) for path in STORES.glob("schema*.sql"))
OLDER = range(1, SCHEMA_VERSION)
OPEN = """
import logging, sys
from pathlib import Path
from gateway.store.database import open_writer
logging.basicConfig(level=logging.INFO)
print("go", flush=True)
open_writer(Path(sys.argv[1])).close()
"""


def make(store_dir, schema, *, chunk_count=0):
    """Make a store as the program of that schema left it; of `chunk_count` chunks more where it is to be large."""
    store_dir.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(store_dir / FILE_NAME, isolation_level=None)) as db:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript((STORES / f"schema{schema}.sql").read_text())
        db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO chunk (rev, kit, boot, hour, seq_from, seq_to, row_count, time_from_ms, time_to_ms, "
            "time_source, received_ms, columns, width, rows) SELECT 100000 + i, 1, 99, i, i, i, 1, i, i, 0, i, 1, 4, "
            "randomblob(2000) FROM n WHERE ? > 0",
            (max(1, chunk_count), chunk_count),
        )
        db.execute("UPDATE revision SET value = max(value, 100000 + ?) WHERE ? > 0", (chunk_count, chunk_count))
    return store_dir


def dump(path):
    with closing(sqlite3.connect(path)) as db:
        return [*db.iterdump(), *db.execute("PRAGMA user_version").fetchone()]


def version(path):
    with closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA user_version").fetchone()[0]


def rows(db):
    """Return every stored row as it was sent, by (kit, boot, seq)."""
    found = db.execute(
        "SELECT name, boot, names, width, rows FROM chunk JOIN kit ON kit.id = chunk.kit "
        "JOIN column_set ON column_set.id = chunk.columns WHERE boot <> 99"
    )
    return {
        (kit, boot, values[0]): [None if v == chunks.NULL else v for v in values]
        for kit, boot, names, width, packed in found
        for values in chunks.unpack(chunks.Packed(width, packed), len(names.split(","))).tolist()
    }


def sent_rows():
    """Return every row that was sent and is no dead letter."""
    found = {}
    for kit, kind, content in [*record.before_deriving(), *record.after_deriving()]:
        if kind in {"obs", "backlog"} and isinstance(content, dict) and content["cols"] == record.COLS:
            for row in content["rows"]:
                found.setdefault((kit, content["boot"], row[0]), row)
    return found


def start(store_dir, *, tree=REPO, **kw):
    """Open a store as a starting gateway does, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-P", "-c", OPEN, str(store_dir)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(tree), "PATH": "/usr/bin:/bin"}, cwd="/", **kw,
    )  # fmt: skip
