"""The index of several pollutants: the largest sub-index, which pollutant leads, which category it is."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from gateway.aqi.index import NO_INDEX, Floats, Ints, sub_index, sub_index_nounit
from gateway.aqi.tables import Scheme

if TYPE_CHECKING:
    from pint import Quantity


class Overall(msgspec.Struct, frozen=True, eq=False):
    """Indices of several pollutants, arrays of one shape.

    `value` int64, `NO_INDEX` where there is none; `leading` is the place of the leading pollutant in `pollutants`, -1
    where there is no index or the agency names none; `subs` holds each pollutant's sub-index.
    """

    scheme: Scheme
    value: Ints
    leading: Ints
    pollutants: tuple[str, ...]
    subs: Mapping[str, Ints]

    def leading_names(self) -> list[str | None]:
        """Names of the leading pollutants, flat."""
        return [self.pollutants[at] if at >= 0 else None for at in self.leading.reshape(-1).tolist()]

    def categories(self) -> list[str | None]:
        """Keys of the categories, flat."""
        return [
            None if value == NO_INDEX else self.scheme.category_of(value).key
            for value in self.value.reshape(-1).tolist()
        ]


def air_quality_index(scheme: Scheme, concentrations: "Mapping[str, Quantity[Any]]") -> Overall:
    """Index of concentrations with units, converted with pint first; see `air_quality_index_nounit`.

    Raises
    ------
    pint.DimensionalityError
        A unit cannot be converted to its table's.
    UnknownTableError
        With the tables there are.
    """
    return _overall(scheme, {name: sub_index(scheme.table(name), value) for name, value in concentrations.items()})


def air_quality_index_nounit(scheme: Scheme, concentrations: Mapping[str, Floats]) -> Overall:
    """Index of concentrations of several tables: the largest of their sub-indices.

    Parameters
    ----------
    scheme
        As `scheme.load` returns it; of a series the newest table is applied.
    concentrations
        By name of the table (`pm25`, `o3_8h`, `so2_1h`), arrays of one shape [each table's own unit], NaN where there
        is none: means over the averaging time of the table.

    Returns
    -------
    Overall
        Of the same shape. Between equal sub-indices the pollutant that the scheme's file names first leads.

    Raises
    ------
    UnknownTableError
        With the tables there are.

    Examples
    --------
    >>> from gateway.aqi.scheme import load
    >>> found = air_quality_index_nounit(load("tw-2025"), {"pm25": np.array([12.5]), "no2": np.array([13.0])})
    >>> found.value.tolist(), found.leading_names(), found.categories()
    ([51], ['pm25'], ['moderate'])
    """
    return _overall(
        scheme, {name: sub_index_nounit(scheme.table(name), values) for name, values in concentrations.items()}
    )


def _overall(scheme: Scheme, by_table: Mapping[str, Ints]) -> Overall:
    subs: dict[str, Ints] = {}
    for pollutant in scheme.pollutants:
        mine = [by_table[table.name] for table in scheme.tables_of(pollutant) if table.name in by_table]
        if mine:
            subs[pollutant] = np.maximum.reduce(mine)
    return combine(scheme, subs)


def combine(scheme: Scheme, subs: Mapping[str, Ints]) -> Overall:
    """Combine sub-indices by pollutant, in the scheme's order, arrays of one shape, `NO_INDEX` where there is none."""
    names = tuple(p for p in scheme.pollutants if p in subs)
    if not names:
        nothing = np.full((), NO_INDEX)
        return Overall(scheme, nothing, nothing, names, {})
    all_subs = np.stack(np.broadcast_arrays(*(subs[p] for p in names)))
    value, leading = all_subs.max(axis=0), all_subs.argmax(axis=0)  # the first of equals
    valid = all_subs != NO_INDEX
    lacking = valid.sum(axis=0) < scheme.needs.pollutants
    if scheme.needs.one_of:
        lacking |= ~np.any(valid[[i for i, p in enumerate(names) if p in scheme.needs.one_of]], axis=0)
    value = np.where(lacking, NO_INDEX, value)
    unnamed = (value == NO_INDEX) | (value <= scheme.leading_above)
    return Overall(scheme, value, np.where(unnamed, -1, leading), names, dict(subs))


def enough(scheme: Scheme, valid: Collection[str]) -> bool:
    """Tell whether the pollutants that have a sub-index suffice for an index of the scheme."""
    needs = scheme.needs
    return len(valid) >= needs.pollutants and (not needs.one_of or any(p in valid for p in needs.one_of))
