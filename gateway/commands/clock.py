"""`lichen clock`: how far the gateway believes its own clock, and setting it by hand where no network can."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

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
)  # fmt: skip
from gateway.errors import LichenError

if TYPE_CHECKING:
    from gateway.system_clock import HandSet

app: Final = group("The gateway's own clock: what is believed of it, and setting it by hand.")

_FIRST_YEAR: Final = 2020
_LAST_YEAR: Final = 2100


@app.command()
def show(directory: DirOption = None, config: StoreConfigOption = None, as_json: JsonOption = False) -> None:
    """Tell what the system says of its clock, what the gateway announces to kits, and why.

    Example: `lichen clock show -c gateway.toml`
    """
    from gateway.store.database import open_reader
    from gateway.store.hand_set import hand_set
    from gateway.system_clock import boot_id, now_ms, synchronised

    setting = settings_of(directory, config).clock.trusted
    with writer(directory, config) as control:
        error_s = control("clock.announced", {})["error_s"]
    record = hand_set(open_reader(store_dir(directory, config)))
    kernel = synchronised()
    found: dict[str, Any] = {
        "time": iso(now_ms()),
        "kernel": "synchronised" if kernel else "not synchronised",
        "setting": setting,
        "declared": record
        and {
            "error_s": record.error_s, "at": iso(record.at_ms), "who": record.who,
            "this_boot": record.boot_id == boot_id(),
        },
        "sync": int(error_s is not None),
        "error_s": error_s,
        "why": _why(setting, record, error_s, kernel=kernel, this_boot=boot_id()),
    }  # fmt: skip
    if as_json:
        print_json(found)
        return
    typer.echo(f"time       {found['time']}")
    typer.echo(f"kernel     {found['kernel']}")
    if record:
        typer.echo(f"declared   right within {record.error_s} s, by {record.who} at {iso(record.at_ms)}")
    announced = "not trusted (sync 0)" if error_s is None else f"trusted within {error_s} s (sync 1)"
    typer.echo(f"announced  {announced}")
    typer.echo(f"why        {found['why']}")


def _why(setting: bool | str, record: "HandSet | None", error_s: int | None, *, kernel: bool, this_boot: str) -> str:
    """Tell why the gateway announces what it does; the order is that of `system_clock.OwnClock.error_s`."""
    moved = error_s is None and (setting is True or (setting == "auto" and kernel))
    reasons = (
        (setting is False, "[clock] trusted = false in the configuration"),
        (moved, "the clock was moved a moment ago; it is believed again in two minutes"),
        (setting is True, "[clock] trusted = true in the configuration"),
        (kernel, "the system keeps it right (NTP)"),
        (error_s is not None, "an operator has declared it"),
        (record is None, "nobody keeps it right; connect to NTP, or: lichen clock set"),
        (record and not record.boot_id, "it was declared, and the clock has been moved since; declare it anew"),
        (record and record.boot_id != this_boot, "it was declared before the machine started again; declare it anew"),
        (True, "it was declared, and the clock was moved a moment ago; it is believed in two minutes"),
    )
    return next(reason for holds, reason in reasons if holds)


@app.command("set")
def set_clock(
    when: Annotated[str, typer.Argument(metavar="TIME|now", help="ISO-8601 time with its zone; now: it is right.")],
    error_s: Annotated[int, typer.Option("--error", metavar="SECONDS", help="By how much it may be wrong at most.")],
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set the system's clock, or declare that it is right, within an error that readings then carry.

    Example: `sudo lichen clock set 2026-11-21T14:00:00Z --error 60 -c gateway.toml`

    Example: `lichen clock set now --error 30 -c gateway.toml`
    """
    from gateway.control_handlers import MAX_ERROR_S, user_name
    from gateway.system_clock import now_ms

    if not 1 <= error_s <= MAX_ERROR_S:
        raise typer.BadParameter(
            f"give 1 to {MAX_ERROR_S} seconds: no clock set by hand is exact", param_hint="--error"
        )
    target_ms = None if when == "now" else _target_ms(when)
    with writer(directory, config) as control:
        control("clock.announced", {})  # before anything changes: can the word be kept?
        if target_ms is not None:
            _set_system_clock(target_ms)
        control("clock.declare", {"error_s": error_s, "who": user_name()})
    if as_json:
        print_json({"time": iso(now_ms()), "error_s": error_s, "set": target_ms is not None})
    else:
        typer.echo(f"the clock says {iso(now_ms())} and is declared right within {error_s} s, until the next start")


@app.command()
def unset(directory: DirOption = None, config: StoreConfigOption = None, as_json: JsonOption = False) -> None:
    """Withdraw what was declared; the clock itself stays as it is.

    Example: `lichen clock unset -c gateway.toml`
    """
    from gateway.control_handlers import user_name

    with writer(directory, config) as control:
        stood = control("clock.withdraw", {"who": user_name()})["stood"]
    if as_json:
        print_json({"withdrawn": stood})
    else:
        typer.echo("withdrawn" if stood else "nothing was declared")


def _target_ms(text: str) -> int:
    found = time_ms(text, "TIME")
    year = datetime.fromtimestamp(found / 1000, UTC).year
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        raise typer.BadParameter(f"the year {year} is not within {_FIRST_YEAR} and {_LAST_YEAR}", param_hint="TIME")
    return found


def _set_system_clock(target_ms: int) -> None:
    try:
        time.clock_settime_ns(time.CLOCK_REALTIME, target_ms * 1_000_000)
    except PermissionError as error:
        raise LichenError("this user may not set the clock; run it with sudo") from error
