"""What the writing thread does once a minute: retention, room, joining chunks; a bounded piece of each at a time."""

import logging
import sqlite3
import time
from collections.abc import Callable
from typing import Final

import msgspec

from gateway import system_clock
from gateway.records import HOUR_MS
from gateway.settings import Settings
from gateway.store import deadletters, health, merge, retention, room
from gateway.store.database import FILE_NAME, horizon_hour, transaction
from gateway.store.retention import Gone, Rule

log = logging.getLogger(__name__)

HOURS_A_STEP: Final = 2
"""Hours of data that go in one step, of each kind: while the clock is wrong for an hour, at most 120."""

STEP_S: Final = 60.0
SHORT_STEP_S: Final = 1.0
"""How soon the next step is due, and how soon while there is less room than there should be."""

_DAY_MS: Final = 24 * HOUR_MS
_MB: Final = 1_000_000
_EMPTY_HOURS_A_STEP: Final = 200
_ROOM_S: Final = 0.1
"""Time for making room in one step."""
_LASTING_S: Final = 3600.0
"""A disk that others fill is waited for so long, kits and broker holding what comes; then old rows go for new ones."""
_KEPT_HOURS: Final = 48
"""The newest hours never go for room: what fills the disk then is something else."""
_PATIENCE: Final = 1440
_PATIENCE_SHORT: Final = 10
"""Steps that an hour still to be derived holds up pruning, and while room is short: then it goes as it is."""
_REST_STEPS: Final = 60
"""Steps until a rule is looked at again that found nothing."""
_SAY_EVERY_S: Final = 86_400.0


class Done(msgspec.Struct):
    """What a step did. Rows: `pruned`, of which `for_room`; `short_mb` is missing room after it."""

    pruned: int = 0
    for_room: int = 0
    unsent: int = 0
    air_hours: int = 0
    records: int = 0
    tombstones: int = 0
    health: int = 0
    dead_letters: int = 0
    merged_hours: int = 0
    pages_given_back: int = 0
    short_mb: int = 0
    problem: str = ""

    def __str__(self) -> str:
        """Return what is not nothing, for a log or a status line."""
        found = [(name.replace("_", " "), value) for name, value in msgspec.structs.asdict(self).items()]
        return ", ".join(f"{name} {value}" for name, value in found if value)


class _Blocked(msgspec.Struct):
    """The hour that holds up pruning because it is still to be derived, and for how many steps."""

    hour: int | None = None
    steps: int = 0


class _Places(msgspec.Struct):
    """Where rules go on that look at a page at a time, and steps for which one is left alone."""

    late: retention.Place = retention.FIRST_LATE
    waiting: retention.Place = retention.FIRST_WAITING
    rest: dict[str, int] = msgspec.field(default_factory=dict)


class _Cursor(msgspec.Struct):
    rev: int = 0


