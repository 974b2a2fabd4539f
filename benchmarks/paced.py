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
from gateway.wire import Batch

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
    """A store of kits within an hour, with calibrations by kit number."""

    def __init__(self, folder, kits, calibrations):
        self._kits, self._minute = kits, 1
        self._db = open_writer(folder)
        self._writer, self._deriver = RawWriter(self._db), Deriver(self._db, Recipe.of(Derive()))
        self._store(range(kits), 0, 1)
        with transaction(self._db):
            for number, one in calibrations.items():
                name = payloads.kit_name(number)
                add(self._db, StoredCalibration(one.label, one.label, 0, "benchmark"))
                registry.set_correction(self._db, name, START_S // 3600, one.label)
                self._deriver._methods._read[name, one.label] = one  # its text is long, and read once
        self._derive_all()

    def fill(self, minute):
        """Store and derive the rows up to a minute."""
        self._store(range(self._kits), self._minute, minute - self._minute)
        self._minute = minute
        self._derive_all()

    def store(self, second):
        """Store the rows of a second of the minute; kits are spread evenly."""
        first, last = (self._kits * at // payloads.STEP_S for at in (second, second + 1))
        self._store(range(first, last), self._minute, 1)
        self._minute += second == payloads.STEP_S - 1

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

    def _derive_all(self):
        while self._deriver.step():
            pass

    def _store(self, kits, first, count):
        with transaction(self._db):
            for kit in kits:
                rows = stores.wire_rows(kit, self._kits, first, count, START_S - payloads.STEP_S)
                name, received_ms = payloads.kit_name(kit), rows[-1][2] * 1000 + 200
                batch = Batch(v=1, boot=payloads.boot_of(kit), first=0, cols=payloads.COLUMNS, rows=rows)
                self._writer.add(name, batch, received_ms, 0, live=count == 1)
                self._writer.heard(name, received_ms)
            self._writer.flush()


def run(fleets, *, every):
    """Let the kits of each fleet send a row in each minute that is a multiple of `every`, and before it all since then.

    Yields of each step the number of its round, how many hours of kits were derived together and the CPU that each
    fleet took [s]; the fleets take each step in turn, so that other work on the machine meets all alike. The pace is
    what the first fleet gives it, so that all derive the same kits at the same times: where something costs more the
    gateway would gather more, and then all else would cost less.
    """
    followed, clock, rounds, steps = pace.Pace(), _Clock(), 0, 0
    real, pace.time = pace.time, clock
    try:
        for minute in range(every - 1, 60, every):
            for fleet in fleets:
                fleet.fill(minute)
            for second in range(payloads.STEP_S):
                for fleet in fleets:
                    fleet.store(second)
                clock.now_s += COMMIT_S
                begins = followed.is_due()
                while begins or (rounds and fleets[0].waiting):
                    rounds += begins
                    steps += 1
                    turn = steps % len(fleets)  # who is first finds the caches colder
                    found = {at: fleets[at].step() for at in (*range(turn, len(fleets)), *range(turn))}
                    followed.worked(found[0][1], begins_round=begins)
                    begins = False
                    if found[0][0]:
                        yield rounds, found[0][0], [found[at][1] for at in range(len(fleets))]
    finally:
        pace.time = real
