"""What a notebook needs in one place: other people's columns in, results out; each function is `calibration.NAME`.

Columns are numpy arrays, lists, or a pandas DataFrame's; pandas itself is not needed.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration import table as tables
from calibration.inputs import Input, parse
from calibration.quantities import unit_registry
from calibration.record import Record, RecordError

if TYPE_CHECKING:
    from calibration.evaluation.evaluate import Evaluation


def fit(
    data: Any, *, target: str, inputs: Iterable[str | Input], time: str | None = None, unit: str | None = None,
    condition: str | None = None, output: str | None = None, name: str | None = None, forced: str = "",
) -> Record:  # fmt: skip
    """Fit a calibration to rows of a sensor beside a reference.

    Parameters
    ----------
    data
        A mapping of names to columns, or a DataFrame: sensor and reference averaged over the same times, a row each.
    target
        Column of the reference; its unit is what its name ends with (`_ugm3`, `_ppb`).
    inputs
        Columns of the sensor, the main signal first; `x=a+b` is the mean of two,
        `ah=absolute_humidity(temp_c,rh_pct)` is computed [g/m³]. Names of raw channels (`pm25_cf1`, `rh`, `temp`)
        make a calibration for kits.
    time, unit
        Columns of times (UTC where they say no offset) and of the unit a row belongs to; found by their names if None.
    condition
        `20c` (EU, UK) or `25c` (US): converts a reference in µg/m³ of a gas to ppb. None: not converted.
    output
        Quantity that the calibration gives; default: by the target's name.
    name
        What the record is called; default: by quantity and time.
    forced
        A reason to make it although it is not to be trusted; kept in the record.

    Returns
    -------
    Record
        Coefficients of each unit, with all they rest on; `calibration.dumps` writes it as TOML.

    Raises
    ------
    calibration.fitting.fit.FitRefusedError
        The rows or the result are not to be trusted; says why in words.
    calibration.table.TableError
        A column is not there or cannot be read.

    Notes
    -----
    Ridge regression on the inputs, their products with the conditions, and boosted trees on what that leaves are
    compared on held-out blocks of time; of those as good as the best, within one standard error over the blocks, the
    simplest is taken. The interval comes from the same held-out errors. Valid within the inputs met in training: rows
    beyond are told.

    References
    ----------
    Hastie, Tibshirani, Friedman 2009, The Elements of Statistical Learning, 7.10 (one standard error),
    doi:10.1007/978-0-387-84858-7. Roberts et al. 2017, cross-validation by blocks, doi:10.1111/ecog.02881.
    """
    from calibration.fitting.fit import fit_table

    found = tables.of(data, time=time, unit=unit)
    return fit_table(found, target=target, inputs=inputs, condition=condition, output=output, name=name, forced=forced)


def apply(record: Record, data: Any, *, unit: str | None = None, averaging_s: int | None = None) -> Any:
    """Calibrate rows with numpy alone.

    Parameters
    ----------
    record
        From `fit`, or read with `loads`.
    data
        A mapping or DataFrame that has each input of the record by its name, or the columns it is made of [the record's
        units; pint quantities are converted].
    unit
        Which unit's coefficients; may be left out where the record has one.
    averaging_s
        What the rows are means over [s]; default: what the record was made with.

    Returns
    -------
    DataFrame or dict
        Columns `value`, `lo`, `hi` [the record's unit] and `outside` (an input beyond what it was in training), with
        the index of a DataFrame that went in. `lo` and `hi` bound the 90 % interval, NaN where there is none for the
        averaging time. Nothing is clamped.

    Raises
    ------
    calibration.record.RecordError
        An input or unit is missing.
    pint.DimensionalityError
        A quantity of another kind.
    """
    inputs = {i.name: _column(data, i) for i in record.inputs}
    found = record.apply(inputs, unit=unit, averaging_s=averaging_s)
    columns = {"value": found.value, "lo": found.lo, "hi": found.hi, "outside": found.outside}
    return type(data)(columns, index=data.index) if hasattr(data, "index") and hasattr(data, "columns") else columns


def evaluate(
    data: Any, *, target: str, inputs: Iterable[str | Input] | None = None, record: Record | None = None,
    split: float = 0.7, time: str | None = None, unit: str | None = None,
) -> "Evaluation":  # fmt: skip
    """Judge a calibration beside a reference.

    Parameters
    ----------
    data, target, time, unit
        As for `fit`.
    inputs
        Fit to the first rows of each unit with these inputs, and judge on the rest.
    record
        Or judge this record on all rows.
    split
        Share of each unit's rows to learn from, between 0 and 1.

    Returns
    -------
    Evaluation
        Agreement, EPA targets, class of CEN/TS 17660, coverage of the interval, drift, learning curve; `as_dict` for
        JSON.

    Raises
    ------
    calibration.table.TableError
        Neither inputs nor a record, or nothing can be judged.

    References
    ----------
    US EPA, EPA/600/R-20/280, 2021. CEN/TS 17660-1:2021.
    """
    from calibration.evaluation.evaluate import evaluate_record, evaluate_table

    if (inputs is None) == (record is None):
        raise tables.TableError("give either inputs to fit with or a record to judge")
    found = tables.of(data, time=time, unit=unit)
    if record is not None:
        return evaluate_record(found, target=target, record=record)
    given = list(inputs or ())
    wanted = parse(str(i) for i in given) if not all(isinstance(i, Input) for i in given) else given
    return evaluate_table(found, target=target, inputs=tuple(wanted), split=split)  # type: ignore[arg-type]


def _column(data: Any, wanted: Input) -> Any:
    names = list(data.columns) if hasattr(data, "columns") else list(data)
    if wanted.name in names:
        return _bare(data[wanted.name], wanted.unit)
    if missing := [c for c in wanted.columns if c not in names]:
        raise RecordError(f"there is no column {wanted.name!r}, nor {', '.join(missing)} to make it of")
    return wanted.values({c: _bare(data[c], wanted.unit if wanted.how == "mean" else "") for c in wanted.columns})


def _bare(values: Any, unit: str) -> Any:
    """Numbers in a unit: those of a pint quantity converted, others as they are."""
    if hasattr(values, "m_as"):
        # a quantity of another registry is read again: two registries cannot be mixed
        values = unit_registry().Quantity(values.magnitude, str(values.units)).m_as(unit) if unit else values.magnitude
    return np.asarray(values, np.float64)
