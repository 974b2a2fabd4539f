"""The boundary of the writing loop: whatever fails is told once, counted and tried again, and ends nothing."""

import logging
import sqlite3
from collections.abc import Callable
from typing import Final

from gateway.watch import Part

log = logging.getLogger(__name__)

_MOST_TOLD: Final = 100
"""Different mistakes that are told; a message that changes each time must not fill the log."""


class Attempts:
    """Runs pieces of work for one thread, and keeps what is wrong with each."""

    def __init__(self, part: Part) -> None:
        self.mistakes = 0
        self._part = part
        self._troubles: dict[str, str] = {}
        self._told: set[str] = set()

    @property
    def status(self) -> str:
        """What is wrong now, in one line; empty where nothing is."""
        return "; ".join(self._troubles.values())

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is wrong now, one by one; any thread may ask."""
        return tuple(self._troubles.copy().values())

    def attempt(self, what: str, work: Callable[[], object], *, unusable: str = "") -> bool:
        """Do something; returns whether it could be done.

        Parameters
        ----------
        what
            What is done, for the log and the status.
        work
            What does it.
        unusable
            What an error of the store means here, with `{}` for the error itself.
        """
        self._part.beat(what)
        try:
            work()
        except sqlite3.Error as error:
            trouble = (unusable or what + " waits: the store cannot be used ({}); it is tried again").format(error)
            if self._troubles.get(what) != trouble:
                self._troubles[what] = trouble
                log.error("%s", trouble)  # noqa: TRY400 - the database tells in a word what is wrong with it
            return False
        except Exception as error:  # noqa: BLE001 - a mistake of this program costs what it met, not intake
            self._note_mistake(what, error)
            return False
        if self._troubles.pop(what, None):
            log.info("%s works again", what)
        return True

    def _note_mistake(self, what: str, error: Exception) -> None:
        self.mistakes += 1
        name = f"{type(error).__name__}: {error}"
        self._troubles[what] = f"{what} fails ({name:.200}); the log tells more"
        key = f"{what} {name}"
        if len(self._told) < _MOST_TOLD and key not in self._told:
            self._told.add(key)
            log.error("%s fails; it is tried again, and told once only", what, exc_info=error)
