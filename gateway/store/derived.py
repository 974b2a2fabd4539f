"""Writing and reading derived records; a record keeps its revision while its content stays the same."""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
import numpy as np

from gateway.records import HOUR_MS, AirHour, HourRecord, IndexRecord, Ints
from gateway.store import losses, tombstones
from gateway.store.air_pack import air_content, pack_air, unpack_air
from gateway.store.database import horizon_hour, take_revisions
from gateway.store.tombstones import Kind

_encode: Final = msgspec.json.Encoder().encode
_decode_hour: Final = msgspec.json.Decoder(HourRecord).decode
_decode_index: Final = msgspec.json.Decoder(IndexRecord).decode
_DIRTY: Final = "SELECT kit, hour FROM dirty UNION SELECT kit, hour FROM fresh"


def next_dirty(db: sqlite3.Connection, limit: int) -> list[tuple[int, str, int]]:
    """Return (kit number, kit name, hour) of hours to derive again, a kit's hours together and in order.

    Hours whose derivation has failed are left out until something of them changes, or the gateway starts.
    """
    found = db.execute(
        "SELECT dirty.kit, kit.name, dirty.hour FROM dirty JOIN kit ON kit.id = dirty.kit WHERE NOT failed "
        "ORDER BY dirty.kit, dirty.hour LIMIT ?",
        (limit,),
    )
    return found.fetchall()


def all_dirty(db: sqlite3.Connection) -> set[tuple[str, int]]:
    """Return (kit name, hour) of every hour that is to be derived again, rows to be gathered included."""
    return set(db.execute(f"SELECT kit.name, hour FROM ({_DIRTY}) JOIN kit ON kit.id = kit"))  # noqa: S608 - a constant


def set_failed(db: sqlite3.Connection, kit: int, hour: int) -> None:
    """Note that an hour could not be derived."""
    db.execute("UPDATE dirty SET failed = failed + 1 WHERE kit = ? AND hour = ?", (kit, hour))


def try_failed_again(db: sqlite3.Connection) -> None:
    """Put the hours that could not be derived back among the others."""
    db.execute("UPDATE dirty SET failed = 0 WHERE failed")


def clear_dirty(db: sqlite3.Connection, hours: Iterable[tuple[int, int]]) -> None:
    """Take (kit number, hour) off the list, in the transaction that writes what was derived."""
    db.executemany("DELETE FROM dirty WHERE kit = ? AND hour = ?", hours)


def recipe(db: sqlite3.Connection) -> str:
    """Return by what the derived records were made."""
    return str(db.execute("SELECT label FROM recipe").fetchone()[0])


def start_again(db: sqlite3.Connection, label: str, schemes: Sequence[str]) -> None:
    """Note a new recipe: every hour that is not sealed is dirty, and indices of other schemes than these go.

    Inside a transaction.
    """
    db.execute("UPDATE recipe SET label = ?", (label,))
    db.execute(
        "INSERT INTO dirty (kit, hour) SELECT DISTINCT kit, hour FROM chunk WHERE hour >= ? "
        "ON CONFLICT (kit, hour) DO UPDATE SET failed = 0",
        (horizon_hour(db),),
    )
    others = "scheme NOT IN (SELECT value FROM json_each(?))"
    known = (json.dumps(schemes),)
    for site, scheme in db.execute(f"SELECT DISTINCT site, scheme FROM site_index WHERE {others}", known).fetchall():  # noqa: S608
        of_site = db.execute("SELECT hour FROM site_index WHERE site = ? AND scheme = ?", (site, scheme)).fetchall()
        tombstones.leave(db, Kind.INDEX, site, scheme, [hour * HOUR_MS for (hour,) in of_site])
    db.execute(f"DELETE FROM site_index WHERE {others}", known)  # noqa: S608 - a constant


def count_dirty(db: sqlite3.Connection) -> int:
    """Return how many hours wait to be derived."""
    return int(db.execute(f"SELECT count(*) FROM ({_DIRTY})").fetchone()[0])  # noqa: S608 - a constant


