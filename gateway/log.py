"""What the log looks like: lines for a person, or for systemd's journal, which sorts and filters by priority."""

import logging
import os
import sys
from typing import Final

_FOR_PEOPLE: Final = "%(levelname)s %(name)s: %(message)s"
_FOR_JOURNAL: Final = "%(name)s: %(message)s"  # which has the time, the unit and the priority itself
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def set_up() -> None:
    """Send what is logged to standard error, once a process."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JournalFormatter(_FOR_JOURNAL) if for_journal() else logging.Formatter(_FOR_PEOPLE))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # it tells its own starts and stops


def for_journal() -> bool:
    """Tell whether standard error is the journal, and not only that of whoever started this (systemd.exec(5))."""
    try:
        error = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{error.st_dev}:{error.st_ino}"


def prefixed(text: str, level: int) -> str:
    """Return a text with its priority before each line, as the journal understands it (sd-daemon(3))."""
    priority = next((number for least, number in _PRIORITIES if level >= least), 7)
    return "\n".join(f"<{priority}>{line}" for line in text.splitlines())


class _JournalFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return prefixed(super().format(record), record.levelno)
