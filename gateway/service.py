"""The composition root: joins broker, intake, derivation, page and sinks, and runs the one writing thread."""

import logging
import queue
import sqlite3
import threading
import time
from typing import Final

from gateway import system_clock
from gateway.broker import Broker, Message
from gateway.derive.dirty import Deriver
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


class Gateway:
    """Everything that one `lichen run` does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        password = settings.broker.password_file
        self._db = open_writer(settings.store_dir)
        self._broker = Broker(settings.broker, read_secret(settings.beside(password)) if password else None)
        self._intake = Intake(
            self._db,
            base=settings.broker.base,
            publish=self._broker.publish,
            acknowledge=self._broker.acknowledge,
            clock_trusted=self._clock_trusted,
        )
        self._deriver = Deriver(self._db, settings.derive)
        self._web = WebServer(create_app(settings, self._clock_trusted), settings.web) if settings.web.enabled else None
        self._sink = SinkProcess(settings.path) if settings.influx else None
        self._last_derived_s = 0.0
        self._greeted_generation = 0

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set."""
        if self._web:
            self._web.start()
            log.info("the page is at http://%s:%s/", self._settings.web.host, self._web.port)
        if self._sink:
            self._sink.start()
        self._broker.start()
        notify("READY=1")
        try:
            self._write_until(stop)
        finally:
            notify("STOPPING=1")
            self._broker.stop()
            if self._sink:
                self._sink.stop()
            if self._web:
                self._web.stop()
            self._db.close()

    def _write_until(self, stop: threading.Event) -> None:
        next_minute_s = time.monotonic() + _MINUTE_S
        while not stop.is_set():
            messages = self._gather()
            try:
                if messages:
                    self._intake.store(messages)
                if time.monotonic() >= next_minute_s or self._newly_connected():
                    next_minute_s = time.monotonic() + _MINUTE_S
                    self._every_minute()
                self._derive()
                self._intake.send_receipts()
                if self._sink:
                    self._sink.poll()
            except sqlite3.Error as error:
                # Nothing was acknowledged: the broker delivers what this connection left open, once it is new.
                log.error("the store cannot be written (%s); trying again", error)  # noqa: TRY400 - no traceback
                self._store_again(messages, stop)

    def _store_again(self, messages: list[Message], stop: threading.Event) -> None:
        while messages and not stop.wait(_RETRY_S):
            try:
                self._intake.store(messages)
            except sqlite3.Error as error:
                log.error("the store cannot be written (%s); trying again", error)  # noqa: TRY400 - no traceback
            else:
                return

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
        self._intake.announce_time()
        self._intake.release_waiting()

    def _clock_trusted(self) -> bool:
        return system_clock.is_trusted(self._settings.clock.trusted)
