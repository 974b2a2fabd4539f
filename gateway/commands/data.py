"""The commands that read the store: what is exported, and whether what was derived is right."""

import json
import sys
import time
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gateway.commands.shared import DirOption, JsonOption, StoreConfigOption, print_json, settings_of, store_dir
from gateway.commands.terminal import progress
from gateway.errors import EXIT_FAILED


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
    influx: Annotated[
        bool, typer.Option("--influx", help="Compare what InfluxDB holds with what the store holds instead.")
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", help="With --influx: a token that may read the bucket, where [influx] has none."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute everything derived again from the raw readings and compare; exit 1 where it differs.

    With `--influx` every point of the bucket is compared with the store: missing, foreign and different ones are told.

    Examples: `lichen verify -c gateway.toml`, `lichen verify --influx -c gateway.toml --token-file reader.token`
    """
    if influx:
        _verify_influx(directory, config, token_file, as_json=as_json)
        return
    if token_file is not None:
        raise typer.BadParameter("belongs to --influx", param_hint="--token-file")
    from gateway.derive.recipe import Recipe
    from gateway.derive.verify import verify as compare
    from gateway.store.database import open_reader

    settings = settings_of(directory, config)
    found = compare(open_reader(store_dir(directory, config)), Recipe.of(settings.derive, settings.schemes_dir))
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        typer.echo(f"{found.compared} records compared, {len(found.different)} differ, {found.waiting} wait")
        for name in found.different[:20]:
            typer.echo(f"  differs: {name}")
    if found.different:
        raise typer.Exit(EXIT_FAILED)


def _verify_influx(directory: Path | None, config: Path | None, token_file: Path | None, *, as_json: bool) -> None:
    from gateway.errors import SettingsError
    from gateway.sinks.cursor import SinkFiles
    from gateway.sinks.influx_read import InfluxReader
    from gateway.sinks.verify_influx import Verifier
    from gateway.store.database import open_reader, read_meta

    settings = settings_of(directory, config)
    if settings.influx is None:
        raise SettingsError(
            settings.path, "there is no section [influx]; name the configuration of the gateway with -c"
        )
    folder = store_dir(directory, config)
    db = open_reader(folder)
    files = SinkFiles(folder, "influx")
    reader = InfluxReader(settings.influx, token_file or settings.beside(settings.influx.token_file))
    with progress() as show:
        verifier = Verifier(db, reader, lambda: files.cursor_of(read_meta(db, "store_id") or ""), show)
        found = verifier.run(time.time_ns() // 1_000_000)
    refused = files.load_state().lines_refused
    if as_json:
        print_json({**asdict(found), "equal": found.equal, "refused": refused})
    else:
        for name, counts in found.measurements.items():
            texts = ", ".join(
                f"{value} {what}" for what, value in asdict(counts).items() if value or what == "compared"
            )
            typer.echo(f"{name:>10}: {texts}")
        for example in found.examples:
            typer.echo(f"  {example}")
        if refused:
            typer.echo(f"  {refused} lines were refused by InfluxDB and are kept in {files.dead_path}")
        if not found.equal:
            typer.echo("they differ; lichen influx refill sends a span again, which brings back what is missing")
    if not found.equal:
        raise typer.Exit(EXIT_FAILED)
