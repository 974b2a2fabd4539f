"""`lichen status`: what is stored, late, missing, stuck and behind, in one screen."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from gateway.commands.shared import DirOption, JsonOption, StoreConfigOption, iso, print_json, settings_of, store_dir
from gateway.errors import EXIT_FAILED

if TYPE_CHECKING:
    from gateway.metrics import Vitals
    from gateway.status import Kit, Status
    from gateway.status_problems import Problem

ANSWER_S: Final = 5.0
"""A gateway that has not answered by then is at something long, or hangs."""

_LINES: Final = 23
_COLUMNS: Final = 80
_FEWEST_KITS: Final = 3
_MOST_PROBLEMS: Final = 4
_STATES: Final = ("silent", "behind", "waits", "ok", "gone")  # the worst first
_STYLES: Final = {"silent": "red", "behind": "yellow", "waits": "yellow", "ok": "green", "gone": "dim"}
_WIDTHS: Final = (7, 8, 11, 6, 6, 6)


def status(
    directory: DirOption = None,
    config: StoreConfigOption = None,
    every: Annotated[bool, typer.Option("--all", help="Every kit and everything that needs attention.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell how it stands with the gateway and its kits; exit 1 if something needs attention.

    Example: `lichen status -c gateway.toml`
    """
    from gateway.status import read_status
    from gateway.status_problems import problems
    from gateway.store.database import open_reader
    from gateway.store.owner import owner_pid
    from gateway.system_clock import now_ms

    folder = store_dir(directory, config)
    settings = settings_of(directory, config)
    if config is None:  # --dir names the store itself, whatever a configuration beside it says
        settings = _at(settings, folder)
    with closing(open_reader(folder)) as db:
        owner = owner_pid(folder)
        found = read_status(db, settings, vitals_of(folder) if owner is not None else None, owner, now_ms)
    wrong = problems(found)
    if as_json:
        print_json(_jsonable(found, wrong))
    else:
        _show(found, wrong, every=every)
    if wrong:
        raise typer.Exit(EXIT_FAILED)


def vitals_of(folder: Path) -> "Vitals | None":
    """Ask the gateway that has a store how it is; None where it does not answer."""
    import msgspec

    from gateway.control import ControlError, ask
    from gateway.metrics import Vitals

    try:
        return msgspec.convert(ask(folder, "status", {}, ANSWER_S), Vitals)
    except (ControlError, msgspec.ValidationError):  # it hangs, starts, or is of another version
        return None


def _at(settings: Any, folder: Path) -> Any:
    import msgspec

    store = msgspec.structs.replace(settings.store, dir=str(folder.resolve()))
    return msgspec.structs.replace(settings, store=store)


def _jsonable(found: "Status", wrong: "list[Problem]") -> dict[str, Any]:
    """Return everything for machines: times as ISO-8601, what needs attention first."""
    import msgspec

    kits = [{**msgspec.to_builtins(kit), "missing_pct": round(kit.missing_pct, 1)} for kit in found.kits]
    fields = {**msgspec.to_builtins(found), "kits": kits}
    return {"attention": msgspec.to_builtins(wrong), **_with_iso_times(fields)}


def _with_iso_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name.removesuffix("_ms"): _times(inner) if name.endswith("_ms") else _with_iso_times(inner)
            for name, inner in value.items()
        }
    return [_with_iso_times(inner) for inner in value] if isinstance(value, list | tuple) else value


def _times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _times(inner) for name, inner in value.items()}
    return None if value is None else iso(value)


