"""Deriving again what is marked dirty: hours, then the indices whose windows they touch, in one transaction."""

import json
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from gateway.derive import chain
from gateway.derive.methods import Methods
from gateway.derive.recipe import Recipe
from gateway.store import counters, derived, readings, registry
from gateway.store.database import AIR_HORIZON, RECORD_HORIZON, horizon_hour, read_meta, transaction, write_meta
from gateway.store.seqset import runs

log = logging.getLogger(__name__)

HOURS_A_STEP: Final = 96
"""Hours derived in one transaction: those of many kits share the cost of each step over their rows and of the commit.

Live hours take about half a ms each, so that intake never waits long; of a backlog these are four days of a kit.
"""

SEALED_A_STEP: Final = 240
"""Sealed hours of a site indexed again in one transaction: some ms."""

_INDEX_AGAIN: Final = "index_again"
"""In the store: (site, hour) from which on sealed hours are to be indexed by a new recipe, empty where none are."""

_Hour = tuple[int, str, int]


class Deriver:
    """Keeps the derived records equal to the readings; belongs to the one writing thread."""

    def __init__(self, db: sqlite3.Connection, recipe: Recipe) -> None:
        self._db = db
        self._recipe = recipe
        self._methods = Methods(db)
        self.waiting = True
        with transaction(db):
            derived.try_failed_again(db)
            if derived.recipe(db) != recipe.label:
                derived.start_again(db, recipe.label, [scheme.name for scheme in recipe.schemes])
                write_meta(db, _INDEX_AGAIN, json.dumps(["", 0]))

    def step(self) -> int:
        """Derive the next dirty hours; returns how many there were.

        While none are, sealed hours, whose raw readings may be gone, are indexed again where the recipe has changed.
        Where an hour meets a mistake of the program the others are derived without it; it stays marked, counted and
        said, until something of it changes or the gateway starts again.
        """
        dirty = derived.next_dirty(self._db, HOURS_A_STEP)
        self.waiting = len(dirty) == HOURS_A_STEP
        if not dirty:
            return self._index_sealed()
        try:
            self._derive(dirty)
        except sqlite3.Error:
            raise
        except Exception:
            log.exception("hours cannot be derived together; each is tried alone")
            for one in dirty:
                self._derive_alone(one)
        return len(dirty)

    def _index_sealed(self) -> int:
        """Index the next sealed hours of a site from its hour records; returns how many."""
        if not (mark := read_meta(self._db, _INDEX_AGAIN)):
            return 0
        site, hour = json.loads(mark)
        first_whole = horizon_hour(self._db, RECORD_HORIZON) + chain.LOOKBACK_HOURS  # before, look-backs are cut off
        end = horizon_hour(self._db)
        with transaction(self._db):
            found = derived.next_site_hour(self._db, site, hour, first_whole, end)
            if found is None:
                write_meta(self._db, _INDEX_AGAIN, "")
                return 0
            here, at = found
            # hours of a gap have indices too, as far as the look-back of the hour after it
            first = max(at - chain.LOOKBACK_HOURS + 1, first_whole, hour if here == site else first_whole)
            last = min(first + SEALED_A_STEP, end) - 1
            self._index([(here, first, last)])
            write_meta(self._db, _INDEX_AGAIN, json.dumps([here, last + 1]))
        self.waiting = True
        return last - first + 1

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
            histories = registry.histories(self._db, sorted({name for _, name, _ in dirty}))
            wanted = [
                (kit, stretch)
                for (kit, name), group in groupby(dirty, key=lambda row: row[:2])
                for stretch in self._stretches(histories[name], [hour for _, _, hour in group])
            ]
            found = chain.derive_hours([one for _, one in wanted], correction=self._recipe.correction)
            missing = {(kit, hour) for kit, _, hour in dirty}
            touched: dict[str, set[int]] = defaultdict(set)
            for (kit, stretch), pairs in zip(wanted, found, strict=True):
                self._write(kit, stretch.site, pairs, touched)
                missing -= {(kit, record.hour) for _, record in pairs}
            for kit, gone in sorted(missing):
                if (left := derived.drop_hour(self._db, kit, gone)) is not None:
                    touched[left].update(chain.touched_by(gone, comes_or_goes=True))
            self._index([(site, *run) for site, hours in sorted(touched.items()) for run in runs(sorted(hours))])
            derived.clear_dirty(self._db, [(kit, hour) for kit, _, hour in dirty])

    def _stretches(self, history: registry.KitHistory, hours: Sequence[int]) -> Iterator[chain.Stretch]:
        """Yield what is to be derived of one kit, of hours that rise."""
        for start, end in runs(hours):
            for span in history.spans(start, end):
                found = readings.read(self._db, history.kit, span.first, span.last + 1)
                yield chain.Stretch(found, span.site, self._methods.of(history.kit, span.calibrations), history.voids)

    def _write(self, kit: int, site: str, pairs: chain.Hours, touched: dict[str, set[int]]) -> None:
        """Store hours of one kit, rising; adds to `touched` the hours of each site that they can change."""
        air_horizon = horizon_hour(self._db, AIR_HORIZON)
        derived.write_air(self._db, kit, [air for air, _ in pairs if air.hour >= air_horizon])
        before = derived.write_hours(self._db, kit, [record for _, record in pairs])
        for _, record in pairs:
            old_site = before.get(record.hour)
            touched[site].update(chain.touched_by(record.hour, comes_or_goes=old_site != site))
            if old_site not in {None, site}:
                touched[str(old_site)].update(chain.touched_by(record.hour, comes_or_goes=True))

    def _index(self, spans: Sequence[tuple[str, int, int]]) -> None:
        """Derive the indices of sites for hours from a first to a last."""
        reach = chain.LOOKBACK_HOURS - 1
        wanted = []
        for site, first, last in spans:
            if window := derived.read_site_hours(self._db, site, first - reach, last + reach + 1):
                wanted.append(chain.Wanted(chain.site_hours(window)[site], first, last))
            else:
                derived.write_indices(self._db, site, first, last, [])
        for one, records in zip(wanted, chain.derive_sites(self._recipe.schemes, wanted), strict=True):
            derived.write_indices(self._db, one.hours.site, one.first, one.last, records)
