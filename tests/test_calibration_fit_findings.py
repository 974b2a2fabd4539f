"""Bad input to a fit: each gets a finding in words, and clean rows get none."""

import numpy as np
import pytest
from collocated import INPUTS, TARGET, columns, joined, made
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import table
from calibration.fitting import findings, rows
from calibration.fitting.findings import Severity
from calibration.fitting.fit import FitRefusedError, fit_table
from calibration.inputs import parse


def found_in(data, target=TARGET, inputs=INPUTS):
    data = data if isinstance(data, table.Table) else table.of(data)
    wanted = parse(inputs)
    before = list(findings.of_table(data, target, wanted))
    return before + list(findings.of_rows(rows.prepare(data, target, wanted)))


def errors(data, **how):
    return [f for f in found_in(data, **how) if f.severity is Severity.ERROR]


def refused(data, inputs=INPUTS):
    """Codes of the errors for which a fit is refused."""
    with pytest.raises(FitRefusedError) as caught:
        fit_table(table.of(data), target=TARGET, inputs=inputs)
    return [f.code for f in caught.value.findings if f.severity is Severity.ERROR]


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([300, 900, 2000]))
def test_clean_rows_raise_no_error(seed, n):
    assert errors(columns(n, seed=seed)) == []


@pytest.mark.parametrize("hours", [1, -1, 2, 8, -8])
def test_a_reference_with_a_lag_is_found_and_the_shift_that_undoes_it_is_told(hours):
    from gateway.tables import shifted

    late = columns(1000)
    late[TARGET] = np.roll(late[TARGET], hours)
    late = {n: v[10:-10] for n, v in late.items()}
    (finding,) = errors(late)
    assert finding.code == "lag"
    told_s = int(finding.text.split("--lag-s ")[1].split()[0])
    assert told_s == -3600 * hours
    assert errors(shifted(table.of(late), [TARGET], told_s)) == []
    assert refused(late) == ["lag"]


def test_a_clock_that_was_shifted_in_between_is_found_with_about_when():
    rows_ = columns(1200)
    moved = 650
    rows_[TARGET] = np.concatenate([rows_[TARGET][:moved], np.roll(rows_[TARGET], 3)[moved:]])
    (finding,) = errors(rows_)
    assert finding.code == "shifted_clock"
    near = finding.text.split("near ")[1].split()[0]
    at = (np.datetime64(near[:-1]).astype("datetime64[s]").astype(int) - rows_["datetime_utc"][0]) / 3600
    assert abs(at - moved) <= 200  # one of six parts
    assert refused(rows_) == ["shifted_clock"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (TARGET, lambda v: v * 1.9125), (TARGET, lambda v: v / 1.9125), (TARGET, lambda v: v / 1000),
        ("pm25_cf1", lambda v: v / 1000), ("temp", lambda v: v * 1.8 + 32),
    ],
)  # fmt: skip
def test_units_that_change_in_between_are_found(name, change):
    mixed = columns(1200)
    mixed[name][700:] = change(mixed[name][700:])
    codes = [f.code for f in errors(mixed)]
    assert "mixed_units" in codes
    assert "mixed_units" in refused(mixed)


def test_values_that_cannot_be_in_the_unit_of_their_name_are_found():
    share, fahrenheit, some = columns(500), columns(500), columns(500)
    share["rh"] = share["rh"] / 100
    fahrenheit["temp"] = fahrenheit["temp"] * 1.8 + 32
    some["rh"][::3] /= 100
    assert [f.code for f in errors(share)] == ["implausible_unit"]
    assert "multiply it by 100" in errors(share)[0].text
    assert "°F" in errors(fahrenheit)[0].text
    assert any("mixed" in f.text for f in errors(some))


def test_too_few_rows_are_refused_with_why_they_are_few():
    few = columns(200)
    few["rh"][30:] = np.nan
    found = errors(few)
    assert [f.code for f in found] == ["too_few_rows"]
    assert "30 complete rows" in found[0].text
    assert "170 rows: an input is blank" in found[0].text


def test_many_rows_of_few_days_are_too_few():
    assert [f.code for f in errors(columns(350, step_s=900))] == ["too_few_rows"]


def test_constant_columns_are_found():
    same, still = columns(500), columns(500)
    same["temp"][:] = 20.0
    still[TARGET][:] = 7.0
    assert [f.code for f in errors(same)] == ["constant"]
    assert "temp is 20" in errors(same)[0].text
    assert "constant" in refused(still)


