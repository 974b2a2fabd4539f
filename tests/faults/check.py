"""Whether the store holds what the ledgers say: read from its tables, with nothing of the gateway but the unpacking."""

import sqlite3
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np
from faults.rows import read_ledger

from gateway.store.chunks import Packed, unpack
from gateway.store.fresh import of_all
from gateway.wire import MAX_MESSAGE_BYTES

_SHOWN = 5


@dataclass
class Found:
    """What a comparison has found; what `faults` names must stay 0."""

    made: int = 0  # rows of the ledgers
    rows: int = 0  # of these stored with their values
    waiting: int = 0  # of these, without a place in time yet
    given_up: int = 0  # rows of full rings that gave way before they were stored
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    foreign: int = 0
    same_time: int = 0
    letters: int = 0
    letters_missing: int = 0
    letters_foreign: int = 0
    letters_doubled: int = 0
    examples: list = field(default_factory=list)

    @property
    def faults(self):
        names = (
            "lost",
            "doubled",
            "wrong",
            "foreign",
            "same_time",
            "letters_missing",
            "letters_foreign",
            "letters_doubled",
        )
        return {name: value for name in names if (value := getattr(self, name))}

    def note(self, what, kit, boot, seqs):
        if len(seqs):
            setattr(self, what, getattr(self, what) + len(seqs))
            if sum(e[0] == what for e in self.examples) < _SHOWN:
                self.examples.append((what, kit, int(boot), [int(s) for s in seqs[:10]]))


def open_store(folder):
    """The store, to read only, beside its gateway."""
    return sqlite3.connect(f"{(folder / 'lichen.sqlite').absolute().as_uri()}?mode=ro", uri=True, timeout=10)


def compare(store, ledgers, poison):
    """Compare the rows of all ledgers and the set of poison with what is stored."""
    found = Found()
    db = open_store(store)
    try:
        db.execute("BEGIN")
        expected = defaultdict(list)
        for ledger in ledgers:
            for entry in read_ledger(ledger):
                expected[entry.kit].append(entry)
        for kit, name in db.execute("SELECT id, name FROM kit").fetchall():
            _compare_kit(db, kit, name, expected.pop(name, []), found)
        for entries in expected.values():  # kits that the store has never heard of
            for entry in entries:
                _compare_boot(entry, {}, found)
        _compare_letters(db, poison, found)
    finally:
        db.close()
    return found


def _compare_kit(db, kit, name, entries, found):
    stored, times = _stored_rows(db, kit)
    found.waiting += sum(len(t) for t in times[True])
    placed = np.concatenate(times[False]) if times[False] else np.empty(0, np.int64)
    unique, counts = np.unique(placed, return_counts=True)
    found.note("same_time", name, 0, unique[counts > 1])
    for entry in entries:
        _compare_boot(entry, stored.pop(entry.boot, {}), found)
    for boot, tables in stored.items():
        for columns, rows in tables.items():
            found.note("foreign", name, boot, rows[:, columns.index("seq")])


def _stored_rows(db, kit):
    """Rows by boot and columns, and times [ms] by whether the rows wait."""
    parts, times = defaultdict(lambda: defaultdict(list)), {True: [], False: []}
    for boot, names, width, packed, offset_s, shift_ms, waits in db.execute(
        of_all("SELECT boot, names, width, rows, offset_s, shift_ms, waits FROM chunk "
               "JOIN column_set ON column_set.id = chunk.columns WHERE kit = :kit"), {"kit": kit}
    ):  # fmt: skip
        columns = tuple(names.split(","))
        rows = unpack(Packed(width, packed), len(columns))
        parts[boot][columns].append(rows)
        at = rows[:, columns.index("t")] if offset_s is None else rows[:, columns.index("up")] + offset_s
        times[waits is not None].append(at * 1000 + shift_ms)
    return {boot: {c: np.concatenate(p) for c, p in tables.items()} for boot, tables in parts.items()}, times


def _compare_boot(entry, tables, found):
    tables = dict(tables)
    stored = np.empty((0, len(entry.cols)), np.int64)
    if same := next((c for c in tables if set(c) == set(entry.cols)), None):  # the order of columns is the store's
        stored = tables.pop(same)[:, [same.index(c) for c in entry.cols]]
    for columns, others in tables.items():
        found.note("foreign", entry.kit, entry.boot, others[:, columns.index("seq")])
    rows = entry.make()
    made = rows[:, 0]
    found.made += len(made)
    stored = stored[np.argsort(stored[:, 0], kind="stable")]
    seqs = stored[:, 0]
    again = np.zeros(len(seqs), bool)
    again[1:] = seqs[1:] == seqs[:-1]
    found.note("doubled", entry.kit, entry.boot, seqs[again])
    stored, seqs = stored[~again], seqs[~again]
    known = np.isin(seqs, made)
    found.note("foreign", entry.kit, entry.boot, seqs[~known])
    stored, seqs = stored[known], seqs[known]
    missing = made[~np.isin(made, seqs)]
    found.note("lost", entry.kit, entry.boot, missing[missing > entry.dropped])
    found.given_up += int((missing <= entry.dropped).sum())
    true = rows[np.searchsorted(made, seqs)]
    differs = (true != stored).any(axis=1)
    found.note("wrong", entry.kit, entry.boot, seqs[differs])
    found.rows += int((~differs).sum())


def _compare_letters(db, poison, found):
    """Each poison is one letter; of a large payload the beginning is kept."""
    sent = Counter((topic, payload[:MAX_MESSAGE_BYTES]) for topic, payload in poison)
    kept = Counter((topic, bytes(payload)) for topic, payload in db.execute("SELECT topic, payload FROM dead_letter"))
    found.letters = sum(kept.values())
    for what, letters in (
        ("letters_missing", sent - kept),
        ("letters_doubled", Counter({k: n for k, n in (kept - sent).items() if k in sent})),
        ("letters_foreign", Counter({k: n for k, n in (kept - sent).items() if k not in sent})),
    ):
        setattr(found, what, sum(letters.values()))
        found.examples += [(what, topic, payload[:120]) for topic, payload in list(letters)[:_SHOWN]]
