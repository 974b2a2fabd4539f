"""Scheme files: what comes with Lichen, and what an operator may add or get wrong."""

import datetime as dt
from importlib import resources

import numpy as np
import pytest

from gateway.aqi.index import sub_index_nounit
from gateway.aqi.scheme import LANGUAGES, SchemeError, UnknownSchemeError, load, names, parse

US = (resources.files("gateway.aqi") / "schemes" / "us-2024.toml").read_text("utf-8")


def test_the_schemes_that_come_with_lichen():
    assert names() == ["tw-2025", "us-2024"]
    us, tw = load("us-2024"), load("tw-2025")
    assert (us.label, us.valid_from, us.valid_to, us.rounding) == ("us-2024@1", dt.date(2024, 5, 6), None, "half_up")
    assert (tw.label, tw.valid_from, tw.rounding) == ("tw-2025@1", dt.date(2025, 1, 1), "half_even")
    for scheme in (us, tw):
        assert scheme.lookback_hours == 24
        assert {"pm25", "no2"} <= set(scheme.pollutants)
        assert all(set(c.names) == set(LANGUAGES) and len(c.colour) == 7 for c in scheme.categories)
        assert len({c.shape for c in scheme.categories}) == len({c.colour for c in scheme.categories}) == 6
    assert [us.table("pm25").realtime.kernel, tw.table("pm25").realtime.kernel] == ["nowcast", "tw_mean"]


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
