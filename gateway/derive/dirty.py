"""Deriving again what is marked dirty: hours, then the indices whose windows they touch, in one transaction."""

import logging
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from gateway.derive import chain
from gateway.derive.recipe import Recipe
from gateway.store import counters, derived, readings, registry
from gateway.store.database import AIR_HORIZON, horizon_hour, transaction
from gateway.store.seqset import runs

log = logging.getLogger(__name__)

HOURS_A_STEP: Final = 48
"""Hours derived in one transaction: a two-day backlog of a kit at once, a few ms, so that intake never waits long."""

_Hour = tuple[int, str, int]


class Deriver:
    """Keeps the derived records equal to the readings; belongs to the one writing thread."""

    def __init__(self, db: sqlite3.Connection, recipe: Recipe) -> None:
        self._db = db
        self._recipe = recipe
        self.waiting = True
        with transaction(db):
            derived.try_failed_again(db)
            if derived.recipe(db) != recipe.label:
                derived.start_again(db, recipe.label, [scheme.name for scheme in recipe.schemes])

    def step(self) -> int:
        """Derive the next dirty hours; returns how many there were.

        Where an hour meets a mistake of the program the others are derived without it; it stays marked, counted and
        said, until something of it changes or the gateway starts again.
        """
        dirty = derived.next_dirty(self._db, HOURS_A_STEP)
        self.waiting = len(dirty) == HOURS_A_STEP
        if not dirty:
            return 0
        try:
            self._derive(dirty)
        except sqlite3.Error:
            raise
        except Exception:
            log.exception("hours cannot be derived together; each is tried alone")
            for one in dirty:
                self._derive_alone(one)
        return len(dirty)

    def _derive_alone(self, one: _Hour) -> None:
        kit, name, hour = one
        try:
            self._derive([one])
        except sqlite3.Error:
            raise
        except Exception:
            log.exception("hour %d of %s cannot be derived", hour, name)
            with transaction(self._db):
                derived.set_failed(self._db, kit, hour)
                counters.add(self._db, kit, {"hours_failed": 1})

    def _derive(self, dirty: Sequence[_Hour]) -> None:
        with transaction(self._db):
            touched: dict[str, set[int]] = defaultdict(set)
            for (kit, name), group in groupby(dirty, key=lambda row: row[:2]):
                self._derive_kit(kit, name, [hour for _, _, hour in group], touched)
            for site, hours in sorted(touched.items()):
                for first, last in runs(chain.touched_hours(hours)):
                    self._derive_site(site, first, last)
            derived.clear_dirty(self._db, [(kit, hour) for kit, _, hour in dirty])

    def _derive_kit(self, kit: int, name: str, hours: Sequence[int], touched: dict[str, set[int]]) -> None:
        """Derive hours of one kit, rising; adds to `touched` the hours of each site that they can change."""
        history = registry.history(self._db, name)
        missing = set(hours)
        air_horizon = horizon_hour(self._db, AIR_HORIZON)
        for start, end in runs(hours):
            for first, last, site, correction in history.spans(start, end):
                found = readings.read(self._db, name, first, last + 1)
                pairs = chain.derive_hours(found, site=site, correction=correction or self._recipe.correction)
                derived.write_air(self._db, kit, [air for air, _ in pairs if air.hour >= air_horizon])
                before = derived.write_hours(self._db, kit, [hour for _, hour in pairs])
                for hour, old_site in before.items():
                    touched[old_site].add(hour)
                here = {hour.hour for _, hour in pairs}
                touched[site] |= here
                missing -= here
        for gone in sorted(missing):
            if (left := derived.drop_hour(self._db, kit, gone)) is not None:
                touched[left].add(gone)

    def _derive_site(self, site: str, first: int, last: int) -> None:
        reach = chain.LOOKBACK_HOURS - 1
        window = derived.read_site_hours(self._db, site, first - reach, last + reach + 1)
        records = chain.derive_indices(site, self._recipe.schemes, window, first, last)
        derived.write_indices(self._db, site, first, last, records)
