"""The commands that copy the store away and bring it back."""

import os
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.shared import JsonOption, print_json
from gateway.commands.terminal import progress

if TYPE_CHECKING:
    from gateway.settings import Settings

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration file.", metavar="gateway.toml", show_default=False)
]


def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="New file, or folder in which it gets a name.")],
    config: ConfigOption = Path("gateway.toml"),
    compress: Annotated[bool, typer.Option("--compress", help="Compress it (.gz); takes room for both.")] = False,
    keep: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Keep the newest N backups of the folder, remove others.")
    ] = None,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Also the passwords and tokens that the configuration names.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Copy the store and the configuration into one file while the gateway runs, and check it.

    Example: `lichen backup /media/usb --keep 7 -c gateway.toml`
    """
    from gateway.settings import load
    from gateway.store import backup as backups

    if keep is not None and not target.is_dir():
        raise typer.BadParameter("goes with a folder that is there", param_hint="--keep")
    settings = load(config)
    os.nice(10)
    files = {backups.SETTINGS: settings.path.read_bytes()}
    if with_secrets:
        files |= {backups.SECRET + key: path.read_bytes() for key, path in _secrets(settings).items()}
    with progress() as show:
        made = backups.make(
            settings.store_dir, target, files, show, program=version("lichen-air"), compress=compress, keep=keep
        )
    if as_json:
        print_json(asdict(made))
        return
    typer.echo(f"{made.path}: {made.bytes / 1e6:.1f} MB, {made.counts['readings']} readings, checked")
    if not made.secrets:
        typer.echo("It holds no passwords and tokens; keep those elsewhere, or use --with-secrets.")
    for name in made.removed:
        typer.echo(f"removed {name}")


def restore(
    source: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="Backup, folder of them (the newest), or copy.")],
    config: ConfigOption = Path("gateway.toml"),
    as_json: JsonOption = False,
) -> None:
    """Put a backup in the place of the store, which is set aside; the gateway must not run.

    Example: `lichen restore /media/usb/lichen-20261121T093000Z.sqlite -c gateway.toml`

    Example: `lichen restore store/before-schema-2 -c gateway.toml`
    """
    from gateway.settings import load
    from gateway.store import backup as backups

    written = [] if config.exists() else _bring_settings(source, config)
    settings = load(config)
    store_dir = settings.store_dir
    with progress() as show:
        restored = backups.restore(source, store_dir, show)
    written += _write_files(restored.files, settings)
    if as_json:
        print_json({**asdict(restored), "files": sorted(restored.files), "written": written})
        return
    typer.echo(f"{store_dir} is as {restored.source} was made{f' at {restored.made}' if restored.made else ''}: "
               f"{restored.counts['readings']} readings, schema {restored.schema}")  # fmt: skip
    for path in written:
        typer.echo(f"written: {path}")
    if restored.aside:
        typer.echo(f"The store that stood there is in {restored.aside}; remove it when all is well.")
    typer.echo(
        "Start the gateway. Kits send again what they still hold; what they freed since the backup is not in it.\n"
        "InfluxDB gets everything again, which doubles nothing; what it has of the time since then stays there."
    )


def _secrets(settings: "Settings") -> dict[str, Path]:
    """Return the file of each secret by the key that names it."""
    named = {"broker.password_file": settings.broker.password_file}
    if settings.influx:
        named["influx.token_file"] = settings.influx.token_file
    return {key: settings.beside(name) for key, name in named.items() if name}


def _bring_settings(source: Path, config: Path) -> list[str]:
    """Write the configuration that a backup holds where there is none; returns the path written."""
    from gateway.errors import SettingsError
    from gateway.store import backup as backups
    from gateway.store.copying import create

    content = backups.read_file(source, backups.SETTINGS, config.parent)
    if content is None:
        raise SettingsError(config, "is not there, and the backup holds none; write it first")
    with create(config, 0o644) as file:
        file.write(content)
    return [str(config)]


def _write_files(files: dict[str, bytes], settings: "Settings") -> list[str]:
    """Write what a backup brought and is not there; a configuration that differs goes beside the present one."""
    from gateway.store import backup as backups
    from gateway.store.copying import create

    written = []
    kept = files.get(backups.SETTINGS)
    if kept is not None and kept != settings.path.read_bytes():
        beside = settings.path.with_name(f"{settings.path.name}.from-backup")
        beside.unlink(missing_ok=True)
        with create(beside, 0o644) as file:
            file.write(kept)
        written.append(str(beside))
    for key, path in _secrets(settings).items():
        content = files.get(backups.SECRET + key)
        if content is not None and not path.exists():
            with create(path) as file:
                file.write(content)
            written.append(str(path))
    return written
