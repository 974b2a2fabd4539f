"""Why the kit started, and what is remembered of crashes: a small bounded file, replaced as a whole."""

import io
import json
import os
import sys

import machine
from micropython import const

_TEXT = const(600)  # bytes kept of a crash: the last lines tell where


class Diary:
    """What lies in the file: brown-outs and watchdog bites so far, and the last crash."""

    def __init__(self, path, cause=None):
        """`cause`: why the kit started (a word of the wire), which counts; None where that is done already."""
        self._path = path
        self.cause = cause
        self._data = {"brownouts": 0, "watchdogs": 0, "crash": None}
        try:
            with open(path) as f:
                found = json.load(f)
            if isinstance(found, dict):
                self._data.update(found)
        except (OSError, ValueError):
            pass
        counter = {"brownout": "brownouts", "watchdog": "watchdogs"}.get(cause)
        if counter and type(self._data[counter]) is int:
            self._data[counter] += 1
            self._keep()

    @property
    def brownouts(self):
        """Since the kit was first started; None where the board cannot tell."""
        return self._data["brownouts"] if hasattr(machine, "BROWNOUT_RESET") else None

    @property
    def crash(self):
        """The last crash's text, or None."""
        return self._data["crash"]

    def keep(self, error):
        """Says an exception that nobody foresaw on the console, and keeps it as a crash."""
        sys.print_exception(error, sys.stderr)
        text = io.StringIO()
        sys.print_exception(error, text)
        self.note(text.getvalue())

    def note(self, text):
        """Keeps a crash, the same one only once; nothing may fail here, least of all on the way down."""
        text = text[-_TEXT:]
        if text != self._data["crash"]:
            self._data["crash"] = text
            self._keep()

    def _keep(self):
        try:
            with open(self._path + ".new", "w") as f:
                json.dump(self._data, f)
            os.rename(self._path + ".new", self._path)
        except Exception:  # noqa: BLE001, S110  the flash may be the crash, and no reason not to start
            pass
