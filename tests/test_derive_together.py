"""Kits derived together: each comes out as if derived alone, to the last bit, however they are calibrated."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from collocated import MADE, record_text
from hypothesis import given, settings
from hypothesis import strategies as st
from test_chain_hours import HOUR, START_MS, plain

from calibration.assigned import loads
from calibration.corrections import find
from calibration.fitted import Fitted
from calibration.fitting import trees
from calibration.fitting.interval import Width
from calibration.inputs import Input
from calibration.interpolated import Between, Interpolated
from calibration.model import values_of_each
from calibration.no2_label import EXAMPLE
from calibration.record import Record, UnitFit
from gateway.derive import chain
from gateway.derive.chain import Stretch, derive_hours
from gateway.records import Readings, Void

PM = ("pm25_cf1", "rh", "temp")
TERMS = {"pm25_cf1": 0.5, "rh": -0.05, "pm25_cf1*rh": 0.002, "pm25_cf1*temp": 0.001}


def fitted(number, *, terms=TERMS, grown=0, widths=(60, 3600), inputs=PM, depth_on=3):
    """A record of numbers of its own; `grown` trees ask for the first `depth_on` inputs."""
    rng = np.random.default_rng(number)
    own = {name: value * rng.uniform(0.5, 1.5) for name, value in terms.items()}
    x = np.zeros((400, len(inputs)))
    x[:, :depth_on] = rng.uniform(0, 60, (400, depth_on))
    made = trees.grow(x, rng.normal(0, 5, 400) + x[:, 0] * x[:, depth_on - 1] / 9, grown) if grown else None
    unit = UnitFit("", MADE, None, 100, rng.normal(), own, {name: (5.0, rng.uniform(30, 60)) for name in inputs})
    record = Record(
        id=f"r-{number}-{grown}-{depth_on}", output="pm25_ugm3", unit="ug/m**3", averaging_s=3600, created=MADE,
        software="t", inputs=tuple(Input(name, (name,)) for name in inputs), units={"": unit},
        widths=tuple(Width(s, rng.uniform(1, 2), rng.uniform(0, 0.2), 50) for s in widths), trees=made, data={},
        split={}, choice={}, metrics={},
    )  # fmt: skip
    return Fitted(record, "")


@cache
def calibrations():
    """Of PM2.5: own records of a few structures, one in common, corrections, one that becomes another."""
    same = fitted(1, grown=40)
    unlike = Interpolated(
        Between("a", "b", START_MS // 1000, START_MS // 1000 + 7200), fitted(2), find("barkjohn2021")
    )  # fmt: skip
    return (
        None, find("barkjohn2021"), same, same, *(fitted(n, grown=40) for n in (3, 4, 5)), *(fitted(n) for n in (6, 7)),
        fitted(8, grown=12, depth_on=2), fitted(9, terms={"pm25_cf1": 0.4}, grown=3), fitted(10, terms={"rh": 0.1}),
        *(fitted(n, widths=()) for n in (11, 12)), unlike, find("lrapa"),
        loads(record_text("from-text", {"pm25_cf1": 0.5}, widths=((60, 1.0, 0.1),)), "kit-1"),
    )  # fmt: skip


@cache
def cell(number):
    return loads(EXAMPLE.replace("no2-202751234", f"no2-{number}").replace("0.259", f"0.2{number}9"), "kit-1")


def kit(seed, calibration):
    """A kit's stretch: hours with gaps, faults, peaks, some rows twice, out of order; some kits have more sensors."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([0, 1, 2, 45, 60, 130]))
    end_s = np.sort(rng.integers(0, 3 * 3600, n)) if rng.random() < 0.5 else 60 * (1 + np.arange(n))

    def null(values, share=0.05):
        return np.where(rng.random(n) < share, np.nan, values)

    pm = null(np.where(rng.random(n) < 0.1, 900.0, rng.gamma(2, 12, n)))
    columns = {
        "dt": null(np.full(n, 60.0)), "up": 60.0 * np.arange(n) + rng.choice([0, 20_000]), "env_bad": np.zeros(n),
        "env_n": np.full(n, 12.0), "pm25_cf1": pm, "pm_bad": null(np.where(rng.random(n) < 0.03, 9.0, 0.0)),
        "pm_n": np.full(n, 12.0), "rh": null(rng.uniform(10, 99, n)), "temp": null(rng.uniform(0, 35, n)),
    }  # fmt: skip
    if rng.random() < 0.4:
        columns |= {"pm25_cf1_b": null(pm * rng.choice([1.1, 4.0])), "pm_n_b": np.full(n, 12.0),
                    "pm_bad_b": np.zeros(n)}  # fmt: skip
    given = () if calibration is None else (calibration,)
    if rng.random() < 0.3:
        columns |= {"gas_n": np.full(n, 12.0), "gas_bad": np.zeros(n), "no2_we": null(rng.normal(230, 4, n)) * 1000,
                    "no2_ae": rng.normal(236, 1, n) * 1000, "temp_gas": rng.uniform(5, 30, n)}  # fmt: skip
        given = (*given, cell(int(rng.integers(1, 4))))
    if rng.random() < 0.2:
        columns[str(rng.choice(["no2_we", "pm1_cf1", "n03"]))] = np.full(n, np.nan)
    whats = rng.choice(["", "pm25_cf1", "pm25_ugm3", "rh"], int(rng.choice([0, 0, 1, 2])))
    voids = [Void(str(w), START_MS + 600_000, START_MS + int(rng.integers(1, 9)) * 1_000_000) for w in whats]
    facts = {"boot": rng.integers(1, 3, n), "seq": np.arange(n), "time_source": np.zeros(n, np.int64),
             "time_error_s": np.where(rng.random(n) < 0.03, 4000, 2), "rev": np.arange(n)}  # fmt: skip
    order = rng.permutation(n) if rng.random() < 0.3 else np.arange(n)
    shift = rng.choice([0, 0, 0, 1], n)
    readings = Readings(
        f"kit-{seed}", (START_MS + 1000 * end_s + shift)[order], **{name: v[order] for name, v in facts.items()},
        columns={name: columns[name][order] for name in sorted(columns)},
    )  # fmt: skip
    return Stretch(readings, f"site-{seed % 3}", given, voids)


