"""An operator's word on the gateway's clock, as the store keeps it."""

import sqlite3
from typing import Final

import msgspec

from gateway.store.database import read_meta, transaction, write_meta
from gateway.system_clock import HAND_SET, HandSet

WITHDRAWN: Final = "withdrawn"
"""In the place of the boot it was given in: no name of a boot."""


def hand_set(db: sqlite3.Connection) -> HandSet | None:
    """Return an operator's word on the gateway's clock, if one was given and stands."""
    text = read_meta(db, HAND_SET)
    try:
        found = msgspec.json.decode(text, type=HandSet) if text else None
    except msgspec.DecodeError:
        return None
    return found if found and found.boot_id != WITHDRAWN else None


def write_hand_set(db: sqlite3.Connection, record: HandSet) -> None:
    """Keep an operator's word, or that it is withdrawn."""
    with transaction(db):
        write_meta(db, HAND_SET, msgspec.json.encode(record).decode())
