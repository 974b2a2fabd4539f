"""A transaction that cannot be committed leaves nothing open, and a store's lock costs one descriptor."""

import os
import shutil
import sqlite3

import pytest

from gateway.store.database import open_writer, transaction


def test_a_commit_that_fails_leaves_no_transaction_open(tmp_path):
    db = open_writer(tmp_path)
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("CREATE TABLE child (kit INTEGER REFERENCES kit (id) DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(sqlite3.IntegrityError), transaction(db):
        db.execute("INSERT INTO child VALUES (99)")  # only the commit finds that there is no such kit
    assert not db.in_transaction
    with transaction(db):
        db.execute("INSERT INTO kit (name, heard_ms) VALUES ('kit-1', 0)")
    assert db.execute("SELECT count(*) FROM child").fetchone() == (0,)
    db.close()


def test_a_store_that_is_opened_again_and_again_takes_no_more_descriptors(tmp_path):
    store = tmp_path / "store"
    open_writer(store).close()
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the kernel's list, not files
    for again in range(20):
        if again % 2:
            shutil.rmtree(store)  # another store in its place
        open_writer(store).close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
