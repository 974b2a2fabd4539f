"""`lichen collocation`: a kit stands beside a reference; one command starts it, one ends it and writes the report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.commands.collocated import FeaturesOption, LagOption, RecordOption, SplitOption
from gateway.commands.kit import KitArgument
from gateway.commands.shared import (
    DirOption,
    JsonOption,
    StoreConfigOption,
    group,
    iso,
    print_json,
    settings_of,
    store_dir,
    time_ms,
    writer,
)
from gateway.errors import LichenError

if TYPE_CHECKING:
    from calibration.table import Table
    from gateway.settings import Settings
    from gateway.store.collocations import Collocation

app: Final = group("Collocations: kits that stand beside a reference instrument, and what came of it.")

_REFERENCE: Final = "CSV file of the reference, or the name of a station in [drift]."


@app.command()
def start(
    kit: KitArgument,
    reference: Annotated[str, typer.Option("--reference", metavar="FILE|STATION", help=_REFERENCE)],
    target: Annotated[str, typer.Option("--target", metavar="COLUMN", help="Its column.")] = "pm25_ugm3",
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Since when it stands there; default: now.")
    ] = None,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that a kit stands beside a reference from a time on. The file need not be there yet.

    Where the kit's values should not count for its site meanwhile, `lichen kit move` takes it to a site of its own.

    Examples: `lichen collocation start kit-1 --reference station.csv --from 2026-11-01T08:00:00Z -c gateway.toml`,
    `lichen collocation start kit-1 --reference roof --target no2_ppb -c gateway.toml`
    """
    from gateway.control_handlers import user_name
    from gateway.system_clock import now_ms

    settings = settings_of(directory, config)
    stations = {station.name for station in settings.drift.stations}
    named = reference if reference in stations else str(Path(reference).absolute())
    if _path(settings, named).exists():
        _read(settings, named, target, 0)
        there = ""
    else:
        there = "; that file is not there yet and is read at the end"
    from_ms = now_ms() if begin is None else time_ms(begin, "--from")
    args = {"kit": kit, "reference": named, "target": target, "from_ms": from_ms, "who": user_name()}
    with writer(directory, config) as control:
        found = control("collocation.start", args)
    if as_json:
        print_json({**found, "from": iso(from_ms)})
    else:
        typer.echo(f"{kit} stands beside {named} since {iso(from_ms)}{there}")
        typer.echo(f"to end it and write the report: lichen collocation end {kit}")


