"""The composition root: joins broker, intake, derivation, page and sinks, and runs the one writing thread."""

import logging
import queue
import sqlite3
import time
from typing import Final, Protocol

from gateway import system_clock
from gateway.broker import Broker, Message
from gateway.derive.dirty import Deriver
from gateway.derive.recipe import Recipe
from gateway.intake import Intake
from gateway.notify import notify
from gateway.settings import Settings, read_secret
from gateway.sinks.process import SinkProcess
from gateway.store.database import open_writer
from gateway.web.app import create_app
from gateway.web.server import WebServer

log = logging.getLogger(__name__)

COMMIT_MESSAGES: Final = 1000
_IDLE_WAIT_S: Final = 0.2
_DERIVE_AT_LEAST_EVERY_S: Final = 2.0
_MINUTE_S: Final = 60.0
_RETRY_S: Final = 1.0


class Stop(Protocol):
    """What ends the work: a `threading.Event`, or signals."""

    def is_set(self) -> bool:
        """Tell whether it is time."""

    def wait(self, timeout_s: float | None = None, /) -> bool:
        """Wait for it; returns whether it is time."""


class Gateway:
    """Everything that one `lichen run` does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        password = settings.broker.password_file
        self._broker = Broker(settings.broker, read_secret(settings.beside(password)) if password else None)
        recipe = Recipe.of(settings.derive)
        self._db = open_writer(settings.store_dir)  # last, so that a wrong configuration leaves nothing behind
        self._intake = Intake(
            self._db,
            base=settings.broker.base,
            publish=self._broker.publish,
            acknowledge=self._broker.acknowledge,
            clock_trusted=self._clock_trusted,
        )
        self._deriver = Deriver(self._db, recipe)
        self._web = WebServer(create_app(settings, self._clock_trusted), settings.web) if settings.web.enabled else None
        self._sink = SinkProcess(settings.path) if settings.influx else None
        self._last_derived_s = 0.0
        self._greeted_generation = 0
        self._next_minute_s = 0.0
        self._said = ""

    def run(self, stop: Stop) -> None:
        """Work until `stop` is set.

        Raises
        ------
        PartFailedError
            If a part has broken down in a way that only a new start can mend.
        """
        if self._web:
            self._web.start()
            log.info("the page is at http://%s:%s/", self._settings.web.host, self._web.port)
        if self._sink:
            self._sink.start()
        self._broker.start()
        notify("READY=1")
        try:
            while not stop.is_set():
                self._store(self._gather(), stop)
                self._work_between(stop)
                self._broker.check()
        finally:
            notify("STOPPING=1")
            self._broker.stop()
            if self._sink:
                self._sink.stop()
            if self._web:
                self._web.stop()
            self._db.close()

    def _store(self, messages: list[Message], stop: Stop) -> None:
        """Store and acknowledge; while the store cannot be written nothing is acknowledged and the broker waits."""
        while messages:
            try:
                self._intake.store(messages)
            except sqlite3.Error as error:
                self._say_once(f"the store cannot be written ({error}); nothing is acknowledged until it can")
                if stop.wait(_RETRY_S):
                    return
            else:
                self._said = ""
                return

    def _work_between(self, stop: Stop) -> None:
        """Do what is due beside storing; what fails is tried again later."""
        try:
            if time.monotonic() >= self._next_minute_s or self._newly_connected():
                self._next_minute_s = time.monotonic() + _MINUTE_S
                self._every_minute()
            self._derive()
            self._intake.send_receipts()
        except sqlite3.Error as error:
            self._say_once(f"the store cannot be used ({error}); trying on")
            stop.wait(_RETRY_S)
        if self._sink:
            self._sink.poll()

    def _say_once(self, problem: str) -> None:
        """Log a problem once, until the store could be written again."""
        if problem != self._said:
            self._said = problem
            log.error("%s", problem)

    def _gather(self) -> list[Message]:
        """Wait for a message, then for more that one commit can take."""
        inbox = self._broker.inbox
        try:
            messages = [inbox.get(timeout=0 if self._deriver.waiting else _IDLE_WAIT_S)]
        except queue.Empty:
            return []
        until_s = time.monotonic() + self._settings.store.commit_s
        while len(messages) < COMMIT_MESSAGES and (left_s := until_s - time.monotonic()) > 0:
            try:
                messages.append(inbox.get(timeout=left_s))
            except queue.Empty:
                break
        return messages

    def _derive(self) -> None:
        now_s = time.monotonic()
        if self._broker.inbox.empty() or now_s - self._last_derived_s > _DERIVE_AT_LEAST_EVERY_S:
            self._deriver.step()
            self._last_derived_s = now_s

    def _newly_connected(self) -> bool:
        """Tell, once a connection, that messages of the kits arrive again."""
        generation = self._broker.generation
        if not self._broker.receiving or generation == self._greeted_generation:
            return False
        self._greeted_generation = generation
        notify("STATUS=receiving")
        return True

    def _every_minute(self) -> None:
        if self._broker.connected and not self._broker.receiving:
            self._broker.subscribe()
        self._intake.announce_time()
        self._intake.release_waiting()

    def _clock_trusted(self) -> bool:
        return system_clock.is_trusted(self._settings.clock.trusted)
