"""The commands that read the store: what is exported, and whether what was derived is right."""

import json
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from gateway.commands.shared import EXIT_FAILED, DirOption, JsonOption, StoreConfigOption, settings_of, store_dir


class Kind(StrEnum):
    """What can be exported."""

    RAW = "raw"
    AIR = "air"
    HOUR = "hour"
    INDEX = "index"


def export(
    kind: Annotated[Kind, typer.Argument(help="What to export.")],
    directory: DirOption = None,
    config: StoreConfigOption = None,
    file_format: Annotated[str, typer.Option("--format", help="Only csv so far.")] = "csv",
) -> None:
    """Write what is stored to standard output: ISO-8601 UTC times, canonical units.

    Example: `lichen export hour --dir demo/2026-11-21T09-00-00 --format csv > hours.csv`
    """
    from gateway.export import write_csv
    from gateway.store.database import open_reader

    if file_format != "csv":
        raise typer.BadParameter(f"{file_format!r} is not known; known is csv", param_hint="--format")
    write_csv(open_reader(store_dir(directory, config)), kind.value, sys.stdout)


def verify(
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compute everything derived again from the raw readings and compare; exit 1 where it differs.

    Example: `lichen verify -c gateway.toml`
    """
    from gateway.derive.recipe import Recipe
    from gateway.derive.verify import verify as compare
    from gateway.store.database import open_reader

    settings = settings_of(directory, config)
    found = compare(open_reader(store_dir(directory, config)), Recipe.of(settings.derive))
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        typer.echo(f"{found.compared} records compared, {len(found.different)} differ, {found.waiting} wait")
        for name in found.different[:20]:
            typer.echo(f"  differs: {name}")
    if found.different:
        raise typer.Exit(EXIT_FAILED)
