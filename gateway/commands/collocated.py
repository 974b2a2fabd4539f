"""What the commands on collocated rows have in common: which table, which columns, and an evaluation in words."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.errors import LichenError

if TYPE_CHECKING:
    from calibration.evaluation.evaluate import Evaluation
    from calibration.evaluation.metrics import Agreement
    from calibration.inputs import Input
    from calibration.record import Record
    from calibration.table import Table
    from gateway.tables import Source

TableOption = Annotated[
    Path | None, typer.Option("--table", metavar="FILE", help="CSV file: sensor and reference, a row each time.")
]
TargetOption = Annotated[str, typer.Option("--target", metavar="COLUMN", help="Column of the reference.")]
FeaturesOption = Annotated[
    str | None,
    typer.Option(
        "--features", metavar="A,B,…",
        help="Columns of the sensor, main signal first; `x=a+b` is a mean, `ah=absolute_humidity(t,rh)` computed.",
    ),
]  # fmt: skip
UnitOption = Annotated[
    str | None,
    typer.Option("--unit", metavar="COLUMN", help="Column that names the unit; default: box, sensor_index, …"),
]
TimeOption = Annotated[
    str | None, typer.Option("--time", metavar="COLUMN", help="Column of times; default: the first datetime… or date…")
]
LagOption = Annotated[
    int, typer.Option("--lag-s", metavar="SECONDS", help="Shift the reference by this much, as a finding says.")
]
SplitOption = Annotated[
    float, typer.Option("--split", min=0.05, max=0.95, help="Share of each unit's rows to learn from.")
]
RecordOption = Annotated[
    Path | None, typer.Option("--record", metavar="FILE", help="Judge this calibration instead of fitting one.")
]


@contextmanager
def told_in_words() -> Iterator[None]:
    """Turn what the science raises into an error that a person can act on."""
    from calibration.fitting.fit import FitRefusedError
    from calibration.record import RecordError
    from calibration.table import TableError

    try:
        yield
    except FitRefusedError as error:
        raise LichenError(f"{error}\nto make it all the same, give the reason with --force REASON") from error
    except (TableError, RecordError) as error:
        raise LichenError(str(error)) from error


def read(path: Path, time: str | None, unit: str | None, target: str, lag_s: int) -> "Source":
    """Read a table, its reference shifted where asked."""
    from dataclasses import replace

    from gateway.tables import read_csv, shifted

    source = read_csv(path, time=time, unit=unit)
    if not lag_s:
        return source
    return replace(source, table=shifted(source.table, [target], lag_s), told={**source.told, "lag_s": lag_s})


def inputs_of(features: str) -> "tuple[Input, ...]":
    """Read `--features`."""
    from calibration.inputs import parse, split_specs

    return parse(split_specs(features))


def judge(
    path: Path, target: str, features: str | None, record: Path | None, *, split: float, time: str | None,
    unit: str | None, lag_s: int,
) -> "Evaluation":  # fmt: skip
    """Evaluate what the options name."""
    if (features is None) == (record is None):
        raise typer.BadParameter("give one of --features A,B,… and --record FILE")
    with told_in_words():
        return judge_table(read(path, time, unit, target, lag_s).table, target, features, record, split=split)


def judge_table(
    table: "Table", target: str, features: str | None, record: Path | None, *, split: float
) -> "Evaluation":
    """Evaluate a record on all rows of a table, else fit with features to its first rows and judge on the rest."""
    from calibration.evaluation.evaluate import evaluate_record, evaluate_table

    if record is not None:
        return evaluate_record(table, target=target, record=load(record))
    return evaluate_table(table, target=target, inputs=inputs_of(features or ""), split=split)


def write_report(found: "Evaluation", page: Path, *, title: str, source: str) -> None:
    """Write the page of an evaluation, and its numbers and rows as JSON beside it."""
    from datetime import UTC, datetime

    from gateway.report.collocation import as_html, as_json

    now = datetime.now(UTC)
    texts = {
        page: as_html(found, title=title, source=source, now=now),
        page.with_suffix(".json"): as_json(found, title=title, source=source, now=now),
    }
    for where, text in texts.items():
        where.write_text(text, "utf-8")


def load(path: Path) -> "Record":
    """Read a calibration record."""
    from calibration.record import RecordError, loads

    try:
        return loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, RecordError) as error:
        raise LichenError(f"{path}: {error}") from error


def print_evaluation(found: "Evaluation", unit: str) -> None:
    """Print an evaluation for a person: in words, then numbers."""
    from gateway.report.collocation import in_words

    for line in in_words(found):
        typer.echo(line)
    for f in found.findings:
        typer.echo(f"{f.severity.value}{f' ({f.unit})' if f.unit else ''}: {f.text}")
    typer.echo(f"\n{'':<28}{'rows':>6}  {'RMSE':>7}  {'bias':>7}  {'R²':>5}  {'slope':>6}  {'icpt':>6}  90 % interval")
    typer.echo(_line(f"calibrated [{unit}]", found.agreement, found.coverage))
    for u in found.units if len(found.units) > 1 else ():
        typer.echo(_line(f"  unit {u.unit}", u.agreement, u.coverage))
    if len(found.units) > 1:
        typer.echo(f"  {'median of the units':<26}{'':>6}  {found.rmse_median:>7.2f}")
    if found.raw:
        typer.echo(_line("the sensor's own value", found.raw))
    for name, a in found.fixed.items():
        typer.echo(_line(name, a))
    for p in found.learning:
        typer.echo(
            f"learned from {p.share:.0%}: RMSE {p.rmse:.2f}, median {p.rmse_median:.2f}, in the interval "
            f"{p.coverage:.0%} "
            f"({p.model})"
        )
    for point in found.epa:
        met = "cannot be said" if point.met is None else "met" if point.met else "not met"
        typer.echo(f"EPA {point.name}: {point.value:.2f}, asked {point.asked}: {met}")
    if found.cen:
        typer.echo(
            f"CEN/TS 17660: class {found.cen.reached or 'none'}, "
            f"uncertainty {found.cen.uncertainty_pct:.0f} % at the limit value"
        )


def _line(name: str, a: "Agreement", coverage: float = math.nan) -> str:
    inside = "" if math.isnan(coverage) else f"{coverage:>6.1%}"
    errors = f"{name:<28}{a.n:>6}  {a.rmse:>7.2f}  {a.bias:>+7.2f}  {a.r2:>5.2f}"
    return f"{errors}  {a.slope:>6.2f}  {a.intercept:>+6.2f}  {inside}"
