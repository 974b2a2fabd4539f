"""`lichen kit`: which kits there are, and where they stand from an hour on, with undo."""

from typing import Annotated, Any, Final

import typer

from gateway.commands.shared import (
    DirOption,
    JsonOption,
    StoreConfigOption,
    group,
    iso,
    print_json,
    store_dir,
    time_ms,
    writer,
)
from gateway.commands.terminal import messages
from gateway.errors import LichenError

app: Final = group("Kits: which there are, and where they stand.")

HOUR_MS: Final = 3_600_000
"""As in `gateway.records`, which costs numpy."""

KitArgument = Annotated[str, typer.Argument(metavar="KIT", help="The kit's name.")]
FromOption = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="From this time on, cut down to its hour; default: the current one."),
]
LineOption = Annotated[str, typer.Option("--from", metavar="TIME", help="The hour from which the line holds.")]


@app.command("list")
def list_kits(directory: DirOption = None, config: StoreConfigOption = None, as_json: JsonOption = False) -> None:
    """List the kits, their sites, and when they were last heard.

    Example: `lichen kit list -c gateway.toml`
    """
    from gateway.store import readings, registry
    from gateway.store.database import open_reader

    db = open_reader(store_dir(directory, config))
    sites = dict(registry.kits_with_sites(db))
    found = [
        {"kit": k.name, "site": sites.get(k.name, k.name), "up": k.up, "heard": iso(k.heard_ms), "rows": k.row_count,
         "waiting": k.waiting_count} for k in readings.kits(db)
    ]  # fmt: skip
    if as_json:
        print_json(found)
        return
    for k in found:
        waits = f", {k['waiting']} wait for a time" if k["waiting"] else ""
        typer.echo(f"{k['kit']:<20} at {k['site']:<20} heard {k['heard']}, {k['rows']} rows{waits}")
    if not found:
        typer.echo("no kit was heard yet")


@app.command()
def show(
    kit: KitArgument, directory: DirOption = None, config: StoreConfigOption = None, as_json: JsonOption = False
) -> None:
    """Show where a kit has stood, its corrections, its starts, and what of it waits.

    Example: `lichen kit show kit-1 -c gateway.toml`
    """
    from gateway.store import kits, readings, registry
    from gateway.store.database import open_reader

    db = open_reader(store_dir(directory, config))
    known = {state.name: state for state in readings.kits(db)}
    if kit not in known:
        near = kits.nearest(db, kit)
        raise LichenError(f"kit {kit}: nothing of it was ever received" + (f"; did you mean {near}?" if near else ""))
    state, history = known[kit], registry.history(db, kit)
    found: dict[str, Any] = {
        "kit": kit, "up": state.up, "heard": iso(state.heard_ms), "rows": state.row_count,
        "sites": [{"from": iso(x.from_hour * HOUR_MS), "site": x.value or kit} for x in history.sites],
        "corrections": [{"from": iso(x.from_hour * HOUR_MS), "correction": x.value} for x in history.corrections],
        "calibrations": [
            {"from": iso(x.from_hour * HOUR_MS), "quantity": quantity, "calibration": x.value}
            for quantity, lines in history.calibrations.items() for x in lines if quantity != registry.MAIN_QUANTITY
        ],
        "boots": [{"boot": b.boot, "rows": b.rows, "heard": iso(b.heard_ms)} for b in kits.boots(db, kit)],
        "waiting": state.waiting_count,
    }  # fmt: skip
    if as_json:
        print_json(found)
        return
    typer.echo(f"{kit}: {state.row_count} rows, last heard {found['heard']}")
    for line in found["sites"] or [{"from": "always", "site": kit}]:
        typer.echo(f"  site        {line['from']:<20}  {line['site']}")
    for line in found["corrections"]:
        typer.echo(f"  correction  {line['from']:<20}  {line['correction'] or 'as configured'}")
    for line in found["calibrations"]:
        typer.echo(f"  {line['quantity']:<10}  {line['from']:<20}  {line['calibration'] or 'none'}")
    for boot in found["boots"]:
        typer.echo(f"  start       {boot['heard']:<20}  {boot['boot']}: {boot['rows']} rows")
    if state.waiting_count:
        typer.echo(f"  {state.waiting_count} rows wait for a time")


@app.command()
def deploy(
    kit: KitArgument,
    site: Annotated[str, typer.Argument(metavar="SITE", help="Name of the site.")],
    start: FromOption = None,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that a kit stands at a site from a time on, also in the past; its hours since then are derived again.

    Example: `lichen kit deploy kit-1 school-roof --from 2026-11-01T08:00:00Z -c gateway.toml`
    """
    hour = hour_of(start)
    change(
        "kit.set_site", {"kit": kit, "site": site, "from_hour": hour}, f"stands at {site}", directory, config, as_json
    )


@app.command()
def move(
    kit: KitArgument,
    site: Annotated[str, typer.Argument(metavar="SITE", help="Name of the new site.")],
    start: FromOption = None,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that a kit stands at another site from a time on.

    Example: `lichen kit move kit-1 library --from 2026-11-21T14:00:00Z -c gateway.toml`
    """
    deploy(kit, site, start, directory, config, as_json)


@app.command()
def retire(
    kit: KitArgument,
    start: FromOption = None,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that a kit stands at no site from a time on; what it still sends is at a site of its own name.

    Example: `lichen kit retire kit-1 --from 2026-11-21T14:00:00Z -c gateway.toml`
    """
    args = {"kit": kit, "site": None, "from_hour": hour_of(start)}
    change("kit.set_site", args, "stands at no site", directory, config, as_json)


@app.command()
def undeploy(
    kit: KitArgument,
    start: LineOption,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back one line of where a kit stands; the line before it holds again.

    Example: `lichen kit undeploy kit-1 --from 2026-11-01T08:00:00Z -c gateway.toml`
    """
    args = {"kit": kit, "from_hour": hour_of(start)}
    change("kit.drop_site", args, "stands again where it did before", directory, config, as_json)


def hour_of(start: str | None) -> int:
    """Return the hour that contains a time, saying so where that is another time."""
    from gateway.system_clock import now_ms

    given_ms = now_ms() if start is None else time_ms(start, "--from")
    hour = given_ms // HOUR_MS
    if start is not None and given_ms % HOUR_MS:
        messages.print(f"whole hours only: from {iso(hour * HOUR_MS)}", highlight=False)
    return hour


def change(name: str, args: dict[str, Any], what: str, directory: Any, config: Any, as_json: bool) -> None:
    """Have a line of a kit's history changed, and tell it."""
    with writer(directory, config) as control:
        done = control(name, args)
    start = iso(args["from_hour"] * HOUR_MS)
    if as_json:
        print_json({"kit": args["kit"], "from": start, **done})
        return
    typer.echo(f"{args['kit']} {what}, from {start}; {done['hours']} hours are derived again")
    for fact in done.get("unverified", ()):
        typer.echo(f"  UNVERIFIED   {fact}")
