"""What is shown of the indices of one site, and what is missing where there is none; from the store."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from calibration.quantities import DERIVED
from gateway.aqi.kernels import NOWCAST_LEAST_RECENT, NOWCAST_RECENT, TW_LEAST_RECENT, TW_RECENT, Mean
from gateway.aqi.scheme import Category, Scheme
from gateway.records import HOUR_MS, HourRecord, IndexRecord
from gateway.store import derived

LANGUAGE: Final = "en"
POLLUTANT_TITLES: Final = {"pm25": "PM2.5", "no2": "NO2"}

_RECENT: Final = {"nowcast": (NOWCAST_RECENT, NOWCAST_LEAST_RECENT), "tw_mean": (TW_RECENT, TW_LEAST_RECENT)}
"""Of the kernels that also ask for recent hours: how many, and how many of them must be valid."""


@dataclass(frozen=True, slots=True)
class Step:
    """One category of a scheme's scale, for the strip under the number."""

    category: Category
    here: bool


@dataclass(frozen=True, slots=True)
class PartView:
    """One pollutant's part: what the index was made from, and the 24 h mean beside it."""

    title: str
    unit: str
    concentration: float | None
    index: int | None
    valid_pct: float
    mean_24h: float | None
    index_24h: int | None
    hours_24h: int


@dataclass(frozen=True, slots=True)
class IndexView:
    """One index; `value` and `category` are `None` where there is not enough data and `missing` says of what."""

    scheme: Scheme
    title: str
    table: str
    hour: int
    value: int | None
    category: Category | None
    pollutant: str | None
    equivalent: str
    missing: tuple[str, ...]
    parts: tuple[PartView, ...]
    scale: tuple[Step, ...]
    record: IndexRecord | None

    @property
    def end_ms(self) -> int:
        """End of the last hour included [ms since 1970]."""
        return (self.hour + 1) * HOUR_MS


def index_view(db: sqlite3.Connection, site: str, scheme: Scheme, hours: Sequence[HourRecord], hour: int) -> IndexView:
    """Return the index of a site whose last hour is `hour`; `hours` are the recent hours of its kits."""
    found = list(derived.read_indices(db, site=site, scheme=scheme.name, hour_from=hour, hour_to=hour + 1))
    record = found[-1] if found else None
    value = record.value if record else None
    category = None
    if record and value is not None:
        category = next((c for c in scheme.categories if c.key == record.category), scheme.category_of(value))
    return IndexView(
        scheme=scheme, title=scheme.titles[LANGUAGE], table=record.table if record else scheme.label, hour=hour,
        value=value, category=category,
        pollutant=POLLUTANT_TITLES.get(record.pollutant, record.pollutant) if record and record.pollutant else None,
        equivalent=record.equivalent if record and record.subs else "PM2.5 equivalent",
        missing=() if value is not None else _missing(scheme, site, hours, hour),
        parts=_parts(record), scale=tuple(Step(c, c is category) for c in scheme.categories), record=record,
    )  # fmt: skip


def _parts(record: IndexRecord | None) -> tuple[PartView, ...]:
    units = {quantity.pollutant: quantity.text for quantity in DERIVED.values()}
    return tuple(
        PartView(
            POLLUTANT_TITLES.get(name, name), units.get(name, ""), sub.concentration, sub.index, sub.valid_pct,
            sub.mean_24h, sub.index_24h, round(sub.valid_24h_pct * 24 / 100),
        )
        for name, sub in (record.subs if record else {}).items()
    )  # fmt: skip


def _missing(scheme: Scheme, site: str, hours: Sequence[HourRecord], hour: int) -> tuple[str, ...]:
    """Say what each pollutant that the site has (PM2.5 in any case) lacks for an index at this hour."""
    mine = [record for record in hours if record.site == site and record.hour <= hour]
    said = []
    for name, quantity in DERIVED.items():
        valid = {record.hour for record in mine if name in record.values}
        mean = next((t.realtime for t in scheme.tables_of(quantity.pollutant) if t.realtime), None)
        if mean is None or not (valid or quantity.pollutant == "pm25"):
            continue
        title = POLLUTANT_TITLES.get(quantity.pollutant, quantity.pollutant)
        for window, least in _needs(mean):
            have = len(valid & set(range(hour - window + 1, hour + 1)))
            if have < least:
                said.append(f"{title}: {have} of the last {window} hours, at least {least} are needed")
    return tuple(said)


def _needs(mean: Mean) -> list[tuple[int, int]]:
    """Return (hours looked at, hours needed) for each condition of a mean."""
    if mean.kernel == "nowcast":
        return [_RECENT["nowcast"]]
    return [(mean.window, mean.least), *([_RECENT[mean.kernel]] if mean.kernel in _RECENT else [])]
