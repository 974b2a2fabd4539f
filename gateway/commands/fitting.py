"""`lichen calibrate fit` and `evaluate`: a calibration from rows beside a reference, and what it is worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gateway.commands.collocated import (
    FeaturesOption,
    LagOption,
    RecordOption,
    SplitOption,
    TableOption,
    TargetOption,
    TimeOption,
    UnitOption,
    inputs_of,
    judge,
    print_evaluation,
    read,
    told_in_words,
)  # fmt: skip
from gateway.commands.shared import DirOption, JsonOption, StoreConfigOption, print_json, store_dir
from gateway.errors import LichenError

if TYPE_CHECKING:
    from gateway.tables import Source

_KIT_FEATURES: Final = {
    "pm25": "pm25_cf1,rh,temp",
    "no2": "no2_we,no2_ae,temp_gas,abs_hum=absolute_humidity(temp_amb,rh_amb)",
}
"""What a kit's calibration takes where nothing is said: by what the reference measures."""


def fit(
    target: TargetOption,
    table: TableOption = None,
    kit: Annotated[
        str | None, typer.Option("--kit", metavar="KIT", help="A kit of the store, instead of --table.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="FILE", help="With --kit: CSV file of the reference.")
    ] = None,
    features: FeaturesOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where the record goes; default: its name, here.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the calibration is called.")] = None,
    output: Annotated[
        str | None, typer.Option("--output", metavar="QUANTITY", help="What it gives, such as no2_ppb.")
    ] = None,
    condition: Annotated[
        str | None, typer.Option("--condition", metavar="20c|25c", help="Convert a gas reference from µg/m³ to ppb.")
    ] = None,
    unit: UnitOption = None,
    time: TimeOption = None,
    lag_s: LagOption = 0,
    force: Annotated[
        str, typer.Option("--force", metavar="REASON", help="Make a calibration that is not to be trusted, and why.")
    ] = "",
    directory: DirOption = None,
    config: StoreConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fit a calibration to rows of a sensor beside a reference, and write it as a TOML record.

    Models are compared on held-out blocks of time. A fit that is not to be trusted is refused, in words.

    Examples
    --------
    `lichen calibrate fit --table rows.csv --target ref_pm25_ugm3 --features pm25_cf1_a,pm25_cf1_b,rh_pct,temp_c`,
    `lichen calibrate fit --kit kit-1 --reference station.csv --target pm25_ugm3 -c gateway.toml`
    """
    from calibration.fitting.fit import fit_table
    from calibration.record import dumps

    if (table is None) == (kit is None):
        raise typer.BadParameter("give one of --table FILE and --kit KIT with --reference FILE")
    with told_in_words():
        source = (
            read(table, time, unit, target, lag_s) if table
            else _of_kit(str(kit), reference, target, time, lag_s, directory, config)
        )  # fmt: skip
        inputs = inputs_of(features or default_features(target, kit))
        record = fit_table(
            source.table, target=target, inputs=inputs, condition=condition, output=output, name=name, forced=force,
            source=source.told,
        )  # fmt: skip
    path = out or Path(f"{record.id}.toml")
    _write_new(path, dumps(record))
    if as_json:
        print_json({
            "record": str(path), "id": record.id, "output": record.output, "rows": record.data["rows"],
            "units": list(record.units), "model": record.choice["model"], **record.metrics,
            "findings": [dict(f) for f in record.findings],
        })  # fmt: skip
        return
    m = record.metrics
    typer.echo(
        f"{path}: {record.choice['model']} of {', '.join(i.name for i in record.inputs)}, {record.data['rows']} rows"
    )
    typer.echo(
        f"error on held-out blocks {m['held_out_rmse']:.2f} {record.unit} (R² {m['held_out_r2']:.2f}), "
        f"of the mean alone {m['mean_alone_rmse']:.2f}"
    )
    for f in record.findings:
        typer.echo(f"{f['severity']}{' (' + f['unit'] + ')' if f['unit'] else ''}: {f['text']}")


def evaluate(
    table: TableOption,
    target: TargetOption,
    features: FeaturesOption = None,
    record: RecordOption = None,
    split: SplitOption = 0.7,
    unit: UnitOption = None,
    time: TimeOption = None,
    lag_s: LagOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Judge a calibration: fitted to the first rows of each unit and judged on the rest, or a record on all rows.

    Examples
    --------
    `lichen calibrate evaluate --table rows.csv --target ref_no2_ppb --features no2_na,ox_na,temp_c,abs_hum`,
    `lichen calibrate evaluate --table rows.csv --target ref_pm25_ugm3 --record pm25.toml --json`
    """
    from gateway.report.collocation import unit_text

    found = judge(Path(str(table)), target, features, record, split=split, time=time, unit=unit, lag_s=lag_s)
    if as_json:
        print_json(found.as_dict())
    else:
        print_evaluation(found, unit_text(found.measure))


def _of_kit(
    kit: str,
    reference: Path | None,
    target: str,
    time: str | None,
    lag_s: int,
    directory: Path | None,
    config: Path | None,
) -> "Source":
    from gateway.store.database import open_reader
    from gateway.tables import Source, beside_reference

    if reference is None:
        raise typer.BadParameter("--kit needs the reference's rows: --reference FILE")
    found = read(reference, time, None, target, lag_s)
    db = open_reader(store_dir(directory, config))
    return Source(beside_reference(db, kit, found.table, target), {**found.told, "kit": kit})


def default_features(target: str, kit: str | None) -> str:
    """Return what a kit's calibration takes where nothing is said."""
    pollutant = next((p for p in _KIT_FEATURES if p in target.lower()), None)
    if kit is None or pollutant is None:
        raise typer.BadParameter("say what to calibrate with: --features A,B,…")
    return _KIT_FEATURES[pollutant]


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet: a record that rows were made with is never written over."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise LichenError(f"{path} is there already; give another --out or --name") from error
