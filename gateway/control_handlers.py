"""What commands may have the writing thread do; each handler is one short transaction, so that messages do not wait."""

import difflib
import getpass
import os
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from calibration import interpolated
from calibration.assigned import CalibrationError, loads
from calibration.corrections import CORRECTIONS
from calibration.quantities import DERIVED
from gateway.control import Handlers
from gateway.derive.calibrate import KNOWN_TO_VOID
from gateway.derive.methods import find_calibration
from gateway.errors import LichenError
from gateway.intake import Intake
from gateway.metrics import Vitals
from gateway.records import HOUR_MS, HOUR_S, Void
from gateway.settings import Settings
from gateway.store import calibrations, collocations, deadletters, kits, registry, voids
from gateway.store.calibrations import StoredCalibration
from gateway.store.collocations import Collocation
from gateway.store.database import transaction
from gateway.store.deadletters import Choice
from gateway.store.hand_set import WITHDRAWN, hand_set, write_hand_set
from gateway.system_clock import HandSet, OwnClock, boot_id, now_ms

REPLAY_STEP: Final = 100
EXPIRE_STEP: Final = 1000
MAX_ERROR_S: Final = 86_400
MAX_SITE_LENGTH: Final = 64
MAX_REASON_LENGTH: Final = 500


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
        "kit.drop_site": lambda args: _drop_site(db, args),
        "kit.set_correction": lambda args: _correction(db, args),
        "kit.drop_correction": lambda args: _drop_correction(db, args),
        "kit.interpolate": lambda args: _interpolate(db, args),
        "collocation.start": lambda args: _start_collocation(db, args),
        "collocation.end": lambda args: _end_collocation(db, args),
        "void.add": lambda args: _void(db, args),
        "void.undo": lambda args: _undo_void(db, args),
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
    write_hand_set(db, HandSet(boot_id=boot_id(), error_s=error_s, at_ms=now_ms(), who=who))
    return {"error_s": error_s}


def _withdraw(db: sqlite3.Connection, who: str) -> dict[str, Any]:
    stood = hand_set(db) is not None
    write_hand_set(db, HandSet(boot_id=WITHDRAWN, error_s=MAX_ERROR_S, at_ms=now_ms(), who=who))
    return {"stood": stood}


def _site(db: sqlite3.Connection, args: dict[str, Any]) -> dict[str, Any]:
    site = args["site"]
    if site is not None and not (0 < len(site) <= MAX_SITE_LENGTH and site.isprintable() and site.strip() == site):
        raise LichenError(
            f"site {site!r}: a name has 1 to {MAX_SITE_LENGTH} printable characters and no space at its ends"
        )
    kit = _known_kit(db, args)
    with transaction(db):
        return {"hours": registry.set_site(db, kit, int(args["from_hour"]), site)}


def _correction(db: sqlite3.Connection, args: dict[str, Any]) -> dict[str, Any]:
    """Assign a correction by its name, or the calibration whose text `record` is."""
    known = _known_kit(db, args)
    if args.get("record") is None:
        one = find_calibration(db, str(args["correction"]), known)
    else:
        try:
            one = loads(str(args["record"]), known)
        except CalibrationError as error:
            raise LichenError(str(error)) from error
    hour, who = int(args["from_hour"]), str(args.get("who", ""))
    with transaction(db):
        if args.get("record") is not None:
            stored = StoredCalibration(one.label, str(args["record"]), now_ms(), who)
            if one.label in CORRECTIONS or not calibrations.add(db, stored):
                raise LichenError(f"{one.label} is known with another content; give this one another id or version")
        hours = registry.set_correction(db, known, hour, one.label, one.output)
    return {"hours": hours, "label": one.label, "quantity": one.output, "unverified": list(one.unverified)}


