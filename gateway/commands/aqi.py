"""`lichen aqi`: the index of a table of one's own."""

import csv
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.shared import JsonOption, StoreConfigOption, print_json

if TYPE_CHECKING:
    from gateway.aqi.indexing import Indexed, Row


class Values(StrEnum):
    """What values are whose column tells no averaging time."""

    AUTO = "auto"
    HOURS = "hours"
    MEANS = "means"


def aqi(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Table of concentrations; - reads standard input.")],
    scheme: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="us-2024, us-2012, tw-2025, tw-2020, tw-2016, eu-2025, who-2021, or one of "
            "your own; us and tw take for each row the table in force then.",
        ),
    ],
    values: Annotated[
        Values,
        typer.Option(
            help="What values are whose column tells no averaging time: hours, which are averaged as the "
            "scheme does, or the means that its tables are made for; auto: hours where times tell hours."
        ),
    ] = Values.AUTO,
    daily: Annotated[
        bool, typer.Option("--daily", help="From hours one index a day, from midnight to midnight in standard time.")
    ] = False,
    zone: Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            help="The site's zone, such as Asia/Taipei or +08:00; times without an offset are its standard time.",
        ),
    ] = None,
    unit: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=UNIT", help="Unit of a column or pollutant; may be repeated.")
    ] = None,
    time: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of times.")] = None,
    site: Annotated[
        str | None, typer.Option(metavar="COLUMN,COLUMN", help="Columns that tell sites or instruments apart.")
    ] = None,
    config: StoreConfigOption = None,
    schemes_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of schemes of your own; default: that of -c.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute the air-quality index of each row of a CSV file, and print CSV.

    Columns are found by name and unit: `pm25_ugm3`, `PM2.5 (µg/m³)`, `o3_8h_ppb`, `no2` beside a column `units`, the
    names of Taiwan's open data. Which column served for what, and which pollutants have none, is said on standard
    error. Rows come out in their order, one each.

    Examples: `lichen aqi taoyuan.csv --scheme tw-2025 > index.csv`, `lichen aqi hours.csv --scheme us --values hours`,
    `lichen aqi hours.csv --scheme us-2024 --daily --zone America/New_York --unit o3=ppb --json`
    """  # fmt: skip
    from gateway.aqi.csvtable import CsvError, parse
    from gateway.aqi.days import ZoneError
    from gateway.aqi.indexing import Asked, index_table
    from gateway.aqi.scheme import SchemeError, UnknownSchemeError, load
    from gateway.errors import LichenError

    hourly = None if values is Values.AUTO else values is Values.HOURS
    asked = Asked(hourly=hourly, daily=daily, zone=zone, units=_units(unit or []), time=time, site=site)
    try:
        found = index_table(parse(_lines(file)), load(scheme, schemes_dir or _configured(config)), asked)
    except (UnknownSchemeError, SchemeError, ZoneError) as error:
        raise LichenError(str(error)) from error
    except (CsvError, csv.Error) as error:
        raise LichenError(f"{file}: {error}") from error
    if as_json:
        print_json(_json(found))
        return
    for note in found.notes:
        typer.echo(note, err=True)
    _write(found)


def _units(given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := next((column for column, equals, unit in pairs if not (column and equals and unit)), None):
        raise typer.BadParameter(f"{wrong!r} is not COLUMN=UNIT, such as o3=ppb", param_hint="--unit")
    return {column: unit for column, _, unit in pairs}


def _configured(config: Path | None) -> Path | None:
    if config is None:
        return None
    from gateway.settings import load

    return load(config).schemes_dir


def _lines(file: Path) -> list[str]:
    from gateway.errors import LichenError

    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return data.decode("utf-8-sig").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise LichenError(f"{file}: is not UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from error


def _json(found: "Indexed") -> dict[str, Any]:
    return {
        "scheme": found.scheme,
        "columns": [
            {"table": u.table.name, "pollutant": u.table.pollutant, "column": u.column, "unit": u.unit,
             "unit_assumed": u.assumed, "averaged": u.average, "table_unit": u.table.unit} for u in found.uses
        ],
        "missing": found.missing, "notes": found.notes, "rows": [asdict(row) for row in found.rows],
    }  # fmt: skip


def _write(found: "Indexed") -> None:
    pollutants = list(dict.fromkeys(use.table.pollutant for use in found.uses))
    keys = list(found.rows[0].keys) if found.rows else []
    used = {use.table.name: use.table for use in found.uses}
    names = [f"{name}_{t.unit.replace('/', '').replace('**', '')}" for name, t in used.items()]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([*keys, "value", "category", "pollutant", *(f"{p}_index" for p in pollutants), *names, "table"])
    for row in found.rows:
        writer.writerow([
            *row.keys.values(), row.value, row.category, row.pollutant, *(row.subs.get(p) for p in pollutants),
            *(_number(row, name, table.decimals) for name, table in used.items()), row.table,
        ])  # fmt: skip


def _number(row: "Row", name: str, decimals: int) -> str:
    value = row.used.get(name)
    return "" if value is None else f"{value:.{decimals}f}" if value == round(value, decimals) else f"{value:.6g}"
