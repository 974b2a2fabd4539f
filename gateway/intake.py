"""Messages to rows: one transaction, then acknowledgements in arrival order, then receipts."""

import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from calibration.quantities import WIRE_COLUMNS
from gateway import wire
from gateway.broker import Message
from gateway.bulk import Run, joined, read_runs
from gateway.settings import DeadLetters as Limits
from gateway.settings import Store
from gateway.store import counters, deadletters, fresh, health, kits
from gateway.store.database import read_meta, transaction, write_meta
from gateway.store.deadletters import Letter
from gateway.store.raw import Added, RawWriter
from gateway.system_clock import now_ms
from gateway.wire import Reason, Rows, WireError

log = logging.getLogger(__name__)

RECEIPT_BOOTS: Final = 32
RECEIPT_AGE_MS: Final = 60 * 86_400_000
_RECEIPT_EVERY_S: Final = 1.0
_KNOWN_TOPICS: Final = 4096
_OF_ROWS: Final = ("/obs", "/backlog")
_KINDS: Final = frozenset({"obs", "backlog", "about", "status", "diag"})

_UPGRADE_LETTERS: Final = 100
"""Dead letters looked at between two commits: with 256 rows in each it takes a tenth of a second."""
_KNOWN_COLUMNS: Final = ",".join(sorted(WIRE_COLUMNS))

Publish = Callable[[str, bytes, int], None]
Doomed = dict[int, str]
"""Messages that met a mistake of this program, by `id`, and which."""
_Sequel = list[tuple[Message, Run | None]]
_T = TypeVar("_T")


class _UnforeseenError(Exception):
    """A message met a mistake of this program; everything of its transaction is undone."""

    def __init__(self, message: Message, cause: Exception) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.message = message


class Outcome(msgspec.Struct, frozen=True):
    """What became of a replayed dead letter: its reason now, `None` where it is one no longer."""

    id: int
    reason: str | None
    detail: str


