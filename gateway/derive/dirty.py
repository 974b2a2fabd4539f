"""Deriving again what is marked dirty: hours, then the indices whose windows they touch, in one transaction."""

import sqlite3
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from gateway.derive import chain
from gateway.derive.recipe import Recipe
from gateway.store import derived, readings
from gateway.store.database import transaction
from gateway.store.seqset import runs

HOURS_A_STEP: Final = 48
"""Hours derived in one transaction: a two-day backlog of a kit at once, a few ms, so that intake never waits long."""


class Deriver:
    """Keeps the derived records equal to the readings; belongs to the one writing thread."""

    def __init__(self, db: sqlite3.Connection, recipe: Recipe) -> None:
        self._db = db
        self._recipe = recipe
        self.waiting = True
        if derived.recipe(db) != recipe.label:
            with transaction(db):
                derived.start_again(db, recipe.label, [scheme.name for scheme in recipe.schemes])

    def step(self) -> int:
        """Derive the next dirty hours; returns how many there were."""
        dirty = derived.next_dirty(self._db, HOURS_A_STEP)
        self.waiting = len(dirty) == HOURS_A_STEP
        if not dirty:
            return 0
        with transaction(self._db):
            for (kit, name), group in groupby(dirty, key=lambda row: row[:2]):
                hours = [hour for _, _, hour in group]
                self._derive_kit(kit, name, hours)
            derived.clear_dirty(self._db, [(kit, hour) for kit, _, hour in dirty])
        return len(dirty)

    def _derive_kit(self, kit: int, name: str, hours: Sequence[int]) -> None:
        site = name  # a kit without a deployment is at a site named after itself
        for first, last in runs(hours):
            found = readings.read(self._db, name, first, last + 1)
            for air, hour in chain.derive_hours(found, site=site, correction=self._recipe.correction):
                derived.write_air(self._db, kit, air)
                derived.write_hour(self._db, kit, hour)
        for first, last in runs(chain.touched_hours(hours)):
            self._derive_site(site, first, last)

    def _derive_site(self, site: str, first: int, last: int) -> None:
        reach = chain.LOOKBACK_HOURS - 1
        window = derived.read_hours(self._db, kit=site, hour_from=first - reach, hour_to=last + reach + 1)
        records = chain.derive_indices(site, self._recipe.schemes, list(window), first, last)
        for record in records:
            derived.write_index(self._db, record)
        derived.drop_indices(self._db, site, first, last, {(record.scheme, record.hour) for record in records})
