"""The main job computed a second time, from the ledger and the recording alone; imports nothing of Lichen."""

import csv
import json
import math
from collections import defaultdict
from datetime import UTC, datetime
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from itertools import pairwise

SCALE = {
    "temp": 100, "rh": 100, "pm25_cf1": 10, "pm25_cf1_b": 10, "pm25_atm": 10, "pm25_atm_b": 10,
}  # fmt: skip


def read_ledger(path):
    """Rows of the ledger as dicts of integers or None."""
    with path.open(newline="") as lines:
        return [
            {k: (v if k == "kit" else int(v) if v else None) for k, v in row.items()} for row in csv.DictReader(lines)
        ]


def canonical(column, value):
    """A wire integer in canonical units."""
    return None if value is None else value / SCALE.get(column, 1)


def hour_of(row):
    """The hour that contains the middle of the row's interval."""
    return math.floor((row["t"] - row["dt"] / 2) / 3600)


def _good(row, n, bad):
    return row[n] is not None and row[n] >= 0.75 * (row[n] + row[bad])


def corrected(row):
    """barkjohn2021 of one row, None where an input is missing."""
    masses = []
    for column, n, bad in (("pm25_cf1", "pm_n", "pm_bad"), ("pm25_cf1_b", "pm_n_b", "pm_bad_b")):
        if row[column] is not None and _good(row, n, bad):
            masses.append(row[column] / 10)
    if not masses or row["rh"] is None or not _good(row, "env_n", "env_bad"):
        return None
    return 0.524 * sum(masses) / len(masses) - 0.0862 * row["rh"] / 100 + 5.75


def hours(rows, value_of):
    """Time-weighted means of each hour with at least 2,700 s covered."""
    sums = defaultdict(lambda: [0.0, 0])
    for row in rows:
        value = value_of(row)
        if value is not None:
            total = sums[hour_of(row)]
            total[0] += value * row["dt"]
            total[1] += row["dt"]
    return {hour: total / seconds for hour, (total, seconds) in sums.items() if seconds >= 2700}


def recording_hours(path, column, start_s, end_s):
    """Time-weighted means of the recording itself: each value holds until its row's time."""
    with path.open(newline="") as lines:
        rows = [
            (datetime.fromisoformat(r["datetime_utc"]).replace(tzinfo=UTC).timestamp(), r[column])
            for r in csv.DictReader(lines)
        ]
    gaps = sorted(b[0] - a[0] for a, b in pairwise(rows))
    usual = gaps[len(gaps) // 2]
    sums = defaultdict(lambda: [0.0, 0.0])
    for (before, _), (end, cell) in pairwise([(rows[0][0] - usual, ""), *rows]):
        begin = end - usual if end - before > 1.5 * usual else before
        while begin < end and cell.strip().lower() not in ("", "nan"):
            hour = math.floor(begin / 3600)
            stop = min(end, (hour + 1) * 3600)
            used = min(stop, end_s) - max(begin, start_s)
            if used > 0:
                sums[hour][0] += float(cell) * used
                sums[hour][1] += used
            begin = stop
    return {hour: (total / seconds, seconds) for hour, (total, seconds) in sums.items()}


def _truncate(value, step):
    exact = Decimal(repr(round(value, 9)))  # agencies truncate the decimal number, not its binary neighbour
    return float(exact.quantize(Decimal(step), ROUND_DOWN))


def nowcast(by_hour, hour):
    """EPA leaflet P100X0J6, step by step."""
    window = [by_hour.get(hour - i) for i in range(12)]
    if sum(v is not None for v in window[:3]) < 2:
        return None
    present = [v for v in window if v is not None]
    weight = max(0.5, min(1.0, min(present) / max(present))) if max(present) > 0 else 1.0
    top = sum(weight**i * v for i, v in enumerate(window) if v is not None)
    return _truncate(top / sum(weight**i for i, v in enumerate(window) if v is not None), "0.1")


def taiwan_mean(by_hour, hour):
    """Half the mean of 12 hours, half that of 4; needs 6 and 2."""
    twelve = [v for i in range(12) if (v := by_hour.get(hour - i)) is not None]
    four = [v for i in range(4) if (v := by_hour.get(hour - i)) is not None]
    if len(twelve) < 6 or len(four) < 2:
        return None
    return _truncate(0.5 * sum(twelve) / len(twelve) + 0.5 * sum(four) / len(four), "0.1")


def day_mean(by_hour, hour):
    """Mean of 24 hours where 18 are there."""
    day = [v for i in range(24) if (v := by_hour.get(hour - i)) is not None]
    return _truncate(sum(day) / len(day), "0.1") if len(day) >= 18 else None


def index(concentration, bands, rounding):
    """The agencies' equation on exact decimals."""
    if concentration is None:
        return None
    c = Decimal(str(max(concentration, 0.0)))
    low, high, i_low, i_high = next((b for b in bands if c <= Decimal(str(b[1]))), bands[-1])
    low, high = Decimal(str(low)), Decimal(str(high))
    return int(((i_high - i_low) / (high - low) * (c - low) + i_low).quantize(Decimal(1), rounding))


def indices(by_hour, hour, tables):
    """Concentration used and index of each scheme, and the 24 h mean with its own."""
    us, tw = tables["us_epa_2024"]["pm25_24h"], tables["tw_2025"]["pm25"]
    found = {}
    for scheme, mean, bands, rounding in (
        ("us-2024", nowcast, us, ROUND_HALF_UP),
        ("tw-2025", taiwan_mean, tw, ROUND_HALF_EVEN),
    ):
        used, day = mean(by_hour, hour), day_mean(by_hour, hour)
        found[scheme] = (used, index(used, bands, rounding), day, index(day, bands, rounding))
    return found


def read_tables(path):
    """The breakpoint tables of the reference."""
    return json.loads(path.read_text())
