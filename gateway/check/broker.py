"""The broker: whether it answers, lets the gateway in and nobody else, takes and brings what it must, and how much."""

import hashlib
import secrets
from collections.abc import Callable, Sequence
from typing import Final

from gateway.check.finding import Finding, Findings, Subject
from gateway.check.probe import PREFIX, Granted, Probe, ProbeError, writable
from gateway.errors import SettingsError
from gateway.settings import Settings, read_secret
from gateway.wire import MAX_MESSAGE_BYTES

_ROOM_BYTES: Final = 512
"""Topic and header beside the payload."""

_FEWEST_INFLIGHT: Final = 20
_RECEIPTS: Final = ("stored", "cmd")
_KINDS: Final = ("obs", "backlog", "about", "status", "diag")
_LONG_EXPIRY_S: Final = 3600


class Place:
    """The broker of a configuration: where, as whom, and how it is called in findings."""

    def __init__(self, settings: Settings) -> None:
        broker = settings.broker
        self.settings = broker
        self.where = f"{broker.host}:{broker.port}"
        self.password: str | None = None
        self.problem = ""
        if broker.password_file:
            try:
                self.password = read_secret(settings.beside(broker.password_file))
            except SettingsError as error:
                self.problem = str(error)

    def connect(self, username: str | None, password: str | None) -> Probe:
        """Return a connection that leaves nothing behind."""
        return Probe(self.settings.host, self.settings.port, username, password)

    def as_gateway(self) -> Probe:
        """Return one with the gateway's user."""
        return self.connect(self.settings.username, self.password)


def check_broker(place: Place, listen_s: float) -> Findings:
    """Try what the gateway does there; what depends on what failed is left out."""
    subject = Subject("broker", place.where)
    if place.problem:
        yield subject.error(f"the password cannot be read: {place.problem}", "see the finding on files")
        return
    broker = place.settings
    try:
        with Probe(
            broker.host, broker.port, broker.username, place.password,
            session_expiry_s=broker.session_expiry_s, receive_maximum=broker.receive_maximum,
        ) as probe:  # fmt: skip
            granted = probe.granted
    except ProbeError as error:
        yield _refused(subject, place, str(error), answered=error.answered)
        return
    yield subject.ok(f"it lets the user {broker.username} in")
    yield from _limits(subject, place, granted)
    yield from _strangers(subject, place)
    try:
        yield from _rights(Subject("broker", f"user {broker.username}"), place, listen_s)
    except ProbeError as error:
        yield subject.warning(f"its rights could not be tried: {error}", "look at the broker's log, and check again")


def _refused(subject: Subject, place: Place, reason: str, *, answered: bool) -> Finding:
    if answered:
        return subject.error(
            f"it refuses the user {place.settings.username}: {reason}",
            "make this user at the broker (mosquitto_passwd), or correct [broker] username and password_file",
        )
    return subject.error(
        f"it does not answer: {reason}", "start it (systemctl start mosquitto), or correct [broker] host and port"
    )


def _limits(subject: Subject, place: Place, granted: Granted) -> Findings:
    broker = place.settings
    most = granted.maximum_packet_size
    if most is not None and most < MAX_MESSAGE_BYTES + _ROOM_BYTES:
        yield subject.error(
            f"it takes messages of at most {most} bytes, kits send up to {MAX_MESSAGE_BYTES}",
            "mosquitto: max_packet_size 65536",
        )
    else:
        yield subject.ok(f"it takes messages of {most} bytes" if most else "it names no limit of a message")
    window = granted.receive_maximum
    if window is not None and window < _FEWEST_INFLIGHT:
        yield subject.warning(
            f"it keeps at most {window} messages under way: catching up is slow",
            "mosquitto: max_inflight_messages 1000",
        )
    else:
        yield subject.ok(f"it keeps {window or 65535} messages under way, [broker] receive_maximum asks for "
                         f"{broker.receive_maximum}")  # fmt: skip
    kept_s = granted.session_expiry_s
    kept_s = broker.session_expiry_s if kept_s is None else kept_s
    if kept_s < min(broker.session_expiry_s, _LONG_EXPIRY_S):
        yield subject.error(
            f"it keeps the session for {kept_s} s only: what kits send while the gateway is away is thrown away",
            "allow longer sessions at the broker",
        )
    elif kept_s < broker.session_expiry_s:
        yield subject.warning(
            f"it keeps the session for {kept_s} s, [broker] session_expiry_s asks for {broker.session_expiry_s}",
            "allow longer sessions at the broker, or ask for less",
        )
    else:
        yield subject.ok(f"it keeps the session for {kept_s} s")
    if granted.retain_available:
        yield subject.ok("it keeps retained messages")
    else:
        yield subject.error(
            "it keeps no retained messages: what kits are is not known after a restart",
            "mosquitto: retain_available true",
        )


