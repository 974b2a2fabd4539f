"""Proof on a live store: times and everything derived are computed again from the raw readings and compared.

It goes through the store part by part, each in a state of its own, so that memory stays small and the gateway goes on.
Hours follow from raw readings and indices from hours alone, so each is compared by itself. Hours that wait to be
derived again are counted, not compared; sealed hours are left alone.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from gateway.derive import chain
from gateway.derive.methods import Methods
from gateway.derive.recipe import Recipe
from gateway.records import HourRecord, IndexRecord
from gateway.store import derived, readings, registry, times
from gateway.store.air_pack import air_content
from gateway.store.database import AIR_HORIZON, RECORD_HORIZON, horizon_hour, snapshot
from gateway.store.seqset import runs

Progress = Callable[[str, float, float], None]

_HOURS_A_PART: Final = 48

_Record = TypeVar("_Record", HourRecord, IndexRecord)


@dataclass(slots=True)
class Verdict:
    """How many records were compared, which differ, and how many wait to be derived again and were not compared."""

    compared: int = 0
    different: list[str] = field(default_factory=list)
    waiting: int = 0

    def compare(self, name: str, computed: object, stored: object) -> None:
        """Take in one record as computed again and as stored, None where there is none."""
        self.compared += 1
        if computed != stored:
            self.different.append(name)


def verify(db: sqlite3.Connection, recipe: Recipe, on_progress: Progress | None = None) -> Verdict:
    """Compare what is stored with a clean recomputation, bit for bit."""
    verdict = Verdict()
    kits = [state.name for state in readings.kits(db)]
    sites = derived.sites(db)
    steps = len(kits) + len(sites)
    for done, kit in enumerate(kits):
        _verify_kit(db, recipe, kit, verdict)
        if on_progress:
            on_progress("verified", done + 1, steps)
    for done, site in enumerate(sites):
        with snapshot(db):
            _verify_site(db, recipe, site, verdict)
        if on_progress:
            on_progress("verified", len(kits) + done + 1, steps)
    return verdict


def _verify_kit(db: sqlite3.Connection, recipe: Recipe, kit: str, verdict: Verdict) -> None:
    with snapshot(db):
        for boot, problem in times.problems(db, kit):
            verdict.compare(f"time {kit} {boot}: {problem}", None, problem)
        known = set(readings.hours(db, kit=kit)) | set(derived.hours(db, kit))
    for first, last in _parts(sorted(hour for _, hour in known)):
        with snapshot(db):
            _verify_hours(db, recipe, kit, (max(first, horizon_hour(db)), last), verdict)


def _parts(hours: list[int]) -> Iterator[tuple[int, int]]:
    for first, last in runs(hours):
        for start in range(first, last + 1, _HOURS_A_PART):
            yield start, min(start + _HOURS_A_PART - 1, last)


def _verify_hours(db: sqlite3.Connection, recipe: Recipe, kit: str, span: tuple[int, int], verdict: Verdict) -> None:
    first, last = span
    if last < first:
        return
    waiting = {hour for name, hour in derived.all_dirty(db) if name == kit and first <= hour <= last}
    verdict.waiting += len(waiting)
    computed: dict[tuple[str, int], object] = {}
    history, methods = registry.history(db, kit), Methods(db)
    stretches = [
        chain.Stretch(
            readings.read(db, kit, part.first, part.last + 1), part.site, methods.of(kit, part.calibrations),
            history.voids,
        )
        for part in history.spans(first, last)
    ]  # fmt: skip
    for pairs in chain.derive_hours(stretches, correction=recipe.correction):
        for air, hour in pairs:
            computed["air", air.hour] = air_content(air)
            computed["hour", hour.hour] = hour
    air_horizon = horizon_hour(db, AIR_HORIZON)
    stored: dict[tuple[str, int], object] = {}
    for air in derived.read_air(db, kit=kit, hour_from=first, hour_to=last + 1):
        stored["air", air.hour] = air_content(air)
    for record in derived.read_hours(db, kit=kit, hour_from=first, hour_to=last + 1):
        stored["hour", record.hour] = _without_revision(record)
    for name in sorted(computed.keys() | stored.keys()):
        kind, at = name
        if at not in waiting and not (kind == "air" and at < air_horizon):
            verdict.compare(f"{kind} {kit} {at}", computed.get(name), stored.get(name))


def _verify_site(db: sqlite3.Connection, recipe: Recipe, site: str, verdict: Verdict) -> None:
    hours = derived.read_site_hours(db, site, -(2**62), 2**62)
    kits = {name for name, known in registry.kits_with_history(db) if site in known} | {hour.kit for hour in hours}
    waiting = set(chain.touched_hours(hour for name, hour in derived.all_dirty(db) if name in kits))
    stored = {(i.scheme, i.hour): _without_revision(i) for i in derived.read_indices(db, site=site)}
    computed = {}
    if hours:
        plain = [_without_revision(hour) for hour in hours]
        computed = {
            (i.scheme, i.hour): i
            for i in chain.derive_indices(site, recipe.schemes, plain, plain[0].hour, plain[-1].hour)
        }
    sealed = horizon_hour(db, RECORD_HORIZON) + chain.LOOKBACK_HOURS  # below, hours that they were made from are gone
    for scheme, hour in sorted(computed.keys() | stored.keys()):
        if hour < sealed:
            continue
        if hour in waiting:
            verdict.waiting += 1
        else:
            key = scheme, hour
            verdict.compare(f"index {site} {scheme} {hour}", computed.get(key), stored.get(key))


def _without_revision(record: _Record) -> _Record:
    return msgspec.structs.replace(record, rev=0)
