"""Hours of kits: their calibrated rows, and time-weighted means that depend on the rows of the hour alone."""

from collections.abc import Iterator, Sequence
from math import isnan
from typing import Final

import numpy as np

from calibration.applied import Interval
from calibration.flags import Flag, Reason
from calibration.qc import Bools, Checked
from gateway.derive.rows import Rows
from gateway.records import HOUR_S, AirHour, Floats, HourRecord, Ints

HOUR_LEAST_S: Final = 2700
"""An hour is valid from this many seconds covered by good rows: 75 %."""


def air_hours(rows: Rows) -> Iterator[AirHour]:
    """Yield the calibrated rows of each hour, of each quantity that the hour has anything of.

    A row has the worst flag of the quantities it has a value of, and the reasons of all: they say why others have none.
    """
    qc, reasons = _row_flags(list(rows.derived.values()))
    values = {name: (checked.value, rows.present[name].tolist()) for name, checked in rows.derived.items()}
    lo, hi = ({name: _bound(rows, getattr(checked, which)) for name, checked in rows.derived.items()}
              for which in ("lo", "hi"))  # fmt: skip
    rev = np.zeros(len(rows), np.int64)
    ends = [*rows.starts[1:].tolist(), len(rows)]
    labels = [one.label for one in rows.stretches]
    for i, (number, hour, start, end) in enumerate(
        zip(rows.whose.tolist(), rows.hours.tolist(), rows.starts.tolist(), ends, strict=True)
    ):
        stretch, part = rows.stretches[number], slice(start, end)
        here = [name for name, (_, present) in values.items() if present[i]]
        yield AirHour(
            kit=stretch.readings.kit, site=stretch.site, hour=hour, time_ms=rows.time_ms[part],
            values={name: values[name][0][part] for name in here},
            lo={name: lo[name][0][part] for name in here if lo[name][1][i]},
            hi={name: hi[name][0][part] for name in here if hi[name][1][i]},
            qc=qc[part], reasons=reasons[part], cal=labels[number], rev=rev[part],
        )  # fmt: skip


def _bound(rows: Rows, bound: Floats | None) -> tuple[Floats, list[bool]]:
    """Return a bound, and which hours have any: there is none of others, whatever stands beside them."""
    if bound is None:
        return np.empty(0), [False] * len(rows.hours)
    return bound, _any(rows, ~np.isnan(bound)).tolist()


def _row_flags(parts: Sequence[Checked]) -> tuple[Ints, Ints]:
    flags: Ints = parts[0].flags
    reasons: Ints = parts[0].reasons
    if len(parts) > 1:
        for part in parts[1:]:
            reasons = reasons | part.reasons
        worst: Ints = np.array([np.where(part.valid, part.flags, 0) for part in parts]).max(axis=0)
        # Of values that are all absent a failed one says more than a missing one.
        flags = np.where(worst > 0, worst, np.array([part.flags for part in parts]).min(axis=0))
    return flags, reasons


def hour_records(rows: Rows) -> Iterator[HourRecord]:
    """Yield the means of each hour.

    A quantity has a mean from 2,700 s covered by good rows on, and its share of the hour covered in any case. A raw
    channel or quantity is listed where the hour has anything of it, so that the columns of other hours change nothing.
    """
    raw = {name: (rows.columns[name], usable) for name, usable in rows.usable.items()}
    derived = {name: (checked.value, checked.valid) for name, checked in rows.derived.items()}
    means, shares = _means(rows, [*raw.values(), *derived.values()])
    listed = [*(_any(rows, ~np.isnan(values)) for values, _ in raw.values()), *(rows.present[name] for name in derived)]
    qc, reasons = (column.tolist() for column in _flags(rows, means[len(raw) :]))
    names = (*raw, *derived)
    by_hour = zip(means.T.tolist(), shares.T.tolist(), np.array(listed).T.tolist(), strict=True)
    bounds = _intervals(rows, means[len(raw) :])
    labels = [one.label for one in rows.stretches]
    for i, (number, hour, (mean, pct, here)) in enumerate(
        zip(rows.whose.tolist(), rows.hours.tolist(), by_hour, strict=True)
    ):
        stretch = rows.stretches[number]
        yield HourRecord(
            kit=stretch.readings.kit, site=stretch.site, hour=hour,
            values={name: m for name, m in zip(names, mean, strict=True) if not isnan(m)},
            valid_pct={name: share for name, share, h in zip(names, pct, here, strict=True) if h},
            qc=qc[i], reasons=reasons[i], cal=labels[number],
            lo={name: low[i] for name, (low, _) in bounds.items() if not isnan(low[i])},
            hi={name: high[i] for name, (_, high) in bounds.items() if not isnan(high[i])},
        )  # fmt: skip


