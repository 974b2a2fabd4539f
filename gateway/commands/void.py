"""`lichen void`: spans of a kit's readings that are not used, by an operator's word, and taking that back."""

from typing import Annotated, Any, Final

import typer

from gateway.commands.kit import KitArgument
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
from gateway.errors import LichenError

app: Final = group("Readings that are not to be used, by an operator's word: who, when and why.")

ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who come later.")]


@app.command()
def add(
    kit: KitArgument,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="The first moment that is voided.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="The first moment that is not.")],
    reason: ReasonOption,
    what: Annotated[
        str | None,
        typer.Option(
            "--what", metavar="NAME", help="A channel such as pm25_cf1_b, or a quantity such as no2_ppb; default: all."
        ),
    ] = None,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Void the readings of a span: they are kept as they are, and used in nothing that is derived.

    A reading is in the span where the middle of its interval is. Of two particle sensors of which one is voided the
    other is used. Hours and indices it touches are derived again, and sinks take back what they were given.

    Example: `lichen void add kit-1 --from 2026-11-20T08:00:00Z --to 2026-11-20T10:30:00Z --reason "paint fumes"
    -c gateway.toml`
    """
    from gateway.control_handlers import user_name

    args: dict[str, Any] = {
        "kit": kit, "what": what, "from_ms": time_ms(start, "--from"), "to_ms": time_ms(end, "--to"), "reason": reason,
        "who": user_name(),
    }  # fmt: skip
    with writer(directory, config) as control:
        found = control("void.add", args)
    if as_json:
        print_json(found)
        return
    typer.echo(f"void {found['id']}: {what or 'everything'} of {kit}, {found['hours']} hours are derived again")
    _tell_sealed(found)


@app.command()
def undo(
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Which, as lichen void list tells.")],
    reason: ReasonOption,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a void back: its readings are used again. The line stays, with who took it back and why.

    Example: `lichen void undo 3 --reason "wrong kit" -c gateway.toml`
    """
    from gateway.control_handlers import user_name

    with writer(directory, config) as control:
        found = control("void.undo", {"id": number, "reason": reason, "who": user_name()})
    if as_json:
        print_json(found)
        return
    typer.echo(f"void {number} of {found['kit']} is undone, {found['hours']} hours are derived again")
    _tell_sealed(found)


@app.command("list")
def list_voids(
    kit: Annotated[str | None, typer.Option("--kit", metavar="KIT", help="Only of this kit.")] = None,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what was voided and what was undone, in the order in which it was.

    Example: `lichen void list --kit kit-1 -c gateway.toml`
    """
    from gateway.store import kits, voids
    from gateway.store.database import open_reader

    db = open_reader(store_dir(directory, config))
    if kit is not None and not kits.is_known(db, kit):
        near = kits.nearest(db, kit)
        raise LichenError(f"kit {kit}: nothing of it was ever received" + (f"; did you mean {near}?" if near else ""))
    found = [
        {
            "id": v.id, "kit": v.kit, "what": v.what or None, "from": iso(v.from_ms), "to": iso(v.to_ms),
            "reason": v.reason, "by": v.made_by, "made": iso(v.made_ms),
            "undone": None if v.undone_ms is None else iso(v.undone_ms), "undone_by": v.undone_by,
            "undo_reason": v.undo_reason,
        }
        for v in voids.lines(db, kit=kit)
    ]  # fmt: skip
    if as_json:
        print_json(found)
        return
    for v in found:
        typer.echo(f"{v['id']:>4}  {v['kit']:<16} {v['what'] or 'everything':<12} {v['from']} to {v['to']}")
        typer.echo(f"      {v['made']} by {v['by']}: {v['reason']}")
        if v["undone"]:
            typer.echo(f"      undone {v['undone']} by {v['undone_by']}: {v['undo_reason']}")
    if not found:
        typer.echo("nothing was voided")


def _tell_sealed(found: dict[str, Any]) -> None:
    if found["sealed"]:
        typer.echo(f"{found['sealed']} hours of it are sealed, their raw readings are gone: they keep what they have")