def _start_collocation(db: sqlite3.Connection, args: dict[str, Any]) -> dict[str, Any]:
    kit = _known_kit(db, args)
    if found := collocations.running(db, kit):
        since = _iso(found.from_ms // HOUR_MS)
        raise LichenError(f"kit {kit} stands beside {found.reference} since {since}: lichen collocation end {kit}")
    one = Collocation(
        kit=kit, reference=str(args["reference"]), target=str(args["target"]), from_ms=int(args["from_ms"]),
        started_by=str(args["who"]),
    )  # fmt: skip
    with transaction(db):
        collocations.start(db, one)
    return msgspec.to_builtins(one)  # type: ignore[no-any-return]


def _end_collocation(db: sqlite3.Connection, args: dict[str, Any]) -> dict[str, Any]:
    """End the one of a kit; without `to_ms` it is forgotten."""
    kit = _known_kit(db, args)
    found = collocations.running(db, kit)
    if found is None:
        raise LichenError(f"kit {kit} stands beside no reference; lichen collocation list shows which do")
    ended = None
    if args.get("to_ms") is not None:
        ended = msgspec.structs.replace(
            found, to_ms=int(args["to_ms"]), ended_by=str(args["who"]), report=str(args.get("report") or "")
        )
    with transaction(db):
        collocations.end(db, kit, ended)
    return msgspec.to_builtins(ended or found)  # type: ignore[no-any-return]


def _void(db: sqlite3.Connection, args: dict[str, Any]) -> dict[str, Any]:
    kit, what = _known_kit(db, args), str(args.get("what") or "")
    if what and what not in KNOWN_TO_VOID:
        near = difflib.get_close_matches(what, KNOWN_TO_VOID, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; quantities are {', '.join(DERIVED)}"
        raise LichenError(f"{what!r} is neither a channel nor a quantity{hint}")
    void = Void(what, int(args["from_ms"]), int(args["to_ms"]))
    if void.to_ms <= void.from_ms:
        raise LichenError("the span ends before it begins: --to must be later than --from")
    reason, who = _reason(args), str(args["who"])
    with transaction(db):
        number, touched = voids.add(db, kit, void, reason=reason, who=who, now_ms=now_ms())
    return {"id": number, "hours": touched.hours, "sealed": touched.sealed}


def _undo_void(db: sqlite3.Connection, args: dict[str, Any]) -> dict[str, Any]:
    number = int(args["id"])
    line = voids.find(db, number)
    if line is None:
        raise LichenError(f"there is no void {number}; lichen void list shows those there are")
    if line.undone_ms is not None:
        raise LichenError(f"void {number} was undone already, by {line.undone_by}: {line.undo_reason}")
    reason, who = _reason(args), str(args["who"])
    with transaction(db):
        touched = voids.undo(db, number, reason=reason, who=who, now_ms=now_ms())
    return {"id": number, "kit": line.kit, "hours": touched.hours, "sealed": touched.sealed}


def _reason(args: dict[str, Any]) -> str:
    reason = str(args["reason"]).strip()
    if not (0 < len(reason) <= MAX_REASON_LENGTH and reason.isprintable()):
        raise LichenError(
            f"a reason has 1 to {MAX_REASON_LENGTH} printable characters: say why, for those who come later"
        )
    return reason


def _drop_site(db: sqlite3.Connection, args: dict[str, Any]) -> dict[str, Any]:
    kit, hour = _known_kit(db, args), int(args["from_hour"])
    _need_line(kit, hour, registry.history(db, kit).sites)
    with transaction(db):
        return {"hours": registry.drop_site(db, kit, hour)}


def _drop_correction(db: sqlite3.Connection, args: dict[str, Any]) -> dict[str, Any]:
    kit, hour, wanted = _known_kit(db, args), int(args["from_hour"]), args.get("quantity")
    lines = {q: some for q, some in registry.history(db, kit).calibrations.items() if wanted in (None, q)}
    having = [q for q, some in lines.items() if hour in [line.from_hour for line in some]]
    if len(having) > 1:
        raise LichenError(f"kit {kit} has lines of {' and '.join(having)} from {_iso(hour)}: name one with --quantity")
    _need_line(kit, hour, [line for some in lines.values() for line in some])
    with transaction(db):
        return {"hours": registry.drop_correction(db, kit, hour, having[0]), "quantity": having[0]}


def _interpolate(db: sqlite3.Connection, args: dict[str, Any]) -> dict[str, Any]:
    """Let the calibration from one line on become that of the next line until then."""
    kit, wanted = _known_kit(db, args), args.get("quantity")
    first, last = int(args["from_hour"]), int(args["to_hour"])
    found = {q: some for q, some in registry.history(db, kit).calibrations.items() if wanted in (None, q)}
    here = {q: some for q, some in found.items() if {first, last} <= {line.from_hour for line in some}}
    if len(here) != 1:
        if here:
            raise LichenError(f"kit {kit} has such lines of {' and '.join(here)}: name one with --quantity")
        known = ", ".join(f"{q} {_iso(line.from_hour)}" for q, some in found.items() for line in some) or "none"
        raise LichenError(f"kit {kit} has no two assignments from {_iso(first)} and {_iso(last)}; it has: {known}")
    ((quantity, lines),) = here.items()
    inside = [line for line in lines if first <= line.from_hour <= last]
    labels = [line.value for line in inside if line.value is not None]
    if len(inside) != 2 or len(set(labels)) != 2:
        told = ", ".join(f"{line.value or 'none'} from {_iso(line.from_hour)}" for line in inside) or "none"
        raise LichenError(f"two calibrations that follow each other are needed, and here are: {told}")
    before, after = labels
    if any((one := calibrations.find(db, label)) and interpolated.loads(one.record) for label in (before, after)):
        raise LichenError(f"{before} or {after} is interpolated already; assign the calibration itself first")
    between = interpolated.Between(before, after, first * HOUR_S, last * HOUR_S)
    with transaction(db):
        text = interpolated.dumps(between)
        calibrations.add(db, StoredCalibration(between.label, text, now_ms(), str(args.get("who", ""))))
        hours = registry.set_correction(db, kit, first, between.label, quantity)
    return {"hours": hours, "label": between.label, "quantity": quantity, "before": before, "after": after}


def _need_line(kit: str, hour: int, lines: Sequence[registry.Line]) -> None:
    if hour not in [line.from_hour for line in lines]:
        known = ", ".join(_iso(line.from_hour) for line in lines) or "none"
        raise LichenError(f"kit {kit} has no such line from {_iso(hour)}; its lines are from: {known}")


def _iso(hour: int) -> str:
    return datetime.fromtimestamp(hour * HOUR_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _known_kit(db: sqlite3.Connection, args: dict[str, Any]) -> str:
    kit = str(args["kit"])
    if not kits.is_known(db, kit):
        near = kits.nearest(db, kit)
        raise LichenError(f"kit {kit}: nothing of it was ever received" + (f"; did you mean {near}?" if near else ""))
    return kit
