"""The composition root: joins broker, intake, derivation, page and sinks, and runs the one writing thread."""

import logging
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from gateway import own_numbers, system_clock
from gateway.attempts import Attempts
from gateway.broker import Broker, Message
from gateway.control import ControlServer
from gateway.control_handlers import control_handlers
from gateway.derive.dirty import Deriver
from gateway.derive.pace import Pace
from gateway.derive.recipe import Recipe
from gateway.housekeeping import Housekeeper
from gateway.intake import Intake
from gateway.metrics import Live, Vitals
from gateway.notify import notify
from gateway.settings import Settings, read_secret
from gateway.sinks.process import SILENCE_S, SinkProcess
from gateway.store import counters, health
from gateway.store.database import open_writer, transaction, write_meta
from gateway.store.hand_set import hand_set
from gateway.system_clock import HandSet, OwnClock
from gateway.vitals import take
from gateway.watch import Watch
from gateway.web.server import WebServer

if TYPE_CHECKING:
    from starlette.applications import Starlette

log = logging.getLogger(__name__)

COMMIT_MESSAGES: Final = 1000
COMMIT_BYTES: Final = 1 << 20
"""Of payload in one commit, some 20,000 rows: sinks begin while the next ones are read."""
_IDLE_WAIT_S: Final = 0.2
_RARE_S: Final = 1.0
_RARE_WAIT_S: Final = 0.05
_MANY_MESSAGES: Final = 100
_MANY_WAIT_S: Final = 0.02
"""A message after a pause longer than `_RARE_S` hardly waits for others, nor does the end of a backlog; many messages
wait for more only that long."""
_MINUTE_S: Final = 60.0
_LOST_SESSION_WAITS_S: Final = (3.0, 6.0)
"""Where the broker has lost the session it has thrown away what kits sent since. They send it again after three time
announcements without a receipt: with the one at the connection these make three, and not three minutes."""
_RETRY_S: Final = 1.0
_STOP_S: Final = 4.2
_UNWRITABLE: Final = "the store cannot be written ({}); nothing is acknowledged"


class Stop(Protocol):
    """What ends the work: a `threading.Event`, or signals."""

    def is_set(self) -> bool:
        """Tell whether it is time."""

    def wait(self, timeout_s: float | None = None, /) -> bool:
        """Wait for it; returns whether it is time."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long an attempt of each part may take [s]: far longer than a slow card, a broken network, a big step need."""

    store_s: float = 120.0
    broker_s: float = 120.0
    derive_s: float = 300.0
    page_s: float = 60.0
    sink_s: float = SILENCE_S
    distrust_s: float = system_clock.DISTRUST_S


