"""When to derive: gathered, since deriving a hundred kits together writes far fewer pages than one after the other."""

import time
from typing import Final

LATEST_S: Final = 20.0
"""What is derived is never older than its readings by more, but in a backlog."""

SHARE: Final = 0.003
"""Of the time, about: a few kits are derived at once, a thousand every `LATEST_S`."""

_FIRST_GAP_S: Final = 0.5


class Pace:
    """Gaps between rounds of deriving that follow what the last round cost, and grow by doubling at most."""

    def __init__(self) -> None:
        self._gap_s = self._gap_before_s = self._work_s = self._due_s = 0.0

    def is_due(self) -> bool:
        """Tell whether the next round is to begin."""
        return time.monotonic() >= self._due_s

    def worked(self, cpu_s: float, *, begins_round: bool) -> None:
        """Note a step of a round and what it cost."""
        if begins_round:
            self._gap_before_s, self._work_s = self._gap_s, 0.0
        self._work_s += cpu_s
        self._gap_s = min(LATEST_S, self._work_s / SHARE, 2 * self._gap_before_s + _FIRST_GAP_S)
        self._due_s = time.monotonic() + self._gap_s