def test_times_that_are_there_twice_are_found_unless_they_say_the_same():
    rows_ = columns(500)
    again = {n: np.concatenate([v, v[100:110]]) for n, v in rows_.items()}
    same = found_in(again)
    assert [(f.code, f.severity) for f in same if f.code == "repeated_rows"] == [("repeated_rows", Severity.NOTE)]
    assert fit_table(table.of(again), target=TARGET, inputs=INPUTS).data["rows"] == 500
    again[TARGET][500:] += 5
    assert "10 times are there twice" in errors(again)[0].text
    assert refused(again) == ["duplicate_times"]


def test_all_blank_is_found():
    nothing, no_sensor = columns(500), columns(500)
    nothing[TARGET][:] = np.nan
    no_sensor["pm25_cf1"][:] = np.nan
    assert "all_blank" in refused(nothing)
    found = fit_table(table.of(no_sensor), target=TARGET, inputs=INPUTS, forced="see what the weather says")
    assert [i.name for i in found.inputs] == ["rh", "temp"]
    assert found.findings[0]["code"] == "blank_input"


def test_a_sensor_that_does_not_follow_the_reference_is_refused():
    other = columns(1000)
    rng = np.random.default_rng(1)
    for name in INPUTS:
        other[name] = rng.permutation(other[name])
    assert refused(other) == ["no_skill"]


def test_a_reference_that_repeats_itself_is_told():
    stuck = columns(500)
    stuck[TARGET][200:230] = 11.0
    (finding,) = [f for f in found_in(stuck) if f.code == "stuck_reference"]
    assert finding.severity is Severity.WARNING
    assert "repeats 11 for 30 rows" in finding.text


def test_less_than_thirty_days_are_told():
    assert [f.code for f in found_in(columns(240))] == ["short"]
    assert found_in(columns(960)) == []


def test_the_unit_is_named_where_one_of_several_is_wrong():
    good, bad = columns(800, unit="good"), columns(800, unit="bad", seed=2)
    bad[TARGET] = np.roll(bad[TARGET], 4)
    assert [(f.code, f.unit) for f in errors(joined(good, bad))] == [("lag", "bad")]


def test_a_unit_that_lacks_an_input_is_left_out_and_told():
    whole, lacking = columns(600, unit="whole"), columns(600, unit="lacking", seed=2)
    lacking["rh"][:] = np.nan
    found = fit_table(joined(whole, lacking), target=TARGET, inputs=INPUTS)
    assert list(found.units) in (["whole"], ["lacking"])
    assert "other_inputs" in [f["code"] for f in found.findings]


def test_rows_of_few_readings_and_of_sensors_that_disagree_are_left_out():
    rows_ = columns(500)
    rows_["n_readings"] = np.full(500, 30.0)
    rows_["n_readings"][:20] = 19
    rows_["pm25_cf1_a"], rows_["pm25_cf1_b"] = rows_["pm25_cf1"].copy(), rows_["pm25_cf1"].copy()
    rows_["pm25_cf1_b"][100:130] = 4 * rows_["pm25_cf1_a"][100:130] + 10
    prepared = rows.prepare(table.of(rows_), TARGET, parse(["pm25_cf1_a", "pm25_cf1_b", "rh", "temp"]))
    assert prepared.left_out == {"fewer than 20 readings": 20, "the two sensors disagree": 30}
    assert np.allclose(prepared.x[:5, 0], rows_["pm25_cf1"][20:25])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"), ("a,b\n", "no rows"), ("time,a\n2026-01-01,1,2\n", "line 2: 3 cells"), ("a,a\n1,2\n", "twice"),
        ("a,b\n1,2\n", "no column of times"), ("time,a\nyesterday,1\n", "no ISO 8601 time"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_told(text, problem):
    with pytest.raises(table.TableError, match=problem):
        table.parse_csv(text)


def test_a_table_is_read_with_offsets_units_and_blanks():
    found = table.parse_csv(
        "sensor_index,date,ref_pm25_ugm3,remark\n7,2026-01-01T01:00:00+01:00,3.5,fine\n5,2026-01-02,,\n7,,1,\n"
    )
    assert found.units == ("5", "7")
    assert found.time_s.tolist() == [1_767_312_000, 1_767_225_600]
    assert np.isnan(found.column(TARGET)[0])
    with pytest.raises(table.TableError, match="does not hold numbers: it begins with 'fine'"):
        found.column("remark")
    with pytest.raises(table.TableError, match="there are ref_pm25_ugm3"):
        found.column("ref_pm25")


def test_the_order_of_rows_does_not_matter():
    rows_ = columns(400)
    order = np.random.default_rng(1).permutation(400)
    mixed = table.of({n: v[order] for n, v in rows_.items()})
    assert mixed.sha256(INPUTS) == made(400).sha256(INPUTS)
