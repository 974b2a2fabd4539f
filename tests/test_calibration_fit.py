"""Fitting: what is chosen, that nothing of a test is seen, that intervals hold, and that a record is all of it."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from collocated import INPUTS, TARGET, columns, joined, made
from hypothesis import given, settings
from hypothesis import strategies as st

import calibration
from calibration import record as records
from calibration import table
from calibration.fitting import blocks, choose, interval, linear, trees
from calibration.fitting.fit import FitRefusedError, fit_table
from calibration.fitting.tree_tables import TreeTables
from calibration.inputs import Input, parse, split_specs
from calibration.record import RecordError


def fitted(rows=1200, **how):
    return fit_table(made(rows, **how), target=TARGET, inputs=INPUTS)


# --- the linear family ------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(["main", "main and signal x condition", "main and all products"]))
def test_expanded_coefficients_say_the_same_as_scaled_ones(seed, family):
    rng = np.random.default_rng(seed)
    x = rng.normal([30, 60, 15], [20, 15, 8], (50, 3))
    terms = linear.families(3, 1)[family]
    scale, coefficients = linear.Scale.of(x), rng.normal(0, 3, 1 + len(terms))
    expanded = linear.expand(scale, terms, coefficients)
    by_hand = sum(c * np.prod(x[:, list(term)], axis=1) for term, c in expanded.items())
    assert np.allclose(scale.design(x, terms) @ coefficients, by_hand, rtol=1e-9, atol=1e-9)


def test_cells_add_up_to_least_squares_on_the_rows_of_those_blocks():
    rng = np.random.default_rng(3)
    x, y, unit = rng.normal(0, 1, (240, 3)), rng.normal(0, 1, 240), np.zeros(240, int)
    design = linear.Scale.of(x).design(x, linear.families(3, 1)["main"])
    block = blocks.cut(unit)
    cells = linear.Cells.of(design, y, unit, block)
    found = linear.solve(cells, np.array([0, 1, 4]), np.ones(4), 0.0, 0.0)[0]
    rows = np.isin(block, [0, 1, 4])
    assert np.allclose(found, np.linalg.lstsq(design[rows], y[rows], rcond=None)[0])
    errors = cells.squared_errors(found[None, :], 5)[0]
    assert errors == pytest.approx(((design[block == 5] @ found - y[block == 5]) ** 2).sum())


def test_a_unit_of_few_rows_is_drawn_towards_all_and_one_of_many_is_not():
    rng = np.random.default_rng(4)
    unit = np.repeat([0, 1, 2], [600, 600, 12])
    x = rng.normal(0, 1, (len(unit), 1))
    y = 2 * x[:, 0] + rng.normal(0, 0.1, len(unit)) + np.where(unit == 2, 5.0, 0.0)
    cells = linear.Cells.of(linear.Scale.of(x).design(x, ((0,),)), y, unit, blocks.cut(unit))
    everything = np.arange(blocks.BLOCKS)
    alone, drawn, one = (linear.solve(cells, everything, np.ones(2), 0.0, pull) for pull in (0.0, 100.0, np.inf))
    assert alone[2, 0] == pytest.approx(5.0, abs=0.3)
    assert 0.2 < drawn[2, 0] < 1.5
    assert drawn[0, 0] == pytest.approx(alone[0, 0], abs=0.05)
    assert np.ptp(one, axis=0).max() == 0


def test_ridge_leaves_the_sensors_own_signal_alone():
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, (600, 2))
    y = 3 * x[:, 0] + 3 * x[:, 1] + rng.normal(0, 0.1, 600)
    terms = ((0,), (1,))
    cells = linear.Cells.of(linear.Scale.of(x).design(x, terms), y, np.zeros(600, int), blocks.cut(np.zeros(600, int)))
    found = linear.solve(cells, np.arange(6), choose.free_terms(terms, 1), 0.3, 0.0)[0]
    assert found[1] == pytest.approx(3.0, abs=0.2)
    assert found[2] == pytest.approx(3.0 / 1.3, abs=0.2)  # 1/(1 + penalty)


def test_products_are_taken_where_they_are_real_and_left_where_they_are_not():
    rng = np.random.default_rng(6)
    x = np.column_stack([rng.gamma(2, 6, 1500), rng.uniform(20, 90, 1500), rng.uniform(0, 30, 1500)])
    unit = np.zeros(1500, int)
    plain = choose.choose(x, 0.5 * x[:, 0] + rng.normal(0, 2, 1500), unit, signals=1)
    assert plain.chosen.name == "signal"
    bent = choose.choose(x, 0.5 * x[:, 0] - 0.004 * x[:, 0] * x[:, 1] + rng.normal(0, 0.5, 1500), unit, signals=1)
    assert bent.chosen.name == "main and signal x condition"


def test_what_an_episode_alone_says_for_more_terms_is_not_believed():
    """Of models that are not clearly different over the blocks the simplest is taken."""
    best = choose.Candidate("rich", ((0,), (1,)), 0.0, 0.0, 0, np.array([1.0, 1, 1, 1, 1, 1]), 3.0)
    plain = replace(best, name="plain", terms=((0,),), coefficients=2.0)
    once = replace(plain, mse=np.array([0.99, 0.99, 0.99, 0.99, 0.99, 9.0]))
    always = replace(plain, mse=np.array([1.5, 1.4, 1.6, 1.5, 1.5, 1.5]))
    assert choose._simplest([best, once]) is once
    assert choose._simplest([best, always]) is best


# --- blocks of time ---------------------------------------------------------------------------------------------


def test_a_block_is_never_predicted_from_both_its_sides_and_each_once():
    seen = []
    for learned, held in blocks.folds():
        assert held not in learned
        assert len(learned) >= blocks.BLOCKS // 2
        assert (learned < held).all() or (learned > held).all()
        seen.append(held)
    assert sorted(seen) == list(range(blocks.BLOCKS))


@settings(max_examples=30)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.floats(0.2, 0.9))
def test_a_split_is_in_time_for_each_unit(sizes, share):
    parts = [columns(n, unit=f"u{i}", seed=i) for i, n in enumerate(sizes)]
    found = joined(*parts)
    first = blocks.split(found, share)
    for unit, n in zip((f"u{i}" for i in range(len(sizes))), sizes, strict=True):
        here = found.unit == unit
        assert first[here].sum() == int(share * n)
        if first[here].any() and not first[here].all():
            assert found.time_s[here & first].max() < found.time_s[here & ~first].min()


def test_nothing_of_the_rows_that_are_judged_is_seen():
    from calibration.evaluation.predictions import hold_out

    rows = columns(900)
    inputs = parse(INPUTS)
    found = hold_out(table.of(rows), TARGET, inputs, 0.7)
    changed = {n: v.copy() for n, v in rows.items()}
    for name in (TARGET, *INPUTS):
        changed[name][630:] = changed[name][630:] * 3 + 7
    other = hold_out(table.of(changed), TARGET, inputs, 0.7)
    assert len(found.predictions) == 270
    assert found.records[0].units == other.records[0].units
    assert found.records[0].widths == other.records[0].widths


# --- trees ------------------------------------------------------------------------------------------------------


def walked(grown, row):
    """The sum of the leaves a row ends in, walked node by node."""
    total = 0.0
    for feature, threshold, leaf in zip(grown.feature, grown.threshold, grown.leaf, strict=True):
        node = 0
        for _ in range(trees.DEPTH):
            node = 2 * node + (1 if row[feature[node]] <= threshold[node] else 2)
        total += leaf[node - 7]
    return total


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_trees_applied_as_arrays_are_trees_walked_node_by_node(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1, (300, 3)).round(1)
    grown = trees.grow(x, np.sin(2 * x[:, 0]) * x[:, 1], 12)
    told = trees.Trees.from_lists(grown.as_lists(), 3)
    rows = np.vstack([x[:40], x[:3] * 10, [[np.nan, 0, 0]]])
    assert np.allclose(told.apply(rows), [walked(grown, r) for r in rows])
    looked_up = np.zeros(len(rows))
    TreeTables.of(told, 3).add_to(looked_up, list(rows.T))
    assert np.allclose(looked_up[:-1], told.apply(rows)[:-1])


def test_trees_on_many_inputs_are_looked_up_too_or_walked():
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (2000, 9))
    few = trees.grow(x, x[:, 0] * x[:, 1] + x[:, 5], 30)
    looked_up = np.zeros(2000)
    TreeTables.of(few, 9).add_to(looked_up, list(x.T))
    assert np.allclose(looked_up, few.apply(x))


def test_trees_that_ask_for_nothing_are_walked():
    grown = trees.grow(np.ones((200, 2)), np.arange(200.0), 3)
    assert TreeTables.of(grown, 2) is None
    assert grown.apply(np.zeros((5, 2))).tolist() == pytest.approx([sum(grown.leaf[:, 0])] * 5)


def test_trees_whose_tables_would_be_too_large_are_walked(monkeypatch):
    rows = columns(2000)
    rows[TARGET] = rows["pm25_cf1"] + 9 * np.sin(rows["pm25_cf1"] / 5)
    found = records.dumps(fit_table(table.of(rows), target=TARGET, inputs=INPUTS))
    looked_up = records.loads(found).apply(rows).value
    monkeypatch.setattr("calibration.fitting.tree_tables.MOST_CELLS", 10)
    assert records.loads(found).trees is not None
    assert np.allclose(records.loads(found).apply(rows).value, looked_up)


def test_the_first_cut_is_the_best_of_all_there_are():
    rng = np.random.default_rng(8)
    x = rng.uniform(0, 1, (200, 2))
    y = np.where(x[:, 1] > 0.63, 4.0, 1.0) + rng.normal(0, 0.1, 200)
    grown = trees.grow(x, y, 1)

    def left(feature, threshold):
        low = x[:, feature] <= threshold
        return ((y[low] - y[low].mean()) ** 2).sum() + ((y[~low] - y[~low].mean()) ** 2).sum()

    cuts = [
        (left(j, e), j, e) for j in (0, 1) for e in trees._edges(x[:, j])
        if min((x[:, j] <= e).sum(), (x[:, j] > e).sum()) >= trees.LEAST_ROWS
    ]  # fmt: skip
    _, feature, threshold = min(cuts)
    assert (grown.feature[0, 0], grown.threshold[0, 0]) == (feature, threshold)


def test_trees_learn_what_no_line_can_and_are_then_chosen():
    rng = np.random.default_rng(9)
    x = np.column_stack([rng.uniform(0, 60, 3000), rng.uniform(20, 90, 3000)])
    y = 0.5 * x[:, 0] + 8 * np.sin(x[:, 0] / 6) + rng.normal(0, 0.5, 3000)
    found = choose.choose(x, y, np.zeros(3000, int), signals=1)
    assert found.chosen.rounds > 0
    assert found.chosen.rmse < 0.5 * min(c.rmse for c in found.compared if not c.rounds)


# --- intervals --------------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_nine_of_ten_new_rows_lie_within_the_interval(seed):
    """Errors grow with the level, and periods are off by themselves: as many new rows are held as promised."""
    rng = np.random.default_rng(seed)
    cells, each = 24, 120

    def world():
        level = rng.gamma(2, 6, cells * each)
        off = np.repeat(rng.normal(0, 0.3, cells), each)
        return level, (off + rng.normal(0, 1, cells * each)) * (1 + 0.1 * level)

    level, error = world()
    time_s = np.arange(cells * each) * 3600
    width = interval.widths(level, error, time_s, np.repeat(np.arange(cells), each), 3600)[0]
    new_level, new_error = world()
    assert 0.88 <= (np.abs(new_error) <= width.half(new_level)).mean() <= 0.97
    high = new_level > np.quantile(new_level, 0.8)
    assert 0.84 <= (np.abs(new_error) <= width.half(new_level))[high].mean() <= 0.98


def test_a_mean_over_a_day_is_narrower_but_never_than_what_periods_are_off():
    rng = np.random.default_rng(11)
    level, cell = np.full(2400, 10.0), np.repeat(np.arange(6), 400)
    off = np.array([2.0, -2, 2, -2, 2, -2])[cell]
    hour, day = interval.widths(level, off + rng.normal(0, 1, 2400), np.arange(2400) * 3600, cell, 3600)
    assert (hour.averaging_s, day.averaging_s) == (3600, 86_400)
    assert hour.half(level)[0] == pytest.approx(2 + 1.645, abs=0.2)
    assert day.half(level)[0] == pytest.approx(2 + 1.645 / 24**0.5, abs=0.2)


def test_too_few_means_give_no_interval_for_their_averaging_time():
    found = fitted(400)
    assert found.width(3600) is not None
    assert found.width(86_400) is None  # 400 hours have fewer than 30 days
    applied = found.apply(columns(5), averaging_s=86_400)
    assert np.isnan(applied.lo).all()
    assert not np.isnan(applied.value).any()


# --- the record -------------------------------------------------------------------------------------------------


def test_the_equation_that_made_the_rows_is_found_again():
    found = fitted(2400, noise=0.2)
    fit = found.of_unit()
    assert fit.coefficients["pm25_cf1"] == pytest.approx(0.524, abs=0.01)
    assert fit.coefficients["rh"] == pytest.approx(-0.0862, abs=0.01)
    assert fit.intercept == pytest.approx(5.75, abs=0.8)


def test_a_record_comes_back_from_toml_to_the_last_bit():
    found = fit_table(joined(columns(500, unit="a"), columns(500, unit="b", seed=2)), target=TARGET, inputs=INPUTS)
    text = records.dumps(found)
    again = records.loads(text)
    assert again == found
    assert records.dumps(again) == text
    rows = columns(50, seed=9)
    one, other = (r.apply(rows, unit="b") for r in (found, again))
    assert all(np.array_equal(getattr(one, n), getattr(other, n)) for n in ("value", "lo", "hi", "outside"))


def test_a_record_with_trees_comes_back_too():
    rng = np.random.default_rng(12)
    n = 2000
    pm = rng.uniform(0, 60, n)
    rows = {"time": np.arange(n) * 3600, TARGET: pm + 9 * np.sin(pm / 5), "pm25_cf1": pm, "rh": rng.uniform(20, 90, n)}
    found = fit_table(table.of(rows), target=TARGET, inputs=["pm25_cf1", "rh"])
    assert found.trees is not None
    again = records.loads(records.dumps(found))
    assert np.array_equal(again.apply(rows).value, found.apply(rows).value)


def test_a_record_is_applied_as_its_text_says():
    found = fitted()
    fit = found.of_unit()
    terms = {"pm25_cf1": 0.4, "rh": -0.1, "pm25_cf1*rh": 0.001, "rh*temp": 0.01}
    found = replace(found, units={"": replace(fit, intercept=2.0, coefficients=terms)}, trees=None)
    rows = {"pm25_cf1": np.array([10.0, np.nan, 1e4]), "rh": np.array([50.0, 50, 50]), "temp": np.array([20.0, 20, 20])}
    applied = found.apply(rows)
    assert applied.value[0] == pytest.approx(2 + 4 - 5 + 0.5 + 10)
    assert np.isnan(applied.value[1])
    assert applied.outside.tolist() == [False, False, True]
    half = applied.hi[0] - applied.value[0]
    width = found.width(3600)
    assert half == pytest.approx(width.floor + width.growth * 11.5)
    assert applied.value[0] - applied.lo[0] == pytest.approx(half)


def test_a_blank_input_gives_no_value_even_where_its_coefficient_is_nothing():
    found = fitted()
    found = replace(found, units={"": replace(found.of_unit(), coefficients={"pm25_cf1": 1.0})}, trees=None)
    rows = {"pm25_cf1": np.array([1.0]), "rh": np.array([np.nan]), "temp": np.array([20.0])}
    assert np.isnan(found.apply(rows).value[0])


def test_each_unit_has_its_own_coefficients_and_no_other_is_guessed():
    near, far = columns(800, unit="near"), columns(800, unit="far", offset=12.0, seed=3)
    found = fit_table(joined(near, far), target=TARGET, inputs=INPUTS)
    low, high = (found.apply(near, unit=u).value.mean() for u in ("near", "far"))
    assert high - low == pytest.approx(12, abs=0.5)
    assert found.units["near"].valid_from.timestamp() == near["datetime_utc"][0]
    with pytest.raises(RecordError, match="no unit 'roof'"):
        found.apply(near, unit="roof")
    with pytest.raises(RecordError):
        found.apply(near)


def test_a_record_says_what_it_rests_on():
    found = records.loads(records.dumps(fitted()))
    assert found.data["rows"] == 1200
    assert found.data["rows_sha256"] == made().sha256([TARGET, *INPUTS])
    assert found.software.startswith("lichen-air ")
    assert {c["model"] for c in found.choice["compared"]} >= {"signal", "main", "main and all products"}
    assert found.metrics["held_out_rmse"] < found.metrics["mean_alone_rmse"]
    other = made(seed=2)
    assert found.data["rows_sha256"] != other.sha256([TARGET, *INPUTS])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda t: t.replace("schema = 1", "schema = 9"), "schema 9"),
        (lambda t: t.replace("[metrics]", "[metrcs]"), "incomplete"),
        (lambda t: t.replace("rh = -", "humidity = -", 1), "humidity"),
        (lambda t: t.replace("intercept = ", "intercept = nan #", 1), "not a number"),
        (lambda t: t[:200], "TOML|incomplete"),
        (lambda _: "", "schema None"),
    ],
)
def test_what_is_no_record_is_refused(change, problem):
    with pytest.raises(RecordError, match=problem):
        records.loads(change(records.dumps(fitted(400))))


def test_applying_needs_numpy_alone(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(records.dumps(fitted(400)))
    code = (
        "import sys, numpy as np\nfrom calibration.record import loads\n"
        f"r = loads(open({str(path)!r}).read())\n"
        "print(r.apply({i.name: np.ones(2) for i in r.inputs}).value)\n"
        "heavy = {'scipy', 'sklearn', 'pandas', 'pint', 'tomli_w', 'pickle'} & set(sys.modules)\n"
        "assert heavy <= {'pickle'}, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- a fit that is not to be trusted ----------------------------------------------------------------------------


def test_a_fit_that_is_not_to_be_trusted_is_refused_and_forced_keeps_the_reason():
    rows = made(40)
    with pytest.raises(FitRefusedError) as caught:
        fit_table(rows, target=TARGET, inputs=INPUTS)
    assert [f.code for f in caught.value.findings] == ["too_few_rows"]
    assert "40 complete rows" in str(caught.value)
    forced = records.loads(records.dumps(fit_table(rows, target=TARGET, inputs=INPUTS, forced="a demonstration")))
    assert forced.forced == "a demonstration"
    assert forced.findings[0]["code"] == "too_few_rows"


# --- inputs, and the notebook -----------------------------------------------------------------------------------


def test_inputs_are_read_as_written():
    found = parse(split_specs("pm25_cf1_a,pm25_cf1_b,hum=rh_pct,ah=absolute_humidity(temp_c,rh_pct),m=x+y"))
    assert found == (
        Input("pm25_cf1", ("pm25_cf1_a", "pm25_cf1_b"), "ug/m**3"), Input("hum", ("rh_pct",), "percent"),
        Input("ah", ("temp_c", "rh_pct"), "g/m**3", "absolute_humidity"), Input("m", ("x", "y")),
    )  # fmt: skip
    humidity = found[2].values({"temp_c": np.array([20.0]), "rh_pct": np.array([100.0])})
    assert humidity[0] == pytest.approx(17.3, abs=0.1)  # WMO tables: 17.3 g/m³ at 20 °C


@pytest.mark.parametrize("text", ["a,a", "", "a b", "x=nothing(a)", "x=absolute_humidity(a)"])
def test_inputs_that_cannot_be_read_are_refused(text):
    with pytest.raises(table.TableError):
        parse(split_specs(text))


def test_a_notebook_gets_a_frame_for_a_frame():
    import pandas as pd

    frame = pd.DataFrame(columns(900))
    frame["datetime_utc"] = pd.to_datetime(frame["datetime_utc"], unit="s", utc=True)
    frame.loc[3, "rh"] = None
    found = calibration.fit(frame, target=TARGET, inputs=INPUTS)
    assert found.data["left_out"] == {"an input is blank": 1}
    later = pd.DataFrame(columns(10, seed=5), index=pd.date_range("2026-01-01", periods=10, freq="h"))
    values = calibration.apply(found, later)
    assert isinstance(values, pd.DataFrame)
    assert values.index.equals(later.index)
    bare = calibration.apply(found, columns(10, seed=5))
    assert np.array_equal(values["value"].to_numpy(), bare["value"])
    judged = calibration.evaluate(frame, target=TARGET, inputs=INPUTS)
    assert judged.agreement.rmse == pytest.approx(0.5, abs=0.15)


def test_a_notebook_may_give_quantities_with_units():
    from calibration.quantities import unit_registry

    found = fitted()
    rows, units = columns(5), unit_registry()
    rows["pm25_cf1"] = units.Quantity(rows["pm25_cf1"] / 1000, "mg/m**3")
    rows["rh"] = units.Quantity(rows["rh"] / 100, "dimensionless")
    assert np.allclose(calibration.apply(found, rows)["value"], found.apply(columns(5)).value)


def test_a_reference_in_another_unit_is_converted_only_where_its_condition_is_said():
    rng = np.random.default_rng(1)
    n = 1000
    we = rng.normal(40, 10, n)
    rows = {"time": np.arange(n) * 3600, "ref_no2_ugm3": 1.9125 * we, "no2_we": we, "temp_gas": rng.normal(15, 5, n)}
    found = calibration.fit(rows, target="ref_no2_ugm3", inputs=["no2_we", "temp_gas"], condition="20c")
    assert (found.output, found.unit) == ("no2_ppb", "ppb")
    assert found.of_unit().coefficients["no2_we"] == pytest.approx(1.0, abs=1e-3)
    as_it_is = calibration.fit(rows, target="ref_no2_ugm3", inputs=["no2_we", "temp_gas"])
    assert (as_it_is.output, as_it_is.unit) == ("ref_no2_ugm3", "ug/m**3")
    assert "which kits cannot use" in as_it_is.findings[0]["text"]


def test_every_name_of_the_package_is_there_and_importing_it_costs_nothing():
    code = "import sys, calibration\nassert not {'numpy', 'pint'} & set(sys.modules)\n"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(callable(getattr(calibration, name)) for name in calibration.__all__)
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        calibration.fitt  # noqa: B018
