"""`lichen calibrate`: which corrections and calibrations there are, and which a kit has from an hour on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.commands import fitting, watching
from gateway.commands.kit import HOUR_MS, FromOption, KitArgument, LineOption, change, hour_of
from gateway.commands.shared import (
    DirOption,
    JsonOption,
    StoreConfigOption,
    group,
    iso,
    print_json,
    store_dir,
)
from gateway.errors import LichenError

if TYPE_CHECKING:
    import sqlite3

    from calibration.corrections import Correction
    from gateway.store.calibrations import StoredCalibration

app: Final = group("Corrections and calibrations: which there are, and which a kit has.")
for command in (fitting.fit, fitting.evaluate, watching.watch):
    app.command()(command)

_ENDING: Final = ".toml"


@app.command("list")
def list_calibrations(
    directory: DirOption = None, config: StoreConfigOption = None, as_json: JsonOption = False
) -> None:
    """List the corrections that come with Lichen; with a store also the calibrations given to its kits.

    A * marks what holds facts that were not read in their source; `lichen calibrate show` tells which.

    Examples: `lichen calibrate list`, `lichen calibrate list -c gateway.toml`
    """
    fixed = [_facts(one) for one in _newest()]
    stored = _stored(directory, config) if directory or config else []
    kits = _assigned(directory, config) if directory or config else []
    if as_json:
        print_json({"corrections": fixed, "calibrations": stored, "assigned": kits})
        return
    for one in fixed:
        mark = "*" if one["unverified"] else " "
        hours = f"{one['averaging_s'] / 3600:g} h" if one["averaging_s"] >= 3600 else f"{one['averaging_s']} s"
        typer.echo(f"{one['label'] + mark:<25} {one['output']:<10} from {one['input']:<7} {hours:>5}  {one['title']}")
    for kept in stored:
        mark = "*" if kept["unverified"] else " "
        typer.echo(
            f"{kept['label'] + mark:<25} {kept['output']:<10} given {kept['added']} by {kept['by']}  {kept['title']}"
        )
    for line in kits:
        typer.echo(
            f"  {line['kit']:<20} {line['quantity']:<10} from {line['from']}  {line['calibration'] or 'taken back'}"
        )
    if any(one["unverified"] for one in (*fixed, *stored)):
        typer.echo("* holds facts that are unverified: lichen calibrate show tells which")


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="CALIBRATION", help="Id, alone or as id@version.")],
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a correction with its equation, range and source, or the text of a calibration given to a kit.

    Examples: `lichen calibrate show barkjohn2021`, `lichen calibrate show no2-202751234@1 -c gateway.toml`
    """
    from calibration.corrections import CORRECTIONS, UnknownCorrectionError

    stored = {one["label"]: one for one in _stored(directory, config)} if directory or config else {}
    if name in CORRECTIONS:
        facts = _facts(CORRECTIONS[name])
        if as_json:
            print_json(facts)
            return
        _show(facts)
    elif name in stored:
        if as_json:
            print_json(stored[name])
            return
        typer.echo(f"{name}: {stored[name]['title']}; given {stored[name]['added']} by {stored[name]['by']}")
        for fact in stored[name]["unverified"]:
            typer.echo(f"  UNVERIFIED   {fact}")
        typer.echo(stored[name]["record"], nl=False)
    else:
        raise LichenError(str(UnknownCorrectionError(name, (*CORRECTIONS, *stored))))


