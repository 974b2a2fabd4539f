"""Hands the golden messages to the tests of both sides: name, topic, payload, and why it is refused."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wire import make_large

HERE: Final = Path(__file__).parent
KIT: Final = "kit-7f3a"
TOPICS: Final = ("obs", "backlog", "about", "status", "diag", "reply", "cmd", "stored", "time")


@dataclass(frozen=True)
class Message:
    """A message as it stands on the wire; `reason` is None where it is valid, `schema` False where none can tell."""

    name: str
    kind: str
    topic: str
    payload: bytes
    reason: str | None = None
    schema: bool = True


def topic_of(kind: str) -> str:
    """Return the MQTT topic of a kind of message."""
    return "lichen/v1/gateway/time" if kind == "time" else f"lichen/v1/{KIT}/{kind}"


def valid(*kinds: str) -> Iterator[Message]:
    """Yield the valid messages of these kinds, of every kind without one."""
    stored = {path.stem: path.read_bytes() for path in (HERE / "golden/valid").glob("*.json")}
    made = {name: make() for name, make in make_large.VALID.items()}
    for name, payload in sorted({**stored, **made}.items()):
        kind = name.split(".")[0]
        if kind in (kinds or TOPICS):
            yield Message(name, kind, topic_of(kind), payload)


def invalid(*kinds: str) -> Iterator[Message]:
    """Yield the invalid messages of these kinds, of every kind without one, with the reason expected."""
    for name, entry in tomllib.loads((HERE / "golden/invalid.toml").read_text("utf-8")).items():
        kind = name.split(".")[0]
        if kind in (kinds or TOPICS):
            made = entry.get("made", False)
            payload = make_large.INVALID[name]() if made else (HERE / f"golden/invalid/{name}.json").read_bytes()
            topic = entry.get("topic", topic_of(kind))
            yield Message(name, kind, topic, payload, entry["reason"], entry.get("schema", True))
