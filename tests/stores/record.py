"""Writes the store of an earlier program as SQL: `python tests/stores/record.py FOLDER > tests/stores/schemaN.sql`.

FOLDER is a checkout of that program, whose own intake and derivation store the messages below. Nothing of it runs in
tests; they read the SQL and what is expected from here.
"""

import inspect
import json
import sys
import tempfile
from pathlib import Path

T0_S = 1_693_526_400  # 2023-09-01T00:00:00Z
BASE = "lichen/v1"
COLS = ["seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "pm25_atm", "env_n", "env_bad", "temp", "rh"]
DT_S = 120


def row(seq, *, q=2, t0_s=T0_S, start=0):
    t = t0_s + DT_S * (seq - start + 1) if q else None
    return [seq, 10 + DT_S * seq, t, q, DT_S, 12, 0, 80 + 7 * (seq % 11), 78 + 5 * (seq % 9), 12, 0, 2130, 5500 + seq]


def batch(boot, seqs, **kw):
    return {"v": 1, "boot": boot, "first": 0, "cols": COLS, "rows": [row(s, **kw) for s in seqs]}


def poisoned(boot, seqs):
    found = batch(boot, seqs)
    return found | {"cols": [*COLS[:-1], "humidity_of_mars"]}


def conflicting():
    found = batch(7, [1])
    found["rows"][0][7] = 999
    return found


def before_deriving():
    """(kit, kind, content) of messages, all received a day after T0."""
    yield "kit-1", "status", {"v": 1, "up": 1, "boot": 7}
    yield "kit-1", "obs", batch(7, [0])
    yield "kit-1", "backlog", batch(7, [1, 2])
    yield "kit-1", "obs", poisoned(7, [3, 4, 5])
    for first in range(6, 90, 20):
        yield "kit-1", "backlog", batch(7, range(first, min(first + 20, 90)))
    yield "kit-1", "backlog", batch(7, range(6, 26))  # copies
    yield "kit-1", "backlog", conflicting()
    yield "kit-1", "obs", b"\xffno message"
    yield "kit-1", "backlog", batch(8, range(5), q=0)  # a start without a clock
    yield "kit-1", "backlog", batch(9, range(5), q=0)
    yield "kit-1", "backlog", batch(9, [5], t0_s=T0_S + 40_000)  # it has got one
    yield "kit-2", "backlog", batch(3, range(30))
    yield "kit-2", "backlog", batch(3, range(40, 70))
    yield "kit-2", "obs", batch(4, range(3), q=1, t0_s=T0_S + 3 * 86_400)  # from the future


def after_deriving():
    """Messages whose hours are still to be derived."""
    yield "kit-2", "backlog", batch(3, range(80, 100))


STORED = {("kit-1", 7, s) for s in [0, 1, 2, *range(6, 90)]} | {("kit-1", 9, 5)}
STORED |= {("kit-2", 3, s) for s in [*range(30), *range(40, 70), *range(80, 100)]}
WAITING = {("kit-1", 8, s) for s in range(5)} | {("kit-1", 9, s) for s in range(5)}
WAITING |= {("kit-2", 4, s) for s in range(3)}
RECEIPTS = {("kit-1", 7): 89, ("kit-1", 8): 4, ("kit-1", 9): 5, ("kit-2", 3): 29, ("kit-2", 4): 2}
REASONS = {"unknown_column": 1, "conflict": 1, "not_json": 1}


def main(tree):
    sys.path.insert(0, str(tree))
    import gateway.intake
    from gateway.broker import Message
    from gateway.derive.dirty import Deriver
    from gateway.derive.recipe import Recipe
    from gateway.intake import Intake
    from gateway.settings import Derive
    from gateway.store.database import open_writer

    gateway.intake.now_ms = lambda: (T0_S + 86_400) * 1000  # by which rows are from the future

    with tempfile.TemporaryDirectory() as folder:
        db = open_writer(Path(folder))
        known = inspect.signature(Intake).parameters
        clock = {"clock_error_s": lambda: 1} if "clock_error_s" in known else {"clock_trusted": lambda: True}
        intake = Intake(db, base=BASE, publish=lambda *_: None, acknowledge=lambda _: None, **clock)
        for mid, (kit, kind, content) in enumerate(before_deriving()):
            send(intake, Message, mid, kit, kind, content)
        deriver = Deriver(db, Recipe.of(Derive()))
        while deriver.step():
            pass
        for mid, (kit, kind, content) in enumerate(after_deriving()):
            send(intake, Message, 1000 + mid, kit, kind, content)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        print(f"-- Recorded from a program of schema {version} by tests/stores/record.py.")  # noqa: T201
        for line in db.iterdump():
            print(line)  # noqa: T201
        print(f"PRAGMA user_version = {version};")  # noqa: T201


def send(intake, message_type, mid, kit, kind, content):
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    intake.store([message_type(f"{BASE}/{kit}/{kind}", payload, (T0_S + 86_400) * 1000 + mid, mid, 1, 1)])


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
