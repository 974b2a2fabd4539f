"""The commands that run something: the gateway, a demonstration, a kit."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.commands.shared import JsonOption
from gateway.commands.terminal import messages, progress

_LOOK_EVERY_S: Final = 0.5

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration file.", metavar="gateway.toml", show_default=False)
]


def run(config: ConfigOption = Path("gateway.toml")) -> None:
    """Run the gateway until it is told to stop.

    Example: `lichen run -c /etc/lichen/gateway.toml`
    """
    from gateway.run import run as run_gateway

    run_gateway(config)


def demo(
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Replay this recording instead of invented air.")
    ] = None,
    hours: Annotated[
        float | None, typer.Option(min=0.1, max=100_000, help="Hours of air; default 24, or the whole recording.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End when all is stored and derived.")] = False,
    directory: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Folder for everything; default demo/<time>.")
    ] = None,
    speed: Annotated[
        int, typer.Option(min=0, help="Simulated seconds a second in a replay; 0: as fast as it goes.")
    ] = 1000,
    influx_url: Annotated[str | None, typer.Option(metavar="URL", help="An InfluxDB 2.x that takes part.")] = None,
    influx_token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="File with its token.")] = None,
    influx_org: Annotated[str | None, typer.Option(metavar="ORG", help="Its organisation.")] = None,
    influx_bucket: Annotated[str | None, typer.Option(metavar="BUCKET", help="Its bucket.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run kits, broker and gateway on this machine, and open a local page.

    Example: `lichen demo`

    Example: `lichen demo --replay recording.csv --hours 24 --once --dir replayed`
    """
    from gateway.simulate import demo as demonstration
    from gateway.simulate import recording

    given = (influx_url, influx_token_file, influx_org, influx_bucket)
    if any(given) and not all(given):
        raise typer.BadParameter("give all four of --influx-url, --influx-token-file, --influx-org, --influx-bucket")
    if once and not replay:
        raise typer.BadParameter("--once goes with --replay: invented air has no end")
    influx = (
        demonstration.InfluxTarget(influx_url, influx_token_file, influx_org, influx_bucket)
        if influx_url and influx_token_file and influx_org and influx_bucket
        else None
    )
    if influx_token_file:
        from gateway.settings import read_secret

        read_secret(influx_token_file)
    folder = directory or Path("demo") / f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
    messages.print(f"Everything of this demonstration is in {folder}")
    with progress() as show:
        if replay is None:
            demonstration.live(folder, hours=hours or 24, influx=influx, on_progress=show, then=_until_interrupted)
            return
        source = recording.read(replay)
        if source.blank_count:
            messages.print(f"{replay} has {source.blank_count} blank cells: the sensor is silent there")
        summary = demonstration.replay(
            source, folder, hours=hours, speed=speed, influx=influx, on_progress=show,
            then=None if once else _until_interrupted,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(asdict(summary)))
    else:
        for name, value in asdict(summary).items():
            typer.echo(f"{name.replace('_', ' '):22} {'-' if value is None else value}")


def simulate(
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="The recording to replay; without one the air is invented.")
    ] = None,
    host: Annotated[str, typer.Option(help="Broker's address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Broker's port.")] = 1883,
    kit: Annotated[str, typer.Option(help="The kit's id, its user at the broker.")] = "kit-1",
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the kit's password; {kit} in it stands for its id.")
    ] = None,
    base: Annotated[str, typer.Option(help="First part of every topic.")] = "lichen/v1",
    hours: Annotated[float | None, typer.Option(min=0.1, max=100_000, help="Hours to replay; default all.")] = None,
    speed: Annotated[int, typer.Option(min=0, help="Simulated seconds a second; 0: as fast as it goes.")] = 1000,
    directory: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Folder of the kit's flash.")] = Path("kits"),
    ledger: Annotated[Path | None, typer.Option(metavar="FILE", help="Default: ledger.csv in the folder.")] = None,
    kits: Annotated[int, typer.Option(min=1, max=1000, help="How many kits, without a recording.")] = 1,
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="SENSOR=KIND@START", help="A fault such as pm=stuck@2h+30m; again for more."),
    ] = None,
    outage: Annotated[
        list[str] | None, typer.Option(metavar="LENGTH/PERIOD", help="No network for 10m in every 1h: 10m/1h.")
    ] = None,
    real_time: Annotated[bool, typer.Option("--real-time", help="Invented air at the pace of the clock.")] = False,
    start: Annotated[
        datetime | None, typer.Option(help="When simulated time begins, UTC; default: it ends now.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed, the same kits, air and weather.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Let kits that run the real firmware send to a broker: invented air, or a recording.

    The gateway behind the broker needs `[clock] trusted = false` unless it is `--real-time`, since simulated kits bring
    their own time. Ends when the gateway has given receipts for every row; each kit's ledger says what it made.

    Example: `lichen simulate --kits 5 --hours 48 --fault pm=stuck@2h --fault kit-2:env=silent@6h+1h --outage 10m/1h`

    Example: `lichen simulate --replay recording.csv --port 1883 --kit kit-1 --password-file kit-1.password`
    """
    if replay is None:
        from gateway.commands.fleet import simulate_fleet

        simulate_fleet(
            kits, kit, host=host, port=port, base=base, password_file=password_file, hours=hours,
            speed=None if real_time else speed, start=start, directory=directory, faults=fault or [],
            outages=outage or [], seed=seed, as_json=as_json,
        )  # fmt: skip
        return
    if kits > 1 or fault or outage or real_time or start:
        raise typer.BadParameter(
            "goes with invented air: leave out --replay", param_hint="--kits, --fault, --outage, …"
        )
    from gateway.settings import read_secret
    from gateway.simulate import recording
    from gateway.simulate.kits import KitPlan, SimulatedKit
    from gateway.simulate.mosquitto import probe
    from gateway.wire import is_kit_name

    if not is_kit_name(kit):
        raise typer.BadParameter("letters, digits, '.', '_' and '-', not 'gateway'", param_hint="--kit")
    source = recording.read(replay)
    probe(host, port)
    plan = KitPlan(
        name=kit, folder=directory, recording=source, ledger=ledger or directory / "ledger.csv", host=host, port=port,
        base=base, user=kit, password=read_secret(password_file) if password_file else "",
    )  # fmt: skip
    spans = source.spans(hours)
    first_s, length_h = spans[0].start_s, (spans[-1].end_s - spans[0].start_s) / 3600
    with progress() as show:

        def sampled(state: dict[str, Any]) -> None:
            show("sampled", max(0, (state.get("t") or first_s) - first_s) / 3600, length_h)

        SimulatedKit(plan, sampled).run_simulated(spans, speed)


def _until_interrupted(page_url: str, check: Callable[[], None]) -> None:
    from gateway.signals import StopSignals

    messages.print(f"The page: [bold]{page_url}[/bold]   (Ctrl-C ends the demonstration)")
    stop = StopSignals()
    while not stop.wait(_LOOK_EVERY_S):
        check()
