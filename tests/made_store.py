"""A store filled with made readings through the gateway's own writer and derivation, for tests of page and export."""

import math
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from gateway.derive.dirty import Deriver
from gateway.derive.recipe import Recipe
from gateway.settings import Derive, Settings, Store, Web
from gateway.store.database import open_writer, transaction
from gateway.store.raw import RawWriter
from gateway.wire import Batch

HOUR_S = 3600
DAY_S = 86_400
START_S = 1_693_526_400  # 2023-09-01T00:00:00Z
COLS = ("seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "pm25_atm", "env_n", "env_bad", "temp", "rh")


def settings_of(store_dir: Path) -> Settings:
    return Settings(store=Store(dir=str(store_dir)), web=Web(port=0), path=store_dir / "gateway.toml")


class MadeStore:
    """Writes readings as intake would."""

    def __init__(self, store_dir: Path) -> None:
        self.dir = store_dir
        self.db: sqlite3.Connection = open_writer(store_dir)
        self.writer = RawWriter(self.db)
        self.deriver = Deriver(self.db, Recipe.of(Derive()))

    def add(self, kit: str, cols: tuple[str, ...], rows: Iterable[list[int | None]], *, boot: int = 7) -> None:
        rows = list(rows)
        seq_at, t_at = cols.index("seq"), cols.index("t")
        with transaction(self.db):
            for first in range(0, len(rows), 200):
                part = rows[first : first + 200]
                heard_ms = 1000 * max((row[t_at] or 0) for row in part)
                batch = Batch(v=1, boot=boot, first=part[0][seq_at] or 0, cols=cols, rows=part)
                self.writer.add(kit, batch, heard_ms, None, live=False)
                self.writer.heard(kit, heard_ms)
            self.writer.flush()

    def add_span(
        self, kit: str, start_s: int, end_s: int, pm: Callable[[int], float], *, dt_s: int = 120, rh: float = 55.0,
        boot: int = 7,
    ) -> None:  # fmt: skip
        """Add a reading each dt, with `pm` [µg/m³] as a function of its time [s]."""
        rows: list[list[int | None]] = []
        for seq, t in enumerate(range(start_s + dt_s, end_s + 1, dt_s)):
            value, temp = round(10 * pm(t)), 2129 + 2 * (seq % 2)  # all alike would be a sensor that is stuck
            rows.append([seq, 60 + seq * dt_s, t, 2, dt_s, 12, 0, value, value - 3, 12, 0, temp, round(100 * rh)])
        self.add(kit, COLS, rows, boot=boot)

    def derive(self) -> None:
        while self.deriver.step():
            pass

    def status(self, kit: str, *, up: int) -> None:
        with transaction(self.db):
            self.writer.set_status(kit, 0, up=up)

    def about(self, kit: str, payload: bytes) -> None:
        with transaction(self.db):
            self.writer.set_about(kit, 0, payload)


def gather(db: sqlite3.Connection) -> None:
    """Make the rows that came one by one derivable, as the gateway does before each round."""
    writer = RawWriter(db)
    with transaction(db):
        writer.gather()
        writer.flush()


def day_of_air(t: int) -> float:
    """PM2.5 [µg/m³] that looks like a city's: two rush hours, a slow swell, some noise without chance."""
    hour = t % DAY_S / HOUR_S
    rush = 22 * math.exp(-(((hour - 8) / 1.8) ** 2)) + 30 * math.exp(-(((hour - 20) / 2.5) ** 2))
    swell = 9 * math.sin(t / (1.7 * DAY_S))
    noise = 3 * math.sin(t / 97) + 2 * math.sin(t / 31.7) + 1.5 * math.sin(t / 13.1)
    return max(0.0, 14 + rush + swell + noise)
