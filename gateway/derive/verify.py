"""Proof on a live store: everything derived is computed again from the raw readings and compared."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

import msgspec

from gateway.aqi.scheme import Scheme
from gateway.derive import chain
from gateway.derive.recipe import Recipe
from gateway.records import HourRecord, IndexRecord
from gateway.store import derived, readings
from gateway.store.database import snapshot


@dataclass(slots=True)
class Verdict:
    """How many records were compared, which differ, and how many wait to be derived again and were not compared."""

    compared: int = 0
    different: list[str] = field(default_factory=list)
    waiting: int = 0


def verify(db: sqlite3.Connection, recipe: Recipe) -> Verdict:
    """Compare the derived records of one state of the store with a clean recomputation, bit for bit."""
    with snapshot(db):
        dirty = {(name, hour) for _, name, hour in derived.next_dirty(db, -1)}
        computed = _computed(db, recipe)
        stored = _stored(db)
    waiting = _touched(dirty, recipe.schemes)
    verdict = Verdict(waiting=len(waiting & (computed.keys() | stored.keys())))
    for name in sorted((computed.keys() | stored.keys()) - waiting):
        verdict.compared += 1
        if computed.get(name) != stored.get(name):
            verdict.different.append(name)
    return verdict


def _computed(db: sqlite3.Connection, recipe: Recipe) -> dict[str, object]:
    pairs = [
        pair
        for found in readings.each_hour(db)
        for pair in chain.derive_hours(found, site=found.kit, correction=recipe.correction)
    ]
    records: dict[str, object] = {_of_kit("air", a.kit, a.hour): derived.air_content(a) for a, _ in pairs}
    records |= {_of_kit("hour", h.kit, h.hour): h for _, h in pairs}
    return records | {_of_site(i.site, i.scheme, i.hour): i for i in _indices(recipe.schemes, [h for _, h in pairs])}


def _stored(db: sqlite3.Connection) -> dict[str, object]:
    records: dict[str, object] = {_of_kit("air", a.kit, a.hour): derived.air_content(a) for a in derived.read_air(db)}
    records |= {_of_kit("hour", h.kit, h.hour): _without_revision(h) for h in derived.read_hours(db)}
    return records | {_of_site(i.site, i.scheme, i.hour): _without_revision(i) for i in derived.read_indices(db)}


def _touched(dirty: set[tuple[str, int]], schemes: tuple[Scheme, ...]) -> set[str]:
    """Name every record that a dirty hour may still change; a kit's site has its name."""
    names = {_of_kit(kind, kit, hour) for kit, hour in dirty for kind in ("air", "hour")}
    return names | {
        _of_site(kit, scheme.name, near)
        for kit, hour in dirty
        for near in chain.touched_hours([hour])
        for scheme in schemes
    }


def _of_kit(kind: str, kit: str, hour: int) -> str:
    return f"{kind} {kit} {hour}"


def _of_site(site: str, scheme: str, hour: int) -> str:
    return f"index {site} {scheme} {hour}"


def _indices(schemes: tuple[Scheme, ...], hours: list[HourRecord]) -> Iterable[IndexRecord]:
    for site, group in groupby(sorted(hours, key=lambda h: (h.site, h.hour)), key=lambda h: h.site):
        mine = list(group)
        yield from chain.derive_indices(site, schemes, mine, mine[0].hour, mine[-1].hour)


def _without_revision(record: msgspec.Struct) -> msgspec.Struct:
    return msgspec.structs.replace(record, rev=0)