class Housekeeper:
    """Belongs to the writing thread, which calls `step` after each `wait_s`, and `make_room` when a commit fails."""

    def __init__(
        self,
        db: sqlite3.Connection,
        settings: Settings,
        clock_error_s: Callable[[], int | None],
        now_ms: Callable[[], int] = system_clock.now_ms,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._settings = settings
        self._clock_error_s = clock_error_s
        self._now_ms = now_ms
        self._elapsed_s = elapsed_s
        self._short_since_s: float | None = None
        self._disk_size = 0
        self._blocked = _Blocked()
        self._places = _Places()
        self._spare = room.SpareRoom(settings.store_dir)
        self._said_s: dict[str, float] = {}
        self.wait_s = STEP_S
        self.done = Done()

    def step(self) -> Done:
        """Do what is due; a store that cannot be written now is no error here, the next step tries again."""
        done = self.make_room()
        rules = (
            self._prune_raw, self._prune_late, self._prune_waiting, self._prune_air, self._prune_records,
            self._prune_letters, self._prune_tombstones, self._prune_health, self._merge,
        )  # fmt: skip
        for rule in rules:
            self._try(rule, done)
        self.wait_s = SHORT_STEP_S if done.short_mb and (done.for_room or done.pages_given_back) else STEP_S
        if text := str(done):
            log.debug("housekeeping: %s", text)
        return done

    def make_room(self) -> Done:
        """Only make room: for a store that is full while messages wait."""
        done = self.done = Done()
        self._try(self._make_room, done)
        if done.problem and self._spare.is_held:
            done.problem = ""
            self._try(lambda _: self._spare.give_up(self._db), done)
            self._try(self._make_room, done)
        return done

    def _try(self, rule: Callable[[Done], None], done: Done) -> None:
        try:
            rule(done)
        except (sqlite3.OperationalError, OSError) as error:
            done.problem = str(error)
            self._say(logging.WARNING, f"the store could not be kept in order ({error}); trying again")

    @property
    def data_now_ms(self) -> int | None:
        """Time by which data are old: the gateway's where it is trusted, else that of the newest readings.

        Of the kits' newest readings the lower median counts, so that one kit that lies cannot move it; None: no data.
        """
        if self._clock_error_s() is not None:
            return self._now_ms()
        newest_ms = retention.newest_ms(self._db)
        return newest_ms[(len(newest_ms) - 1) // 2] if newest_ms else None

    def _prune_raw(self, done: Done) -> None:
        if (now_ms := self.data_now_ms) is None:
            return
        age_ms = self._settings.retention.raw_days * _DAY_MS
        target = (now_ms - age_ms) // HOUR_MS
        rule = Rule(age_ms, spared_after_ms=now_ms - age_ms, sent_rev=self._sent_rev())
        pruned = 0
        for _ in range(_EMPTY_HOURS_A_STEP):
            hour = retention.oldest_hour(self._db, from_hour=horizon_hour(self._db))
            if hour is None or hour >= target or pruned == HOURS_A_STEP or self._is_blocked(hour, _PATIENCE):
                return
            gone = retention.prune_hour(self._db, hour, rule)
            pruned += bool(gone.count)
            _add(done, gone)

    def _prune_late(self, done: Done) -> None:
        if (now_ms := self.data_now_ms) is None:
            return
        before_ms = now_ms - self._settings.retention.raw_days * _DAY_MS
        rule = Rule(sent_rev=self._sent_rev())
        gone, place = retention.prune_late(self._db, before_ms, HOURS_A_STEP, rule, self._places.late)
        self._places.late = place or retention.FIRST_LATE
        _add(done, gone)

    def _prune_waiting(self, done: Done) -> None:
        if (now_ms := self.data_now_ms) is None:
            return
        before_ms = now_ms - self._settings.retention.raw_days * _DAY_MS
        place = self._places.waiting
        gone, after = retention.prune_waiting(self._db, before_ms, HOURS_A_STEP * HOUR_MS, Rule(), place)
        self._places.waiting = after or retention.FIRST_WAITING
        _add(done, gone)

    def _prune_air(self, done: Done) -> None:
        if (now_ms := self.data_now_ms) is None:
            return
        target = (now_ms - self._settings.retention.air_days * _DAY_MS) // HOUR_MS
        for _ in range(HOURS_A_STEP):
            hour = retention.oldest_hour(self._db, table="air")
            if hour is None or hour >= target:
                return
            _add_air(done, retention.prune_air(self._db, hour, self._sent_rev()))

    def _prune_records(self, done: Done) -> None:
        if self._rests("records") or (now_ms := self.data_now_ms) is None:
            return
        # What verifying the first hours above the horizon reads stays: two days below it.
        target = (now_ms - self._settings.retention.hour_days * _DAY_MS) // HOUR_MS
        target = min(target, horizon_hour(self._db) - _KEPT_HOURS)
        done.records = retention.prune_records(self._db, target, HOURS_A_STEP)
        self._rest("records", found=bool(done.records))

    def _prune_letters(self, done: Done) -> None:
        if self._rests("letters") or self._clock_error_s() is None:
            return
        before_ms = self._now_ms() - self._settings.dead_letters.days * _DAY_MS
        with transaction(self._db):
            done.dead_letters = deadletters.expire_older(self._db, before_ms, retention.PAGE)
        self._rest("letters", found=bool(done.dead_letters))

    def _prune_tombstones(self, done: Done) -> None:
        if self._rests("tombstones"):
            return
        before_ms = self._now_ms() - self._settings.retention.tombstone_days * _DAY_MS
        gone = retention.prune_tombstones(self._db, before_ms, HOURS_A_STEP * HOUR_MS, self._sent_rev())
        done.tombstones = gone.count
        self._rest("tombstones", found=bool(gone.count))

    def _prune_health(self, done: Done) -> None:
        if self._rests("health"):
            return
        before_ms = self._now_ms() - self._settings.retention.health_days * _DAY_MS
        done.health, _ = health.prune(self._db, before_ms, self._sent_rev())
        self._rest("health", found=bool(done.health))

    def _merge(self, done: Done) -> None:
        done.merged_hours = merge.merge_quiet(self._db, self._now_ms()).hours

    def _make_room(self, done: Done) -> None:
        """Let the oldest raw rows go, then calibrated rows, while the store is too large or the disk lastingly full."""
        until_s = time.monotonic() + _ROOM_S
        rule = Rule(sent_rev=self._sent_rev(), counter="pruned_for_room")
        measured = self._measure()
        while self._excess(measured) > 0 and self._prune_oldest(done, rule):
            measured = self._measure()
            if time.monotonic() > until_s:
                break
        room.set_log_length(self._db, measured, self._settings.store.budget_mb * _MB)
        needed = measured.disk_free < self._reserve
        done.pages_given_back = room.give_back(self._db, all_of_it=needed)
        measured = self._measure()
        done.short_mb = -(-max(0, self._excess(measured), measured.lack(self._reserve)) // _MB)
        if not self._spare.is_held and measured.disk_free >= self._reserve:
            self._spare.hold()
        if done.for_room:
            self._say(logging.WARNING, "the store had no room: raw readings went before their time, the oldest first; "
                      "give it more with [store] budget_mb, a larger disk or less of other things on it, or shorten "
                      "[retention]")  # fmt: skip
        elif done.short_mb:
            self._say(logging.ERROR, "the disk of the store has too little room: something else fills it, or [store] "
                      "budget_mb is too small; free space")  # fmt: skip

    def _excess(self, measured: room.Room) -> int:
        """Return how many bytes of the store have to go; not above 0 where none."""
        lack = measured.lack(self._reserve)
        if lack <= 0:
            self._short_since_s = None
        elif self._short_since_s is None:
            self._short_since_s = self._elapsed_s()
        lasting = self._short_since_s is not None and self._elapsed_s() - self._short_since_s >= _LASTING_S
        excess = measured.excess(self._settings.store.budget_mb * _MB, self._settings.store.reserve_mb * _MB)
        return max(excess, lack) if lasting else excess

    def _prune_oldest(self, done: Done, rule: Rule) -> bool:
        """Let the oldest raw hour, or as old waiting rows, or else calibrated rows go; returns whether any did."""
        kept_from = self._newest_hour() - _KEPT_HOURS
        hour = retention.oldest_hour(self._db)
        waiting_ms = retention.oldest_waiting_ms(self._db)
        if waiting_ms is not None and waiting_ms // HOUR_MS < min(kept_from, kept_from if hour is None else hour):
            gone = retention.prune_first_waiting(self._db, rule)
        elif hour is not None and hour < kept_from:
            if self._is_blocked(hour, _PATIENCE_SHORT):
                return False
            gone = retention.prune_hour(self._db, hour, rule)
        else:
            hour = retention.oldest_hour(self._db, table="air")
            if hour is None or hour >= kept_from:
                return False
            _add_air(done, retention.prune_air(self._db, hour, self._sent_rev()))
            return True
        _add(done, gone)
        done.for_room += gone.count
        return True

    def _newest_hour(self) -> int:
        """Return the newest hour of data, by a gateway's clock that is trusted and wrong too."""
        newest_ms, now_ms = retention.newest_ms(self._db), self.data_now_ms
        if now_ms is None or not newest_ms:
            return self._now_ms() // HOUR_MS
        return min(now_ms, newest_ms[-1]) // HOUR_MS

    def _is_blocked(self, hour: int, patience: int) -> bool:
        """Tell whether an hour is still to be derived and pruning waits for that."""
        if not retention.is_dirty(self._db, hour):
            return False
        if self._blocked.hour != hour:
            self._blocked = _Blocked(hour)
        self._blocked.steps += 1
        return self._blocked.steps <= patience

    def _measure(self) -> room.Room:
        """Measure; a disk that was made smaller counts as one that others fill."""
        measured = room.measure(self._db, self._settings.store_dir / FILE_NAME)
        self._disk_size = max(self._disk_size, measured.disk_size)
        return msgspec.structs.replace(measured, disk_size=self._disk_size)

    @property
    def _reserve(self) -> int:
        """Return how much of the disk is to be free: what is configured, and the spare room while it is given up."""
        return self._settings.store.reserve_mb * _MB + (0 if self._spare.is_held else room.SPARE_BYTES)

    def _sent_rev(self) -> int:
        """Return the revision up to which every sink has confirmed; a sink's cursor is a file of its own."""
        folder = self._settings.store_dir / "sinks"
        paths = set(folder.glob("*.cursor")) | ({folder / "influx.cursor"} if self._settings.influx else set())
        revisions = [2**62]
        for path in paths:
            try:
                revisions.append(msgspec.json.decode(path.read_bytes(), type=_Cursor).rev)
            except (OSError, msgspec.MsgspecError):
                revisions.append(0)
        return min(revisions)

    def _rests(self, rule: str) -> bool:
        left = self._places.rest.get(rule, 0)
        self._places.rest[rule] = max(0, left - 1)
        return left > 0

    def _rest(self, rule: str, *, found: bool) -> None:
        self._places.rest[rule] = 0 if found else _REST_STEPS - 1

    def _say(self, level: int, text: str) -> None:
        """Log something at most once a day."""
        now_s = time.monotonic()
        if now_s - self._said_s.get(text, -_SAY_EVERY_S) >= _SAY_EVERY_S:
            self._said_s[text] = now_s
            log.log(level, "%s", text)


def _add(done: Done, gone: Gone) -> None:
    done.pruned += gone.count
    done.unsent += gone.unsent


def _add_air(done: Done, gone: Gone) -> None:
    done.air_hours += gone.count
