"""A folder with a configuration and a store that was made, as an operator has it, and what tests ask of it."""

import time

from made_store import HOUR_S, START_S, MadeStore
from test_commands import stored

from gateway.derive.recipe import Recipe
from gateway.derive.verify import verify
from gateway.settings import Derive
from gateway.store import derived

HOUR0 = START_S // HOUR_S


def at(place):
    """Arguments of a command that say where it is."""
    return ("-c", place / "gateway.toml")


def iso(hours):
    """The time so many hours after the store begins."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(START_S + round(hours * HOUR_S)))


def derive(place):
    """Derive what waits, and prove that the store is what a clean recomputation gives."""
    made = MadeStore(place / "store")
    made.derive()
    verdict = verify(made.db, Recipe.of(Derive()))
    made.db.close()
    (place / "store" / "writer.lock").open().close()
    assert (verdict.different, verdict.waiting) == ([], 0)
    assert verdict.compared > 0


def hours(place, kit="kit-1"):
    """Hour records of a kit by the hours since the store begins."""
    return {h.hour - HOUR0: h for h in stored(place, lambda db: list(derived.read_hours(db, kit=kit)))}


def waiting(place):
    """(kit, hours since the store begins) of what is to be derived."""
    return stored(place, lambda db: sorted((kit, hour - HOUR0) for kit, hour in derived.all_dirty(db)))
