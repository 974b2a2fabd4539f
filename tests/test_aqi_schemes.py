"""Scheme files: what comes with Lichen, and what an operator may add or get wrong."""

import datetime as dt
import json
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest

from calibration.quantities import unit_registry
from gateway.aqi import units
from gateway.aqi.index import sub_index_nounit
from gateway.aqi.scheme import LANGUAGES, SchemeError, UnknownSchemeError, families, load, names, parse
from gateway.derive import chain

US = (resources.files("gateway.aqi") / "schemes" / "us-2024.toml").read_text("utf-8")


AQIS = ["tw-2016", "tw-2020", "tw-2025", "us-2012", "us-2024"]


def test_the_schemes_that_come_with_lichen():
    assert names() == ["eu-2025", *AQIS, "who-2021"]
    assert families() == {"tw": ("tw-2016", "tw-2020", "tw-2025"), "us": ("us-2012", "us-2024")}
    us, tw = load("us-2024"), load("tw-2025")
    assert (us.label, us.valid_from, us.valid_to, us.rounding) == ("us-2024@1", dt.date(2024, 5, 6), None, "half_up")
    assert (tw.label, tw.valid_from, tw.rounding) == ("tw-2025@1", dt.date(2025, 1, 1), "half_even")
    assert load("us-2012").valid_to == dt.date(2024, 5, 5)
    assert [us.table("pm25").realtime.kernel, tw.table("pm25").realtime.kernel] == ["nowcast", "tw_mean"]


@pytest.mark.parametrize("name", names())
def test_every_scheme_is_whole(name):
    scheme = load(name)
    assert scheme.lookback_hours == 24
    assert {"pm25", "pm10", "no2", "o3", "so2"} <= set(scheme.pollutants)
    assert scheme.source
    assert all(set(c.names) == set(LANGUAGES) and len(c.colour) == 7 for c in scheme.categories)
    for look in ("shape", "colour"):  # a category never depends on seeing colour
        assert len({getattr(c, look) for c in scheme.categories}) == len(scheme.categories)
    for table in scheme.tables:
        last = int(table.index_high[-1])
        assert scheme.category_of(last) == scheme.categories[-1] or table.name in {"so2_1h", "o3_8h"}
    if name in AQIS:
        assert "co" in scheme.pollutants
        assert len(scheme.categories) == 6


TABLES_JSON = {
    "us-2024": "us_epa_2024", "us-2012": "us_epa_2012",
    "tw-2025": "tw_2025", "tw-2020": "tw_2020", "tw-2016": "tw_2016",
}  # fmt: skip


@pytest.mark.shared
def test_every_breakpoint_is_that_of_the_reference(shared):
    reference = json.loads((shared / "reference" / "aqi_tables.json").read_text("utf-8"))
    for name, key in TABLES_JSON.items():
        scheme = load(name)
        for table in scheme.tables:
            tag = {"pm25": "pm25", "pm10": "pm10", "no2": "no2_1h", "co": "co_8h"}.get(table.name, table.name)
            found = [k for k in reference[key] if k.startswith(tag)]
            bands = np.array(reference[key][found[0]], float).T
            np.testing.assert_array_equal(np.round(bands[:2] * 10**table.decimals), [table.low, table.high])
            np.testing.assert_array_equal(bands[2:], [table.index_low, table.index_high])
    for pollutant, upper in reference["eu_eaqi_2025"]["upper"].items():
        assert load("eu-2025").table(pollutant).high[:-1].tolist() == upper
    levels = reference["who_2021_aqg"]
    for name, key in (("pm25", "pm25_24h"), ("no2", "no2_24h"), ("so2", "so2_24h"), ("co", "co_24h_mg"),
                      ("o3_8h", "o3_8h"), ("pm25_annual", "pm25_annual"), ("o3_peak", "o3_peak")):  # fmt: skip
        assert load("who-2021").table(name).high[0] == levels[key]


