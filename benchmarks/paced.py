"""What deriving costs while kits send a row a minute each, gathered as the gateway gathers it, in simulated time.

Rows are stored and derived by the gateway's own writer, deriver and pace; only the clock of the pace is simulated, so
that minutes of a thousand kits take seconds. The CPU of deriving alone is counted, its transaction included.
"""

import time

import payloads
import stores

from gateway.derive import pace
from gateway.derive.dirty import Deriver
from gateway.derive.recipe import Recipe
from gateway.settings import Derive
from gateway.store import registry
from gateway.store.calibrations import StoredCalibration, add
from gateway.store.database import open_writer, transaction
from gateway.store.raw import RawWriter

START_S = 1_700_006_400  # a whole hour
COMMIT_S = 1.0
"""Rows of so long come in one commit, as by default."""


class _Clock:
    """In place of the module `time`."""

    def __init__(self):
        self.now_s = 0.0

    def monotonic(self):
        return self.now_s


class Fleet:
    """A store of kits that begin an hour, with calibrations by kit number."""

    def __init__(self, folder, kits, calibrations):
        self._kits = kits
        self._db = open_writer(folder)
        self._writer, self._deriver = RawWriter(self._db), Deriver(self._db, Recipe.of(Derive()))
        self.store(range(kits), 0)
        with transaction(self._db):
            while self._writer.release_waiting(1000 * (START_S + 60), 0):
                pass
            self._writer.flush()
            for number, one in calibrations.items():
                name = payloads.kit_name(number)
                add(self._db, StoredCalibration(one.label, one.label, 0, "benchmark"))
                registry.set_correction(self._db, name, START_S // 3600, one.label)
                self._deriver._methods._read[name, one.label] = one  # its text is long, and read once
        self.gather()
        while self._deriver.step():
            pass

    def store(self, some, minute):
        """Store a row of some of the kits, of a minute of the hour."""
        stores.commit_live(self._db, self._writer, some, self._kits, minute, START_S - payloads.STEP_S)

    def gather(self):
        """Make what was stored derivable."""
        stores.gather(self._db, self._writer)

    def step(self):
        """Derive what the gateway derives in one step; returns how many hours of kits, and the CPU that it took [s]."""
        started_s = time.thread_time()
        count = self._deriver.step()
        return count, time.thread_time() - started_s

    @property
    def waiting(self):
        """Whether more is to be derived in this round."""
        return self._deriver.waiting

    def close(self):
        """Let the store go."""
        self._db.close()


def run(fleets, kits):
    """Let the kits of each fleet send a row in each minute of an hour.

    Yields of each round of deriving how many readings it derived and the CPU that each fleet took [s]; the fleets take
    each step in turn, so that other work on the machine meets all alike. The pace is what the first fleet gives it, so
    that all derive the same kits at the same times.
    """
    followed, clock, stored = pace.Pace(), _Clock(), 0
    real, pace.time = pace.time, clock
    try:
        for minute in range(1, 60):
            for second in range(payloads.STEP_S):
                first, last = (kits * at // payloads.STEP_S for at in (second, second + 1))
                for fleet in fleets:
                    fleet.store(range(first, last), minute)
                stored += last - first
                clock.now_s += COMMIT_S
                if followed.is_due():
                    yield stored, _round(fleets, followed)
                    stored = 0
    finally:
        pace.time = real


def _round(fleets, followed):
    """Derive all that was stored; returns the CPU that each fleet took [s]."""
    for fleet in fleets:
        fleet.gather()
    took_s, steps = [0.0] * len(fleets), 0
    while steps == 0 or fleets[0].waiting:
        turn = steps % len(fleets)  # who is first finds the caches colder
        found = {at: fleets[at].step() for at in (*range(turn, len(fleets)), *range(turn))}
        followed.worked(*found[0], begins_round=steps == 0)
        took_s = [so_far + found[at][1] for at, so_far in enumerate(took_s)]
        steps += 1
    return took_s
