"""`lichen simulate` without a recording: many kits in invented air, with faults and network weather."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import typer

from gateway.commands.terminal import messages, progress

DEFAULT_HOURS: Final = 24.0


def simulate_fleet(
    count: int, name: str, *, host: str, port: int, base: str, password_file: Path | None, hours: float | None,
    speed: int | None, start: datetime | None, directory: Path, faults: list[str], outages: list[str], seed: int,
    as_json: bool,
) -> None:  # fmt: skip
    """Run `count` kits to their end, and say how many rows each has made."""
    from gateway.settings import read_secret
    from gateway.simulate import fleet
    from gateway.simulate.mosquitto import probe
    from gateway.wire import is_kit_name

    stem = name.removesuffix("-1")
    names = [name] if count == 1 else [f"{stem}-{number}" for number in range(1, count + 1)]
    if not all(is_kit_name(kit) for kit in names):
        raise typer.BadParameter("letters, digits, '.', '_' and '-', not 'gateway'", param_hint="--kit")
    if password_file and count > 1 and "{kit}" not in str(password_file):
        messages.print(f"All {count} kits use the password in {password_file}; write {{kit}} for one file each.")

    def password(kit: str) -> str:
        return read_secret(Path(str(password_file).replace("{kit}", kit))) if password_file else ""

    length_s = round((hours or DEFAULT_HOURS) * 3600)
    now_s = int(time.time())
    start_s = int(start.replace(tzinfo=start.tzinfo or UTC).timestamp()) if start else now_s - length_s
    if speed is None:
        start_s = now_s
    plan = fleet.FleetPlan(
        names=names, folder=directory, host=host, port=port, base=base, passwords=password, start_s=start_s,
        end_s=start_s + length_s, speed=speed, faults=[fleet.read_fault(text) for text in faults],
        outages=[fleet.read_outage(text) for text in outages], seed=seed,
    )  # fmt: skip
    for fault in plan.faults:
        if fault.kit and fault.kit not in names:
            raise fleet.PlanError(fault.kit, f"is none of the kits {', '.join(names)}")
    probe(host, port)
    with progress() as show:
        rows = fleet.Fleet(plan, show).run()
    fleet.write_summary(directory, rows)
    if as_json:
        summary: dict[str, Any] = {"rows": rows, "ledgers": str(directory), "seed": seed}
        typer.echo(json.dumps(summary))
    else:
        for kit, made in rows.items():
            typer.echo(f"{kit:22} {made} rows, all with their receipts: {directory / f'ledger-{kit}.csv'}")