def at(text):
    return np.array([int(dt.datetime.fromisoformat(text).timestamp()) // 3600])


@pytest.mark.parametrize(
    ("series", "time", "label"),
    [
        ("us", "2024-05-05T23:00:00Z", "us-2012@1"),
        ("us", "2024-05-06T00:00:00Z", "us-2024@1"),
        ("us", "2013-01-01T00:00:00Z", "us-2012@1"),
        ("tw", "2024-12-31T15:00:00Z", "tw-2020@1"),  # 23:00 in Taipei
        ("tw", "2024-12-31T16:00:00Z", "tw-2025@1"),
        ("tw", "2023-07-01T00:00:00+08:00", "tw-2020@1"),
        ("tw", "2023-06-30T23:00:00+08:00", "tw-2020@1?"),  # since when it holds is not known
        ("tw", "2020-09-18T00:00:00+08:00", "tw-2020@1?"),
        ("tw", "2020-09-17T23:00:00+08:00", "tw-2016@1"),
    ],
)
def test_a_series_applies_the_table_in_force_then(series, time, label):
    [(mask, scheme, found)] = load(series).at(at(time))
    assert (mask.tolist(), found) == ([True], label)
    assert found.rstrip("?") == scheme.label


def test_before_the_first_table_there_is_none():
    assert load("us").at(at("2012-12-13T23:00:00Z")) == []
    assert load("tw").at(at("2016-11-30T15:00:00Z")) == []


def test_a_scheme_of_a_date_applies_to_all_dates():
    [(_, scheme, label)] = load("us-2024").at(at("1999-01-01T00:00:00Z"))
    assert (scheme.name, label) == ("us-2024", "us-2024@1")


def test_a_recipe_changes_with_numbers_and_not_with_texts():
    def digest(text):
        return parse(text, name="mine", file="mine.toml").recipe

    assert digest(US) != digest(US.replace("[9.1, 35.4, 51, 100]", "[9.1, 35.5, 51, 100]").replace("[35.5,", "[35.6,"))
    assert digest(US) == digest(US.replace("Moderada", "Regular").replace("# ", "#  "))


@pytest.mark.parametrize(
    ("index", "key"),
    [
        (0, "good"), (50, "good"), (51, "moderate"), (100, "moderate"), (101, "sensitive"), (150, "sensitive"),
        (151, "unhealthy"), (200, "unhealthy"), (201, "very_unhealthy"), (300, "very_unhealthy"), (301, "hazardous"),
        (848, "hazardous"),
    ],
)  # fmt: skip
def test_categories_end_at_their_last_index(index, key):
    assert load("us-2024").category_of(index).key == load("tw-2025").category_of(index).key == key


def test_official_names():
    assert load("tw-2025").category_of(101).names["zh-Hant"] == "對敏感族群不健康"
    assert load("us-2024").category_of(101).names["en"] == "Unhealthy for Sensitive Groups"


def test_an_unknown_scheme_is_answered_with_the_nearest():
    with pytest.raises(UnknownSchemeError, match="did you mean 'tw-2025'"):
        load("tw-2026")
    with pytest.raises(UnknownSchemeError, match="did you mean 'us-2024'"):
        load("us2024")


def test_an_operator_adds_a_scheme_without_code(tmp_path):
    (tmp_path / "mine.toml").write_text(US.replace("9.0, 0, 50]", "12.0, 0, 50]").replace("[9.1,", "[12.1,"), "utf-8")
    assert "mine" in names(tmp_path)
    mine = load("mine", tmp_path)
    assert mine.label == "mine@1"
    assert sub_index_nounit(mine.table("pm25"), np.array([12.0, 12.1])).tolist() == [50, 51]


def test_an_operators_scheme_cannot_take_a_name_that_is_taken(tmp_path):
    (tmp_path / "us-2024.toml").write_text(US, "utf-8")
    with pytest.raises(SchemeError, match="comes with Lichen"):
        load("us-2024", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "where", "problem"),
    [
        ("[9.1, 35.4, 51, 100]", "[9.2, 35.4, 51, 100]", "table 'pm25'", "one step above"),
        ("[9.1, 35.4, 51, 100]", "[9.0, 35.4, 51, 100]", "table 'pm25'", "one step above"),
        ("[9.1, 35.4, 51, 100]", "[9.1, 35.4, 52, 100]", "table 'pm25'", "one step above"),
        ("[9.1, 35.4, 51, 100]", "[9.1, 9.1, 51, 100]", "table 'pm25'", "does not rise"),
        ("[9.1, 35.4, 51, 100]", "[9.15, 35.4, 51, 100]", "table 'pm25'", "decimals"),
        ("[9.1, 35.4, 51, 100]", "[9.1, 35.4, 51]", "table 'pm25'", "index high"),
        ('unit = "ug/m**3"', 'unit = "ug/m**2"', "table 'pm25'", "unit"),
        ('unit = "ug/m**3"', 'unit = "ppb"', "table 'pm25'", "Cannot convert"),
        ('unit = "ug/m**3"', 'unit = "micro"', "table 'pm25'", "unit"),
        ('unit = "ug/m**3"', 'unit = "ug/m3x"', "table 'pm25'", "unit"),
        ('unit = "ppb"', 'unit = "ppbb"', "table 'no2'", "did you mean 'ppb'"),
        ('keep = "truncate"', 'keep = "cut"', "table 'pm25'", "truncate, half_up"),
        ('negative = "zero"', 'negative = "nothing"', "scheme", "zero, none"),
        ('gases_at = "25c"', 'gases_at = "warm"', "scheme", "20c, 25c"),
        ('kernel = "mean", least = 18', 'kernel = "mean", least = 25', "table 'pm25'", "a day is"),
        ('valid_from_evidence = "D"', 'valid_from_evidence = "D"\nvalid_to = 2024-05-05', "scheme", "is before"),
        ('valid_from_evidence = "D"', 'valid_from_evidence = "D"\ncertain_from = 2025-01-01', "scheme", "unverified"),
        ('family = "us"', 'family = "mine"', "scheme", "name of the scheme itself"),
        ('colour = "#7e0023"', 'colour = "maroon"', "category 'hazardous'", "#rrggbb"),
        ("[225.5, 325.4, 301, 500]", "[225.5, inf, 301, 500]", "table 'pm25'", "with one index"),
        ("[225.5, 325.4, 301, 500]", "[225.5, inf, 301, 301]", "table 'pm25'", "cannot be 'continue'"),
        ('kernel = "nowcast"', 'kernel = "newcast"', "table 'pm25'", "a mean is"),
        ("hours = 24, least = 18", "hours = 24, least = 25", "scheme", "least <= hours"),
        ("hours = 24, least = 18", "hours = 48, least = 36", "scheme", "hours <= 24"),
        ('above = "continue"', 'above = "stop"', "table 'pm25'", "continue, hold, none"),
        ('rounding = "half_up"', 'rounding = "up"', "scheme", "half_up, half_even"),
        ('evidence = "D"', 'evidence = "sure"', "scheme", "must be one of"),
        ("version = 1", 'version = "1"', "scheme", "must be int"),
        ("version = 1", "version = 1\ncolor = 2", "scheme", "unknown key 'color'"),
        ('name = "no2"', 'name = "pm25"', "scheme", "a name of its own"),
        ("up_to = 100", "up_to = 40", "scheme", "must rise"),
        ('key = "hazardous"', 'key = "hazardous"\nup_to = 500', "scheme", "the last one must have none"),
        ('vi = "Nguy hại"', 'fr = "Dangereux"', "category 'hazardous'", "lacks vi"),
        ('shape = "star"', 'shape = "blob"', "category 'hazardous'", "'shape'"),
        ('colour = "#7e0023"\n', "", "category 'hazardous'", "'colour' is missing"),
        ("valid_from = 2024-05-06", 'valid_from = "2024"', "scheme", "'valid_from' must be date"),
        ("version = 1", "version 1", "", "Expected"),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_place(old, new, where, problem):
    assert old in US
    with pytest.raises(SchemeError, match=problem) as caught:
        parse(US.replace(old, new, 1), name="mine", file="mine.toml")
    assert caught.value.where == where
    assert str(caught.value).startswith(f"mine.toml: {where}")


UK = """
version = 1
titles = { en = "UK DAQI", zh-Hant = "英國 DAQI", es = "DAQI del Reino Unido", vi = "DAQI Vương quốc Anh" }
valid_from = 2012-01-01
valid_from_evidence = "?"
evidence = "S2"
source = "Defra, Daily Air Quality Index"
rounding = "half_up"
negative = "zero"
mean_24h = { kernel = "trailing", hours = 24, least = 18 }
gases_at = "20c"

[[table]]
name = "pm25"
pollutant = "pm25"
unit = "ug/m**3"
decimals = 0
keep = "half_up"
averaging_h = 24
realtime = { kernel = "trailing", hours = 24, least = 18 }
above = "hold"
evidence = "S2"
bands = [
  [0, 11, 1, 1], [12, 23, 2, 2], [24, 35, 3, 3], [36, 41, 4, 4], [42, 47, 5, 5], [48, 53, 6, 6], [54, 58, 7, 7],
  [59, 64, 8, 8], [65, 70, 9, 9], [71, inf, 10, 10],
]

[[table]]
name = "no2"
pollutant = "no2"
unit = "ug/m**3"
decimals = 0
keep = "half_up"
averaging_h = 1
realtime = { kernel = "trailing", hours = 1, least = 1 }
above = "hold"
evidence = "S2"
bands = [
  [0, 67, 1, 1], [68, 134, 2, 2], [135, 200, 3, 3], [201, 267, 4, 4], [268, 334, 5, 5], [335, 400, 6, 6],
  [401, 467, 7, 7], [468, 534, 8, 8], [535, 600, 9, 9], [601, inf, 10, 10],
]

[[table]]
name = "so2"
pollutant = "so2"
unit = "ug/m**3"
decimals = 0
keep = "half_up"
averaging_h = 0.25
above = "hold"
evidence = "S2"
note = "Means of 15 minutes: not made from hours."
bands = [
  [0, 88, 1, 1], [89, 177, 2, 2], [178, 266, 3, 3], [267, 354, 4, 4], [355, 443, 5, 5], [444, 532, 6, 6],
  [533, 710, 7, 7], [711, 887, 8, 8], [888, 1064, 9, 9], [1065, inf, 10, 10],
]

[[category]]
key = "low"
up_to = 3
colour = "#31ff00"
shape = "circle"
names = { en = "Low", zh-Hant = "低", es = "Bajo", vi = "Thấp" }

[[category]]
key = "moderate"
up_to = 6
colour = "#ffcf00"
shape = "square"
names = { en = "Moderate", zh-Hant = "中", es = "Moderado", vi = "Trung bình" }

[[category]]
key = "high"
up_to = 9
colour = "#ff6464"
shape = "triangle"
names = { en = "High", zh-Hant = "高", es = "Alto", vi = "Cao" }

[[category]]
key = "very_high"
colour = "#ce30ff"
shape = "star"
names = { en = "Very High", zh-Hant = "非常高", es = "Muy alto", vi = "Rất cao" }
"""


def test_the_uk_index_is_a_file(tmp_path):
    (tmp_path / "uk.toml").write_text(UK, "utf-8")
    uk = load("uk", tmp_path)
    pm25 = uk.table("pm25")
    assert sub_index_nounit(pm25, np.array([11.49, 11.5, 70.4, 70.5, 900.0, -3.0])).tolist() == [1, 2, 9, 10, 10, 1]
    assert sub_index_nounit(uk.table("so2"), np.array([1064.0, 1065.0])).tolist() == [9, 10]
    assert [uk.category_of(i).key for i in (1, 3, 4, 9, 10)] == ["low", "low", "moderate", "high", "very_high"]
    assert uk.table("no2").factor == pytest.approx(1.9125, rel=1e-4)  # from ppb, at 20 °C
    [*_, record] = chain.derive_index(
        "roof", uk, 0, {"pm25": np.full(24, 36.2), "no2": np.full(24, 36.0)}, np.ones(24, bool), np.arange(24)
    )
    assert (record.value, record.category, record.pollutant) == (4, "moderate", "pm25")
    assert record.subs["no2"].index == 2  # 68.85 µg/m³ is 69
    assert record.subs["no2"].concentration == pytest.approx(69 / 1.9125, rel=1e-4)  # in ppb


def bands(points, index):
    pairs = zip(points, points[1:], index, index[1:], strict=False)
    return "[" + ", ".join(f"[{a}, {b}, {c}, {d}]" for a, b, c, d in pairs) + "]"


def of_uk(old, new, text=UK):
    assert old in text
    return text.replace(old, new, 1)


def test_chinas_index_is_a_file(tmp_path):
    """Edges shared by two bands, the concentration rounded half to even, the index rounded up."""
    head, _, tail = UK.partition("[[table]]")
    categories = tail[tail.index("[[category]]") :]
    for top in (9, 6, 3):
        categories = categories.replace(f"up_to = {top}", f"up_to = {top * 20}", 1)
    table = f"""[[table]]
name = "pm25"
pollutant = "pm25"
unit = "ug/m**3"
decimals = 0
keep = "half_even"
edges = "shared"
averaging_h = 1
realtime = {{ kernel = "trailing", hours = 1, least = 1 }}
above = "hold"
evidence = "S2"
bands = {bands([0, 35, 60, 115, 150, 250, 350, 500], [0, 50, 100, 150, 200, 300, 400, 500])}
"""
    (tmp_path / "cn.toml").write_text(
        of_uk('rounding = "half_up"', 'rounding = "ceiling"', head) + table + categories, "utf-8"
    )
    pm25 = load("cn", tmp_path).table("pm25")
    values = np.array([35.0, 35.5, 36.0, 36.5, 1.0, 60.0, 115.0, 501.0])
    # 36: 50 + 50 / 25 = 52; 36.5 is 36 as well; 1: 50 / 35 = 1.43 is 2
    expected = [50, 52, 52, 52, 2, 100, 150, 500]
    assert sub_index_nounit(pm25, values).tolist() == expected
    assert sub_index_nounit(pm25, np.tile(values, 100)).tolist() == expected * 100


def test_an_index_may_need_several_pollutants(tmp_path):
    """India's: three pollutants, particles among them."""
    needs = 'rounding = "half_up"\nneeds = { pollutants = 2, one_of = ["pm25"] }'
    (tmp_path / "in.toml").write_text(of_uk('rounding = "half_up"', needs), "utf-8")
    scheme = load("in", tmp_path)

    def value(**concentrations):
        hours = {name: np.full(24, x) for name, x in concentrations.items()}
        return chain.derive_index("roof", scheme, 0, hours, np.ones(24, bool), np.array([23]))[0].value

    assert value(pm25=36.0, no2=5.0) == 4
    assert value(pm25=36.0) is None
    assert value(no2=5.0) is None
    bad = of_uk('rounding = "half_up"', 'rounding = "half_up"\nneeds = { pollutants = 2, one_of = ["pm10"] }')
    with pytest.raises(SchemeError, match="'needs' names 'pm10'"):
        parse(bad, name="in", file="in.toml")


def test_negative_values_may_have_no_index(tmp_path):
    (tmp_path / "strict.toml").write_text(
        US.replace('negative = "zero"', 'negative = "none"').replace('family = "us"\n', ""), "utf-8"
    )
    pm25 = load("strict", tmp_path).table("pm25")
    values = np.array([-0.1, 0.0, 5.0])
    assert sub_index_nounit(pm25, values).tolist() == [-1, 0, 28]
    assert sub_index_nounit(pm25, np.tile(values, 100)).tolist() == [-1, 0, 28] * 100


def test_an_operators_table_can_join_a_series(tmp_path):
    (tmp_path / "us-2030.toml").write_text(US.replace("2024-05-06", "2030-01-01"), "utf-8")
    with pytest.raises(SchemeError, match=r"us-2024\.toml: scheme: is in force with us-2030"):
        load("us", tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "odd.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SchemeError, match="cannot be read"):
        load("odd", tmp_path)


def test_a_wrong_file_beside_does_not_hinder_others(tmp_path):
    (tmp_path / "broken.toml").write_text("version", "utf-8")
    assert load("us-2024", tmp_path).label == "us-2024@1"
    with pytest.raises(SchemeError, match=r"broken\.toml"):
        load("nothing", tmp_path)


def test_factors_between_units_are_those_of_pint():
    registry = unit_registry()
    for unit in ("ug/m**3", "mg/m**3", "ppb", "ppm"):
        for to in ("ug/m**3", "mg/m**3", "ppb", "ppm"):
            if ("/" in unit) == ("/" in to):
                assert units.factor(unit, to) == pytest.approx(registry.Quantity(1.0, unit).m_as(to), rel=1e-15)
    there = units.factor("ppb", "ug/m**3", pollutant="o3", condition="20c")
    assert there == pytest.approx(1.9953, abs=1e-4)
    assert units.factor("mg/m**3", "ppm", pollutant="co", condition="25c") == pytest.approx(1 / 1.1449, rel=1e-3)
    assert units.factor("ug/m**3", "ppb", pollutant="o3", condition="20c") == pytest.approx(1 / there)
    assert units.factor("ng/m**3", "ug/m**3") == pytest.approx(1e-3)
    for unit, to, more, problem in (
        ("ppb", "ug/m**3", {"pollutant": "pm25", "condition": "20c"}, "not one of the gases"),
        ("ppb", "ug/m**3", {"pollutant": "no2"}, "state of the air"),
        ("pbb", "ppb", {}, "did you mean 'ppb'"),
        ("degC", "ppb", {}, "Cannot convert"),
    ):
        with pytest.raises(units.UnitError, match=problem):
            units.factor(unit, to, **more)


def test_importing_the_schemes_costs_no_pint():
    code = (
        "import sys; from gateway.aqi.scheme import load; load('us'); load('eu-2025'); sys.exit('pint' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
