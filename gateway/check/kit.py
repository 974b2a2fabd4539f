"""A kit at the broker: with its own password it may write and read what is its own, and nothing else."""

import json
import secrets
import time
from collections.abc import Callable
from typing import Final

from gateway.check.broker import Place, may_write
from gateway.check.finding import Findings, Subject
from gateway.check.probe import PREFIX, Probe, ProbeError, writable

_OWN: Final = ("obs", "backlog", "about", "status", "diag", "reply")
_READS: Final = ("cmd", "stored")
_ANNOUNCED_S: Final = 61.0
"""The gateway announces the time each minute."""

_RULES: Final = "mosquitto's access list, one `pattern` line for each topic of a kit (docs/operations.md)"


def check_kit(place: Place, kit: str, password: str, listen_s: float) -> Findings:
    """Try with a kit's password what it may, and what it must not. Nothing of it is delivered to anybody."""
    subject = Subject("kit", f"user {kit}")
    base = place.settings.base
    other = PREFIX + secrets.token_hex(4)

    def connect() -> Probe:
        return place.connect(kit, password)

    try:
        with connect():
            pass
        yield subject.ok("the broker lets it in")
        own = [f"{base}/{kit}/{kind}" for kind in _OWN]
        yield from may_write(subject, connect, own, f"pattern write {base}/%u/obs, and so on", base, other)
        yield from _foreign(subject, place, connect, kit, other)
        yield from _reads(subject, place, kit, password, listen_s)
    except ProbeError as error:
        if error.answered:
            yield subject.error(f"the broker refuses it: {error}", "make this user at the broker (mosquitto_passwd)")
        else:
            yield subject.warning(f"it could not be tried: {error}", "see the finding on the broker")


def _foreign(subject: Subject, place: Place, connect: Callable[[], Probe], kit: str, other: str) -> Findings:
    base = place.settings.base
    forbidden = {
        f"{base}/{kit}/cmd": "its own commands", f"{base}/{kit}/stored": "its own receipts",
        f"{base}/{other}/obs": "another kit's readings", f"{base}/gateway/time": "the gateway's time",
    }  # fmt: skip
    found = writable(connect, list(forbidden))
    if allowed := [name for topic, name in forbidden.items() if found[topic] is not False]:
        yield subject.error(f"it may write {', '.join(allowed)}", _RULES)
    else:
        yield subject.ok(f"it may not write {', '.join(forbidden.values())}")


def _reads(subject: Subject, place: Place, kit: str, password: str, listen_s: float) -> Findings:
    base = place.settings.base
    own = [f"{base}/{kit}/{kind}" for kind in _READS]
    with place.connect(kit, password) as probe:
        granted = probe.subscribe([*own, f"{base}/gateway/time"])
        if not all(granted):
            yield subject.error("it may not subscribe to its commands, its receipts or gateway/time", _RULES)
            return
        # Of a boot that no kit has: a kit ignores it, as it does receipts for boots it has forgotten.
        receipt = json.dumps({"v": 1, "boot": secrets.randbits(32), "seq": 0}).encode()
        with place.as_gateway() as gateway:
            gateway.send(own[1], receipt)
            brought = probe.hears(lambda topic, payload: topic == own[1] and payload == receipt)
        if brought:
            yield subject.ok("its receipts reach it")
        else:
            yield subject.error("its receipts do not reach it: it never frees a row", f"{_RULES}: {base}/%u/stored")
        if probe.hears(lambda topic, _: topic == f"{base}/gateway/time", listen_s):
            yield subject.ok("the gateway's time reaches it")
        elif listen_s > _ANNOUNCED_S:
            yield subject.error(
                "no announcement of the time reached it: does the gateway run?", f"{_RULES}: {base}/gateway/time"
            )
    yield from _spying(subject, place, kit, password, listen_s)


def _spying(subject: Subject, place: Place, kit: str, password: str, listen_s: float) -> Findings:
    """Listen to everything with the kit's password, while the gateway says something to a kit that nobody has."""
    base = place.settings.base
    allowed = {f"{base}/{kit}/{kind}" for kind in _READS} | {f"{base}/gateway/time"}
    secret = f"{base}/{PREFIX}{secrets.token_hex(4)}/stored"
    with place.connect(kit, password) as probe:
        if not any(probe.subscribe([f"{base}/#", "#"])):
            yield subject.ok("it may not listen to others")
            return
        with place.as_gateway() as gateway:
            gateway.send(secret, str(time.time()).encode())
            probe.hears(lambda topic, _: topic == secret, 0.5)
        foreign = sorted({topic for topic, _, _ in probe.heard(listen_s or 0.1)} - allowed)
    if foreign:
        yield subject.error(f"it may read what is not its own, such as {foreign[0]}", _RULES)
    else:
        yield subject.ok("it cannot listen to others")
