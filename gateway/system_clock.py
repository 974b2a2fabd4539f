"""How far the gateway may believe its own clock: what the system says, what an operator said, and steps."""

import ctypes
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import msgspec

log = logging.getLogger(__name__)

STEP_MS: Final = 10_000
"""A jump that no slewing makes: what moves less is within the errors that readings carry."""

DISTRUST_S: Final = 120.0
"""After a step the clock is not trusted for so long: who moved it may not be done."""

HAND_SET: Final = "clock_set"
"""Name of the operator's record among the store's facts."""

_READ_RECORD_EVERY_S: Final = 3.0
_TORN_MS: Final = 100
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # counts while the machine is suspended
_libc: Final = ctypes.CDLL(None)


class HandSet(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's word that the clock was right within `error_s` at `at_ms`, in this boot of the machine."""

    boot_id: str
    error_s: int
    at_ms: int
    who: str = ""


def now_ms() -> int:
    """Return the system's time [ms since 1970]."""
    return time.time_ns() // 1_000_000


def steady_ms() -> int:
    """Return the time since the machine's boot [ms], which nobody can set."""
    return time.clock_gettime_ns(_STEADY) // 1_000_000


def synchronised() -> bool:
    """Tell whether the kernel says that somebody keeps its clock right."""
    timex = ctypes.create_string_buffer(256)  # struct timex, mode 0: read only; 208 bytes on 64-bit Linux
    state: int = _libc.adjtimex(timex)
    return 0 <= state < _TIME_ERROR


def boot_id() -> str:
    """Return the name of this boot of the machine; empty where the system does not tell."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


class OwnClock:
    """The gateway's clock; `look` belongs to the writing thread, any thread may ask the rest.

    `steps` counts how often the clock was moved; `voided` is the operator's record that the last such step ended.

    Parameters
    ----------
    setting
        `[clock] trusted`.
    read_hand_set
        Returns the operator's record, if there is one; called from `look` every few seconds.
    distrust_s
        How long a step counts [s].
    wall_ms, steady_ms, synchronised, this_boot
        What the system says; other sources for tests.
    """

    def __init__(
        self,
        setting: bool | Literal["auto"],
        read_hand_set: Callable[[], HandSet | None],
        *,
        distrust_s: float = DISTRUST_S,
        wall_ms: Callable[[], int] = now_ms,
        steady_ms: Callable[[], int] = steady_ms,
        synchronised: Callable[[], bool] = synchronised,
        this_boot: Callable[[], str] = boot_id,
    ) -> None:
        self.steps = 0
        self.voided: HandSet | None = None
        self._setting = setting
        self._read_hand_set = read_hand_set
        self._distrust_ms = round(distrust_s * 1000)
        self._wall_ms = wall_ms
        self._steady_ms = steady_ms
        self._synchronised = synchronised
        self._boot_id = this_boot()
        self._seen = self._times()
        self._distrusted_until_ms: int | None = None
        self._hand_set: HandSet | None = None
        self._read_at_ms: int | None = None

    def now_ms(self) -> int:
        """Return the system's time [ms since 1970]."""
        return self._wall_ms()

    def error_s(self) -> int | None:
        """Return how well the clock is known [s]; `None` while it is not trusted."""
        if self._distrusted():
            return None
        if self._setting != "auto":
            return 0 if self._setting else None
        if self._synchronised():
            return 0
        return self._hand_set.error_s if self._hand_set else None

    def look(self) -> bool:
        """Compare with the time since boot; returns whether the clock has been moved since the last look."""
        wall_ms, steady_ms = self._times()
        elapsed_ms = steady_ms - self._seen[1]
        expected_ms = self._seen[0] + elapsed_ms
        self._seen = wall_ms, steady_ms
        stepped = abs(wall_ms - expected_ms) > STEP_MS
        if stepped:
            self.steps += 1
            self._distrusted_until_ms = steady_ms + self._distrust_ms
            log.warning(
                "the clock was moved from %s to %s, by %+.1f s; it is not trusted for the next %.0f s",
                _iso(expected_ms), _iso(wall_ms), (wall_ms - expected_ms) / 1000, self._distrust_ms / 1000,
            )  # fmt: skip
        self._take_hand_set(wall_ms, steady_ms, stepped=stepped)
        return stepped

    def _distrusted(self) -> bool:
        until_ms = self._distrusted_until_ms
        return until_ms is not None and self._steady_ms() < until_ms

    def _take_hand_set(self, wall_ms: int, steady_ms: int, *, stepped: bool) -> None:
        """Read the record again when it is time; a step that it did not make itself ends it."""
        due = self._read_at_ms is None or steady_ms - self._read_at_ms >= _READ_RECORD_EVERY_S * 1000
        if not (due or stepped):
            return
        self._read_at_ms = steady_ms
        found = self._read_hand_set()
        if found and stepped and abs(found.at_ms - wall_ms) > STEP_MS:
            self.voided = found
        holds = found and found != self.voided and found.boot_id == self._boot_id
        self._hand_set = found if holds else None

    def _times(self) -> tuple[int, int]:
        """Return wall and steady time of one moment, although the process may be held up between the two."""
        while True:
            before_ms = self._steady_ms()
            wall_ms = self._wall_ms()
            after_ms = self._steady_ms()
            if after_ms - before_ms <= _TORN_MS:
                return wall_ms, after_ms


def _iso(time_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ms / 1000))
