"""`lichen influx setup`: an InfluxDB 2.x made ready for this gateway; `refill`: a span sent to it again."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.commands.shared import JsonOption, group, is_terminal, iso, print_json, time_ms
from gateway.commands.terminal import messages

if TYPE_CHECKING:
    from gateway.settings import Settings

app: Final = group("InfluxDB: made ready for the gateway.")

_CREDENTIALS: Final = Path("/run/credentials")
"""Below it systemd gives a service copies of its secrets; deploy/lichen-gateway.service makes them of the files in
`credentials` beside the configuration."""


@app.callback()
def _group() -> None:
    """Keep `setup` a command of its own."""


@app.command()
def setup(
    config: Annotated[Path, typer.Option("--config", "-c", metavar="gateway.toml", help="Configuration.")],
    admin_token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Admin token; a new server's first one is written to it. Else it is asked."),
    ] = None,
    url: Annotated[str | None, typer.Option(help="Default: of [influx], else http://127.0.0.1:8086.")] = None,
    org: Annotated[str | None, typer.Option(help="Organisation. Default: of [influx], else lichen.")] = None,
    bucket: Annotated[str | None, typer.Option(help="Bucket. Default: of [influx], else air.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the gateway's token goes. Default: where it is read.")
    ] = None,
    retention_days: Annotated[
        int | None, typer.Option(min=0, max=100_000, help="How long the bucket keeps [d]; 0 and default: for ever.")
    ] = None,
    downsample: Annotated[
        bool, typer.Option("--downsample", help="Hourly means of raw, kept for ever in a bucket of their own.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make organisation, bucket and a token that may write and read this bucket only; what is there is left alone.

    Example: `lichen influx setup -c gateway.toml --admin-token-file admin.token --retention-days 730 --downsample`
    """
    from gateway import settings as configuration
    from gateway.influx_setup import Wish, set_up

    settings = configuration.load(config)
    has = settings.influx
    named = has.token_file if has else _default_token(settings)
    wish = Wish(
        url=url or (has.url if has else "http://127.0.0.1:8086"),
        org=org or (has.org if has else "lichen"),
        bucket=bucket or (has.bucket if has else "air"),
        token_path=token_file or _written_to(settings, named),
        retention_days=retention_days,
        downsample=downsample,
    )
    done = set_up(wish, _admin_token(admin_token_file), admin_token_file)
    section = {"url": wish.url, "org": wish.org, "bucket": wish.bucket,
               "token_file": str(token_file.resolve()) if token_file else named}  # fmt: skip
    if as_json:
        print_json({"made": done.made, "found": done.found, "influx": section})
        return
    for what in done.found:
        typer.echo(f"there already: {what}")
    for what in done.made:
        typer.echo(f"made: {what}")
    if not done.made:
        typer.echo("nothing was changed")
    if has is None or any(getattr(has, key) != value for key, value in section.items()):
        typer.echo(f"\nThis belongs into {config}; then start the gateway again:\n\n[influx]")
        typer.echo("\n".join(f'{key} = "{value}"' for key, value in section.items()))


@app.command()
def refill(
    config: Annotated[Path, typer.Option("--config", "-c", metavar="gateway.toml", help="Configuration.")],
    from_: Annotated[str, typer.Option("--from", metavar="TIME", help="First time, such as 2026-11-21T00:00:00Z.")],
    to: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Time it ends before. Default: now.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Send everything that the store holds of a span of time again, beside what is new; what is there already stays.

    The running gateway does it; it also ends the state *behind* that what the store had to let go has caused.

    Example: `lichen influx refill -c gateway.toml --from 2026-11-01T00:00:00Z`
    """
    from gateway import settings as configuration
    from gateway.errors import SettingsError
    from gateway.sinks.cursor import Refill, SinkFiles

    settings = configuration.load(config)
    if settings.influx is None:
        raise SettingsError(settings.path, "there is no section [influx], and so nothing to send to")
    from_ms = time_ms(from_, "--from")
    to_ms = time_ms(to, "--to") if to else time.time_ns() // 1_000_000
    if to_ms <= from_ms:
        raise typer.BadParameter("is not after --from", param_hint="--to")
    files = SinkFiles(settings.store_dir, "influx")
    if (asked := files.load_refill()) is not None:
        from_ms, to_ms = min(from_ms, asked.at_ms), max(to_ms, asked.to_ms)
    files.save_refill(Refill(from_ms=from_ms, to_ms=to_ms, at_ms=from_ms))
    if as_json:
        print_json({"from_ms": from_ms, "to_ms": to_ms})
    else:
        typer.echo(f"the gateway sends what it holds from {iso(from_ms)} to {iso(to_ms)} again; lichen status shows it")


def _default_token(settings: "Settings") -> str:
    """Return how the configuration is to name the token: beside the broker's password."""
    password = settings.broker.password_file
    return str(Path(password).with_name("influx-token")) if password else "influx-token"


def _written_to(settings: "Settings", named: str) -> Path:
    """Return the file that becomes the one that the configuration names."""
    path = settings.beside(named)
    return settings.beside(f"credentials/{path.name}") if _CREDENTIALS in path.parents else path


def _admin_token(path: Path | None) -> str | None:
    from gateway.settings import read_secret

    if path is not None:
        return read_secret(path) if path.exists() else None
    if not is_terminal():
        return None
    messages.print("[bold]Admin token of InfluxDB[/bold] (nothing is shown; it is not kept):", end=" ")
    return str(typer.prompt("", prompt_suffix="", hide_input=True, default="", show_default=False)).strip() or None