def write_air(db: sqlite3.Connection, kit: int, hours: Sequence[AirHour]) -> None:
    """Store hours of calibrated rows of a kit, rising; changed rows alone get new revisions."""
    if not hours:
        return
    span = (kit, hours[0].hour, hours[-1].hour)
    found = dict(db.execute("SELECT hour, record FROM air WHERE kit = ? AND hour BETWEEN ? AND ?", span))
    changed: list[tuple[AirHour, Ints]] = []
    for air in hours:
        rows = air_content(air)
        known: dict[bytes, int] = {}
        if air.hour in found:
            old = unpack_air(air.kit, air.hour, found[air.hour])
            content = air_content(old)
            if content == rows:
                continue
            known = dict(zip(content, old.rev.tolist(), strict=True))
            tombstones.leave(db, Kind.AIR, air.kit, old.site, losses.lost_rows(old, air).tolist())
        changed.append((air, np.array([known.get(row, 0) for row in rows] if known else [0] * len(rows))))
    first = take_revisions(db, len(changed))
    values = []
    for latest, (air, rev) in enumerate(changed, first):
        rev[rev == 0] = latest
        values.append((kit, air.hour, latest, pack_air(air, rev)))
    db.executemany(
        "INSERT INTO air (kit, hour, rev, record) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (kit, hour) DO UPDATE SET rev = excluded.rev, record = excluded.record",
        values,
    )


def write_hours(db: sqlite3.Connection, kit: int, records: Sequence[HourRecord]) -> dict[int, str]:
    """Store the means of hours of a kit, rising; returns at which site those that are not new were before, by hour."""
    if not records:
        return {}
    span = (kit, records[0].hour, records[-1].hour)
    found = dict(db.execute("SELECT hour, record FROM hour WHERE kit = ? AND hour BETWEEN ? AND ?", span))
    changed, before = [], {}
    for record in records:
        blob = _encode(record)
        if (stored := found.get(record.hour)) == blob:
            before[record.hour] = record.site
            continue
        if stored is not None:
            old = _decode_hour(stored)
            before[record.hour] = old.site
            if old.site != record.site or losses.loses_fields(old, record):
                tombstones.leave(db, Kind.HOUR, record.kit, old.site, [record.hour * HOUR_MS])
        changed.append((record, blob))
    first = take_revisions(db, len(changed))
    db.executemany(
        "INSERT INTO hour (kit, hour, rev, site, record) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (kit, hour) DO UPDATE SET rev = excluded.rev, site = excluded.site, record = excluded.record",
        [(kit, record.hour, rev, record.site, blob) for rev, (record, blob) in enumerate(changed, first)],
    )
    return before


def drop_hour(db: sqlite3.Connection, kit: int, hour: int) -> str | None:
    """Withdraw an hour that has no readings any more; returns the site that it was at, None where there was none."""
    air = db.execute(
        "DELETE FROM air WHERE kit = ? AND hour = ? RETURNING (SELECT name FROM kit WHERE id = kit), record",
        (kit, hour),
    ).fetchone()
    if air:
        old_air = unpack_air(air[0], hour, air[1])
        tombstones.leave(db, Kind.AIR, old_air.kit, old_air.site, old_air.time_ms.tolist())
    found = db.execute("DELETE FROM hour WHERE kit = ? AND hour = ? RETURNING record", (kit, hour)).fetchone()
    if not found:
        return None
    old = _decode_hour(found[0])
    tombstones.leave(db, Kind.HOUR, old.kit, old.site, [hour * HOUR_MS])
    return old.site


def write_indices(
    db: sqlite3.Connection, site: str, first_hour: int, last_hour: int, records: Sequence[IndexRecord]
) -> None:
    """Store the indices that a site has in these hours, both included; those that it has no more are withdrawn."""
    found = {
        (scheme, hour): record
        for scheme, hour, record in db.execute(
            "SELECT scheme, hour, record FROM site_index WHERE site = ? AND hour BETWEEN ? AND ?",
            (site, first_hour, last_hour),
        )
    }
    changed = []
    for record in records:
        blob = _encode(record)
        stored = found.pop((record.scheme, record.hour), None)
        if stored == blob:
            continue
        if stored is not None and losses.loses_fields(_decode_index(stored), record):
            tombstones.leave(db, Kind.INDEX, site, record.scheme, [record.hour * HOUR_MS])
        changed.append((record, blob))
    for scheme, hour in found:
        tombstones.leave(db, Kind.INDEX, site, scheme, [hour * HOUR_MS])
    db.executemany(
        "DELETE FROM site_index WHERE site = ? AND scheme = ? AND hour = ?", [(site, *gone) for gone in found]
    )
    first = take_revisions(db, len(changed))
    db.executemany(
        "INSERT INTO site_index (site, scheme, hour, rev, record) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT (site, scheme, hour) DO UPDATE SET rev = excluded.rev, record = excluded.record",
        [(site, record.scheme, record.hour, rev, blob) for rev, (record, blob) in enumerate(changed, first)],
    )


