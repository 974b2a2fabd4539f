"""Where the programs and files that Lichen does not contain are found on this machine."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import MissingPartError

_ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Program:
    """A program: its variable, its place below the tools folder, and how to get it."""

    name: str
    variable: str
    place: str
    remedy: str


MOSQUITTO: Final = Program(
    "mosquitto",
    "LICHEN_MOSQUITTO",
    "mosquitto/mosquitto",
    "run tools/get_mosquitto.sh, or install the package mosquitto",
)
MOSQUITTO_PASSWD: Final = Program(
    "mosquitto_passwd", "LICHEN_MOSQUITTO_PASSWD", "mosquitto/mosquitto_passwd", MOSQUITTO.remedy
)
MICROPYTHON: Final = Program(
    "micropython", "LICHEN_MICROPYTHON", "micropython/micropython",
    "run tools/get_micropython.sh, or install the package micropython (1.25 or newer)",
)  # fmt: skip


def find(program: Program) -> str:
    """Return the path of a program: as its variable says, below the tools folder, or installed.

    Raises
    ------
    MissingPartError
        Naming how to get it.
    """
    named = os.environ.get(program.variable)
    if named and not _runs(named):
        raise MissingPartError(program.name, f"{program.variable} names {named!r}, which is no program")
    tools = Path(os.environ.get("LICHEN_TOOLS") or _ROOT / ".tools")
    search = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    for candidate in (named, str(tools / program.place), shutil.which(program.name, path=search)):
        if candidate and _runs(candidate):
            return candidate
    raise MissingPartError(program.name, program.remedy)


def _runs(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.X_OK)


def firmware_dir() -> Path:
    """Return the folder of the kit's firmware: inside the installed package, or beside it in a checkout.

    Raises
    ------
    MissingPartError
        If it is in neither.
    """
    for folder in (Path(__file__).parent / "firmware_micropython", _ROOT / "firmware_micropython"):
        if (folder / "lichen").is_dir():
            return folder
    raise MissingPartError("the kit's firmware", "install lichen-air with its package data, or run from a checkout")
