"""The typed records that the store, the derive steps, every sink, export and page share. No I/O."""

from enum import IntEnum
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.flags import Flag, Reason, reason_names

__all__ = [
    "HOUR_MS",
    "HOUR_S",
    "NULL",
    "POLLUTANT_NAMES",
    "AirHour",
    "Flag",
    "Floats",
    "HealthRecord",
    "HourRecord",
    "IndexRecord",
    "Ints",
    "Readings",
    "Reason",
    "SubIndex",
    "TimeSource",
    "Void",
    "reason_names",
]

NULL: Final = -(2**63)
"""How null stands in arrays of wire integers: the lowest of 64 bits, which the wire refuses as a value."""

HOUR_S: Final = 3600
HOUR_MS: Final = 3_600_000

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class TimeSource(IntEnum):
    """Where the time of a reading comes from."""

    KIT = 0
    ANCHOR = 1
    RECEIPT = 2


class Readings(msgspec.Struct, frozen=True, eq=False):
    """Raw readings of one kit in canonical units, sorted by (time, boot, seq); all arrays have the same length n.

    `columns` maps each wire column but `seq` (channels, counters, `up`, `t`, `q`, `dt`) to float64 [n], canonical
    units, NaN where the kit sent null or no such column. `rev` is the revision under which a reading was last placed.
    """

    kit: str
    time_ms: Ints
    boot: Ints
    seq: Ints
    time_source: Ints
    time_error_s: Ints
    rev: Ints
    columns: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.time_ms)


class AirHour(msgspec.Struct, frozen=True, eq=False):
    """Calibrated values of one kit in one UTC hour, a row a reading, sorted as the readings are.

    `values` maps a derived quantity to float64 [n], NaN where there is none; `lo` and `hi` hold its 90 % interval and
    are absent where the calibration has none. `rev` [n] is the revision of each row; all zero before it is stored.
    """

    kit: str
    site: str
    hour: int
    time_ms: Ints
    values: dict[str, Floats]
    lo: dict[str, Floats]
    hi: dict[str, Floats]
    qc: Ints
    reasons: Ints
    cal: str
    rev: Ints

    def __len__(self) -> int:
        return len(self.time_ms)


class Void(msgspec.Struct, frozen=True):
    """Rows that are not used, by an operator's word: those whose interval's middle lies in a span [ms since 1970].

    `what` names a raw channel or a derived quantity, empty for all; `to_ms` is not included.
    """

    what: str
    from_ms: int
    to_ms: int


class HourRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Means of one kit over one UTC hour; `hour` is hours since 1970 of its start.

    `values` holds the mean of every raw channel and of every calibrated quantity; a quantity without a valid hour is
    absent. `valid_pct` is the share of the hour covered by good rows, per calibrated quantity and per raw channel
    [0-100]. `cal` names the corrections used. `lo` and `hi` bound the 90 % interval of those means whose calibration
    has one for means over 1 h.
    """

    kit: str
    site: str
    hour: int
    values: dict[str, float]
    valid_pct: dict[str, float]
    qc: int
    reasons: int
    cal: str
    rev: int = msgspec.field(default_factory=int)  # never left out: records of older programs keep their bytes
    lo: dict[str, float] = {}
    hi: dict[str, float] = {}


class SubIndex(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One pollutant's part in an index: the concentration used, its sub-index, and the 24 h mean beside it.

    Concentrations are in the pollutant's canonical unit, whatever the scheme's; `None` where there is not enough data.
    """

    concentration: float | None = None
    index: int | None = None
    valid_pct: float = 0.0
    mean_24h: float | None = None
    index_24h: int | None = None
    valid_24h_pct: float = 0.0


POLLUTANT_NAMES: Final = {"pm25": "PM2.5", "no2": "NO2"}
"""Of those that kits measure, for people."""


class IndexRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An index of one site by one scheme, labelled by the start of the last hour it includes.

    `value`, `category` and `pollutant` are `None` where there is not enough data, and `pollutant` also where the agency
    names none. `table` names the version of the breakpoint table; `?` after it says that the date by which a series
    chose it is unverified. From a kit it is an equivalent, never an official value.
    """

    site: str
    scheme: str
    hour: int
    value: int | None
    category: str | None
    pollutant: str | None
    table: str
    subs: dict[str, SubIndex]
    rev: int = 0

    @property
    def equivalent(self) -> str:
        """Of which pollutants it is the equivalent: a kit measures fewer than the official one is made from."""
        names = "/".join(name for key, name in POLLUTANT_NAMES.items() if key in self.subs)
        return f"{names} equivalent".lstrip()


class HealthRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers of a kit at a time, or of the gateway itself, which has no name; `time_ms` is that of the receipt."""

    kit: str
    time_ms: int
    values: dict[str, int | float]
    rev: int = 0
