"""Which commands there are; a module of commands is read when one of its commands is asked for, or help for all."""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Final

import typer

_COMMANDS: Final[Mapping[str, str]] = {
    "run": "running", "demo": "running", "simulate": "running", "export": "data", "verify": "data", "backup": "backup",
    "restore": "backup", "check": "check", "status": "status", "aqi": "aqi",
}  # fmt: skip
_GROUPS: Final = ("deadletter", "clock", "kit", "calibrate", "void", "influx", "report", "collocation")
"""Each is the `app` of its module."""


def tree(only: str | None = None) -> typer.Typer:
    """Return the command line: one command or group of it where `only` names one, else all."""
    app = typer.Typer(
        no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown",
        help="Lichen: community air monitoring that keeps every reading and says how sure it is.",
    )  # fmt: skip
    app.callback()(_root)
    alone = only in _COMMANDS or only in _GROUPS
    for name, module in _COMMANDS.items():
        if only == name or not alone:
            app.command(name)(getattr(_module(module), name))
    for name in _GROUPS:
        if only == name or not alone:
            app.add_typer(_module(name).app, name=name)
    return app


def _root() -> None:
    """Keep a command that stands alone one that has a name."""


def _module(name: str) -> ModuleType:
    return import_module(f"gateway.commands.{name}")
