"""`lichen deadletter`: what became no reading, why, and trying it again."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gateway.commands.shared import (
    DirOption,
    JsonOption,
    StoreConfigOption,
    group,
    is_terminal,
    iso,
    print_json,
    store_dir,
    time_ms,
    writer,
)
from gateway.commands.terminal import progress
from gateway.errors import EXIT_FAILED, LichenError

if TYPE_CHECKING:
    from gateway.store.deadletters import Choice, Letter

app: Final = group("Messages that could not become readings: look at them, try them again, let them go.")

KitOption = Annotated[str | None, typer.Option("--kit", metavar="KIT", help="Only of this kit.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", metavar="REASON", help="Only with this reason.")]
SinceOption = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only received since then, such as 2026-11-21T14:00:00Z.")
]

_DAY_MS: Final = 86_400_000
_SHOWN: Final = 20
_IDS_A_CALL: Final = 500
_ADVICE: Final = {
    "not_json": "the sender is no kit of this version, or was cut off; find who may write to this topic",
    "too_large": "a kit sends at most 16 KiB a message; only the beginning was kept, so it cannot be replayed",
    "unknown_version": "a kit with newer firmware; upgrade the gateway, then replay",
    "unknown_column": "a kit with newer firmware; upgrade the gateway: its next start replays these by itself",
    "wrong_type": "a mistake in the sender; mend it there, then expire",
    "row_length": "a mistake in the sender; mend it there, then expire",
    "too_many_rows": "a kit sends at most 256 rows a message; mend the sender, then expire",
    "bad_range": "a mistake in the sender; mend it there, then expire",
    "bad_topic": "check [broker] base and the kit's name; replay once they are right",
    "conflict": "other content is stored under the same boot and seq: two kits with one name, or a flash copied to "
    "another board; the stored rows stay as they are",
    "too_many_kits": "give each kit its own user and an access list at the broker; raise [store] max_kits where they "
    "are real, then replay",
    "internal": "a mistake in this program; upgrade it, then replay",
}


@app.command("list")
def list_letters(
    kit: KitOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    letters: Annotated[bool, typer.Option("--letters", help="Also each letter, the newest last.")] = False,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count the dead letters of each kit and reason.

    Example: `lichen deadletter list -c gateway.toml --since 2026-11-21T00:00:00Z`
    """
    from gateway.store import counters, deadletters

    choice = _choice(kit=kit, reason=reason, since=since)
    db = _reader(directory, config)
    groups = list(deadletters.groups(db, choice))
    found = deadletters.choose(db, choice, limit=_most_of(groups)) if letters else []
    ever = {name: n for name, n in counters.totals(db).items() if name in _EVER or name.startswith("dead.")}
    if as_json:
        print_json(
            {
                "groups": [
                    {"kit": g.kit, "reason": g.reason, "letters": g.letters, "copies": g.copies,
                     "first": iso(g.first_ms), "last": iso(g.last_ms)} for g in groups
                ],
                "ever": ever,
            } | ({"letters": [_summary(x) for x in found]} if letters else {})
        )  # fmt: skip
        return
    for g in groups:
        typer.echo(
            f"{g.kit or 'of no kit':<20} {g.reason:<16} {g.letters:>6} letters, {g.copies} copies, "
            f"{iso(g.first_ms)} to {iso(g.last_ms)}"
        )
    for x in found:
        typer.echo(f"{x.id:>8}  {iso(x.received_ms)}  {x.kit or '-'}  {x.reason}: {_plain(x.detail)}")
    if not groups:
        typer.echo("no dead letters")


_EVER: Final = ("dead_letters", "dead_letter_copies", "dead_letters_evicted", "dead_letters_expired", "replayed")


