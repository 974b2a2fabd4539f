"""The InfluxDB sink: what the store has that InfluxDB has not, in batches, each confirmed by moving the cursor.

A batch that was sent but not confirmed is sent again; a line with the same measurement, tags and time replaces itself,
so it arrives once. Only `gateway.sinks.process` imports this module (see influx_client).
"""

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec

from gateway.errors import LichenError
from gateway.settings import Influx
from gateway.sinks import lineprotocol
from gateway.sinks.cursor import Cursor, SinkFiles, SinkState
from gateway.sinks.influx_client import InfluxClient, Outcome, UnavailableError
from gateway.store import database
from gateway.store.changes import Changes, changes

log = logging.getLogger(__name__)

NAME: Final = "influx"

_IDLE_S: Final = 0.5
"""How often an idle sink looks for something new: InfluxDB is at most this far behind a commit."""
_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 60.0
_LONGEST_WISH_S: Final = 3600.0
"""A server's Retry-After is honoured up to here; a longer one is taken for a mistake."""
_FIRST_RECORDS: Final = 16
"""A calibrated hour at 1 Hz is 3,600 lines: begin small, so that a batch is bounded in memory."""
_MOST_RECORDS: Final = 5000
_STATE_EVERY_S: Final = 1.0


def _unwatched(_pause_s: float) -> None:
    """Tell nobody."""