_HOURS: Final = "hour >= coalesce(:hour_from, -9e18) AND hour < coalesce(:hour_to, 9e18)"
_OF_KITS: Final = f"WHERE coalesce(kit.name = :kit, 1) AND {_HOURS} ORDER BY kit.name, hour"
_HOUR_SQL: Final = f"SELECT record, rev FROM hour JOIN kit ON kit.id = hour.kit {_OF_KITS}"  # noqa: S608 - constants
_SITE_SQL: Final = f"SELECT record, rev FROM hour WHERE site = :site AND {_HOURS} ORDER BY hour, kit"  # noqa: S608
_AIR_SQL: Final = f"SELECT name, hour, record FROM air JOIN kit ON kit.id = air.kit {_OF_KITS}"  # noqa: S608 - constants
_INDEX_SQL: Final = (
    "SELECT record, rev FROM site_index WHERE coalesce(site = :site, 1) AND coalesce(scheme = :scheme, 1) "  # noqa: S608
    f"AND {_HOURS} ORDER BY site, scheme, hour"
)


def counts(db: sqlite3.Connection) -> tuple[int, int]:
    """Return how many hours and how many indices there are."""
    hours, indices = db.execute("SELECT (SELECT count(*) FROM hour), (SELECT count(*) FROM site_index)").fetchone()
    return int(hours), int(indices)


def read_hours(
    db: sqlite3.Connection, *, kit: str | None = None, hour_from: int | None = None, hour_to: int | None = None
) -> Iterator[HourRecord]:
    """Yield hour records by kit and hour; `hour_to` is exclusive."""
    for record, rev in db.execute(_HOUR_SQL, {"kit": kit, "hour_from": hour_from, "hour_to": hour_to}):
        yield decode_hour(record, rev)


def read_site_hours(db: sqlite3.Connection, site: str, hour_from: int, hour_to: int) -> list[HourRecord]:
    """Return the hour records of a site's kits, by hour; `hour_to` is exclusive."""
    found = db.execute(_SITE_SQL, {"site": site, "hour_from": hour_from, "hour_to": hour_to})
    return [decode_hour(record, rev) for record, rev in found]


def next_site_hour(
    db: sqlite3.Connection, site: str, hour: int, hour_from: int, hour_to: int
) -> tuple[str, int] | None:
    """Return the first (site, hour) from these on, by site and hour, that has an hour record within a span."""
    found = db.execute(
        "SELECT site, hour FROM hour WHERE (site, hour) >= (?, ?) AND hour >= ? AND hour < ? "
        "ORDER BY site, hour LIMIT 1",
        (site, hour, hour_from, hour_to),
    ).fetchone()
    return None if found is None else (str(found[0]), int(found[1]))


def hours(db: sqlite3.Connection, kit: str) -> list[tuple[str, int]]:
    """Return (kit, hour) of every hour record and every hour of calibrated rows of a kit."""
    return db.execute(
        "SELECT ?1, hour FROM hour WHERE kit = (SELECT id FROM kit WHERE name = ?1) "
        "UNION SELECT ?1, hour FROM air WHERE kit = (SELECT id FROM kit WHERE name = ?1)",
        (kit,),
    ).fetchall()


def sites(db: sqlite3.Connection) -> list[str]:
    """Return every site that has an hour or an index."""
    return [site for (site,) in db.execute("SELECT site FROM hour UNION SELECT site FROM site_index ORDER BY 1")]


def read_air(
    db: sqlite3.Connection, *, kit: str | None = None, hour_from: int | None = None, hour_to: int | None = None
) -> Iterator[AirHour]:
    """Yield calibrated hours by kit and hour; `hour_to` is exclusive."""
    for name, hour, record in db.execute(_AIR_SQL, {"kit": kit, "hour_from": hour_from, "hour_to": hour_to}):
        yield unpack_air(name, hour, record)


def read_indices(
    db: sqlite3.Connection,
    *,
    site: str | None = None,
    scheme: str | None = None,
    hour_from: int | None = None,
    hour_to: int | None = None,
) -> Iterator[IndexRecord]:
    """Yield indices by site, scheme and hour; `hour_to` is exclusive."""
    bounds = {"site": site, "scheme": scheme, "hour_from": hour_from, "hour_to": hour_to}
    for record, rev in db.execute(_INDEX_SQL, bounds):
        yield decode_index(record, rev)


def decode_hour(record: bytes, rev: int) -> HourRecord:
    """Return a stored hour with its revision."""
    return msgspec.structs.replace(_decode_hour(record), rev=rev)


def decode_index(record: bytes, rev: int) -> IndexRecord:
    """Return a stored index with its revision."""
    return msgspec.structs.replace(_decode_index(record), rev=rev)
