"""Messages to rows: one transaction, then acknowledgements in arrival order, then receipts."""

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from gateway import wire
from gateway.broker import Message
from gateway.clock import FUTURE_LIMIT_S
from gateway.store import counters, deadletters
from gateway.store.database import transaction
from gateway.store.raw import RawWriter
from gateway.system_clock import now_ms
from gateway.wire import Reason, WireError

log = logging.getLogger(__name__)

RECEIPT_BOOTS: Final = 32
RECEIPT_AGE_MS: Final = 60 * 86_400_000
_RECEIPT_EVERY_S: Final = 1.0
_KINDS: Final = frozenset({"obs", "backlog", "about", "status"})

Publish = Callable[[str, bytes, int], None]


class _UnforeseenError(Exception):
    """A message met a mistake of this program; everything of its transaction is undone."""

    def __init__(self, message: Message, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.message = message


class Intake:
    """Stores messages and answers kits; belongs to the one writing thread."""

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        base: str,
        publish: Publish,
        acknowledge: Callable[[Message], None],
        clock_trusted: Callable[[], bool],
    ) -> None:
        self._db = db
        self._raw = RawWriter(db)
        self._base = base
        self._publish = publish
        self._acknowledge = acknowledge
        self._clock_trusted = clock_trusted
        self._counts: dict[int, Counter[str]] = {}
        self._owed: dict[str, set[int]] = {}
        self._sent_s: dict[str, float] = {}
        self._came_up = False
        self._trusted = False

    def store(self, messages: Sequence[Message]) -> None:
        """Commit the messages, then acknowledge them; raises `sqlite3.Error` with nothing stored or acknowledged."""
        doomed: dict[int, str] = {}
        while True:
            try:
                self._commit(messages, doomed)
                break
            except _UnforeseenError as error:
                # Again without it: whatever it is, it must not come back from the broker for ever.
                log.exception("a message on %.100r cannot be read", error.message.topic)
                doomed[id(error.message)] = str(error)
        for message in messages:
            self._acknowledge(message)
        if self._came_up:
            self._came_up = False
            self.announce_time()

    def _commit(self, messages: Sequence[Message], doomed: dict[int, str]) -> None:
        self._counts = {}
        self._trusted = self._clock_trusted()
        try:
            with transaction(self._db):
                for message in messages:
                    self._store_one(message, doomed.get(id(message)))
                self._raw.flush()
                for kit, counts in self._counts.items():
                    counters.add(self._db, kit, counts)
        except (sqlite3.Error, _UnforeseenError):
            self._raw.forget()
            raise

    def release_waiting(self) -> None:
        """Place the rows whose time has become known, or has come."""
        self._trusted = self._clock_trusted()
        try:
            with transaction(self._db):
                if self._raw.release_waiting(self._horizon_ms(now_ms())):
                    self._raw.flush()
        except sqlite3.Error:
            self._raw.forget()
            raise

    def send_receipts(self) -> None:
        """Send the receipts that are due: at most one a second and kit for each of its boots."""
        now_s = time.monotonic()
        due = [kit for kit in self._owed if now_s - self._sent_s.get(kit, -_RECEIPT_EVERY_S) >= _RECEIPT_EVERY_S]
        for kit in due:
            self._sent_s[kit] = now_s
            for boot in self._owed.pop(kit):
                if (seq := self._raw.receipt(kit, boot)) >= 0:
                    receipt = wire.Stored(v=wire.VERSION, boot=boot, seq=seq)
                    self._publish(f"{kit}/stored", wire.encode(receipt), 1)

    def announce_time(self) -> None:
        """Tell the kits what time it is, and whether to believe it."""
        t, ms = divmod(now_ms(), 1000)
        self._publish("gateway/time", wire.encode(wire.GatewayTime(wire.VERSION, t, ms, int(self._clock_trusted()))), 0)

    def _horizon_ms(self, received_ms: int) -> int | None:
        return received_ms + FUTURE_LIMIT_S * 1000 if self._trusted else None

    def _store_one(self, message: Message, doom: str | None) -> None:
        name, _, kind = message.topic.removeprefix(f"{self._base}/").partition("/")
        kit = name if wire.is_kit_name(name) else None
        try:
            if doom is not None:
                raise WireError(Reason.INTERNAL, doom)  # noqa: TRY301 - handled with the others
            self._route(kit, kind, message)
        except WireError as error:
            self._bury(kit, message, error)
        except sqlite3.Error:
            raise
        except Exception as error:
            raise _UnforeseenError(message, error) from error

    def _route(self, kit: str | None, kind: str, message: Message) -> None:
        if kit is None or kind not in _KINDS:
            raise WireError(Reason.BAD_TOPIC, "not the topic of a kit that the gateway reads")
        self._raw.heard(kit, message.received_ms)
        if kind == "status":
            self._store_status(kit, message)
        elif kind == "about":
            self._store_about(kit, message)
        else:
            self._store_batch(kit, message)

    def _store_about(self, kit: str, message: Message) -> None:
        if wire.decode_about(message.payload).kit != kit:
            raise WireError(Reason.BAD_TOPIC, "names another kit than its topic")
        self._raw.set_about(kit, message.received_ms, message.payload)

    def _store_batch(self, kit: str, message: Message) -> None:
        batch = wire.decode_batch(message.payload)
        added = self._raw.add(kit, batch, message.received_ms, self._horizon_ms(message.received_ms))
        self._owed.setdefault(kit, set()).add(batch.boot)
        self._count(kit, message, batches=1, rows=added.new, duplicates=added.duplicates)
        if added.conflicts:
            seqs = ", ".join(str(s) for s in added.conflicts[:10])
            raise WireError(Reason.CONFLICT, f"other content is stored under seq {seqs}")

    def _store_status(self, kit: str, message: Message) -> None:
        status = wire.decode_status(message.payload)
        self._raw.set_status(kit, message.received_ms, up=status.up)
        if status.up:
            boots = self._raw.recent_boots(kit, message.received_ms - RECEIPT_AGE_MS, RECEIPT_BOOTS)
            self._owed.setdefault(kit, set()).update(boots)
            self._came_up = True

    def _bury(self, kit: str | None, message: Message, error: WireError) -> None:
        # Only a run without gaps is settled: the range of another would count rows as held that never came.
        rows = error.rows if error.rows and error.rows.is_run else None
        new = deadletters.keep(
            self._db, received_ms=message.received_ms, topic=message.topic, kit=kit, reason=error.reason,
            detail=error.detail, payload=message.payload, rows=rows,
        )  # fmt: skip
        self._count(kit, message, dead_letters=int(new), dead_letter_copies=int(not new))
        if kit is not None and rows:
            self._raw.settle(kit, rows, message.received_ms)
            self._owed.setdefault(kit, set()).add(rows.boot)
        if new:
            log.warning("dead letter on %.100r: %r", message.topic, str(error))

    def _count(self, kit: str | None, message: Message, **counts: int) -> None:
        number = self._raw.kit_id(kit, message.received_ms) if kit else 0
        self._counts.setdefault(number, Counter()).update(counts)