def _show(found: "Status", wrong: "list[Problem]", *, every: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    width = console.width if console.is_terminal else _COLUMNS
    height = max(_LINES, console.height - 1) if console.is_terminal else _LINES
    lines = [*_head(found), *_attention(wrong, every=every), *_numbers(found)]
    lines += _kits(found, len(found.kits) if every else max(_FEWEST_KITS, height - len(lines) - 1))
    for line in lines:
        if not every:
            line.truncate(width, overflow="ellipsis")
        console.print(line)


def _head(found: "Status") -> Iterator[Text]:
    version = f" {found.vitals.version}" if found.vitals else ""
    yield Text(f"Lichen{version}, {found.store}, {iso(found.numbers.now_ms)}", "bold")
    if found.vitals:
        yield _line("gateway", f"running since {iso(found.vitals.started_ms)}: {found.vitals.status}")
    elif found.owner_pid is not None:
        yield _line("gateway", "has the store and does not answer", "red")
    else:
        yield _line("gateway", "not running", "red")


def _attention(wrong: "list[Problem]", *, every: bool) -> Iterator[Text]:
    if not wrong:
        yield _line("attention", "nothing", "green")
        return
    shown = wrong if every or len(wrong) <= _MOST_PROBLEMS else wrong[: _MOST_PROBLEMS - 1]
    for problem in shown:
        yield _line("attention", f"{problem.what}; {problem.fix}" if every else problem.what, "red")
    if len(wrong) == 1 and not every:
        yield _line("", wrong[0].fix)
    if len(wrong) > len(shown):
        yield _line("", f"and {len(wrong) - len(shown)} more: lichen status --all")


def _numbers(found: "Status") -> Iterator[Text]:
    numbers, vitals = found.numbers, found.vitals
    counted = numbers.counters
    yield _line(
        "rows",
        f"{counted.get('rows', 0):,} stored, {found.rows_last_hour:,} in the last hour, "
        f"{counted.get('duplicates', 0):,} duplicates, {counted.get('late_rows', 0):,} late",
    )
    if vitals:
        age = "" if vitals.queue_age_s is None else f", the oldest {_age(vitals.queue_age_s)}"
        commit = "none yet"
        if vitals.last_commit_ms is not None and vitals.last_commit_s is not None:
            ago = (numbers.now_ms - vitals.last_commit_ms) / 1000
            commit = f"{_age(ago)} ago in {vitals.last_commit_s * 1000:.0f} ms"
        yield _line("queue", f"{vitals.queue_messages} messages, {vitals.queue_bytes:,} B{age}; last commit {commit}")
    letters = ", ".join(f"{reason} {n}" for reason, n in sorted(found.letters.items())) or "none"
    yield _line("derive", f"{numbers.dirty_hours} hours to do, {numbers.failed_hours} failed; dead letters: {letters}")
    horizon = "" if found.horizon_ms is None else f"; raw since {iso(found.horizon_ms)[:10]}"
    yield _line(
        "disk",
        f"{numbers.store_mb:,.0f} of {numbers.budget_mb:,} MB, {numbers.disk_free_mb / 1000:,.1f} GB free{horizon}",
    )
    error_s = found.clock_error_s
    clock = "not trusted" if error_s is None else f"trusted within {error_s} s"
    memory = f"; memory {vitals.rss_mb:.0f} MB" if vitals and vitals.rss_mb else ""
    yield _line("clock", f"{clock}{memory}")
    if sink := numbers.sink:
        missed = f", {sink.missed} missed" if sink.missed else ""
        yield _line(
            "influx",
            f"{sink.lag_revisions:,} revisions behind ({_age(sink.lag_s)}); "
            f"{sink.refused} refused, {sink.expired} expired{missed}",
        )
        if sink.refilled_to_ms is not None:
            yield _line("refill", f"what InfluxDB lost is sent again, up to {iso(sink.refilled_to_ms)} so far")


def _kits(found: "Status", room: int) -> Iterator[Text]:
    if not found.kits:
        yield _line("kits", "none was ever heard")
        return
    kits = sorted(found.kits, key=lambda kit: (_STATES.index(kit.state), -kit.missing_pct, kit.name))
    shown = kits if len(kits) <= room else kits[: room - 1]
    names = ("heard", "reading", "24 h", "waits", "gaps", "dead")
    yield Text(f"{'kit':<20} {'state':<7} " + " ".join(f"{n:>{w}}" for n, w in zip(names, _WIDTHS, strict=True)))
    for kit in shown:
        yield _kit(kit, found.numbers.now_ms)
    if rest := kits[len(shown) :]:
        counts = [f"{sum(kit.state == word for kit in rest)} {word}" for word in _STATES]
        told = ", ".join(text for text in counts if not text.startswith("0 "))
        yield Text(f"and {len(rest)} more kits ({told}): lichen status --all")


def _kit(kit: "Kit", now_ms: int) -> Text:
    newest = "none" if kit.newest_ms is None else _age((now_ms - kit.newest_ms) / 1000)
    line = Text(f"{kit.name[:20]:<20} ")
    line.append(f"{kit.state:<7}", _STYLES[kit.state])
    heard = _age((now_ms - kit.heard_ms) / 1000)
    letters = sum(kit.dead_letters.values())
    cells = (heard, newest, f"{kit.day_rows}/{kit.day_expected}", kit.waiting_rows, kit.awaited_rows, letters)
    line.append(" " + " ".join(f"{cell!s:>{width}}" for cell, width in zip(cells, _WIDTHS, strict=True)))
    return line


def _line(name: str, text: str, style: str = "") -> Text:
    return Text.assemble((f"{name:<10}", "bold"), (" ".join(text.split()), style))


def _age(seconds: float) -> str:
    """Return a span in the largest unit that leaves two digits or so."""
    size, sign = abs(seconds), "-" if seconds < 0 else ""
    for limit, length, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if size < limit:
            return f"{sign}{size / length:.0f} {unit}"
    return f"{sign}{size / 86_400:.0f} d"
