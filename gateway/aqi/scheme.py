"""Index schemes by name: those that come with Lichen, an operator's own files, and the series of dated tables."""

import difflib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from gateway.aqi.days import ZoneError, standard_offset_h
from gateway.aqi.schemefile import LONGEST_WINDOW_H, SchemeError, parse
from gateway.aqi.tables import (
    EVIDENCE,
    LANGUAGES,
    SHAPES,
    Above,
    Category,
    Daily,
    Keep,
    Needs,
    Negative,
    Rounding,
    Scheme,
    Series,
    Table,
    UnknownTableError,
    Validity,
)

__all__ = [
    "EVIDENCE",
    "LANGUAGES",
    "LONGEST_WINDOW_H",
    "SHAPES",
    "Above",
    "Category",
    "Daily",
    "Keep",
    "Needs",
    "Negative",
    "Rounding",
    "Scheme",
    "SchemeError",
    "Series",
    "Table",
    "UnknownSchemeError",
    "UnknownTableError",
    "Validity",
    "ZoneError",
    "families",
    "load",
    "load_all",
    "names",
    "parse",
]


class UnknownSchemeError(LookupError):
    """Raised when no scheme has the name asked for."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name = name
        self.nearest = next(iter(difflib.get_close_matches(name, known, n=1)), None)
        hint = f"did you mean {self.nearest!r}?" if self.nearest else f"known: {', '.join(known)}"
        super().__init__(f"no index scheme is called {name!r}; {hint}")


def names(directory: Path | None = None) -> list[str]:
    """Names of the schemes that come with Lichen and of those in an operator's directory, without the series."""
    own = (p.name for p in directory.glob("*.toml")) if directory else ()
    shipped = (p.name for p in _shipped().iterdir() if p.name.endswith(".toml"))
    return sorted({name.removesuffix(".toml") for name in (*own, *shipped)})


def families(directory: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Names of the series, such as `us`, each with its dated schemes, oldest first.

    Raises
    ------
    SchemeError
        A scheme's file cannot be used.
    """
    found: dict[str, list[Scheme]] = {}
    for name in names(directory):
        scheme = _one(name, directory)
        if scheme.family:
            found.setdefault(scheme.family, []).append(scheme)
    return {
        family: tuple(s.name for s in sorted(members, key=lambda s: s.validity.start))
        for family, members in sorted(found.items())
    }


@cache
def load(name: str, directory: Path | None = None) -> Scheme:
    """Return a scheme by name: one that comes with Lichen, `<name>.toml` of an operator's directory, or a series.

    A scheme such as `us-2024` applies its table to any date; a series such as `us` applies to each hour the table
    that was in force then.

    Parameters
    ----------
    name
        Such as `us-2024`, `tw-2025`, or `us`, `tw`.
    directory
        Folder of an operator's own schemes.

    Raises
    ------
    UnknownSchemeError
        With the nearest known name.
    SchemeError
        Its file cannot be used, or it has the name of one that comes with Lichen.
    """
    known = names(directory)
    if name in known:
        return _one(name, directory)
    dated = families(directory)
    if name not in dated:
        raise UnknownSchemeError(name, [*known, *dated])
    return _series(name, [_one(member, directory) for member in dated[name]])


DAILY: Final = "-daily"
"""After the name of a scheme: its index of local days."""


@cache
def load_all(wanted: tuple[str, ...], directory: Path | None = None, zone: str | None = None) -> tuple[Scheme, ...]:
    """Return schemes by name, and with `-daily` after the name their index of local days.

    Parameters
    ----------
    wanted
        Such as `us-2024` or `us-2024-daily`.
    directory
        Folder of an operator's own schemes.
    zone
        The site's time zone; days need it.

    Raises
    ------
    UnknownSchemeError
        With the nearest known name.
    SchemeError
        A file cannot be used, or a scheme has no rule for days.
    ZoneError
        Days are asked for and the zone is missing, unknown, or one of half hours.
    """
    known = names(directory)
    return tuple(
        _daily(name, load(name.removesuffix(DAILY), directory), zone)
        if name.endswith(DAILY) and name not in known
        else load(name, directory)
        for name in wanted
    )


def _daily(name: str, scheme: Scheme, zone: str | None) -> Scheme:
    if not all(any(table.day for table in member.tables) for member in scheme.members):
        raise SchemeError(name, "", f"{scheme.name} has no rule for days: none is published that could be verified")
    if zone is None:
        raise ZoneError("", f"{name} needs the site's zone: days run from midnight to midnight of its standard time")
    same = {name: getattr(scheme, name) for name in Scheme.__struct_fields__}
    whole = {**same, "name": name, "family": None, "titles": _titles_of_days(scheme)}
    return Daily(**whole, hourly=scheme, offset_h=standard_offset_h(zone))


def _titles_of_days(scheme: Scheme) -> dict[str, str]:
    days = {"en": "daily", "zh-Hant": "每日", "es": "diario", "vi": "hằng ngày"}
    return {language: f"{title}, {days.get(language, '')}".rstrip(", ") for language, title in scheme.titles.items()}


@cache
def _one(name: str, directory: Path | None) -> Scheme:
    shipped, own = _shipped() / f"{name}.toml", directory / f"{name}.toml" if directory else None
    if own and own.is_file():
        if shipped.is_file():
            raise SchemeError(str(own), "", "a scheme of this name comes with Lichen; give yours another")
        try:
            text = own.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SchemeError(str(own), "", f"cannot be read ({error})") from error
        return parse(text, name=name, file=str(own))
    return parse(shipped.read_text("utf-8"), name=name, file=f"{name}.toml")


def _series(name: str, dated: Sequence[Scheme]) -> Scheme:
    for earlier, later in pairwise(dated):
        end = earlier.validity.to
        if end is None or end >= later.validity.start:
            problem = f"is in force with {later.name} on {later.validity.start}; 'valid_to' must be before"
            raise SchemeError(f"{earlier.name}.toml", "scheme", problem)
    newest = dated[-1]
    return Series(**{**msgspec.structs.asdict(newest), "name": name, "family": None, "dated": tuple(dated)})


def _shipped() -> Any:
    return resources.files(__package__) / "schemes"
