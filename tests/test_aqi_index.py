"""Concentration to index: worked examples, band edges, roundings and float traps."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.quantities import unit_registry
from gateway.aqi.index import NO_INDEX, kept, sub_index, sub_index_nounit, truncate, truncate_steps
from gateway.aqi.overall import air_quality_index, air_quality_index_nounit
from gateway.aqi.scheme import UnknownTableError, load, names

NAN = float("nan")
TABLES = [(scheme, table.name) for scheme in names() for table in load(scheme).tables]
CUT = [(scheme, name) for scheme, name in TABLES if load(scheme).table(name).keep == "truncate"]
MANY = 40_000
"""More values than are computed one by one: these are looked up, in two blocks."""


def index(scheme, table, *concentrations):
    return sub_index_nounit(load(scheme).table(table), np.array(concentrations, float)).tolist()


@pytest.mark.parametrize(
    ("scheme", "table", "concentration", "expected"),
    [
        ("us-2024", "pm25", 35.9, 102),  # worked examples of EPA's TAD
        ("us-2024", "co", 8.4, 90),
        ("us-2024", "o3_8h", 0.07853333, 126),
        ("us-2024", "o3_1h", 0.162, 147),  # 101 + 49 / 39 * 37 = 147.49, though the TAD prints 148
        ("us-2024", "pm25", 9.0, 50),
        ("us-2024", "pm25", 9.09, 50),
        ("us-2024", "pm25", 9.1, 51),
        ("us-2024", "pm25", 325.4, 500),
        ("us-2024", "pm25", 425.4, 699),  # the line goes on: 301 + 199 / 99.9 * 199.9 = 699.2
        ("us-2024", "no2", 53.9, 50),
        ("us-2024", "no2", 54.0, 51),
        ("us-2024", "no2", 22.4, 21),
        ("us-2024", "so2_1h", 304.9, 200),
        ("us-2024", "so2_1h", 999.0, 200),  # the 1 h value never gives more
        ("us-2024", "so2_24h", 304.9, NO_INDEX),
        ("us-2024", "o3_8h", 0.2009, 300),
        ("us-2024", "o3_8h", 0.201, NO_INDEX),  # there the 1 h value counts
        ("us-2024", "o3_1h", 0.1249, NO_INDEX),
        ("us-2024", "o3_1h", 0.125, 101),
        ("us-2012", "pm25", 12.0, 50),
        ("us-2012", "pm25", 852.9, 733),  # AirData, the line of the last band goes on
        ("us-2012", "pm10", 442.0, 322),
        ("us-2024", "pm10", 442.0, 320),
        ("us-2012", "pm10", 3956.0, 3852),  # AirData
        ("us-2012", "no2", 1650.0, 401),
        ("us-2012", "co", 40.4, 400),
        ("tw-2016", "pm10", 125.0, 100),
        ("tw-2016", "no2", 53.0, 50),
        ("tw-2020", "pm10", 50.0, 50),
        ("tw-2020", "no2", 31.0, 51),
        ("tw-2020", "so2_1h", 20.9, 50),
        ("tw-2025", "pm10", 30.9, 50),
        ("tw-2025", "o3_1h", 100.9, NO_INDEX),
        ("tw-2025", "o3_1h", 101.0, 101),
        ("tw-2025", "so2_24h", 305.0, 201),
        ("eu-2025", "pm25", 5.0, 1),
        ("eu-2025", "pm25", 5.001, 2),
        ("eu-2025", "no2", 150.0, 5),
        ("eu-2025", "no2", 5000.0, 6),
        ("who-2021", "pm25", 15.0, 1),
        ("who-2021", "pm25", 15.01, 2),
        ("tw-2025", "pm25", 12.49, 50),
        ("tw-2025", "pm25", 12.5, 51),
        ("tw-2025", "pm25", 30.4, 100),
        ("tw-2025", "pm25", 9999.0, 500),
        ("tw-2025", "no2", 21.9, 50),
        ("tw-2025", "no2", 22.0, 51),
    ],
)
def test_worked_values(scheme, table, concentration, expected):
    assert index(scheme, table, concentration) == [expected]


def test_taiwan_rounds_half_to_even_and_the_us_half_up():
    assert index("tw-2025", "so2_1h", 13.0) == [54]  # 54.5
    assert index("tw-2025", "o3_8h", 72.0) == [104]  # 104.5
    assert index("us-2024", "o3_8h", 0.072) == [105]  # 104.5
    assert index("tw-2025", "pm10", 15.0, 3.0) == [25, 5]


@pytest.mark.parametrize(("scheme", "name"), CUT)
def test_every_band_reaches_both_its_edges(scheme, name):
    table = load(scheme).table(name)
    for steps, expected in ((table.low, table.index_low), (table.high, table.index_high)):
        assert sub_index_nounit(table, steps / 10.0**table.decimals).tolist() == expected.tolist()
    last_digit = (table.high + 0.99) / 10.0**table.decimals  # the digits after the last one kept change nothing
    kept = sub_index_nounit(table, last_digit)[:-1].tolist()
    assert kept == table.index_high[:-1].tolist()


@pytest.mark.parametrize(("scheme", "name"), [t for t in TABLES if t not in CUT])
def test_an_edge_that_is_compared_exactly_belongs_to_the_better_band(scheme, name):
    table = load(scheme).table(name)
    for i, edge in enumerate(table.high[: -1 if table.open_top else None] / 10.0**table.decimals):
        found = sub_index_nounit(table, np.array([edge - 1e-6, edge, edge + 1e-6])).tolist()
        above = int(table.index_high[min(i + 1, len(table.high) - 1)])
        assert found == [int(table.index_high[i])] * 2 + [above]


@pytest.mark.parametrize(("scheme", "name"), CUT)
def test_every_step_equals_exact_arithmetic(scheme, name):
    table = load(scheme).table(name)
    steps = np.arange(table.low[0], table.high[-1] + 1)
    found = sub_index_nounit(table, steps / 10.0**table.decimals)
    for low, high, first, last in zip(table.low, table.high, table.index_low, table.index_high, strict=True):
        for step in range(low, high + 1):
            exact = Fraction(int(last - first), int(high - low)) * int(step - low) + int(first)
            expected = math.floor(exact + Fraction(1, 2)) if table.rounding == "half_up" else round(exact)
            assert found[step - table.low[0]] == expected, (step, exact)


@given(st.sampled_from(TABLES), st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=40))
def test_looking_up_gives_what_computing_gives(table, concentrations):
    found = load(table[0]).table(table[1])
    few = np.array(concentrations)
    many = np.resize(few, MANY)
    np.testing.assert_array_equal(sub_index_nounit(found, many), np.resize(sub_index_nounit(found, few), MANY))


@pytest.mark.parametrize(("scheme", "name"), TABLES)
def test_looking_up_every_step_and_what_lies_around_it(scheme, name):
    table = load(scheme).table(name)
    steps = np.arange(-3, table.high[-1] + 400)
    values = np.concatenate([(steps + part) / 10.0**table.decimals for part in (0.0, 0.3, 0.99, -1e-12)])
    values = np.resize(values, max(len(values), 1000)).reshape(2, -1)
    one_by_one = [sub_index_nounit(table, part) for part in np.array_split(values.reshape(-1), values.size // 100)]
    np.testing.assert_array_equal(sub_index_nounit(table, values).reshape(-1), np.concatenate(one_by_one))


@pytest.mark.parametrize("scheme", ["us-2012", "us-2024", "tw-2016", "tw-2020", "tw-2025"])
def test_nothing_and_less_than_nothing(scheme):
    for table in ("pm25", "no2"):
        assert index(scheme, table, NAN, -0.04, -15.0, 0.0, math.inf) == [NO_INDEX, 0, 0, 0, NO_INDEX]


def test_truncation_is_toward_zero_and_keeps_what_a_float_hides():
    traps = [9.1, 35.4, 35.5, 0.3, 1.1, 2.3, 4.35, 8.2, 16.1, 64.1, 9.05, -0.05, -0.19]
    assert truncate_steps(np.array(traps), 1).tolist() == [91, 354, 355, 3, 11, 23, 43, 82, 161, 641, 90, 0, -1]
    assert int(16.1 * 10) == 161
    assert int(1.1 * 1.1 * 1000) == 1210
    assert int(0.29 * 100) == 28  # the trap: without a guard this one is lost
    assert truncate_steps(np.array([0.29]), 2).tolist() == [29]
    assert truncate(np.array([35.45, NAN, 9.0999]), 1).tolist()[::2] == [35.4, 9.0]
    assert np.isnan(truncate(np.array([NAN]), 1))


@given(st.integers(0, 100_000))
def test_every_tenth_survives_truncation(tenths):
    assert truncate_steps(np.array([tenths / 10, tenths * 0.1, tenths / 10 + 0.0999]), 1).tolist() == [tenths] * 3


@given(st.sampled_from(TABLES), st.lists(st.floats(-10, 3000), min_size=2, max_size=50))
def test_more_is_never_less(table, concentrations):
    found = sub_index_nounit(load(table[0]).table(table[1]), np.sort(np.array(concentrations)))
    assert (np.diff(found[found != NO_INDEX]) >= 0).all()


@given(st.sampled_from(TABLES), st.lists(st.floats(-10, 3000), min_size=2, max_size=50))
def test_more_is_never_less_where_it_is_looked_up(table, concentrations):
    found = sub_index_nounit(load(table[0]).table(table[1]), np.sort(np.resize(np.array(concentrations), 300)))
    assert (np.diff(found[found != NO_INDEX]) >= 0).all()


def test_what_is_kept_of_a_concentration():
    us, eu = load("us-2024").table("pm25"), load("eu-2025").table("pm25")
    values = np.array([9.09, NAN, -0.19])
    np.testing.assert_array_equal(kept(us, values), [9.0, NAN, -0.1])
    np.testing.assert_array_equal(kept(eu, values), values)


def test_the_index_of_several_pollutants():
    tw = load("tw-2025")
    found = air_quality_index_nounit(
        tw,
        {
            "pm25": np.array([12.5, 3.0, NAN]),
            "o3_8h": np.array([10.0, 10.0, NAN]),
            "o3_1h": np.array([101.0, 50.0, NAN]),
        },
    )
    assert found.value.tolist() == [101, 12, NO_INDEX]
    assert found.leading_names() == ["o3", None, None]  # Taiwan names no pollutant up to 50
    assert found.categories() == ["sensitive", "good", None]
    units = unit_registry()
    with_units = air_quality_index(
        load("us-2024"), {"o3_8h": units.Quantity(78.5, "ppb"), "pm25": units.Quantity(0.0359, "mg/m**3")}
    )
    assert (with_units.value.tolist(), with_units.leading_names()) == (126, ["o3"])
    with pytest.raises(UnknownTableError, match="o3_8h, o3_1h"):
        air_quality_index_nounit(tw, {"o3": np.array([1.0])})


def test_concentrations_with_units():
    units = unit_registry()
    assert sub_index(load("us-2024").table("pm25"), units.Quantity(0.0359, "mg/m**3")).tolist() == 102
    assert sub_index(load("us-2024").table("o3_8h"), units.Quantity(np.array([78.53333]), "ppb")).tolist() == [126]
    with pytest.raises(Exception, match="Cannot convert"):
        sub_index(load("us-2024").table("pm25"), units.Quantity(1.0, "ppb"))
