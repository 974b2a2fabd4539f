"""`lichen report`: pages for partners and reviewers."""

from pathlib import Path
from typing import Annotated, Final

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
    judge,
    write_report,
)  # fmt: skip
from gateway.commands.shared import JsonOption, group, print_json

app: Final = group("Reports: pages for partners and reviewers.")


@app.callback()
def _report() -> None:
    """Keep a command that stands alone one that has a name."""


@app.command()
def collocation(
    table: TableOption,
    target: TargetOption,
    features: FeaturesOption = None,
    record: RecordOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="The page; the JSON beside it ends with .json. Default: by the table."
        ),
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="What the page is called.")] = None,
    split: SplitOption = 0.7,
    unit: UnitOption = None,
    time: TimeOption = None,
    lag_s: LagOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Write what a calibration is worth beside a reference: one HTML page with pictures, and the numbers as JSON.

    Examples
    --------
    `lichen report collocation --table rows.csv --target ref_pm25_ugm3 --features pm25_cf1_a,pm25_cf1_b,rh,temp`,
    `lichen report collocation --table rows.csv --target ref_pm25_ugm3 --record pm25.toml --out school.html`
    """
    path = Path(str(table))
    found = judge(path, target, features, record, split=split, time=time, unit=unit, lag_s=lag_s)
    page = out or Path(f"{path.stem}-collocation.html")
    write_report(found, page, title=title or path.stem, source=path.name)
    if as_json:
        print_json({"html": str(page), "json": str(page.with_suffix(".json")), "rmse": found.agreement.rmse})
    else:
        typer.echo(f"{page} and {page.with_suffix('.json').name} written: {found.agreement.n} rows judged")
