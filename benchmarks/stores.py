"""Stores that already hold a past, filled through the gateway's own writer and derivation."""

import multiprocessing
import shutil
from itertools import groupby

import payloads
from payloads import COLUMNS, STEP_S

from gateway.bulk import read_runs
from gateway.derive.dirty import Deriver
from gateway.derive.recipe import Recipe
from gateway.settings import Derive
from gateway.store.database import open_writer, transaction
from gateway.store.merge import merge_quiet
from gateway.store.raw import RawWriter
from gateway.store.room import give_back
from gateway.wire import Batch, decode_batch

HOUR_S = 3600
_SAY_EVERY_MINUTES = 100_000
_DERIVE_EVERY_ROWS = 60_000
"""So that derived hours stand in the order of time, as they do where kits have sent all the while."""
_DERIVE_EVERY_MINUTES = 5
"""Of live rows."""


def offset_s(kit, kits):
    """Return when in a minute a kit's row ends: they are spread evenly [s]."""
    return kit * STEP_S // kits


def wire_rows(kit, kits, first, count, start_s):
    """Return rows as the wire has them; row `seq` ends `seq + 1` minutes after the start."""
    found = payloads.rows(kit, first, count, start_s + offset_s(kit, kits))
    return [[seq, up, t, 2, STEP_S, 12, 0, *values] for seq, up, t, *values in found]


def fill(folder, kits, minutes, start_s, *, live_minutes=0):
    """Make a store with `minutes` rows of each kit; of the newest `live_minutes` each came alone, as live rows do."""
    shutil.rmtree(folder, ignore_errors=True)
    # In a process of its own: who has written a store holds it until its process ends.
    child = multiprocessing.get_context("fork").Process(
        target=_fill, args=(folder, kits, minutes, start_s, live_minutes)
    )
    child.start()
    child.join()
    assert child.exitcode == 0, f"the store in {folder} could not be made"


def _fill(folder, kits, minutes, start_s, live_minutes):
    db = open_writer(folder)
    writer, deriver = RawWriter(db), Deriver(db, Recipe.of(Derive()))
    count = 0
    for first in range(0, minutes - live_minutes, 60):
        some = min(60, minutes - live_minutes - first)
        _commit(db, writer, kits, first, some, start_s)
        count += some * kits
        if count >= _DERIVE_EVERY_ROWS:
            count = 0
            _derive(deriver)
        if first % _SAY_EVERY_MINUTES == 0:
            print(f"  {first * kits / 1e6:.1f} of {minutes * kits / 1e6:.1f} million rows", flush=True)
    for minute in range(minutes - live_minutes, minutes):
        commit_live(db, writer, range(kits), kits, minute, start_s)
        if minute % _DERIVE_EVERY_MINUTES == 0 or minute == minutes - 1:
            gather(db, writer)
            _derive(deriver)
    _derive(deriver)
    # Joined as it would have been, hour by hour.
    with transaction(db):
        while writer.release_waiting(1000 * (start_s + minutes * STEP_S), 0):
            pass
        writer.flush()
    while merge_quiet(db, 1000 * (start_s + minutes * STEP_S)).hours or give_back(db, all_of_it=False):
        pass
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()


def _commit(db, writer, kits, first, count, start_s):
    with transaction(db):
        for kit in range(kits):
            rows = wire_rows(kit, kits, first, count, start_s)
            for _, part in groupby(rows, lambda row: (row[2] - STEP_S // 2) // HOUR_S):
                chosen = list(part)
                name, received_ms = payloads.kit_name(kit), chosen[-1][2] * 1000 + 200
                batch = Batch(v=1, boot=payloads.boot_of(kit), first=0, cols=COLUMNS, rows=chosen)
                writer.add(name, batch, received_ms, 0, live=False)
                writer.heard(name, received_ms)
        writer.flush()


def commit_live(db, writer, some, kits, minute, start_s):
    """Store a row of some of the kits as intake stores live ones."""
    sent = [payloads.rows(kit, minute, 1, start_s + offset_s(kit, kits)) for kit in some]
    messages = [payloads.wire(kit, rows) for kit, rows in zip(some, sent, strict=True)]
    with transaction(db):
        for kit, rows, message, run in zip(some, sent, messages, read_runs(messages), strict=True):
            name, received_ms = payloads.kit_name(kit), rows[-1][2] * 1000 + 200
            writer.heard(name, received_ms)
            if writer.add_run(name, run, received_ms, 0, live=True) is None:
                writer.add(name, decode_batch(message), received_ms, 0, live=True)
        writer.flush()


def gather(db, writer):
    """Make live rows derivable, as the gateway does before each round."""
    with transaction(db):
        writer.gather()
        writer.flush()


def _derive(deriver):
    while deriver.step():
        pass
