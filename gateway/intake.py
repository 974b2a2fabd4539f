"""Messages to rows: one transaction, then acknowledgements in arrival order, then receipts."""

import logging
import re
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
_KIT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RESERVED: Final = "gateway"

Publish = Callable[[str, bytes, int], None]


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

    def store(self, messages: Sequence[Message]) -> None:
        """Commit the messages, then acknowledge them; raises `sqlite3.Error` with nothing stored or acknowledged."""
        self._counts = {}
        try:
            with transaction(self._db):
                for message in messages:
                    self._store_one(message)
                self._raw.flush()
                for kit, counts in self._counts.items():
                    counters.add(self._db, kit, counts)
        except sqlite3.Error:
            self._raw.forget()
            raise
        for message in messages:
            self._acknowledge(message)
        if self._came_up:
            self._came_up = False
            self.announce_time()

    def release_waiting(self) -> None:
        """Place the rows whose time has become known, or has come."""
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
                receipt = wire.Stored(v=wire.VERSION, boot=boot, seq=self._raw.receipt(kit, boot, now_ms()))
                self._publish(f"{kit}/stored", wire.encode(receipt), 1)

    def announce_time(self) -> None:
        """Tell the kits what time it is, and whether to believe it."""
        t, ms = divmod(now_ms(), 1000)
        self._publish("gateway/time", wire.encode(wire.GatewayTime(wire.VERSION, t, ms, int(self._clock_trusted()))), 0)

    def _horizon_ms(self, received_ms: int) -> int | None:
        return received_ms + FUTURE_LIMIT_S * 1000 if self._clock_trusted() else None

    def _store_one(self, message: Message) -> None:
        kit, kind = self._address(message.topic)
        try:
            self._route(kit, kind, message)
        except WireError as error:
            self._bury(kit, message, error)

    def _address(self, topic: str) -> tuple[str | None, str]:
        kit, _, kind = topic.removeprefix(f"{self._base}/").partition("/")
        return (kit if _KIT_NAME.fullmatch(kit) and kit != _RESERVED else None), kind

    def _route(self, kit: str | None, kind: str, message: Message) -> None:
        if kit is None or kind not in {"obs", "backlog", "about", "status"}:
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
        self._count(kit, message, messages=1, rows=added.new, duplicates=added.duplicates)
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
        # A run without gaps can be settled as a range; a kit sends nothing else.
        settled = error.boot is not None and len(error.seqs) == error.seqs[-1] - error.seqs[0] + 1
        seqs = error.seqs if settled else ()
        new = deadletters.keep(
            self._db, received_ms=message.received_ms, topic=message.topic, kit=kit, reason=error.reason,
            detail=error.detail, payload=message.payload, boot=error.boot, seqs=seqs,
        )  # fmt: skip
        self._count(kit, message, dead_letters=int(new), dead_letter_copies=int(not new))
        if kit is not None and error.boot is not None and seqs:
            self._raw.settle(kit, error.boot, seqs, message.received_ms)
            self._owed.setdefault(kit, set()).add(error.boot)
        if new:
            log.warning("dead letter on %s: %s", message.topic, error)

    def _count(self, kit: str | None, message: Message, **counts: int) -> None:
        number = self._raw.kit_id(kit, message.received_ms) if kit else 0
        self._counts.setdefault(number, Counter()).update(counts)
