"""What commands have in common: options, the place of the store, times, JSON, and asking the gateway."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gateway.control import Client
    from gateway.settings import Settings

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
DirOption = Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Folder that holds store/.")]
StoreConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", metavar="gateway.toml", help="Configuration.")
]


def group(text: str) -> typer.Typer:
    """Return an empty group of commands."""
    return typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help=text)


def store_dir(directory: Path | None, config: Path | None) -> Path:
    """Return the folder of the store that two options name, of which one is given."""
    from gateway.settings import load

    if (directory is None) == (config is None):
        raise typer.BadParameter("give one of --dir DIR and -c gateway.toml")
    return load(config).store_dir if config else Path(str(directory)) / "store"


def settings_of(directory: Path | None, config: Path | None) -> "Settings":
    """Return the configuration: the one named, else the one beside the store, else the default."""
    from gateway.settings import Settings, load

    beside = store_dir(directory, config).parent / "gateway.toml"
    return load(config or beside) if config or beside.exists() else Settings()


def writer(directory: Path | None, config: Path | None) -> "Client":
    """Return what changes the store: the running gateway, or this process where none runs."""
    from gateway.control import Client
    from gateway.control_handlers import local_handlers

    settings = settings_of(directory, config)
    return Client(store_dir(directory, config), lambda db: local_handlers(db, settings))


def time_ms(text: str, option: str) -> int:
    """Return an ISO-8601 time that names its zone [ms since 1970]."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no ISO-8601 time such as 2026-11-21T14:00:00Z", param_hint=option
        ) from error
    if found.tzinfo is None:
        raise typer.BadParameter(
            f"{text} names no zone; write {text}Z for UTC, or its offset such as +08:00", param_hint=option
        )
    return round(found.timestamp() * 1000)


def iso(time_ms: int) -> str:
    """Return a time as ISO-8601 UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def print_json(value: Any) -> None:
    """Print what a machine reads."""
    typer.echo(json.dumps(value))


def is_terminal() -> bool:
    """Tell whether a person can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()
