"""The InfluxDB sink: what the store has that InfluxDB has not, in batches, each confirmed by moving the cursor.

A batch that was sent but not confirmed is sent again; a line with the same measurement, tags and time replaces itself,
so it arrives once. Withdrawn points are deleted before the batch is written, and after all before it has been answered.
While InfluxDB writes one batch the next is read and made ready.
"""

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Final

import msgspec

from gateway.errors import LichenError
from gateway.settings import Influx
from gateway.sinks import behind, lineprotocol, lines, refill, withdraw
from gateway.sinks.cursor import Cursor, SinkFiles, SinkState
from gateway.sinks.influx_client import InfluxClient, Outcome, UnavailableError
from gateway.sinks.lines import Piece
from gateway.sinks.pipeline import ALL_LANES, LANES, Pipeline, Tally
from gateway.store import database
from gateway.store.changes import Changes, changes
from gateway.store.tombstones import Tombstone

log = logging.getLogger(__name__)

NAME: Final = "influx"

_IDLE_S: Final = 1.0
"""How often an idle sink looks for something new that nobody told of."""
_FIRST_DELAY_S: Final = 1.0
_LONGEST_DELAY_S: Final = 60.0
_LONGEST_WISH_S: Final = 3600.0
"""A server's Retry-After is honoured up to here; a longer one is taken for a mistake."""
_REQUESTS_A_BATCH: Final = 4
"""Rows are read for so many requests at once: columns of a kit cost the less a row the more rows they have."""
_MOST_RECORDS: Final = 25_000
_BATCHES: Final = 2
"""Batches in memory: the one that is being written, and the next."""
_KEEP_EVERY_S: Final = 5.0
"""How often cursor and state are written while nothing special happens: each costs a card some pages. What was sent
after the last confirmation on disk is sent again after a crash, and changes nothing."""
_LOOK_EVERY_S: Final = 60.0
"""How often it is looked at whether the sink is behind."""


def _unwatched(_pause_s: float) -> None:
    """Tell nobody."""


