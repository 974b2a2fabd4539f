"""The command line."""

import json
import logging
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from gateway.errors import LichenError

app: Final = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown",
    help="Lichen: community air monitoring that keeps every reading and says how sure it is.",
)  # fmt: skip
_messages: Final = Console(stderr=True)

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
_LOOK_EVERY_S: Final = 0.5

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration file.", metavar="gateway.toml", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


class Kind(StrEnum):
    """What can be exported."""

    RAW = "raw"
    AIR = "air"
    HOUR = "hour"
    INDEX = "index"


@app.command()
def run(config: ConfigOption = Path("gateway.toml")) -> None:
    """Run the gateway until it is told to stop.

    Example: `lichen run -c /etc/lichen/gateway.toml`
    """
    from gateway import settings
    from gateway.service import Gateway
    from gateway.signals import StopSignals

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    Gateway(settings.load(config)).run(StopSignals())


@app.command()
def demo(
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Replay this recording instead of invented air.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.1, max=100_000, help="Hours of air; default 24, or the whole recording.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when all is stored and derived.")] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Folder for everything; default demo/<time>.")
    ] = None,
    speed: Annotated[
        int, typer.Option(min=0, help="Simulated seconds a second in a replay; 0: as fast as it goes.")
    ] = 1000,
    influx_url: Annotated[str | None, typer.Option(metavar="URL", help="An InfluxDB 2.x that takes part.")] = None,
    influx_token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="File with its token.")] = None,
    influx_org: Annotated[str | None, typer.Option(metavar="ORG", help="Its organisation.")] = None,
    influx_bucket: Annotated[str | None, typer.Option(metavar="BUCKET", help="Its bucket.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run kits, broker and gateway on this machine, and open a local page.

    Example: `lichen demo`

    Example: `lichen demo --replay recording.csv --hours 24 --once --dir replayed`
    """
    from gateway.simulate import demo as demonstration
    from gateway.simulate import recording

    given = (influx_url, influx_token_file, influx_org, influx_bucket)
    if any(given) and not all(given):
        raise typer.BadParameter("give all four of --influx-url, --influx-token-file, --influx-org, --influx-bucket")
    if once and not replay:
        raise typer.BadParameter("--once goes with --replay: invented air has no end")
    influx = (
        demonstration.InfluxTarget(influx_url, influx_token_file, influx_org, influx_bucket)
        if influx_url and influx_token_file and influx_org and influx_bucket
        else None
    )
    if influx_token_file:
        from gateway.settings import read_secret

        read_secret(influx_token_file)
    folder = directory or Path("demo") / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
    _messages.print(f"Everything of this demonstration is in {folder}")
    with _progress() as show:
        if replay is None:
            demonstration.live(folder, hours=hours or 24, influx=influx, on_progress=show, then=_until_interrupted)
            return
        source = recording.read(replay)
        if source.blank_count:
            _messages.print(f"{replay} has {source.blank_count} blank cells: the sensor is silent there")
        summary = demonstration.replay(
            source, folder, hours=hours, speed=speed, influx=influx, on_progress=show,
            then=None if once else _until_interrupted,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(asdict(summary)))
    else:
        for name, value in asdict(summary).items():
            typer.echo(f"{name.replace('_', ' '):22} {'-' if value is None else value}")


@app.command()
def simulate(
    replay: Annotated[Path, typer.Option(metavar="FILE.csv", help="The recording to replay.")],
    host: Annotated[str, typer.Option(help="Broker's address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Broker's port.")] = 1883,
    kit: Annotated[str, typer.Option(help="The kit's id, its user at the broker.")] = "kit-1",
    password_file: Annotated[Path | None, typer.Option(metavar="FILE", help="File with the kit's password.")] = None,
    base: Annotated[str, typer.Option(help="First part of every topic.")] = "lichen/v1",
    hours: Annotated[float | None, typer.Option(min=0.1, max=100_000, help="Hours to replay; default all.")] = None,
    speed: Annotated[int, typer.Option(min=0, help="Simulated seconds a second; 0: as fast as it goes.")] = 1000,
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Folder of the kit's flash.")] = Path("kits"),
    ledger: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: ledger.csv in the folder.")] = None,
) -> None:
    """Replay a recording through a kit that runs the real firmware against a broker.

    The gateway behind the broker needs `[clock] trusted = false`, since the recording brings its own time. Ends when
    the gateway has given receipts for every row.

    Example: `lichen simulate --replay recording.csv --port 1883 --kit kit-1 --password-file kit-1.password`
    """
    from gateway.settings import read_secret
    from gateway.simulate import recording
    from gateway.simulate.kits import KitPlan, SimulatedKit
    from gateway.simulate.mosquitto import probe
    from gateway.wire import is_kit_name

    if not is_kit_name(kit):
        raise typer.BadParameter("letters, digits, '.', '_' and '-', not 'gateway'", param_hint="--kit")
    source = recording.read(replay)
    probe(host, port)
    plan = KitPlan(
        name=kit, folder=directory, recording=source, ledger=ledger or directory / "ledger.csv", host=host, port=port,
        base=base, user=kit, password=read_secret(password_file) if password_file else "",
    )  # fmt: skip
    spans = source.spans(hours)
    first_s, length_h = spans[0].start_s, (spans[-1].end_s - spans[0].start_s) / 3600
    with _progress() as show:

        def sampled(state: dict[str, Any]) -> None:
            show("sampled", max(0, (state.get("t") or first_s) - first_s) / 3600, length_h)

        SimulatedKit(plan, sampled).run_simulated(spans, speed)


@app.command()
def export(
    kind: Annotated[Kind, typer.Argument(help="What to export.")],
    directory: Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Folder that holds store/.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="gateway.toml", help="Configuration.")
    ] = None,
    file_format: Annotated[str, typer.Option("--format", help="Only csv so far.")] = "csv",
) -> None:
    """Write what is stored to standard output: ISO-8601 UTC times, canonical units.

    Example: `lichen export hour --dir demo/2026-11-21T09-00-00 --format csv > hours.csv`
    """
    from gateway.export import write_csv
    from gateway.store.database import open_reader

    if file_format != "csv":
        raise typer.BadParameter(f"{file_format!r} is not known; known is csv", param_hint="--format")
    write_csv(open_reader(_store_dir(directory, config)), kind.value, sys.stdout)


@app.command()
def verify(
    directory: Annotated[Path | None, typer.Option("--dir", metavar="DIR", help="Folder that holds store/.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="gateway.toml", help="Configuration.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute everything derived again from the raw readings and compare; exit 1 where it differs.

    Example: `lichen verify -c gateway.toml`
    """
    from gateway.derive.recipe import Recipe
    from gateway.derive.verify import verify as compare
    from gateway.settings import Settings, load
    from gateway.store.database import open_reader

    store = _store_dir(directory, config)
    beside = store.parent / "gateway.toml"
    settings = load(config or beside) if config or beside.exists() else Settings()
    found = compare(open_reader(store), Recipe.of(settings.derive))
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        typer.echo(f"{found.compared} records compared, {len(found.different)} differ, {found.waiting} wait")
        for name in found.different[:20]:
            typer.echo(f"  differs: {name}")
    if found.different:
        raise typer.Exit(EXIT_FAILED)


def _store_dir(directory: Path | None, config: Path | None) -> Path:
    from gateway.settings import load

    if (directory is None) == (config is None):
        raise typer.BadParameter("give one of --dir DIR and -c gateway.toml")
    return load(config).store_dir if config else Path(str(directory)) / "store"


@contextmanager
def _progress() -> Iterator[Callable[[str, float, float], None]]:
    """Show a bar for each thing in progress on a terminal, and a line each quarter elsewhere."""
    columns = (TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_messages, transient=True, disable=not _messages.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}
        quarters: dict[str, int] = {}

        def show(what: str, done: float, total: float) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=int(done), total=max(1, int(total)))
            quarter = int(4 * done / total) if total else 0
            if not _messages.is_terminal and quarter > quarters.get(what, 0):
                quarters[what] = quarter
                _messages.print(f"{what}: {done:.0f} of {total:.0f}", highlight=False)

        yield show


def _until_interrupted(page_url: str, check: Callable[[], None]) -> None:
    from gateway.signals import StopSignals

    _messages.print(f"The page: [bold]{page_url}[/bold]   (Ctrl-C ends the demonstration)")
    stop = StopSignals()
    while not stop.wait(_LOOK_EVERY_S):
        check()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line; an error that a person can act on is one line, without a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)  # so that what was started is ended in order
    try:
        app()
        sys.stdout.flush()
    except LichenError as error:
        _fail(str(error))
    except BrokenPipeError:  # the reader of an export went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(EXIT_FAILED)
    except (OSError, sqlite3.Error) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _fail(problem: str) -> NoReturn:
    _messages.print(f"lichen: {problem}", style="red", markup=False, highlight=False, soft_wrap=True)
    sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