def _intervals(rows: Rows, means: Floats) -> dict[str, tuple[list[float], list[float]]]:
    """Bounds of the 90 % interval of each hour's mean, NaN of those that have none for means over an hour."""
    found = {}
    middle_s: Floats = rows.hours.astype(np.float64) * HOUR_S + HOUR_S / 2
    for mean, (name, families) in zip(means, rows.families.items(), strict=True):
        half = np.full(len(rows.hours), np.nan)
        for family in families:
            if family.first.interval is not Interval.NONE:
                width = family.of_hours().half_width(mean[family.hours], float(HOUR_S), middle_s[family.hours])
                half[family.hours] = np.nan if width is None else width
        if not np.isnan(half).all():
            found[name] = (mean - half).tolist(), (mean + half).tolist()
    return found


def _means(rows: Rows, columns: Sequence[tuple[Floats, Bools]]) -> tuple[Floats, Floats]:
    """Mean of each hour, NaN where it is not valid, and the share of the hour covered [%]; both [columns, h]."""
    total, covered = np.empty((2, len(columns), len(rows.hours)))
    for i, (values, usable) in enumerate(columns):
        weight = np.where(usable, rows.seconds, 0.0)
        # reduceat sums each hour's rows by themselves, so neighbours in the batch cannot touch a bit of the result
        np.add.reduceat(np.where(usable, values, 0.0) * weight, rows.starts, out=total[i])
        np.add.reduceat(weight, rows.starts, out=covered[i])
    mean = np.divide(total, covered, out=np.full(total.shape, np.nan), where=covered >= HOUR_LEAST_S)
    return mean, 100.0 * np.minimum(covered, HOUR_S) / HOUR_S


def _any(rows: Rows, mask: Bools) -> Bools:
    found: Bools = np.logical_or.reduceat(mask, rows.starts)
    return found


def _flags(rows: Rows, means: Floats) -> tuple[Ints, Ints]:
    """Flag and reasons of each hour, [h] each; `means` [derived, h].

    Of the quantities that are valid the worst flag and all reasons of the rows used. One without a value is incomplete
    and has the reasons of all its rows, used or not: they say why. An hour with none that is valid is missing.
    """
    qc, reasons = np.zeros(len(rows.hours), np.int64), np.zeros(len(rows.hours), np.int64)
    for mean, (name, checked) in zip(means, rows.derived.items(), strict=True):
        incomplete = np.isnan(mean)
        used = np.maximum.reduceat(np.where(checked.valid, checked.flags, 0), rows.starts)
        qc = np.maximum(qc, np.where(incomplete, 0, used))
        why = _union(rows, checked, checked.valid)
        why = np.where(incomplete, _union(rows, checked, np.True_) | int(Reason.INCOMPLETE), why)
        reasons |= np.where(rows.present[name], why, 0)
    return np.where(qc > 0, qc, int(Flag.MISSING)), reasons


def _union(rows: Rows, checked: Checked, where: Bools | np.bool_) -> Ints:
    found: Ints = np.bitwise_or.reduceat(np.where(where, checked.reasons, 0), rows.starts)
    return found