@app.command()
def assign(
    kit: KitArgument,
    correction: Annotated[
        str,
        typer.Argument(
            metavar="CALIBRATION", help="Id of a correction, or a file .toml: a cell's label or a fitted record."
        ),
    ],
    start: FromOption = None,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a kit a calibration from a time on, also in the past; its hours since then are derived again.

    A file is kept in the store under its id and version; docs/corrections.md shows how an NO2 cell's label is written.

    Examples: `lichen calibrate assign kit-1 barkjohn2021 --from 2026-11-01T00:00:00Z -c gateway.toml`,
    `lichen calibrate assign kit-1 cell-202751234.toml --from 2026-11-01T00:00:00Z -c gateway.toml`
    """
    from gateway.control_handlers import user_name

    args: dict[str, Any] = {"kit": kit, "correction": correction, "from_hour": hour_of(start), "who": user_name()}
    if correction.endswith(_ENDING):
        args["record"] = _text(Path(correction))
    change("kit.set_correction", args, f"has the calibration {correction}", directory, config, as_json)


@app.command()
def unassign(
    kit: KitArgument,
    start: LineOption,
    quantity: Annotated[
        str | None, typer.Option("--quantity", metavar="QUANTITY", help="Such as no2_ppb, where several begin then.")
    ] = None,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back one assignment of a kit; the one before it, or the configured correction, holds again.

    Example: `lichen calibrate unassign kit-1 --from 2026-11-01T00:00:00Z -c gateway.toml`
    """
    args = {"kit": kit, "from_hour": hour_of(start), "quantity": quantity}
    change("kit.drop_correction", args, "has again the calibration it had before", directory, config, as_json)


@app.command()
def interpolate(
    kit: KitArgument,
    start: LineOption,
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="The hour from which the second one holds.")],
    quantity: Annotated[
        str | None, typer.Option("--quantity", metavar="QUANTITY", help="Such as no2_ppb, where several begin then.")
    ] = None,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let the calibration assigned from one time on become, linearly in time, the one assigned from the next.

    For a kit that stood beside a reference before and after. Rows name both records and both times; undo it by
    assigning the first again.

    Example: `lichen calibrate interpolate kit-1 --from 2026-03-01T00:00:00Z --to 2026-09-01T00:00:00Z -c gateway.toml`
    """
    from gateway.control_handlers import user_name

    args = {"kit": kit, "from_hour": hour_of(start), "to_hour": hour_of(end), "quantity": quantity, "who": user_name()}
    change("kit.interpolate", args, f"has what lies between its calibrations until {end}", directory, config, as_json)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise LichenError(f"{path}: cannot be read ({error.strerror}); name a calibration record or an id") from error
    except UnicodeDecodeError as error:
        raise LichenError(f"{path}: is no text; a calibration record is TOML") from error


def _newest() -> "list[Correction]":
    from calibration.corrections import CORRECTIONS

    return [one for name, one in CORRECTIONS.items() if "@" not in name]


def _facts(one: "Correction") -> dict[str, Any]:
    """Return all that is known of a correction, for machines."""
    return {
        "label": one.label, "title": one.title, "output": one.output, "input": one.input.value,
        "inputs": list(one.inputs), "equation": one.equation, "constants": dict(one.constants),
        "units": dict(one.units), "averaging_s": one.averaging_s,
        "range": {name: list(bounds) for name, bounds in one.valid_range.items()},
        "interval": one.interval.value, "source": one.source, "jumps": list(one.jumps), "notes": list(one.notes),
        "for_kits": one.is_for_kits, "unverified": list(one.unverified),
    }  # fmt: skip


def _show(facts: dict[str, Any]) -> None:
    from calibration.corrections import quantity
    from calibration.equations import EQUATIONS

    formula = (EQUATIONS[facts["equation"]][0].__doc__ or "").split("\n", 1)[0]
    typer.echo(f"{facts['label']}: {facts['title']}")
    lines = [
        ("gives", f"{facts['output']} [{quantity(facts['output']).text}]"),
        ("takes", ", ".join(f"{name} [{quantity(name).text}]" for name in facts["inputs"])),
        ("output of", f"the sensor: {facts['input']}; another is refused"),
        ("equation", formula),
        *(("constant", f"{name} = {value}") for name, value in _constants(facts["constants"], facts["units"])),
        ("averaging", f"{facts['averaging_s']} s"),
        *(("range", f"{n} {low:g} to {high:g}; beyond: flagged") for n, (low, high) in facts["range"].items()),
        ("interval", facts["interval"]),
        *(("jump", text) for text in facts["jumps"]),
        *(("note", text) for text in facts["notes"]),
        ("source", facts["source"]),
        *((("kits", "not for kits, which do not send this"),) if not facts["for_kits"] else ()),
        *(("UNVERIFIED", text) for text in facts["unverified"]),
    ]  # fmt: skip
    for what, text in lines:
        typer.echo(f"  {what:<11}  {text}")


def _constants(constants: dict[str, Any], units: dict[str, str], before: str = "") -> "list[tuple[str, str]]":
    found: list[tuple[str, str]] = []
    for name, value in constants.items():
        if isinstance(value, list):
            for i, part in enumerate(value):
                found += _constants(part, units, f"{before}{name}[{i}].")
        elif isinstance(value, dict):
            found += _constants(value, units, f"{before}{name}.")
        else:
            unit = units.get(name, "")
            found.append((before + name, f"{value:g}" + (f" {unit}" if unit and unit != "dimensionless" else "")))
    return found


def _stored(directory: Path | None, config: Path | None) -> list[dict[str, Any]]:
    from gateway.store import calibrations
    from gateway.store.database import open_reader

    db = open_reader(store_dir(directory, config))
    return [_stored_facts(db, one) for one in calibrations.everything(db)]


def _stored_facts(db: "sqlite3.Connection", one: "StoredCalibration") -> dict[str, Any]:
    from gateway.derive.methods import find_calibration

    facts: dict[str, Any] = {"label": one.label, "added": iso(one.added_ms), "by": one.added_by, "record": one.record}
    try:
        found = find_calibration(db, one.label, "")
    except LichenError as error:  # of a later program, or of several kits
        return facts | {"title": str(error), "output": "", "interval": "none", "unverified": []}
    return facts | {
        "title": found.title, "output": found.output, "interval": found.interval.value,
        "unverified": list(found.unverified),
    }  # fmt: skip


def _assigned(directory: Path | None, config: Path | None) -> list[dict[str, Any]]:
    from gateway.store import registry
    from gateway.store.database import open_reader

    db = open_reader(store_dir(directory, config))
    return [
        {"kit": kit, "quantity": quantity, "from": iso(line.from_hour * HOUR_MS), "calibration": line.value}
        for kit, _ in registry.kits_with_sites(db)
        for quantity, lines in registry.history(db, kit).calibrations.items()
        for line in lines
    ]
