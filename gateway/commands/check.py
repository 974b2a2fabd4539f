"""`lichen check`: finds what would fail before it fails, each finding with its fix."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from gateway.commands.running import ConfigOption
from gateway.commands.shared import JsonOption, print_json
from gateway.errors import EXIT_FAILED

if TYPE_CHECKING:
    from gateway.check.everything import Options
    from gateway.check.finding import Finding
    from gateway.settings import Settings

_STYLES: Final = {"ok": "green", "warning": "yellow", "error": "red"}
_MOST_LISTEN_S: Final = 600

ListenOption: Final = typer.Option(
    "--listen", min=0, max=_MOST_LISTEN_S, metavar="SECONDS", help="Listen so long for others; 65 hears every gateway."
)


def check(
    config: ConfigOption = Path("gateway.toml"),
    kit: Annotated[str | None, typer.Option(help="Also try what this kit may and may not.")] = None,
    kit_password_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Its password's file.")] = None,
    listen_s: Annotated[float, ListenOption] = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Try everything that the gateway needs, and say what to do; exit 1 where something fails. Changes nothing.

    Example: `sudo -u lichen lichen check -c /etc/lichen/gateway.toml`

    Example: `lichen check -c gateway.toml --kit kit-1 --kit-password-file kit-1.password --listen 65`
    """
    from gateway.check.everything import check_everything, check_settings
    from gateway.check.finding import Level
    from gateway.wire import is_kit_name

    if (kit is None) != (kit_password_file is None):
        raise typer.BadParameter("give both of --kit and --kit-password-file, or none")
    if kit is not None and not is_kit_name(kit):
        raise typer.BadParameter("letters, digits, '.', '_' and '-', not 'gateway'", param_hint="--kit")
    settings, findings = check_settings(config)
    found: list[Finding] = []
    console = Console(highlight=False, soft_wrap=True)

    def note(finding: "Finding") -> None:
        found.append(finding)
        if not as_json:
            _print(console, finding)

    for finding in findings:
        note(finding)
    if settings is not None:
        for finding in check_everything(settings, _options(settings, kit, kit_password_file, listen_s)):
            note(finding)
    errors, warnings = (sum(f.level is level for f in found) for level in (Level.ERROR, Level.WARNING))
    if as_json:
        import msgspec

        print_json({"errors": errors, "warnings": warnings, "findings": msgspec.to_builtins(found)})
    else:
        console.print(f"{len(found)} things looked at: {errors} errors, {warnings} warnings")
    if errors:
        raise typer.Exit(EXIT_FAILED)


def _options(settings: "Settings", kit: str | None, password_file: Path | None, listen_s: float) -> "Options":
    from gateway.check.everything import Options
    from gateway.commands.status import vitals_of
    from gateway.store.owner import owner_pid

    runs = owner_pid(settings.store_dir) is not None
    vitals = vitals_of(settings.store_dir) if runs else None
    return Options(kit, password_file, listen_s, runs_here=runs, vitals=vitals)


def _print(console: Console, finding: "Finding") -> None:
    where = f" ({finding.where})" if finding.where else ""
    line = Text.assemble((f"{finding.level:<8}", _STYLES[finding.level]), f"{finding.subject}: {finding.what}{where}")
    console.print(line)
    if finding.fix:
        console.print(f"        {finding.fix}", markup=False)
