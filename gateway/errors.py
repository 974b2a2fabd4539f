"""The errors that Lichen reports to people: each says what, where and what to do next."""

from pathlib import Path
from typing import Final

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130


class LichenError(Exception):
    """Something a person can act on; the command line prints it without a traceback."""

    exit_status = EXIT_FAILED
    """What the command ends with; systemd starts a gateway again after each but 3 (deploy/lichen-gateway.service)."""


class StoreError(LichenError):
    """The store cannot be opened or is of a version this program does not know."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path = path


class SettingsError(LichenError):
    """The configuration file cannot be used."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path


class RecordingError(LichenError):
    """A recording cannot be replayed as it is."""

    def __init__(self, path: Path, line: int | None, problem: str) -> None:
        where = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{where}: {problem}")
        self.path = path
        self.line = line


class MissingPartError(LichenError):
    """A program that Lichen needs is not on this machine."""

    def __init__(self, program: str, remedy: str) -> None:
        super().__init__(f"{program} was not found; {remedy}")
        self.program = program


class PartFailedError(LichenError):
    """A program that Lichen started did not do its work."""


class TakenOverError(PartFailedError):
    """Another gateway uses the same session at the broker: starting again would only go on with the fight."""

    exit_status = 3
