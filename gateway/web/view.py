"""The whole page as data: sites, their indices and kits, the quiet numbers below; read from one state of the store."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from calibration.quantities import DERIVED
from gateway import wire
from gateway.aqi.scheme import Scheme
from gateway.records import HOUR_MS, HourRecord
from gateway.store import counters, deadletters, derived, readings
from gateway.store.database import snapshot
from gateway.store.readings import KitState
from gateway.web.chart import Chart, steps_chart
from gateway.web.figures import (
    CHART_HOURS,
    MAIN_QUANTITY,
    STALE_AFTER_S,
    KitData,
    QuantityFigures,
    figures,
    load_kit,
    quantities_of,
)
from gateway.web.indices import IndexView, index_view

_ABOUT_CHARS: Final = 60


@dataclass(frozen=True, slots=True)
class Now:
    """What the page takes for now, and the hour that counts as the last one.

    `trusted` is False where the gateway does not believe its clock: then it is the time of the newest placed reading,
    or `None` while there is none.
    """

    time_ms: int | None
    trusted: bool
    last_hour: int


@dataclass(frozen=True, slots=True)
class HourRow:
    """One line of the table beside a chart."""

    start_ms: int
    value: float | None
    valid_pct: float


@dataclass(frozen=True, slots=True)
class KitView:
    """Everything shown of one kit.

    `last_ms` is when it was last heard by the gateway's clock, or, where that is not trusted, its newest reading;
    `behind` says that its newest reading is old.
    """

    name: str
    up: bool
    last_ms: int | None
    by_clock: bool
    newest_ms: int | None
    behind: bool
    about: str
    row_count: int
    waiting_count: int
    quantities: tuple[QuantityFigures, ...]
    chart: Chart
    hours: tuple[HourRow, ...]


@dataclass(frozen=True, slots=True)
class SiteView:
    """A site with its indices and kits."""

    name: str
    indices: tuple[IndexView, ...]
    kits: tuple[KitView, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """What the store holds and what it turned away."""

    rows: int
    duplicates: int
    dead_letters: int
    to_derive: int


@dataclass(frozen=True, slots=True)
class Page:
    """The page."""

    now: Now
    sites: tuple[SiteView, ...]
    totals: Totals


def read_page(db: sqlite3.Connection, schemes: Sequence[Scheme], clock_ms: int | None) -> Page:
    """Read the whole page from one state of the store; `clock_ms` is `None` where the clock is not trusted."""
    with snapshot(db):
        now, kits = read_kits(db, clock_ms)
        by_site: dict[str, list[KitData]] = {}
        for kit in kits:
            by_site.setdefault(kit.site, []).append(kit)
        sites = tuple(_site(db, site, mine, schemes, now) for site, mine in sorted(by_site.items()))
        counts = counters.totals(db)
        totals = Totals(
            sum(kit.state.row_count for kit in kits), counts.get("duplicates", 0),
            sum(deadletters.count(db).values()), derived.count_dirty(db),
        )  # fmt: skip
    return Page(now, sites, totals)


def read_kits(db: sqlite3.Connection, clock_ms: int | None) -> tuple[Now, list[KitData]]:
    """Decide what is now, and read what is needed of each kit; inside a snapshot."""
    states = readings.kits(db)
    now_ms = clock_ms if clock_ms is not None else newest_ms(states)
    trusted = clock_ms is not None
    kits = [load_kit(db, state, now_ms or 0) for state in states]
    return Now(now_ms, trusted, _last_hour(kits, now_ms or 0, trusted=trusted)), kits


def newest_ms(states: Sequence[KitState]) -> int | None:
    """Return the time of the newest placed reading, *now* where the clock is not trusted."""
    return max((state.last_time_ms for state in states if state.last_time_ms is not None), default=None)


def _last_hour(kits: Sequence[KitData], now_ms: int, *, trusted: bool) -> int:
    """Return the last hour that is over; where time is replayed its newest hour counts as soon as it is valid.

    A recording mostly ends a little before its last hour does, and nothing follows that would end it.
    """
    current = now_ms // HOUR_MS
    replayed = not trusted and any(kit.mean(name, current) is not None for kit in kits for name in DERIVED)
    return current if replayed else current - 1


def _site(db: sqlite3.Connection, name: str, kits: Sequence[KitData], schemes: Sequence[Scheme], now: Now) -> SiteView:
    hours: list[HourRecord] = [record for kit in kits for record in kit.hours.values()]
    indices = tuple(index_view(db, name, scheme, hours, now.last_hour) for scheme in schemes)
    return SiteView(name, indices, tuple(kit_view(kit, now) for kit in kits))


def kit_view(kit: KitData, now: Now) -> KitView:
    """Return everything shown of a kit."""
    state, now_ms = kit.state, now.time_ms or 0
    last_ms = state.heard_ms if now.trusted else state.last_time_ms
    fresh = last_ms is not None and now_ms - last_ms <= STALE_AFTER_S * 1000
    behind = state.last_time_ms is not None and now_ms - state.last_time_ms > STALE_AFTER_S * 1000
    shown = range(now.last_hour - CHART_HOURS + 1, now.last_hour + 1)
    values = [kit.mean(MAIN_QUANTITY, hour) for hour in shown]
    return KitView(
        name=state.name, up=fresh and state.up is not False, last_ms=last_ms, by_clock=now.trusted,
        newest_ms=state.last_time_ms, behind=behind, about=_about(state.about), row_count=state.row_count,
        waiting_count=state.waiting_count,
        quantities=tuple(figures(kit, q, now_ms=now_ms, last_hour=now.last_hour) for q in quantities_of(kit)),
        chart=steps_chart(values, shown[0]),
        hours=tuple(_row(kit, hour, value) for hour, value in zip(shown, values, strict=True)),
    )  # fmt: skip


def _row(kit: KitData, hour: int, value: float | None) -> HourRow:
    record = kit.hours.get(hour)
    return HourRow(hour * HOUR_MS, value, record.valid_pct.get(MAIN_QUANTITY, 0.0) if record else 0.0)


def _about(payload: bytes | None) -> str:
    """Board and firmware as the kit tells them; nothing where that cannot be read."""
    if payload is None:
        return ""
    try:
        about = wire.decode_about(payload)
    except wire.WireError:
        return ""
    return f"{about.board[:_ABOUT_CHARS]}, firmware {about.fw.version[:_ABOUT_CHARS]}"