class Intake:
    """Stores messages and answers kits; belongs to the one writing thread."""

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        base: str,
        publish: Publish,
        acknowledge: Callable[[Sequence[Message]], None],
        clock_error_s: Callable[[], int | None],
        dead_letters: Limits = Limits(),  # noqa: B008 - immutable
        max_kits: int = Store().max_kits,
    ) -> None:
        self.clock_error_s = clock_error_s
        self._db = db
        self._raw = RawWriter(db)
        self._base = base
        self._publish = publish
        self._acknowledge = acknowledge
        self._limits = dead_letters
        self._max_kits = max_kits
        self._error_s: int | None = None  # of the gateway's clock, sampled once a commit; None: not trusted
        self._counts: dict[int, Counter[str]] = {}
        self._recounted = False
        self._fuller: set[str | None] = set()  # kits that got a dead letter in this transaction
        self._said_full: set[str | None] = set()
        self._owed: dict[str, set[int]] = {}
        self._sent_s: dict[str, float] = {}
        self._came_up = False
        self._addresses: dict[str, tuple[str | None, str]] = {}
        self._upgrade_at: int | None = None if read_meta(db, "columns") == _KNOWN_COLUMNS else 0
        self._upgraded = 0

    def store(self, messages: list[Message]) -> None:
        """Commit the messages, then acknowledge them.

        Raises
        ------
        sqlite3.Error
            With nothing stored or acknowledged of what is then in the list.
        """
        try:
            self._commit_foreseen(lambda doomed: self._store_all(messages, doomed))
        except sqlite3.Error:
            raise
        except Exception:
            log.exception("messages cannot be stored together; each is tried alone")
            while messages:
                self._store_alone(messages[0])
                self._acknowledge([messages.pop(0)])
        self._acknowledge(messages)
        if self._came_up:
            self._came_up = False
            self.announce_time()

    def _store_all(self, messages: Sequence[Message], doomed: Doomed) -> None:
        readable = (m.topic.endswith(_OF_ROWS) and id(m) not in doomed for m in messages)
        runs = read_runs([m.payload if is_run else None for m, is_run in zip(messages, readable, strict=True)])
        for some in self._sequels(messages, runs):
            if self._store_together(some):
                continue
            for message, run in some:
                kit, kind = self._address(message)
                error = self._attempt(kit, kind, message, doomed.get(id(message)), run=run)
                if error:
                    self._bury(kit, message, error)

    def _sequels(self, messages: Sequence[Message], runs: Sequence[Run | None]) -> Iterable[_Sequel]:
        """Return the messages with the runs that they are, those together of which each continues the kit's last."""
        found: list[_Sequel] = []
        newest: dict[str | None, _Sequel] = {}
        for message, run in zip(messages, runs, strict=True):
            kit, _ = self._address(message)
            before = newest.get(kit)
            if run and before and (last := before[-1][1]) and run.continues(last):
                before.append((message, run))
            else:
                newest[kit] = [(message, run)]
                found.append(newest[kit])
        return found

    def _store_together(self, some: _Sequel) -> bool:
        """Store messages of a kit as if they were one; returns whether that is done, else nothing is."""
        message, (kit, _) = some[0][0], self._address(some[0][0])
        runs = [run for _, run in some if run]
        if len(runs) < 2 or kit is None or not self._raw.knows(kit):
            return False
        run = joined(runs)
        added = self._raw.add_run(kit, run, message.received_ms, self._error_s, live=False)
        if added is None:
            return False
        self._raw.heard(kit, some[-1][0].received_ms)
        self._note_added(kit, message, run.boot, added, batches=len(runs))
        return True

    def _store_alone(self, message: Message) -> None:
        """Store one message; where that fails for a mistake of this program it becomes a dead letter."""
        try:
            self._commit_foreseen(lambda doomed: self._store_all([message], doomed))
        except sqlite3.Error:
            raise
        except Exception as error:
            log.exception("a message on %.100r cannot be stored", message.topic)
            doomed = {id(message): f"{type(error).__name__}: {error}"}
            self._commit(lambda: self._store_all([message], doomed))

    def replay(self, letters: Sequence[Letter]) -> list[Outcome]:
        """Route dead letters again as at their receipt; what can be stored now is a dead letter no longer."""
        pairs = [(x, Message(x.topic, x.payload, x.received_ms, mid=0, qos=0, generation=0)) for x in letters]

        def work(doomed: Doomed) -> list[Outcome]:
            return [self._replay_one(letter, message, doomed.get(id(message))) for letter, message in pairs]

        return self._commit_foreseen(work)

    def replay_unknown_columns(self) -> bool:
        """Where this program knows other columns than the last one, try some letters again; returns whether more wait.

        A step is short, so that messages do not wait for it; killed in the middle, all of it starts again.
        """
        if self._upgrade_at is None:
            return False
        letters, last = deadletters.window(
            self._db, Reason.UNKNOWN_COLUMN, after=self._upgrade_at, width=_UPGRADE_LETTERS
        )
        self._upgraded += sum(outcome.reason is None for outcome in self.replay(letters)) if letters else 0
        self._upgrade_at = last
        if last is None:
            with transaction(self._db):
                write_meta(self._db, "columns", _KNOWN_COLUMNS)
            if self._upgraded:
                log.info("%s dead letters have columns that are known now; they are stored", self._upgraded)
        return last is not None

    def _commit_foreseen(self, work: Callable[[Doomed], _T]) -> _T:
        """Commit; a message that meets a mistake of this program costs itself alone."""
        doomed: Doomed = {}
        while True:
            try:
                return self._commit(lambda: work(doomed))
            except _UnforeseenError as error:
                # Again without it: whatever it is, it must not come back from the broker for ever.
                log.exception("a message on %.100r cannot be read", error.message.topic)
                doomed[id(error.message)] = str(error)

    def _commit(self, work: Callable[[], _T]) -> _T:
        self._counts = {}
        self._fuller = set()
        self._error_s = self.clock_error_s()
        try:
            with transaction(self._db):
                if not self._recounted:
                    deadletters.recount(self._db)
                result = work()
                self._raw.flush()
                for kit, counts in self._counts.items():
                    counters.add(self._db, kit, counts)
                self._bound_dead_letters()
        except BaseException:
            self._raw.forget()  # what it has in memory was rolled back
            raise
        self._recounted = True
        return result

    def _bound_dead_letters(self) -> None:
        for kit in self._fuller:
            if deadletters.bound(self._db, kit, self._limits) and kit not in self._said_full:
                self._said_full.add(kit)
                log.warning("the dead letters of %s are full; the oldest go, and are counted", kit or "no kit")
        if self._fuller and deadletters.bound_all(self._db, self._limits) and "" not in self._said_full:
            self._said_full.add("")
            log.warning("all dead letters together are too many; the oldest of the kit with most go, and are counted")

    def gather(self) -> None:
        """Make chunks of the rows that came one by one, which can be derived then."""
        if self._raw.is_to_gather:
            self._commit(self._raw.gather)

    @property
    def has_many_fresh(self) -> bool:
        """Whether rows are to be gathered whatever the time."""
        return self._raw.fresh_count >= fresh.MOST_ROWS

    def release_waiting(self) -> int:
        """Place rows whose time has become known, or has come; returns how many, 0 once none is left."""
        return self._commit(lambda: self._raw.release_waiting(now_ms(), self._error_s))

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
        sync = int(self.clock_error_s() is not None)
        self._publish("gateway/time", wire.encode(wire.GatewayTime(wire.VERSION, t, ms, sync)), 0)

    def _replay_one(self, letter: Letter, message: Message, doom: str | None) -> Outcome:
        if letter.is_truncated:
            return Outcome(letter.id, letter.reason, "only its beginning was kept; it cannot be replayed")
        kit, kind = self._address(message)
        error = self._attempt(kit, kind, message, doom, again=True)
        if error is None:
            deadletters.remove(self._db, letter.id)
            self._count(kit, message, replayed=1)
            return Outcome(letter.id, None, "")
        if (error.reason, error.detail) != (letter.reason, letter.detail):
            deadletters.change_reason(self._db, letter, error.reason, error.detail)
        self._settle(kit, message, error)
        return Outcome(letter.id, error.reason, error.detail)

    def _address(self, message: Message) -> tuple[str | None, str]:
        """Return the kit, `None` where it is none that may be known, and the kind of a message."""
        if (known := self._addresses.get(message.topic)) is None:
            name, _, kind = message.topic.removeprefix(f"{self._base}/").partition("/")
            known = (name if wire.is_kit_name(name) else None), kind
            if len(self._addresses) >= _KNOWN_TOPICS:
                self._addresses.clear()
            self._addresses[message.topic] = known
        return known

    def _attempt(
        self, kit: str | None, kind: str, message: Message, doom: str | None, *, run: Run | None = None,
        again: bool = False,
    ) -> WireError | None:  # fmt: skip
        """Route a message; returns why it is none that can be stored."""
        try:
            if doom is not None:
                return WireError(Reason.INTERNAL, doom)
            self._route(kit, kind, message, run, again=again)
        except WireError as error:
            return error
        except sqlite3.Error:
            raise
        except Exception as error:
            raise _UnforeseenError(message, error) from error
        return None

    def _route(self, kit: str | None, kind: str, message: Message, run: Run | None, *, again: bool) -> None:
        if kit is None or kind not in _KINDS:
            raise WireError(Reason.BAD_TOPIC, "not the topic of a kit that the gateway reads")
        if not self._has_room_for(kit):
            raise WireError(Reason.TOO_MANY_KITS, f"a new kit beyond [store] max_kits = {self._max_kits}")
        self._raw.heard(kit, message.received_ms)
        # How well the clock was known at the receipt of a letter is not kept, so no receipt bounds its times.
        if kind == "status":
            self._store_status(kit, message, again=again)
        elif kind == "about":
            self._store_about(kit, message, again=again)
        elif kind == "diag":
            self._store_diag(kit, message, again=again)
        else:
            self._store_batch(kit, message, run, live=kind == "obs" and not again)

    def _has_room_for(self, kit: str) -> bool:
        return self._raw.knows(kit) or kits.count(self._db) < self._max_kits

    def _store_about(self, kit: str, message: Message, *, again: bool) -> None:
        if wire.decode_about(message.payload).kit != kit:
            raise WireError(Reason.BAD_TOPIC, "names another kit than its topic")
        if not again:  # the kit has sent a newer one since
            self._raw.set_about(kit, message.received_ms, message.payload)

    def _store_diag(self, kit: str, message: Message, *, again: bool) -> None:
        numbers = wire.decode_diag(message.payload).numbers()
        number = self._raw.kit_id(kit, message.received_ms)
        if not again:  # the kit has sent a newer one since
            health.set_last(self._db, number, message.received_ms, message.payload)
        health.add(self._db, number, message.received_ms, numbers)

    def _store_batch(self, kit: str, message: Message, run: Run | None, *, live: bool) -> None:
        added = None if run is None else self._raw.add_run(kit, run, message.received_ms, self._error_s, live=live)
        if run is not None and added is not None:
            boot = run.boot
        else:
            batch = wire.decode_batch(message.payload)
            boot, added = batch.boot, self._raw.add(kit, batch, message.received_ms, self._error_s, live=live)
        self._note_added(kit, message, boot, added, batches=1)
        if added.conflicts:
            seqs = ", ".join(str(s) for s in added.conflicts[:10])
            raise WireError(Reason.CONFLICT, f"other content is stored under seq {seqs}")

    def _note_added(self, kit: str, message: Message, boot: int, added: Added, *, batches: int) -> None:
        self._owed.setdefault(kit, set()).add(boot)
        if not added.is_counted:
            self._count(kit, message, batches=batches, rows=added.new, duplicates=added.duplicates)
        self._count(kit, message, late_rows=added.late)

    def _store_status(self, kit: str, message: Message, *, again: bool) -> None:
        status = wire.decode_status(message.payload)
        if again:  # it tells of then, not of now
            return
        self._raw.set_status(kit, message.received_ms, up=status.up)
        if status.up:
            boots = self._raw.recent_boots(kit, message.received_ms - RECEIPT_AGE_MS, RECEIPT_BOOTS)
            self._owed.setdefault(kit, set()).update(boots)
            self._came_up = True

    def _bury(self, kit: str | None, message: Message, error: WireError) -> None:
        owner = kit if kit is not None and self._has_room_for(kit) else None
        self._count(owner, message)  # makes the kit, which the letter's place is counted at
        rows = self._settle(owner, message, error)
        new = deadletters.keep(
            self._db, received_ms=message.received_ms, topic=message.topic, kit=owner, reason=error.reason,
            detail=error.detail, payload=message.payload, rows=rows,
        )  # fmt: skip
        by_reason = {f"dead.{error.reason}": int(new)}
        self._count(owner, message, dead_letters=int(new), dead_letter_copies=int(not new), **by_reason)
        if new:
            self._fuller.add(owner)
            log.warning("dead letter on %.100r: %r", message.topic, str(error))

    def _settle(self, kit: str | None, message: Message, error: WireError) -> Rows | None:
        """Count the rows of a dead letter as held; returns them."""
        # Only a run without gaps is settled: the range of another would count rows as held that never came.
        rows = error.rows if error.rows and error.rows.is_run else None
        if kit is not None and rows:
            self._raw.settle(kit, rows, message.received_ms)
            self._owed.setdefault(kit, set()).add(rows.boot)
        return rows

    def _count(self, kit: str | None, message: Message, **counts: int) -> None:
        number = self._raw.kit_id(kit, message.received_ms) if kit else 0
        if (known := self._counts.get(number)) is None:
            known = self._counts[number] = Counter()
        for name, count in counts.items():
            if count:
                known[name] += count