fleets = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 16)), min_size=2, max_size=8)


def stretches(drawn):
    return [kit(seed, calibrations()[which]) for seed, which in drawn]


def test_the_kits_of_these_tests_have_all_that_is_to_stay_the_same():
    found = [pair for n in range(60) for pair in derive_hours(stretches([(n, n % 17)]))[0]]
    assert any(hour.lo for _, hour in found)
    assert any(air.lo for air, _ in found)
    assert any(set(hour.values) >= {"pm25_ugm3", "no2_ppb"} for _, hour in found)
    assert any("pm25_ugm3" not in hour.values for _, hour in found)


@settings(max_examples=150, deadline=None)
@given(fleets)
def test_a_kit_comes_out_the_same_whatever_kits_are_derived_with_it(drawn):
    some = stretches(drawn)
    together = derive_hours(some)
    assert [plain_all(pairs) for pairs in together] == [plain_all(derive_hours([one])[0]) for one in some]


def plain_all(pairs):
    """As `plain`, with the bounds as bytes too."""
    return [
        (*line[:5], *({n: v.tobytes() for n, v in bounds.items()} for bounds in line[5:7]), *line[7:])
        for line in plain(pairs)
    ]


@pytest.mark.parametrize(
    "some",
    [((1, 15), (2, 4), (3, 40), (4, 6)), ((1, 120), (2, 120), (3, 120), (4, 120)), ((1, 0), (2, 0), (3, 0), (4, 0))],
)
def test_records_of_their_own_are_computed_as_each_by_itself(some):
    members = [fitted(number, grown=count) for number, count in some]  # few and many thresholds
    told = members[-1]
    rng = np.random.default_rng(4)
    counts = np.array([40, 1, 3, 70])
    rows = [rng.uniform(-5, 80, counts.sum()) for _ in PM]
    for column, one in zip(rows, told.model.trees.edges if told.model.trees else (), strict=False):
        column[len(column) - len(one.edges) :] = one.edges  # not above a threshold
    rows[1][::9] = np.nan
    assert len({one.family for one in members}) == 1
    value, outside = values_of_each([one.model for one in members], counts, rows)
    ends = np.cumsum(counts)
    for one, start, end in zip(members, ends - counts, ends, strict=True):
        alone = one.model.values([column[start:end] for column in rows])
        assert alone[0].tobytes() == value[start:end].tobytes()
        assert alone[1].tobytes() == outside[start:end].tobytes()
        if one.record.trees:
            walked = one.record.trees.apply(np.stack([c[start:end] for c in rows], axis=1))
            linear = replace(one.record, trees=None).model().values([c[start:end] for c in rows])[0]
            np.testing.assert_allclose(value[start:end], linear + walked)


def test_kits_are_put_together_up_to_a_number_of_rows(monkeypatch):
    some = stretches([(seed, 4 + seed % 3) for seed in range(40)])
    whole = derive_hours(some)
    tables = []
    real = chain.cut
    monkeypatch.setattr(chain, "cut", lambda part: tables.append(part) or real(part))
    monkeypatch.setattr(chain, "MOST_ROWS", 200)
    again = derive_hours(some)
    assert [plain_all(p) for p in again] == [plain_all(p) for p in whole]
    sizes = [sum(len(one.readings) for one in part) for part in tables]
    assert max(sizes) <= 200
    assert max(map(len, tables)) > 1


@pytest.mark.parametrize("which", [2, 4, 6])
def test_what_each_kit_was_calibrated_with_is_named(which):
    some = stretches([(n, which) for n in range(100, 120)])
    for one, pairs in zip(some, derive_hours(some), strict=True):
        labels = "|".join(each.label for each in one.calibrations)
        assert {(air.kit, air.site, air.cal, hour.cal) for air, hour in pairs} <= {
            (one.readings.kit, one.site, labels, labels)
        }
        assert all(air.hour in range(HOUR - 1, HOUR + 4) for air, _ in pairs)