@app.command()
def show(
    number: Annotated[int, typer.Argument(metavar="ID", help="Number of the letter, see list --letters.")],
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter: what it is, why, and what to do.

    Example: `lichen deadletter show 17 -c gateway.toml`
    """
    from gateway.store import deadletters
    from gateway.store.deadletters import Choice

    found = deadletters.choose(_reader(directory, config), Choice(ids=(number,)), limit=1)
    if not found:
        raise LichenError(f"no dead letter {number}; `lichen deadletter list --letters` tells the numbers")
    letter = found[0]
    encoding, payload = _payload(letter.payload)
    fields: dict[str, Any] = _summary(letter) | {
        "topic": letter.topic, "boot": letter.boot, "seq_from": letter.seq_from, "seq_to": letter.seq_to,
        "truncated": letter.is_truncated, "advice": _ADVICE.get(letter.reason, ""),
    }  # fmt: skip
    if as_json:
        print_json(fields | {"encoding": encoding, "payload": payload})
        return
    for name, value in fields.items():
        if value is not None:
            typer.echo(f"{name:<10} {_plain(str(value))}")
    typer.echo(f"payload    {len(letter.payload)} bytes as {encoding}:\n{payload}")


@app.command()
def replay(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Numbers of letters.")] = None,
    kit: KitOption = None,
    reason: ReasonOption = None,
    since: SinceOption = None,
    every: Annotated[bool, typer.Option("--all", help="All letters.")] = False,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try dead letters again, as at their receipt; what is stored now is a dead letter no longer. Exit 1 if any stays.

    Example: `lichen deadletter replay --reason unknown_version -c gateway.toml`
    """
    if every == bool(ids or kit or reason or since):
        raise typer.BadParameter("say which: numbers, --kit, --reason, --since, or --all alone")
    choice = _choice(ids=ids, kit=kit, reason=reason, since=since)
    args = _args(choice)
    replayed: list[int] = []
    staying: list[list[Any]] = []
    total, newest = _known(directory, config, choice)
    with writer(directory, config) as control, progress() as show_progress:
        after = 0
        while after < newest:
            step = control("deadletter.replay", args | {"after": after})
            replayed += step["replayed"]
            staying += step["staying"]
            if step["last"] is None:
                break
            after = step["last"]
            show_progress("replayed", min(total, len(replayed) + len(staying)), total)
    missing = sorted(set(choice.ids) - set(replayed) - {number for number, _, _ in staying})
    if as_json:
        kept = [{"id": number, "reason": why, "detail": detail} for number, why, detail in staying]
        print_json({"replayed": len(replayed), "staying": kept, "missing": missing})
    else:
        typer.echo(f"{len(replayed)} replayed, {len(staying)} stay dead letters")
        for number, why, detail in staying[:_SHOWN]:
            typer.echo(f"  {number}: {why}: {_plain(detail)}")
        if len(staying) > _SHOWN:
            typer.echo(f"  and {len(staying) - _SHOWN} more; --json names all")
        for number in missing:
            typer.echo(f"  {number}: no dead letter has this number")
    if staying or missing:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def expire(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Numbers of letters.")] = None,
    older_than: Annotated[
        float | None, typer.Option("--older-than", metavar="DAYS", min=0, help="Only received before so many days.")
    ] = None,
    kit: KitOption = None,
    reason: ReasonOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let dead letters go for good; they stay counted.

    Example: `lichen deadletter expire --older-than 90 -c gateway.toml`
    """
    from gateway.system_clock import now_ms

    if not (ids or kit or reason or older_than is not None):
        raise typer.BadParameter("say which: numbers, --older-than, --kit or --reason")
    before_ms = None if older_than is None else now_ms() - round(older_than * _DAY_MS)
    choice = _choice(ids=ids, kit=kit, reason=reason, before_ms=before_ms)
    total, _ = _known(directory, config, choice)
    if not yes:
        if not is_terminal():
            raise typer.BadParameter("there is no terminal to ask on; give --yes")
        if not typer.confirm(f"{total} dead letters go for good. Sure?", err=True):
            raise typer.Exit(EXIT_FAILED)
    expired = 0
    with writer(directory, config) as control:
        while gone := control("deadletter.expire", _args(choice))["expired"]:
            expired += gone
    if as_json:
        print_json({"expired": expired})
    else:
        typer.echo(f"{expired} dead letters expired")


def _reader(directory: Path | None, config: Path | None) -> sqlite3.Connection:
    from gateway.store.database import open_reader

    return open_reader(store_dir(directory, config))


def _choice(
    *,
    ids: Sequence[int] | None = None,
    kit: str | None = None,
    reason: str | None = None,
    since: str | None = None,
    before_ms: int | None = None,
) -> "Choice":
    from gateway.store.deadletters import Choice
    from gateway.wire import Reason

    if reason is not None and reason not in list(Reason):
        raise typer.BadParameter(f"{reason!r} is none; known are {', '.join(Reason)}", param_hint="--reason")
    if len(ids or ()) > _IDS_A_CALL:
        raise typer.BadParameter(f"at most {_IDS_A_CALL} numbers; choose by --kit or --reason")
    since_ms = time_ms(since, "--since") if since else None
    return Choice(ids=tuple(ids or ()), kit=kit, reason=reason, since_ms=since_ms, before_ms=before_ms)


def _args(choice: "Choice") -> dict[str, Any]:
    return {
        "ids": list(choice.ids), "kit": choice.kit, "reason": choice.reason,
        "since_ms": choice.since_ms, "before_ms": choice.before_ms,
    }  # fmt: skip


def _known(directory: Path | None, config: Path | None, choice: "Choice") -> tuple[int, int]:
    """Return how many letters are chosen, and the newest number: what comes later is not meant."""
    from gateway.store import deadletters

    db = _reader(directory, config)
    try:
        return sum(deadletters.count(db, choice).values()), deadletters.newest(db)
    finally:
        db.close()


def _most_of(groups: Sequence[Any]) -> int:
    return sum(g.letters for g in groups)


def _summary(letter: "Letter") -> dict[str, Any]:
    return {
        "id": letter.id, "received": iso(letter.received_ms), "kit": letter.kit, "reason": letter.reason,
        "detail": letter.detail, "copies": letter.copies,
    }  # fmt: skip


def _payload(payload: bytes) -> tuple[str, str]:
    """Return how the payload is shown: as text where a terminal can take every character."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        return "hex", payload.hex()
    return ("text", text) if text.replace("\n", "").replace("\t", "").isprintable() else ("hex", payload.hex())


def _plain(text: str) -> str:
    """Return text from outside without what would steer a terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
