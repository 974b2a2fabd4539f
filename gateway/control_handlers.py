"""What commands may have the writing thread do; each handler is one short transaction, so that messages do not wait."""

import getpass
import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from calibration.corrections import UnknownCorrectionError, find
from gateway.control import Handlers
from gateway.errors import LichenError
from gateway.intake import Intake
from gateway.metrics import Vitals
from gateway.records import HOUR_S
from gateway.settings import Settings
from gateway.store import deadletters, kits, registry
from gateway.store.database import read_meta, transaction, write_meta
from gateway.store.deadletters import Choice
from gateway.system_clock import HAND_SET, HandSet, OwnClock, boot_id, now_ms

REPLAY_STEP: Final = 100
EXPIRE_STEP: Final = 1000
MAX_ERROR_S: Final = 86_400
MAX_SITE_LENGTH: Final = 64
_WITHDRAWN: Final = "withdrawn"  # no name of a boot


def control_handlers(db: sqlite3.Connection, intake: Intake, vitals: Callable[[], Vitals] | None = None) -> Handlers:
    """Return everything that `lichen` may ask of the process that writes the store, by name."""
    status: Handlers = {"status": lambda _: msgspec.to_builtins(vitals())} if vitals else {}
    return {
        **status,
        "deadletter.replay": lambda args: _replay(db, intake, args),
        "deadletter.expire": lambda args: _expire(db, args),
        "clock.announced": lambda _: {"error_s": intake.clock_error_s()},
        "clock.declare": lambda args: _declare(db, int(args["error_s"]), str(args["who"])),
        "clock.withdraw": lambda args: _withdraw(db, str(args["who"])),
        "kit.set_site": lambda args: _site(db, args),
        "kit.drop_site": lambda args: _drop(db, args, "sites"),
        "kit.set_correction": lambda args: _correction(db, args),
        "kit.drop_correction": lambda args: _drop(db, args, "corrections"),
    }


def local_handlers(db: sqlite3.Connection, settings: Settings) -> Handlers:
    """Return the handlers of a command that has opened the store itself, since no gateway runs."""
    clock = OwnClock(settings.clock.trusted, lambda: hand_set(db))
    clock.look()
    intake = Intake(
        db,
        base=settings.broker.base,
        publish=lambda _topic, _payload, _qos: None,
        acknowledge=lambda _message: None,
        clock_error_s=clock.error_s,
        dead_letters=settings.dead_letters,
        max_kits=settings.store.max_kits,
    )
    return control_handlers(db, intake)


def hand_set(db: sqlite3.Connection) -> HandSet | None:
    """Return an operator's word on the gateway's clock, if one was given and stands."""
    text = read_meta(db, HAND_SET)
    try:
        found = msgspec.json.decode(text, type=HandSet) if text else None
    except msgspec.DecodeError:
        return None
    return found if found and found.boot_id != _WITHDRAWN else None


def user_name() -> str:
    """Return who gives a command, also through sudo."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())


def _choice(args: dict[str, Any]) -> Choice:
    return Choice(
        ids=tuple(int(number) for number in args.get("ids", ())), kit=args.get("kit"), reason=args.get("reason"),
        since_ms=args.get("since_ms"), before_ms=args.get("before_ms"),
    )  # fmt: skip


def _replay(db: sqlite3.Connection, intake: Intake, args: dict[str, Any]) -> dict[str, Any]:
    """Replay the next letters above `after`; `last` is None once none is left."""
    letters = deadletters.choose(db, _choice(args), after=int(args.get("after", 0)), limit=REPLAY_STEP)
    outcomes = intake.replay(letters)
    return {
        "replayed": [o.id for o in outcomes if o.reason is None],
        "staying": [[o.id, o.reason, o.detail] for o in outcomes if o.reason is not None],
        "last": letters[-1].id if letters else None,
    }


def _expire(db: sqlite3.Connection, args: dict[str, Any]) -> dict[str, Any]:
    with transaction(db):
        return {"expired": deadletters.expire(db, _choice(args), EXPIRE_STEP)}


def _declare(db: sqlite3.Connection, error_s: int, who: str) -> dict[str, Any]:
    if not 1 <= error_s <= MAX_ERROR_S:
        raise LichenError(f"an error of {error_s} s is not within 1 and {MAX_ERROR_S}")
    _write_hand_set(db, HandSet(boot_id=boot_id(), error_s=error_s, at_ms=now_ms(), who=who))
    return {"error_s": error_s}


def _withdraw(db: sqlite3.Connection, who: str) -> dict[str, Any]:
    stood = hand_set(db) is not None
    _write_hand_set(db, HandSet(boot_id=_WITHDRAWN, error_s=MAX_ERROR_S, at_ms=now_ms(), who=who))
    return {"stood": stood}


def _write_hand_set(db: sqlite3.Connection, record: HandSet) -> None:
    with transaction(db):
        write_meta(db, HAND_SET, msgspec.json.encode(record).decode())


def _site(db: sqlite3.Connection, args: dict[str, Any]) -> dict[str, Any]:
    site = args["site"]
    if site is not None and not (0 < len(site) <= MAX_SITE_LENGTH and site.isprintable() and site.strip() == site):
        raise LichenError(
            f"site {site!r}: a name has 1 to {MAX_SITE_LENGTH} printable characters and no space at its ends"
        )
    return _change(db, args, lambda db, kit, hour: registry.set_site(db, kit, hour, site))


def _correction(db: sqlite3.Connection, args: dict[str, Any]) -> dict[str, Any]:
    correction = args["correction"]
    try:
        known = find(correction).label if correction is not None else None  # its version too
    except UnknownCorrectionError as error:
        raise LichenError(str(error)) from error
    return _change(db, args, lambda db, kit, hour: registry.set_correction(db, kit, hour, known))


def _drop(db: sqlite3.Connection, args: dict[str, Any], kind: Literal["sites", "corrections"]) -> dict[str, Any]:
    drop = registry.drop_site if kind == "sites" else registry.drop_correction

    def checked(db: sqlite3.Connection, kit: str, hour: int) -> int:
        lines = getattr(registry.history(db, kit), kind)
        if hour not in [line.from_hour for line in lines]:
            known = ", ".join(_iso(line.from_hour) for line in lines) or "none"
            raise LichenError(f"kit {kit} has no such line from {_iso(hour)}; its lines are from: {known}")
        return drop(db, kit, hour)

    return _change(db, args, checked)


def _iso(hour: int) -> str:
    return datetime.fromtimestamp(hour * HOUR_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _change(
    db: sqlite3.Connection, args: dict[str, Any], change: Callable[[sqlite3.Connection, str, int], int]
) -> dict[str, Any]:
    """Change a line of a kit's history; tells how many hours are derived again by it."""
    kit = str(args["kit"])
    if not kits.is_known(db, kit):
        near = kits.nearest(db, kit)
        raise LichenError(f"kit {kit}: nothing of it was ever received" + (f"; did you mean {near}?" if near else ""))
    with transaction(db):
        return {"hours": change(db, kit, int(args["from_hour"]))}
