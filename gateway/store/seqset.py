"""Sets of whole numbers as merged closed intervals; pure."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import groupby


def runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of consecutive numbers; they must rise."""
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        members = [number for _, number in run]
        yield members[0], members[-1]


class SeqSet:
    """Integers kept as sorted, disjoint, non-adjacent closed intervals."""

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for low, high in intervals:
            self.add(low, high)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._starts, self._ends, strict=True))

    def __contains__(self, seq: int) -> bool:
        i = bisect_right(self._starts, seq) - 1
        return i >= 0 and seq <= self._ends[i]

    def overlaps(self, low: int, high: int) -> bool:
        """Tell whether any number from low to high is in the set."""
        i = bisect_right(self._starts, high) - 1
        return i >= 0 and self._ends[i] >= low

    def end_of_run(self, seq: int) -> int:
        """Return the last number of the unbroken run that begins at seq; seq - 1 where seq is absent."""
        i = bisect_right(self._starts, seq) - 1
        return self._ends[i] if i >= 0 and self._ends[i] >= seq else seq - 1

    def add(self, low: int, high: int) -> tuple[tuple[int, int], list[int]]:
        """Add all from low to high; returns the merged interval and the starts of those it swallowed."""
        if self._ends and low == self._ends[-1] + 1:  # as rows mostly come
            self._ends[-1] = high
            return (self._starts[-1], high), self._starts[-1:]
        i = bisect_right(self._starts, low - 1)
        if i and self._ends[i - 1] >= low - 1:
            i -= 1
        j = bisect_right(self._starts, high + 1)
        swallowed = self._starts[i:j]
        if swallowed:
            low, high = min(low, swallowed[0]), max(high, self._ends[j - 1])
        self._starts[i:j], self._ends[i:j] = [low], [high]
        return (low, high), swallowed