class _Batch(msgspec.Struct, eq=False):
    """What was read at once; `cursor` is where it ends, `begun` says that its requests were put into the pipeline."""

    found: Changes
    cursor: Cursor
    withdrawn: Sequence[Tombstone]
    tally: Tally = msgspec.field(default_factory=Tally)
    begun: bool = False


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
        self._cursor = self._kept = self.files.load_cursor()
        self._db: sqlite3.Connection | None = None
        self._pipeline = Pipeline(self._connect)
        self._ahead: deque[_Batch] = deque()
        self._lanes: dict[str, int] = {}
        self._rows = _REQUESTS_A_BATCH * settings.batch_lines
        self._refill: Iterator[tuple[int, Sequence[bytes]]] | None = None
        self._shown: SinkState | None = None
        self._shown_s = self._kept_s = self._looked_s = -_LOOK_EVERY_S

    def run(self, stop: threading.Event, news: threading.Event) -> None:
        """Step until `stop`, alone, whatever happens; what goes wrong is in `state.last_error`.

        `news` is set by others where there is something new, and at the end.
        """
        alone = False
        failures = 0
        with ExitStack() as held:
            while not stop.is_set():
                try:
                    if not alone:
                        alone = held.enter_context(self.files.lock(stop, lambda: self._alive(0.0)))
                        self._cursor = self._kept = self.files.load_cursor()  # the process before may have moved it
                        self.state = self.files.load_state()
                        continue
                    news.clear()
                    delay_s = 0.0 if self.step() or self.refill_step() else _IDLE_S
                    failures = 0
                except Exception as error:  # noqa: BLE001 - the loop's boundary: counted, shown, tried again
                    delay_s = self._note_failure(error, failures)
                    failures += 1
                self._alive(delay_s)
                (stop if failures else news).wait(delay_s)
            self.close()
            if alone:
                with suppress(OSError):
                    self._keep(now=True)
                    self._show(now=True)

    def close(self) -> None:
        """Close the store and the connection, and keep how far the sink has come."""
        self._refill = None
        if self._db:
            self._db.close()
            self._db = None
        self._ahead.clear()
        self._pipeline.close()
        with suppress(OSError):  # a full disk: what is not kept is sent again
            self._keep(now=True)

    def step(self) -> int:
        """Send and confirm one batch.

        Returns
        -------
        int
            Lines that were settled: written, refused or expired, and points withdrawn. 0 when there was nothing to do.

        Raises
        ------
        UnavailableError
            If InfluxDB cannot be written to now; the next step begins with the same batch.
        """
        self._read_ahead()
        self._look_behind()
        if not self._ahead:
            self._keep()
            self._show()
            return 0
        batch = self._ahead[0]
        self._begin(batch)
        while batch.tally.waiting:
            self._pipeline.start()
            if self._pipeline.take(wait=False) or self._pipeline.prepare() or self._read_ahead():
                continue
            self._pipeline.take(wait=True)
        self._ahead.popleft()
        self._bury(batch.tally.outcome)
        self._cursor = batch.cursor
        self._keep(now=bool(batch.tally.outcome.dead or batch.withdrawn))
        return self._note_success(batch.tally.outcome, sum(len(stone.times_ms) for stone in batch.withdrawn))

    def refill_step(self) -> int:
        """Send some of what was asked to be sent again; returns how many lines, 0 where nothing was asked for."""
        asked = self.files.load_refill()
        if asked is None:
            self._refill = None
            self.state.refilled_to_ms = None
            return 0
        if self._refill is None:
            log.info("sending again what the store holds of a span that was asked for")
            self._refill = refill.lines(self._reader(), asked)
        outcome = Outcome()
        done_ms: int | None = asked.at_ms
        # At least to the end of an hour, so that it goes on however often it is interrupted.
        while done_ms == asked.at_ms or outcome.settled < self._rows:
            done_ms, lines = next(self._refill, (None, ()))
            if done_ms is None:
                break
            self._write(lines, outcome)
        self._bury(outcome)
        self.state.lines_refilled += outcome.written
        if done_ms is None:
            self._cursor = msgspec.structs.replace(self._cursor, settled=behind.let_go(self._reader()))
            self._keep(now=True)
            self._looked_s = -_LOOK_EVERY_S
            log.info("the span has been sent again")
        self.files.save_refill(None if done_ms is None else msgspec.structs.replace(asked, at_ms=done_ms))
        self.state.refilled_to_ms = done_ms
        return self._note_success(outcome) or 1

    def _reader(self) -> sqlite3.Connection:
        self._db = self._db or database.open_reader(self._store_dir)
        return self._db

    def _read_ahead(self) -> bool:
        """Read the next batch and begin it, where there is room for one; returns whether there was one."""
        if len(self._ahead) == _BATCHES or (self._ahead and not self._ahead[-1].begun):
            return False
        found, cursor = self._next()
        if cursor == (self._ahead[-1].cursor if self._ahead else self._cursor):
            return False
        batch = _Batch(found, cursor, found.withdrawn)
        self._ahead.append(batch)
        if not found.withdrawn:
            self._begin(batch)
        return True

    def _begin(self, batch: _Batch) -> None:
        """Put a batch into the pipeline; one with removals when all before it is done, and after they are done."""
        if batch.begun:
            return
        found = batch.found
        if found:
            self.state.attempts += 1
            self.state.last_attempt_ms = _now_ms()
        for removal in withdraw.removals(self._reader(), batch.withdrawn, self._cursor.rev):
            self._remove(removal, batch.tally.outcome)
        for lanes, count, parts in self._requests(found):
            self._pipeline.put(lanes, count, parts, batch.tally)
        batch.found = Changes(found.high)
        batch.begun = True

    def _requests(self, found: Changes) -> Iterator[tuple[int, int, Sequence[Piece]]]:
        """Yield lanes, number of lines and the lines of each request, those of the lanes in turn."""
        size = self._settings.batch_lines
        if len(found) <= size:
            for count, parts in lines.requests(lineprotocol.changed(found, lambda _: True), size):
                yield ALL_LANES, count, parts
            return
        of_lanes = [
            list(lines.requests(lineprotocol.changed(found, partial(self._is_in, lane)), size)) for lane in range(LANES)
        ]
        for together in zip_longest(*of_lanes):
            for lane, request in enumerate(together):
                if request is not None:
                    yield 1 << lane, *request

    def _is_in(self, lane: int, name: str) -> bool:
        """Tell whether a kit's or a site's series are in a lane: half of them are, always in the same."""
        return self._lanes.setdefault(name, len(self._lanes) % LANES) == lane

    def _next(self) -> tuple[Changes, Cursor]:
        """Return the next batch and where the cursor stands after it."""
        db = self._reader()
        with database.snapshot(db):
            self.state.last_revision = last = database.last_revision(db)
            if not self._ahead:
                self._bind(database.read_meta(db, "store_id") or "", last)
            before = self._ahead[-1].cursor if self._ahead else self._cursor
            after = before.rev
            if after == last:
                return Changes(last), msgspec.structs.replace(before, complete=last)
            rows_after = min(before.complete, after)
            found = changes(db, after, rows_after=rows_after, record_limit=_MOST_RECORDS, row_limit=self._rows)
        complete = last if found.high == last else before.complete
        return found, msgspec.structs.replace(before, rev=found.high, complete=complete)

    def _bind(self, store: str, last: int) -> None:
        """Begin again where the cursor belongs to another store than this one."""
        ours = self._cursor.store in {store, ""}  # one of an earlier program names none: it belongs to the one it is in
        if not ours or self._cursor.rev > last:
            log.warning("%s belongs to another store, which was replaced: everything is sent again",
                        self.files.cursor_path)  # fmt: skip
            self._cursor = Cursor()
        if self._cursor.store != store:
            self._cursor = msgspec.structs.replace(self._cursor, store=store)

    def _connect(self) -> InfluxClient:
        try:
            return InfluxClient(self._settings, self._token_path, lambda: self._alive(0.0))
        except LichenError as error:
            raise UnavailableError(str(error), lasting=True) from error

    def _remove(self, removal: withdraw.Removal, outcome: Outcome) -> None:
        """Delete ranges of a series, then write again what still holds in them."""
        for first_ms, last_ms in removal.ranges:
            if reason := self._pipeline.connection().delete(removal.predicate, first_ms, last_ms):
                asked = f"delete {removal.predicate} from {first_ms} to {last_ms}"
                outcome.dead.append((asked.encode("utf-8", "replace"), reason))
        self._write(removal.lines, outcome)

    def _write(self, some: Sequence[bytes], outcome: Outcome) -> None:
        """Write lines at once, while nothing else is under way."""
        size = self._settings.batch_lines
        for start in range(0, len(some), size):
            outcome.add(self._pipeline.connection().write(some[start : start + size]))

    def _bury(self, outcome: Outcome) -> None:
        if outcome.dead:
            # Before the confirmation: a crash between the two writes them twice, never not at all.
            self.files.add_dead(outcome.dead, _now_ms())
            log.warning("InfluxDB refused %d lines, kept in %s: %s", len(outcome.dead), self.files.dead_path,
                        outcome.dead[0][1])  # fmt: skip

    def _look_behind(self) -> None:
        """Tell, now and then, how much is still to be sent and whether that is too much."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        before = self.state.behind
        behind.look(self._reader(), self._cursor, self._settings, _now_ms(), self.state)
        if self.state.behind and not before:
            log.warning("InfluxDB is behind: %s", self.state.behind)
        elif before and not self.state.behind:
            log.info("InfluxDB is behind no more")

    def _note_success(self, outcome: Outcome, withdrawn: int = 0) -> int:
        state = self.state
        if state.last_error:
            log.info("InfluxDB takes readings again")
        state.cursor = self._cursor.rev
        state.lines_written += outcome.written
        state.lines_refused += len(outcome.dead)
        state.lines_expired += outcome.expired
        state.points_withdrawn += withdrawn
        state.last_success_ms = _now_ms()
        recovered, state.last_error = bool(state.last_error), ""
        self._show(now=recovered)
        return outcome.settled + withdrawn

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
        import random  # which costs some ms

        delay_s *= random.uniform(0.5, 1.0)  # noqa: S311 - so that several gateways do not come back at once
        return max(delay_s, min(wish_s, _LONGEST_WISH_S)) if wish_s is not None else delay_s

    def _keep(self, *, now: bool = False) -> None:
        """Write the cursor's file, if it has moved and not more than once in `_KEEP_EVERY_S` unless `now`."""
        clock_s = time.monotonic()
        if self._cursor != self._kept and (now or clock_s - self._kept_s >= _KEEP_EVERY_S):
            self.files.save_cursor(self._cursor)
            self._kept = self._cursor
            self._kept_s = clock_s

    def _show(self, *, now: bool = False) -> None:
        """Write the state's file, if it has changed and not more than once in `_KEEP_EVERY_S` unless `now`."""
        clock_s = time.monotonic()
        if now or clock_s - self._shown_s >= _KEEP_EVERY_S:
            self._shown_s = clock_s
            self.state.cursor = self._cursor.rev
            if self._shown != self.state:
                self.files.save_state(self.state)
                self._shown = msgspec.structs.replace(self.state)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