class Gateway:
    """Everything that one `lichen run` does.

    `sink` is that of the settings, where its process was prepared already.
    """

    def __init__(
        self,
        settings: Settings,
        limits: Limits = Limits(),  # noqa: B008 - immutable
        sink: SinkProcess | None = None,
    ) -> None:
        self._settings = settings
        password = settings.broker.password_file
        self._watch = Watch()
        self._part = self._watch.part("store", limits.store_s)
        self._attempts = Attempts(self._part)
        self._derive_part = self._watch.part("derive", limits.derive_s)
        self._broker = Broker(
            settings.broker,
            read_secret(settings.beside(password)) if password else None,
            self._watch.part("broker", limits.broker_s),
        )
        recipe = Recipe.of(settings.derive, settings.schemes_dir)
        # Last, so that a wrong configuration leaves nothing behind. To upgrade a large store takes longer than a start.
        self._db = open_writer(settings.store_dir, alive=lambda: notify("EXTEND_TIMEOUT_USEC=60000000"))
        self._clock = OwnClock(settings.clock.trusted, self._read_hand_set, distrust_s=limits.distrust_s)
        self._intake = Intake(
            self._db,
            base=settings.broker.base,
            publish=self._broker.publish,
            acknowledge=self._broker.acknowledge,
            clock_error_s=self._clock.error_s,
            dead_letters=settings.dead_letters,
            max_kits=settings.store.max_kits,
        )
        self._deriver = Deriver(self._db, recipe)
        self._housekeeper = Housekeeper(self._db, settings, self._clock.error_s)
        self._live = Live()
        self._unstored: list[Message] = []
        self._control = ControlServer(settings.store_dir, control_handlers(self._db, self._intake, self.vitals))
        self._web: WebServer | None = None
        if settings.web.enabled:
            self._web = WebServer(self._make_page, settings.web, self._watch.part("page", limits.page_s))
        self._sink = sink or SinkProcess.of(settings, limits.sink_s)
        self._last_stored_s = 0.0
        self._last_count = 0  # messages of the last commit
        self._backlog = False  # many messages were stored at once since hours were last derived
        self._pace = Pace()
        self._derived = 0  # hours in the last step
        self._greeted_generation = 0
        self._announce_at_s: list[float] = []
        self._next_minute_s = 0.0
        self._next_housekeeping_s = 0.0
        self._announced_trust: bool | None = None
        self._releasing = False
        self._replaying = True

    def run(self, stop: Stop) -> None:
        """Work until `stop` is set.

        Raises
        ------
        PartFailedError
            If a part has broken down in a way that only a person or a new start can mend.
        """
        try:
            self._start()
            while not stop.is_set():
                if not self._turn():
                    stop.wait(_RETRY_S)
                self._broker.check()
                self._watch.say(self._attempts.status or self._broker.status)
        finally:
            notify("STOPPING=1")
            self._end()

    def _start(self) -> None:
        if self._web:
            self._web.start()
            log.info("the page is at http://%s:%s/", self._settings.web.host, self._web.port)
        if self._sink:
            self._sink.start()
        self._broker.start()
        self._watch.start()
        notify("READY=1")

    def _end(self) -> None:
        """End all parts at once, so that together they take no longer than the slowest of them."""
        stops = [self._broker.stop, *(part.stop for part in (self._sink, self._web) if part)]
        threads = [threading.Thread(target=stop, name="end", daemon=True) for stop in stops]
        for thread in threads:
            thread.start()
        until_s = time.monotonic() + _STOP_S
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        self._control.close()
        self._db.close()
        self._watch.stop()

    def _turn(self) -> bool:
        """Store what has come, and do what is due beside it; returns whether nothing failed.

        While the store cannot be written nothing is acknowledged, the broker holds what follows, and all else waits.
        """
        attempt = self._attempts.attempt
        self._part.beat("waiting for messages")
        messages = self._unstored = self._unstored or self._gather()
        fine = attempt("looking at the clock", self._look_at_clock)
        if messages:
            if attempt("storing messages", lambda: self._store(messages), unusable=_UNWRITABLE):
                self._unstored = []
                self._derive_part.begin("hours to derive")
            else:
                fine = False
                attempt("making room", self._housekeeper.make_room)
        if not self._unstored:
            fine = self._work_between() and fine
        attempt("answering commands", self._control.serve)
        if self._sink:
            attempt("watching the sink", self._sink.poll)
        return fine

    def _store(self, messages: list[Message]) -> None:
        """Commit messages, and count them; of them the intake may take some out that it has stored one by one."""
        count, size, started_s = len(messages), sum(len(m.payload) for m in messages), time.monotonic()
        self._intake.store(messages)
        self._last_stored_s = time.monotonic()
        self._last_count = count
        self._backlog |= count >= _MANY_MESSAGES
        self._live.committed(count, size, self._last_stored_s - started_s)
        self._wake_sink()

    def vitals(self) -> Vitals:
        """Return what only this process knows of itself; any thread may ask."""
        return take(
            self._live, broker=self._broker, unstored=self._unstored, attempts=self._attempts, watch=self._watch,
            clock=self._clock, sink=self._sink,
        )  # fmt: skip

    def _make_page(self) -> "Starlette":
        """Return the page's application, made in the thread of the page."""
        from gateway.web.app import create_app  # there, and only where there is a page: it takes 0.1 s of CPU and 10 MB

        return create_app(self._settings, lambda: self._clock.error_s() is not None, self._metrics)

    def _metrics(self) -> bytes:
        """Return the page /metrics, in a thread of the page."""
        from gateway.exposition import exposition  # on demand: not every gateway is asked, and it takes memory

        return exposition(self._settings, self._live, self.vitals(), self._clock.now_ms())

    def _work_between(self) -> bool:
        """Do what is due beside storing; returns whether nothing failed."""
        attempt = self._attempts.attempt
        fine = True
        if time.monotonic() >= self._next_minute_s or self._newly_connected():
            self._next_minute_s = time.monotonic() + _MINUTE_S
            fine = attempt("the work of each minute", self._every_minute)
            fine = attempt("counting mistakes", self._count_mistakes) and fine
            fine = attempt("keeping the gateway's own numbers", self._keep_numbers) and fine
        while self._announce_at_s and time.monotonic() >= self._announce_at_s[0]:
            self._announce_at_s.pop(0)
            self._intake.announce_time()
        if self._releasing:
            fine = attempt("placing readings that wait", self._release) and fine
        if self._replaying and self._broker.inbox.empty():
            fine = attempt("replaying dead letters", self._replay) and fine
        if time.monotonic() >= self._next_housekeeping_s:
            fine = attempt("keeping the store in order", self._housekeeper.step) and fine
            self._next_housekeeping_s = time.monotonic() + self._housekeeper.wait_s
        is_behind = self._deriver.waiting or self._backlog
        if (begins := self._pace.is_due()) or self._intake.has_many_fresh:
            fine = attempt("gathering readings", self._intake.gather) and fine
        if begins or (is_behind and self._broker.inbox.empty()):
            fine = self._derive(begins_round=begins) and fine
        return attempt("sending receipts", self._intake.send_receipts) and fine

    def _gather(self) -> list[Message]:
        """Wait for a message, then for more that one commit can take."""
        inbox = self._broker.inbox
        busy = self._deriver.waiting or self._releasing or self._replaying
        messages = inbox.take(1, COMMIT_MESSAGES, COMMIT_BYTES, 0 if busy else _IDLE_WAIT_S)
        now_s = time.monotonic()
        wait_s = self._settings.store.commit_s
        if now_s - self._last_stored_s > _RARE_S or self._last_count >= _MANY_MESSAGES:
            wait_s = min(wait_s, _RARE_WAIT_S)
        until_s = now_s + wait_s
        more = messages
        while more and (left_s := until_s - time.monotonic()) > 0:
            room, room_bytes = COMMIT_MESSAGES - len(messages), COMMIT_BYTES - sum(len(m.payload) for m in messages)
            if room <= 0 or room_bytes <= 0:
                break
            if len(messages) < _MANY_MESSAGES:
                more = inbox.take(_MANY_MESSAGES - len(messages), room, room_bytes, left_s)
            else:
                more = inbox.take(room, room, room_bytes, min(left_s, _MANY_WAIT_S))
            messages += more
        return messages

    def _derive(self, *, begins_round: bool) -> bool:
        started_s, self._backlog, self._derived = time.thread_time(), False, 0
        fine = self._attempts.attempt("deriving", self._derive_step)
        self._pace.worked(self._derived, time.thread_time() - started_s, begins_round=begins_round)
        self._derive_part.attempted()
        if self._deriver.waiting or not fine:
            self._derive_part.begin("hours to derive")
        return fine

    def _derive_step(self) -> None:
        self._derived = self._deriver.step()
        if self._derived:
            self._wake_sink()

    def _wake_sink(self) -> None:
        if self._sink:
            self._sink.wake()

    def _newly_connected(self) -> bool:
        """Tell, once a connection, that messages of the kits arrive again."""
        generation = self._broker.generation
        if not self._broker.receiving or generation == self._greeted_generation:
            return False
        self._greeted_generation = generation
        now_s = time.monotonic()
        self._announce_at_s = [] if self._broker.session_kept else [now_s + wait_s for wait_s in _LOST_SESSION_WAITS_S]
        return True

    def _every_minute(self) -> None:
        if self._broker.connected and not self._broker.receiving:
            self._broker.subscribe()
        self._intake.announce_time()
        self._releasing = True

    def _count_mistakes(self) -> None:
        if mistakes := self._attempts.mistakes:
            with transaction(self._db):
                counters.add(self._db, 0, {"errors": mistakes})
            self._attempts.mistakes = 0

    def _keep_numbers(self) -> None:
        """Keep the numbers of the measurement `gateway`; by its own clock, however well that is known."""
        now_ms = self._clock.now_ms()
        found = own_numbers.read_numbers(
            self._db, self._settings, now_ms, clock_trusted=self._clock.error_s() is not None
        )  # fmt: skip
        with transaction(self._db):
            health.add(self._db, health.GATEWAY, now_ms, own_numbers.flat(found, self.vitals()))

    def _release(self) -> None:
        self._releasing = self._intake.release_waiting() > 0

    def _replay(self) -> None:
        self._replaying = self._intake.replay_unknown_columns()

    def _look_at_clock(self) -> None:
        """Notice that the clock was moved, and tell the kits at once when its trust has changed."""
        stepped = self._clock.look()
        trusted = self._clock.error_s() is not None
        if stepped or trusted != self._announced_trust:
            self._announced_trust = trusted
            self._intake.announce_time()
        if stepped and (void := self._clock.voided):
            ended = msgspec.structs.replace(void, boot_id="")  # of no boot: a restart must not believe it either
            with transaction(self._db):
                write_meta(self._db, system_clock.HAND_SET, msgspec.json.encode(ended).decode())

    def _read_hand_set(self) -> HandSet | None:
        try:
            return hand_set(self._db)
        except sqlite3.Error:
            return None
