"""`lichen calibrate watch`: how each kit stands beside its second channel, its neighbours and official stations."""

from contextlib import closing
from typing import TYPE_CHECKING

import typer

from gateway.commands.shared import DirOption, JsonOption, StoreConfigOption, print_json, settings_of, store_dir
from gateway.errors import EXIT_FAILED

if TYPE_CHECKING:
    from gateway.drift import Watched


def watch(directory: DirOption = None, config: StoreConfigOption = None, as_json: JsonOption = False) -> None:
    """Look for drift: what would make a kit's last 72 h those of its proxies; exit 1 on an alarm. Corrects nothing.

    A test that fails in every window of five days is an alarm: the spread (gain), the level (offset), the distribution
    (Kolmogorov-Smirnov). Thresholds and their sources are in calibration/drift.toml.

    Examples: `lichen calibrate watch -c gateway.toml`, `lichen calibrate watch -c gateway.toml --json`
    """
    import msgspec

    from gateway.drift import read
    from gateway.store.database import open_reader, snapshot

    settings = settings_of(directory, config)
    with closing(open_reader(store_dir(directory, config))) as db, snapshot(db):
        found = read(db, settings)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        for one in found.pairs:
            typer.echo(_line(one))
        for problem in found.unreadable:
            typer.echo(problem)
        if not found.pairs:
            typer.echo("nothing to compare: one kit with one sensor, no station in [drift], or no hours yet")
    if found.unreadable or any(one.alarms for one in found.pairs):
        raise typer.Exit(EXIT_FAILED)


def _line(one: "Watched") -> str:
    names = f"{one.kit:<20} {one.quantity:<10} {one.against:<20}"
    if one.ks_p is None:
        return f"{names} too few hours in common"
    gain = "no spread" if one.gain is None else f"gain {one.gain:.2f}, offset {one.offset:+.1f}"
    state = f"ALARM: {', '.join(one.alarms)}" if one.alarms else "fine"
    return f"{names} {one.hours:>2} h  {gain}, KS p {one.ks_p:.3f}  {state}"
