"""What a check found: how bad, what, where, and what to do about it."""

from collections.abc import Iterable, Iterator
from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad it is: an error stops something or loses it; a warning may do so later, or could not be looked at."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    level: Level
    subject: str
    what: str
    where: str = ""
    fix: str = ""


Findings = Iterator[Finding]


class Subject:
    """Makes findings of one subject."""

    def __init__(self, name: str, where: str = "") -> None:
        self._name = name
        self._where = where

    def ok(self, what: str, where: str | None = None) -> Finding:
        """Return that something is as it should be."""
        return Finding(Level.OK, self._name, what, self._where if where is None else where)

    def warning(self, what: str, fix: str, where: str | None = None) -> Finding:
        """Return that something may fail later, or could not be looked at."""
        return Finding(Level.WARNING, self._name, what, self._where if where is None else where, fix)

    def error(self, what: str, fix: str, where: str | None = None) -> Finding:
        """Return that something fails."""
        return Finding(Level.ERROR, self._name, what, self._where if where is None else where, fix)


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)
