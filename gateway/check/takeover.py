"""Another gateway on the same session or topics: looks at marks and announcements, and disturbs nobody."""

from typing import Final

from gateway.check.broker import Place, mark_topic
from gateway.check.finding import Findings, Subject
from gateway.check.probe import ProbeError
from gateway.settings import Settings

ANNOUNCED_S: Final = 61.0
"""A gateway announces the time each minute."""

_FIX: Final = "give each gateway its own [broker] client_id, or stop the other"


def check_takeover(settings: Settings, place: Place, *, runs_here: bool, mark: str | None, listen_s: float) -> Findings:
    """Compare the mark at the broker with that of the gateway of this store, if one runs.

    Where none runs here, whoever announces the time is another one.
    """
    subject = Subject("session", settings.broker.client_id)
    topic, time_topic = mark_topic(settings), f"{settings.broker.base}/gateway/time"
    try:
        with place.as_gateway() as probe:
            probe.subscribe([topic, time_topic])
            left = {payload.decode("utf-8", "replace").split(" ")[0] for name, payload, _ in probe.heard()
                    if name == topic}  # fmt: skip
            announced = not runs_here and probe.hears(lambda name, _: name == time_topic, listen_s)
    except ProbeError:
        return  # the finding on the broker says why
    if runs_here and mark and left and mark not in left:
        yield subject.error("another gateway has taken this session", _FIX)
    elif announced:
        yield subject.error("another gateway runs on these topics, and none with this store", _FIX)
    elif runs_here:
        yield subject.ok("the gateway of this store has it")
    elif listen_s >= ANNOUNCED_S:
        yield subject.ok("no other gateway was heard")
    else:
        yield subject.ok(f"no other gateway was heard within {listen_s:g} s; one is heard each minute (--listen 65)")
