"""The rows that simulated kits make, and the ledger of them: shared by the fleet, which sends, and the check.

A ledger need not hold what a pure function can tell again: the millions of rows of past boots are one line each.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

NULL = -(2**63)  # how null stands in arrays, here as in the store's

ONE_SENSOR = ("seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "pm25_atm", "temp", "rh")
TWO_SENSORS = (
    *ONE_SENSOR[:7],
    "pm_n_b",
    "pm_bad_b",
    "pm25_cf1",
    "pm25_atm",
    "pm25_cf1_b",
    "pm25_atm_b",
    *ONE_SENSOR[9:],
)

OWN, FOLLOWS, STUCK, NONE = "own", "follows", "stuck", "none"
"""Clocks: right by itself; set by gateway/time; starts each boot at the same second; there is none."""

MINUTE_S = 60
_CLOCK_SET_AT = 11  # a kit that follows the gateway has made ten rows of a past boot before it knew the time


@dataclass(frozen=True)
class Past:
    """A past boot: its rows, a minute apart, are a function of (boot, seq); seq counts from 1."""

    boot: int
    count: int
    start_s: int
    clock: str
    cols: tuple[str, ...]

    def rows(self, first, last):
        """Rows `first` to `last` as int64 [rows, columns]."""
        seq = np.arange(first, last + 1, dtype=np.int64)
        known = np.full(len(seq), self.clock in (OWN, STUCK)) | ((self.clock == FOLLOWS) & (seq >= _CLOCK_SET_AT))
        up = MINUTE_S * seq
        return values(self.boot, seq, self.cols, {
            "up": up, "t": np.where(known, self.start_s + up, NULL), "dt": np.full(len(seq), MINUTE_S),
            "q": np.where(known, 1 if self.clock == STUCK else 2, 0),
        })  # fmt: skip


def values(boot, seq, cols, when):
    """Rows of these seqs; `when` holds up, t, q and dt, all else follows from boot and seq."""
    noise = (seq * 2654435761 + boot) % 2**32 >> 7
    bad = noise % 4
    mass = 20 + noise % 900
    silent = noise % 89 == 0  # nothing but bad samples, so no value
    made = {
        **when, "seq": seq, "pm_n": 60 - bad, "pm_bad": bad, "pm_n_b": 60 - bad // 2, "pm_bad_b": bad // 2,
        "pm25_cf1": np.where(silent, NULL, mass), "pm25_atm": np.where(silent, NULL, mass * 9 // 10),
        "pm25_cf1_b": mass + noise % 7, "pm25_atm_b": mass * 9 // 10 + noise % 7,
        "temp": 1500 + noise % 1300 - 700, "rh": 3000 + noise % 5000,
    }  # fmt: skip
    return np.column_stack([made[name] for name in cols]).astype(np.int64)


def message(boot, first, cols, rows):
    """A batch as it stands on the wire; `first` is the oldest seq the kit still holds."""
    listed = rows.tolist()
    if (rows == NULL).any():
        listed = [[None if v == NULL else v for v in row] for row in listed]
    return msgspec.json.encode({"v": 1, "boot": boot, "first": first, "cols": cols, "rows": listed})


class Entry(NamedTuple):
    """All rows of one boot; those up to `dropped` gave way in a full ring, and may be stored or not."""

    kit: str
    boot: int
    cols: tuple[str, ...]
    make: Callable[[], np.ndarray]  # asked when it is needed: all of them together are hundreds of megabytes
    dropped: int


class Ledger:
    """Every row that kits ever made."""

    def __init__(self):
        self._past = []  # (kit, Past)
        self._made = {}  # (kit, boot) -> (columns, rows)
        self._dropped = {}  # (kit, boot) -> seq

    def add_past(self, kit, past):
        self._past.append((kit, past))

    def add_boot(self, kit, boot, cols, rows):
        """`rows` is a list that may grow until the ledger is written."""
        self._made[kit, boot] = (cols, rows)

    def drop(self, kit, boot, seq):
        self._dropped[kit, boot] = max(seq, self._dropped.get((kit, boot), 0))

    def write(self, path):
        head = {
            "past": [[kit, asdict(past)] for kit, past in self._past],
            "made": [[kit, boot, cols] for (kit, boot), (cols, _) in self._made.items()],
            "dropped": [[kit, boot, seq] for (kit, boot), seq in self._dropped.items()],
        }
        arrays = {
            f"rows{i}": np.array(rows, np.int64).reshape(-1, len(cols))
            for i, (cols, rows) in enumerate(self._made.values())
        }
        np.savez(path, head=np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays)


def read_ledger(path):
    """Yield an entry for each boot of each kit."""
    with np.load(path) as file:
        head = json.loads(file["head"].tobytes())
        dropped = {(kit, boot): seq for kit, boot, seq in head["dropped"]}
        for kit, fields in head["past"]:
            past = Past(**{**fields, "cols": tuple(fields["cols"])})
            yield Entry(kit, past.boot, past.cols, partial(past.rows, 1, past.count), dropped.get((kit, past.boot), 0))
        for i, (kit, boot, cols) in enumerate(head["made"]):
            yield Entry(kit, boot, tuple(cols), partial(np.copy, file[f"rows{i}"]), dropped.get((kit, boot), 0))
