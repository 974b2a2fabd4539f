"""Hours of one kit: its calibrated rows, and time-weighted means that depend on the rows of the hour alone."""

from collections.abc import Iterator, Sequence
from math import isnan
from typing import Final

import numpy as np

from calibration.flags import Flag, Reason
from calibration.qc import Bools, Checked
from gateway.derive.rows import Rows
from gateway.records import HOUR_S, AirHour, Floats, HourRecord, Ints

HOUR_LEAST_S: Final = 2700
"""An hour is valid from this many seconds covered by good rows: 75 %."""


def air_hours(rows: Rows, site: str) -> Iterator[AirHour]:
    """Yield the calibrated rows of each hour; a row has the worst flag of its quantities and the reasons of all."""
    qc = np.maximum.reduce([part.flags for part in rows.derived.values()])
    reasons = np.bitwise_or.reduce([part.reasons for part in rows.derived.values()])
    cal = "|".join(rows.corrections)
    time_ms, rev = rows.readings.time_ms, np.zeros(len(rows.readings), np.int64)
    ends = [*rows.starts[1:].tolist(), len(rows.readings)]
    for hour, start, end in zip(rows.hours.tolist(), rows.starts.tolist(), ends, strict=True):
        part = slice(start, end)
        yield AirHour(
            kit=rows.readings.kit, site=site, hour=hour, time_ms=time_ms[part],
            values={name: checked.value[part] for name, checked in rows.derived.items()}, lo={}, hi={},
            qc=qc[part], reasons=reasons[part], cal=cal, rev=rev[part],
        )  # fmt: skip


def hour_records(rows: Rows, site: str) -> Iterator[HourRecord]:
    """Yield the means of each hour.

    A quantity has a mean from 2,700 s covered by good rows on, and its share of the hour covered in any case. A raw
    channel is listed where the hour has a value of it at all, so that the columns of other hours change nothing.
    """
    raw = {name: (rows.readings.columns[name], usable) for name, usable in rows.usable.items()}
    derived = {name: (checked.value, checked.valid) for name, checked in rows.derived.items()}
    means, shares = _means(rows, [*raw.values(), *derived.values()])
    always = np.ones(len(rows.hours), bool)
    listed = [*(_any(rows, ~np.isnan(values)) for values, _ in raw.values()), *(always for _ in derived)]
    qc, reasons = (column.tolist() for column in _flags(rows, means[len(raw) :]))
    names = (*raw, *derived)
    by_hour = zip(means.T.tolist(), shares.T.tolist(), np.array(listed).T.tolist(), strict=True)
    cal = "|".join(rows.corrections)
    for i, (hour, (mean, pct, here)) in enumerate(zip(rows.hours.tolist(), by_hour, strict=True)):
        yield HourRecord(
            kit=rows.readings.kit, site=site, hour=hour,
            values={name: m for name, m in zip(names, mean, strict=True) if not isnan(m)},
            valid_pct={name: share for name, share, h in zip(names, pct, here, strict=True) if h},
            qc=qc[i], reasons=reasons[i], cal=cal,
        )  # fmt: skip


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

    Of a valid hour the worst flag and all reasons of the rows used. An hour without a value is missing, incomplete,
    and has the reasons of all its rows, used or not: they say why.
    """
    qc, reasons = np.zeros(len(rows.hours), np.int64), np.zeros(len(rows.hours), np.int64)
    for mean, checked in zip(means, rows.derived.values(), strict=True):
        incomplete = np.isnan(mean)
        used = np.maximum.reduceat(np.where(checked.valid, checked.flags, 0), rows.starts)
        qc = np.maximum(qc, np.where(incomplete, int(Flag.MISSING), used))
        why = _union(rows, checked, checked.valid)
        reasons |= np.where(incomplete, _union(rows, checked, np.True_) | int(Reason.INCOMPLETE), why)
    return qc, reasons


def _union(rows: Rows, checked: Checked, where: Bools | np.bool_) -> Ints:
    found: Ints = np.bitwise_or.reduceat(np.where(where, checked.reasons, 0), rows.starts)
    return found
