"""When to derive: gathered, since deriving a hundred kits together writes far fewer pages than one after the other."""

import time
from typing import Final

LEAST_S: Final = 15.0
"""Between rounds while readings keep coming; each round writes the hour of a kit again."""

LATEST_S: Final = 300.0
"""What is derived is never older than its readings by more, but in a backlog."""

SHARE: Final = 0.0015
"""Of the time, about, that deriving takes: a thousand kits every `LATEST_S`."""

_FIRST_GAP_S: Final = 0.5
_GROWTH: Final = 4


class Pace:
    """Gaps between rounds of deriving that follow what the last round cost.

    They grow bit by bit, and begin anew after a pause: a reading that comes alone is derived at once.
    """

    def __init__(self) -> None:
        self._gap_s = self._gap_before_s = self._work_s = self._due_s = 0.0

    def is_due(self) -> bool:
        """Tell whether the next round is to begin, if there is anything to derive."""
        return time.monotonic() >= self._due_s

    def worked(self, hours: int, cpu_s: float, *, begins_round: bool) -> None:
        """Note a step of a round: how many hours of kits it derived, and what it cost."""
        if not hours:
            return
        now_s = time.monotonic()
        if begins_round:
            has_paused = now_s - self._due_s > LEAST_S
            self._gap_before_s, self._work_s = 0.0 if has_paused else self._gap_s, 0.0
        self._work_s += cpu_s
        wanted_s = min(LATEST_S, max(LEAST_S, self._work_s / SHARE))
        self._gap_s = min(wanted_s, _GROWTH * self._gap_before_s + _FIRST_GAP_S)
        self._due_s = now_s + self._gap_s