@app.command()
def end(
    kit: KitArgument,
    until: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="Until when it stood there; default: now.")
    ] = None,
    reference: Annotated[
        str | None, typer.Option("--reference", metavar="FILE|STATION", help="In place of what was said at the start.")
    ] = None,
    features: FeaturesOption = None,
    record: RecordOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page; the JSON beside it ends with .json.")
    ] = None,
    split: SplitOption = 0.7,
    lag_s: LagOption = 0,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a kit's collocation and write the report: what a calibration learned there is worth, or one that it has.

    Where the report cannot be made nothing is ended, and the command says why.

    Examples: `lichen collocation end kit-1 -c gateway.toml`,
    `lichen collocation end kit-1 --to 2026-11-20T10:00:00Z --record kit-1.toml --out kit-1.html -c gateway.toml`
    """
    from gateway.commands.collocated import judge_table, told_in_words, write_report
    from gateway.commands.fitting import default_features
    from gateway.control_handlers import user_name
    from gateway.system_clock import now_ms

    settings, one = settings_of(directory, config), _running(kit, directory, config)
    to_ms = now_ms() if until is None else time_ms(until, "--to")
    if to_ms <= one.from_ms:
        raise LichenError(f"it ends before it began, on {iso(one.from_ms)}: --to must be later")
    named = reference or one.reference
    with told_in_words():
        table = _beside(settings, one, named, to_ms, lag_s, store_dir(directory, config))
        wanted = None if record else features or default_features(one.target, kit)
        found = judge_table(table, one.target, wanted, record, split=split)
    page = (out or Path(f"{kit}-{iso(one.from_ms)[:10]}-collocation.html")).absolute()
    title = f"{kit}, {iso(one.from_ms)[:10]} to {iso(to_ms)[:10]}"
    write_report(found, page, title=title, source=Path(named).name)
    args = {"kit": kit, "to_ms": to_ms, "report": str(page), "who": user_name()}
    with writer(directory, config) as control:
        control("collocation.end", args)
    if as_json:
        numbers = {"rows": found.agreement.n, "rmse": found.agreement.rmse}
        print_json({"kit": kit, "html": str(page), "json": str(page.with_suffix(".json")), "to": iso(to_ms), **numbers})
        return
    typer.echo(f"{kit} has ended; {page} and {page.with_suffix('.json').name} written: {found.agreement.n} rows judged")
    if record is None:
        typer.echo(f"to make its calibration: lichen calibrate fit --kit {kit} --reference {_path(settings, named)}")


@app.command()
def cancel(
    kit: KitArgument, directory: DirOption = None, config: StoreConfigOption = None, as_json: JsonOption = False
) -> None:
    """Take back the start of a kit's collocation: no report, as if it had not been.

    Example: `lichen collocation cancel kit-1 -c gateway.toml`
    """
    from gateway.control_handlers import user_name

    with writer(directory, config) as control:
        found = control("collocation.end", {"kit": kit, "who": user_name()})
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{kit} stands beside no reference; to start again: --from {iso(found['from_ms'])}")


@app.command("list")
def list_collocations(
    directory: DirOption = None, config: StoreConfigOption = None, as_json: JsonOption = False
) -> None:
    """List the kits that stand beside a reference, and those that did.

    Example: `lichen collocation list -c gateway.toml`
    """
    from gateway.store import collocations
    from gateway.store.database import open_reader

    found = [
        {"kit": one.kit, "reference": one.reference, "target": one.target, "from": iso(one.from_ms),
         "to": None if one.to_ms is None else iso(one.to_ms), "by": one.started_by, "report": one.report or None}
        for one in collocations.everything(open_reader(store_dir(directory, config)))
    ]  # fmt: skip
    if as_json:
        print_json(found)
        return
    for line in found:
        state = f"until {line['to']}: {line['report']}" if line["to"] else "stands there"
        typer.echo(f"{line['kit']:<20} since {line['from']}  {line['target']} of {line['reference']}  {state}")
    if not found:
        typer.echo("no kit stood beside a reference yet")


def _running(kit: str, directory: Path | None, config: Path | None) -> "Collocation":
    from gateway.store import collocations
    from gateway.store.database import open_reader

    found = collocations.running(open_reader(store_dir(directory, config)), kit)
    if found is None:
        raise LichenError(f"kit {kit} stands beside no reference; lichen collocation start {kit} --reference FILE")
    return found


def _path(settings: "Settings", reference: str) -> Path:
    """Return the file of a station, or the file itself."""
    files = {station.name: settings.beside(station.file) for station in settings.drift.stations}
    return files.get(reference, Path(reference))


def _read(settings: "Settings", reference: str, target: str, lag_s: int) -> "Table":
    from gateway.commands.collocated import read, told_in_words

    with told_in_words():
        table = read(_path(settings, reference), None, None, target, lag_s).table
        table.column(target)
    return table


def _beside(settings: "Settings", one: "Collocation", reference: str, to_ms: int, lag_s: int, folder: Path) -> "Table":
    """Return the kit's hours beside the reference's rows of the collocation's time."""
    from gateway.store.database import open_reader
    from gateway.tables import beside_reference

    table = _read(settings, reference, one.target, lag_s)
    inside = (table.time_s >= one.from_ms / 1000) & (table.time_s < to_ms / 1000)
    if not inside.any():
        raise LichenError(
            f"{_path(settings, reference)} has no row between {iso(one.from_ms)} and {iso(to_ms)}; "
            "name the right file with --reference, or the right time with --to"
        )
    return beside_reference(open_reader(folder), one.kit, table.where(inside), one.target)