def _strangers(subject: Subject, place: Place) -> Findings:
    fix = "mosquitto: allow_anonymous false, and a password_file"
    for username, password, who in (
        (None, None, "somebody without a name"),
        (place.settings.username, secrets.token_urlsafe(9), "the gateway's user with a wrong password"),
    ):
        if _lets_in(place, username, password):
            yield subject.error(f"it lets {who} in: anybody may write readings", fix)
            return
    yield subject.ok("it lets nobody in without the right password")


def _lets_in(place: Place, username: str | None, password: str | None) -> bool:
    try:
        with place.connect(username, password):
            return True
    except ProbeError:
        return False


def _rights(subject: Subject, place: Place, listen_s: float) -> Findings:
    base = place.settings.base
    nobody = PREFIX + secrets.token_hex(4)  # no kit has this name, so nobody is told what is tried
    mine = [f"{base}/{nobody}/{kind}" for kind in _RECEIPTS] + [f"{base}/gateway/time"]
    yield from may_write(subject, place.as_gateway, mine, f"topic readwrite {base}/#", base, nobody)
    mark = f"{base}/gateway/session/{nobody}"
    if writable(place.as_gateway, [mark], retain=True)[mark] is False:
        yield subject.warning(
            f"it may not leave its mark at {base}/gateway/session/+: two gateways on one session are noticed late",
            f"mosquitto, under user {place.settings.username}: topic readwrite {base}/#",
        )
    with place.as_gateway() as probe:
        wanted = [f"{base}/+/{kind}" for kind in _KINDS]
        refused = [topic for topic, granted in zip(wanted, probe.subscribe(wanted), strict=True) if not granted]
        if refused:
            yield subject.error(
                f"it may not subscribe to {', '.join(refused)}", f"let this user read {base}/# at the broker"
            )
            return
        yield _reading(subject, probe, base, nobody, listen_s)


def _reading(subject: Subject, probe: Probe, base: str, nobody: str, listen_s: float) -> Finding:
    """Tell whether messages are brought: a broker may grant a subscription and then bring nothing."""
    token = secrets.token_hex(8).encode()
    topic = f"{base}/{nobody}/stored"
    probe.subscribe([topic])
    probe.send(topic, token)
    echoed = probe.hears(lambda name, payload: name == topic and payload == token, 2.0)
    kits = {name.split("/")[-2] for name, _, _ in probe.heard(listen_s) if name.startswith(f"{base}/")} - {nobody}
    if kits:
        return subject.ok(f"messages of {len(kits)} kits reach it")
    if echoed:
        return subject.ok(f"it may read below {base}; no kit was heard meanwhile")
    return subject.error(
        f"the broker grants the subscription and brings nothing below {base}",
        f"mosquitto's access list, under its user: topic readwrite {base}/#",
    )


def may_write(
    subject: Subject, connect: Callable[[], Probe], topics: Sequence[str], rule: str, base: str, nobody: str
) -> Findings:
    """Tell which topics may not be written though they must."""
    found = writable(connect, topics)
    shown = {topic: topic.removeprefix(f"{base}/").replace(nobody, "+") for topic in topics}
    denied = [shown[topic] for topic in topics if found[topic] is False]
    unknown = [shown[topic] for topic in topics if found[topic] is None]
    if denied:
        yield subject.error(f"it may not write {', '.join(denied)}", f"mosquitto's access list: {rule}")
    if unknown:
        yield subject.warning(f"the broker does not say whether it may write {', '.join(unknown)}", "see its log")
    if not denied and not unknown:
        yield subject.ok(f"it may write {', '.join(shown.values())}")


def mark_topic(settings: Settings) -> str:
    """Return the topic of the mark that `gateway.broker` leaves for a session."""
    session = hashlib.sha256(settings.broker.client_id.encode()).hexdigest()[:16]
    return f"{settings.broker.base}/gateway/session/{session}"
