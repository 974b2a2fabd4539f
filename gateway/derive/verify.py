"""Proof on a live store: everything derived is computed again from the raw readings and compared."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

import msgspec

from gateway.aqi.scheme import Scheme
from gateway.derive import chain
from gateway.derive.dirty import load_schemes
from gateway.records import HourRecord, IndexRecord
from gateway.settings import Derive
from gateway.store import derived, readings
from gateway.store.database import snapshot


@dataclass(slots=True)
class Verdict:
    """How many records were compared, which differ, and how many hours still wait to be derived."""

    compared: int = 0
    different: list[str] = field(default_factory=list)
    dirty: int = 0

    def compare(self, name: str, stored: object, computed: object) -> None:
        """Note whether a record is as it should be; `None` stands for a record that is not there."""
        self.compared += 1
        if stored != computed:
            self.different.append(name)


def verify(db: sqlite3.Connection, settings: Derive) -> Verdict:
    """Compare the derived records of one state of the store with a clean recomputation, bit for bit.

    Hours that wait to be derived are counted, and their old records show as different.
    """
    verdict = Verdict()
    schemes = load_schemes(settings)
    with snapshot(db):
        verdict.dirty = derived.count_dirty(db)
        computed = [
            pair
            for found in readings.each_hour(db)
            for pair in chain.derive_hours(found, site=found.kit, correction=settings.correction)
        ]
        stored: dict[str, object] = {}
        stored |= {f"air {a.kit} {a.hour}": derived.air_content(a) for a in derived.read_air(db)}
        stored |= {f"hour {h.kit} {h.hour}": _without_revision(h) for h in derived.read_hours(db)}
        stored |= {f"index {i.site} {i.scheme} {i.hour}": _without_revision(i) for i in derived.read_indices(db)}
    for air, hour in computed:
        verdict.compare(name := f"air {air.kit} {air.hour}", stored.pop(name, None), derived.air_content(air))
        verdict.compare(name := f"hour {hour.kit} {hour.hour}", stored.pop(name, None), hour)
    for record in _indices(schemes, [hour for _, hour in computed]):
        name = f"index {record.site} {record.scheme} {record.hour}"
        verdict.compare(name, stored.pop(name, None), record)
    for name, left in stored.items():
        verdict.compare(name, left, None)
    return verdict


def _indices(schemes: tuple[Scheme, ...], hours: list[HourRecord]) -> Iterable[IndexRecord]:
    for site, group in groupby(sorted(hours, key=lambda h: (h.site, h.hour)), key=lambda h: h.site):
        mine = list(group)
        yield from chain.derive_indices(site, schemes, mine, mine[0].hour, mine[-1].hour)


def _without_revision(record: msgspec.Struct) -> msgspec.Struct:
    return msgspec.structs.replace(record, rev=0)