class InfluxSink:
    """Sends the store's revision stream to one bucket; belongs to one thread.

    `alive` is called after each attempt, request and look for something new, with the pause until the next one [s].
    """

    def __init__(
        self, settings: Influx, token_path: Path, store_dir: Path, alive: Callable[[float], None] = _unwatched
    ) -> None:
        self.files = SinkFiles(store_dir, NAME)
        self.state = self.files.load_state()
        self._settings = settings
        self._token_path = token_path
        self._store_dir = store_dir
        self._alive = alive
        self._cursor = self.files.load_cursor()
        self._db: sqlite3.Connection | None = None
        self._client: InfluxClient | None = None
        self._records = _FIRST_RECORDS
        self._shown: SinkState | None = None
        self._shown_s = 0.0

    def run(self, stop: threading.Event) -> None:
        """Step until `stop`, alone, whatever happens; what goes wrong is in `state.last_error`."""
        alone = False
        failures = 0
        with ExitStack() as held:
            while not stop.is_set():
                try:
                    if not alone:
                        alone = held.enter_context(self.files.lock(stop, lambda: self._alive(0.0)))
                        self._cursor = self.files.load_cursor()  # the process before may have moved it
                        self.state = self.files.load_state()
                        continue
                    delay_s = 0.0 if self.step() else _IDLE_S
                    failures = 0
                except Exception as error:  # noqa: BLE001 - the loop's boundary: counted, shown, tried again
                    delay_s = self._note_failure(error, failures)
                    failures += 1
                self._alive(delay_s)
                stop.wait(delay_s)
            self.close()
            if alone:
                with suppress(OSError):
                    self._show(now=True)

    def close(self) -> None:
        """Close the store and the connection."""
        if self._db:
            self._db.close()
        if self._client:
            self._client.close()
        self._db = self._client = None

    def step(self) -> int:
        """Send and confirm one batch.

        Returns
        -------
        int
            Lines that were settled: written, refused or expired. 0 when there was nothing to do.

        Raises
        ------
        UnavailableError
            If InfluxDB cannot be written to now; the next step begins with the same batch.
        """
        found, cursor = self._next()
        if cursor == self._cursor:
            self._show()
            return 0
        self.state.attempts += 1
        self.state.last_attempt_ms = _now_ms()
        outcome = self._deliver(_lines(found)) if found else Outcome()
        # A point that lost a field or its site keeps the old one, since InfluxDB merges fields: here, before the cursor
        # moves, withdrawn points are to be deleted and rewritten once the store's revision stream has tombstones.
        if outcome.dead:
            # Before the confirmation: a crash between the two writes them twice, never not at all.
            self.files.add_dead(outcome.dead, _now_ms())
            log.warning("InfluxDB refused %d lines, kept in %s: %s", len(outcome.dead), self.files.dead_path,
                        outcome.dead[0][1])  # fmt: skip
        self.files.save_cursor(cursor)
        self._cursor = cursor
        return self._note_success(outcome)

    def _next(self) -> tuple[Changes, Cursor]:
        """Return the next batch and where the cursor stands after it."""
        db = self._db = self._db or database.open_reader(self._store_dir)
        with database.snapshot(db):
            self.state.last_revision = last = database.last_revision(db)
            if self._cursor.rev > last:
                log.warning("%s is ahead of the store, which was replaced: everything is sent again",
                            self.files.cursor_path)  # fmt: skip
                self._cursor = Cursor()
            after = self._cursor.rev
            if after == last:
                return Changes(last), msgspec.structs.replace(self._cursor, complete=last)
            rows_after = min(self._cursor.complete, after)
            found = changes(db, after, rows_after=rows_after, record_limit=self._records)
        return found, Cursor(rev=found.high, complete=last if found.high == last else self._cursor.complete)

    def _deliver(self, lines: Iterator[Sequence[bytes]]) -> Outcome:
        """Write all lines in requests of about `batch_lines`."""
        if self._client is None:
            try:
                self._client = InfluxClient(self._settings, self._token_path, lambda: self._alive(0.0))
            except LichenError as error:
                raise UnavailableError(str(error), lasting=True) from error
        total = Outcome()
        waiting: list[bytes] = []
        size = self._settings.batch_lines
        for some in chain(lines, [()]):
            waiting += some
            while len(waiting) >= size or (waiting and not some):
                outcome = self._client.write(waiting[:size])
                del waiting[:size]
                total.written += outcome.written
                total.expired += outcome.expired
                total.dead += outcome.dead
        self._adapt(total.written + total.expired + len(total.dead))
        return total

    def _adapt(self, lines: int) -> None:
        """Choose how many records the next batch reads, so that it is about one full request."""
        if lines < self._settings.batch_lines // 2:
            self._records = min(self._records * 2, _MOST_RECORDS)
        elif lines > self._settings.batch_lines * 2:
            self._records = max(self._records // 2, 1)

    def _note_success(self, outcome: Outcome) -> int:
        state = self.state
        if state.last_error:
            log.info("InfluxDB takes readings again")
        state.cursor = self._cursor.rev
        state.lines_written += outcome.written
        state.lines_refused += len(outcome.dead)
        state.lines_expired += outcome.expired
        state.last_success_ms = _now_ms()
        recovered, state.last_error = bool(state.last_error), ""
        self._show(now=recovered)
        return outcome.written + outcome.expired + len(outcome.dead)

    def _note_failure(self, error: Exception, failures: int) -> float:
        """Keep what went wrong; returns how long to wait [s]."""
        known = isinstance(error, UnavailableError | LichenError)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        if message != self.state.last_error:
            log.warning("%s", message, exc_info=None if known else error)
        self.state.last_error = message
        self.close()  # the store may have been replaced, the token corrected
        try:
            self._show(now=True)
        except OSError as full:
            log.warning("%s cannot be written: %s", self.files.state_path, full)
        delay_s = min(_FIRST_DELAY_S * 2.0 ** min(failures, 10), _LONGEST_DELAY_S)
        wish_s = None
        if isinstance(error, UnavailableError):
            delay_s = _LONGEST_DELAY_S if error.lasting else delay_s
            wish_s = error.retry_after_s
        delay_s *= random.uniform(0.5, 1.0)  # noqa: S311 - so that several gateways do not come back at once
        return max(delay_s, min(wish_s, _LONGEST_WISH_S)) if wish_s is not None else delay_s

    def _show(self, *, now: bool = False) -> None:
        """Write the state's file, if it has changed and not more than once in `_STATE_EVERY_S` unless `now`."""
        clock_s = time.monotonic()
        if now or clock_s - self._shown_s >= _STATE_EVERY_S:
            self._shown_s = clock_s
            self.state.cursor = self._cursor.rev
            if self._shown != self.state:
                self.files.save_state(self.state)
                self._shown = msgspec.structs.replace(self.state)


def _lines(found: Changes) -> Iterator[Sequence[bytes]]:
    """Yield the lines of each record, those of a kit together; never an empty sequence."""
    parts = chain(
        map(lineprotocol.raw_lines, found.readings),
        map(lineprotocol.air_lines, found.air),
        map(lineprotocol.hour_lines, found.hours),
        map(lineprotocol.index_lines, found.indices),
    )
    return (lines for lines in parts if lines)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
