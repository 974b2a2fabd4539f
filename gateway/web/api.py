"""The JSON interface under /api/v1: kits, series, indices; each answer read from one state of the store."""

import math
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from calibration.quantities import DERIVED
from gateway.aqi.scheme import Scheme
from gateway.export import completeness, index_row, iso_hour, iso_time
from gateway.records import HOUR_MS
from gateway.store import derived, readings
from gateway.store.database import snapshot
from gateway.web.figures import CHART_HOURS, DAY_HOURS, MAIN_QUANTITY, Figure, KitData
from gateway.web.view import Now, kit_view, newest_ms, read_kits

MOST_HOURS: Final = 24 * 31
"""Longest span of one answer: about 5 MB of readings; whoever needs more exports."""

JSON = dict[str, Any]


class ApiError(Exception):
    """A request that cannot be answered: what is wrong, where, and what to do next."""

    def __init__(self, status: int, what: str, where: str, what_next: str) -> None:
        super().__init__(what)
        self.status = status
        self.body = {"error": what, "where": where, "what_next": what_next}


def kits(db: sqlite3.Connection, clock_ms: int | None) -> JSON:
    """Return every kit with its state and figures."""
    with snapshot(db):
        now, found = read_kits(db, clock_ms)
    return {**_now(now), "kits": [_kit(kit, now) for kit in found]}


def _now(now: Now) -> JSON:
    return {
        "now": _iso(now.time_ms), "clock_trusted": now.trusted,
        "last_hour_start": iso_hour(now.last_hour) if now.time_ms is not None else None,
    }  # fmt: skip


def _iso(time_ms: int | None) -> str | None:
    return None if time_ms is None else iso_time(time_ms)


def _kit(kit: KitData, now: Now) -> JSON:
    view = kit_view(kit, now)
    quantities = {
        q.quantity.name: {
            "unit": q.quantity.text, "correction": q.correction or None,
            "now": _figure(q.now), "last_hour": _figure(q.hour), "last_24h": _figure(q.day),
        }
        for q in view.quantities
    }  # fmt: skip
    return {
        "kit": view.name, "site": kit.site, "state": "up" if view.up else "silent", "heard": _iso(kit.state.heard_ms),
        "newest_reading": _iso(view.newest_ms), "rows": view.row_count, "waiting": view.waiting_count, **quantities,
    }  # fmt: skip


def _figure(figure: Figure) -> JSON:
    return {
        "value": figure.value, "from": _iso(figure.from_ms), "to": _iso(figure.to_ms), "valid_pct": figure.valid_pct,
        "missing": figure.missing or None, "note": figure.note or None, "interval": figure.interval,
        "lo": figure.low, "hi": figure.high, "raw": {raw.name: raw.value for raw in figure.raw},
    }  # fmt: skip


def series(db: sqlite3.Connection, clock_ms: int | None, query: Mapping[str, str]) -> JSON:
    """Return readings and hours of one kit up to now, as columns; a value that is not valid is null."""
    _refuse_others(query, ("kit", "hours", "quantity"))
    hours = _hours(query, CHART_HOURS)
    quantity = query.get("quantity", MAIN_QUANTITY)
    if quantity not in DERIVED:
        raise ApiError(400, f"unknown quantity {quantity!r}", "quantity", f"use one of {', '.join(DERIVED)}")
    name = query.get("kit")
    if not name:
        raise ApiError(400, "no kit named", "kit", "add ?kit= and a kit id; /api/v1/kits lists them")
    with snapshot(db):
        states = readings.kits(db)
        if name not in {state.name for state in states}:
            raise ApiError(404, f"unknown kit {name!r}", "kit", "/api/v1/kits lists the kits")
        now_ms = clock_ms if clock_ms is not None else newest_ms(states) or 0
        last = now_ms // HOUR_MS
        shown = range(last - hours + 1, last + 1)
        air = list(derived.read_air(db, kit=name, hour_from=shown[0], hour_to=last + 1))
        found = {r.hour: r for r in derived.read_hours(db, kit=name, hour_from=shown[0], hour_to=last + 1)}
    records = [found.get(hour) for hour in shown]
    parts: dict[str, list[float | None]] = {quantity: []}
    for suffix in ("lo", "hi"):
        if any(quantity in getattr(hour, suffix) for hour in air):
            parts[f"{quantity}_{suffix}"] = []
    for hour in air:
        for group, column in zip((hour.values, hour.lo, hour.hi), (quantity, f"{quantity}_lo", f"{quantity}_hi")):  # noqa: B905
            if column in parts:
                parts[column] += _nulls(group[quantity].tolist() if quantity in group else [math.nan] * len(hour))
    return {
        "kit": name, "quantity": quantity, "unit": DERIVED[quantity].text, "now": iso_time(now_ms),
        "from": iso_hour(shown[0]), "to": iso_hour(last + 1),
        "readings": {"time_ms": [t for hour in air for t in hour.time_ms.tolist()], **parts},
        "hours": {
            "hour_start_ms": [hour * HOUR_MS for hour in shown],
            quantity: [record.values.get(quantity) if record else None for record in records],
            **{
                f"{quantity}_{suffix}": [getattr(r, suffix).get(quantity) if r else None for r in records]
                for suffix in ("lo", "hi")
                if any(r and quantity in getattr(r, suffix) for r in records)
            },
            completeness(quantity): [record.valid_pct.get(quantity, 0.0) if record else 0.0 for record in records],
        },
    }  # fmt: skip


def _nulls(values: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values]


def indices(db: sqlite3.Connection, clock_ms: int | None, schemes: Sequence[Scheme], query: Mapping[str, str]) -> JSON:
    """Return the indices of every site, or of one, up to the last hour, under the names that exports use."""
    _refuse_others(query, ("site", "scheme", "hours"))
    hours = _hours(query, DAY_HOURS)
    site, scheme = query.get("site"), query.get("scheme")
    known = [s.name for s in schemes]
    if scheme is not None and scheme not in known:
        raise ApiError(404, f"scheme {scheme!r} is not derived here", "scheme", f"use one of {', '.join(known)}")
    with snapshot(db):
        now, kits = read_kits(db, clock_ms)
        if site is not None and site not in {kit.site for kit in kits}:
            raise ApiError(404, f"unknown site {site!r}", "site", "/api/v1/kits names the site of each kit")
        found = derived.read_indices(
            db, site=site, scheme=scheme, hour_from=now.last_hour - hours + 1, hour_to=now.last_hour + 1
        )
        rows = [{**index_row(record), "interval": "none"} for record in found if record.scheme in known]
    return {**_now(now), "label": "hour_start is the start of the last hour included", "indices": rows}


def _refuse_others(query: Mapping[str, str], known: Sequence[str]) -> None:
    for name in query:
        if name not in known:
            raise ApiError(400, f"unknown parameter {name!r}", name, f"use {', '.join(known)}")


def _hours(query: Mapping[str, str], default: int) -> int:
    text = query.get("hours", str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_HOURS and len(text) <= 9):
        raise ApiError(400, f"hours={text[:20]!r} is not a span", "hours", f"use a whole number from 1 to {MOST_HOURS}")
    return int(text)
