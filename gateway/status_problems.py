"""What needs a person's attention now, the worst first, and what to do; pure."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from gateway.drift import DriftWatch
from gateway.status import Kit, Status

QUEUE_AGE_S: Final = 60.0
SINK_LAG_S: Final = 300.0
MISSING_PCT: Final = 5.0
NEAR_BUDGET: Final = 0.98
_NAMED: Final = 3


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong, and what to do."""

    what: str
    fix: str


def problems(status: Status) -> list[Problem]:
    """Return what needs attention; nothing where all is well."""
    found = [*_process(status), *_store(status), *_kits(status.kits), *_drift(status.drift), *_sink(status)]
    return [Problem(what=what, fix=fix) for what, fix in found]


def _process(status: Status) -> Iterator[tuple[str, str]]:
    vitals = status.vitals
    if vitals is None and status.owner_pid is None:
        yield "the gateway is not running", "start it: systemctl start lichen-gateway, or lichen run -c gateway.toml"
        return
    if vitals is None:
        yield (
            f"the gateway (process {status.owner_pid}) does not answer",
            "wait if it just started; run this as its user; see its log",
        )
        return
    for text in vitals.stuck:
        yield text, "systemd starts it again; without systemd restart it, and keep its log"
    for text in vitals.troubles:
        yield text, "it is tried again by itself; the log says more"
    if not vitals.receiving:
        yield vitals.status, "lichen check tries the broker and says what to change"
    if vitals.queue_age_s is not None and vitals.queue_age_s > QUEUE_AGE_S:
        yield (
            f"messages wait since {vitals.queue_age_s:.0f} s for their commit",
            "the disk is slow or full: lichen check measures it",
        )
    if vitals.clock_error_s is None and status.clock_setting is not False:
        yield "the gateway's clock is not trusted", "lichen clock show says why; connect to NTP, or lichen clock set"


def _store(status: Status) -> Iterator[tuple[str, str]]:
    found = status.numbers
    if found.disk_free_mb < found.reserve_mb:
        yield (
            f"the disk has {found.disk_free_mb:.0f} MB free, less than reserve_mb = {found.reserve_mb}",
            "free space: what else lies on this disk?",
        )
    if found.store_mb > NEAR_BUDGET * found.budget_mb:
        yield (
            f"the store has filled budget_mb = {found.budget_mb}: the oldest raw readings go",
            "raise [store] budget_mb, or shorten [retention] raw_days",
        )
    if found.failed_hours:
        yield f"{found.failed_hours} hours cannot be derived", "a mistake of this program: the log says which; upgrade"
    if status.new_letters:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(status.new_letters.items()))
        yield f"new dead letters in the last 24 h: {reasons}", "lichen deadletter list says of whom, show says why"


def _kits(kits: Iterable[Kit]) -> Iterator[tuple[str, str]]:
    chosen = {word: [kit.name for kit in kits if kit.state == word] for word in ("silent", "behind", "waits")}
    if names := chosen["silent"]:
        yield _of(names, "silent"), "look at power, network and the kit's lamp; it keeps its rows meanwhile"
    if names := chosen["behind"]:
        yield _of(names, "behind"), "it is heard, its new rows are not here: wait while it catches up, else restart it"
    if names := chosen["waits"]:
        yield _of(names, "waiting for a time"), "its clock is not set: give it NTP or wait for the gateway's time"
    gappy = [kit.name for kit in kits if kit.missing_pct > MISSING_PCT and kit.state in {"ok", "waits"}]
    if gappy:
        what = _of(gappy, f"missing over {MISSING_PCT:.0f} % of 24 h")
        yield what, "was it off? rows it still holds come by themselves"


def _drift(found: DriftWatch) -> Iterator[tuple[str, str]]:
    for one in found.pairs:
        if one.alarms:
            told = f"gain {one.gain}, offset {one.offset}" if one.gain is not None else "it does not vary"
            days = max(one.failing_h[test] for test in one.alarms) // 24
            yield (
                f"drift of {one.kit} {one.quantity} against {one.against} for {days} days: {told}",
                "is it the air or the sensor? lichen calibrate watch; nothing is corrected by itself",
            )
    for text in found.unreadable:
        yield text, "mend the file, or take it out of [drift] stations"


def _of(names: list[str], what: str) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{what}: {', '.join(names[:_NAMED])}{more}"


def _sink(status: Status) -> Iterator[tuple[str, str]]:
    sink = status.numbers.sink
    if sink is None:
        return
    if sink.last_error:
        yield f"InfluxDB: {sink.last_error}", "nothing is lost, it follows by itself; lichen check says what to change"
    if sink.behind:
        yield f"InfluxDB is behind: {sink.behind}", "lichen influx refill sends a span again, as far as it is held"
    elif sink.lag_s > SINK_LAG_S and not sink.last_error:
        yield f"InfluxDB is {sink.lag_s:.0f} s behind", "it catches up by itself; if it grows, see the server's load"
