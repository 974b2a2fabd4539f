"""Real-time means: published vectors, values by hand, and rules at their edges."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.quantities import unit_registry
from gateway.aqi import kernels
from gateway.aqi.index import sub_index, sub_index_nounit
from gateway.aqi.scheme import load

NAN = float("nan")
hours = st.lists(st.one_of(st.just(NAN), st.floats(-15, 900)), min_size=1, max_size=40)


def last(kernel, *values):
    return kernel(np.array(values, float))[-1]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # AirNow forum
        ((34.9, 43, 50, 64.9, 69.2, 66.2, 53.7, 48.6, 49.2, 35, NAN, 21), 28.4098),
        # EPA's slides, which print 17.4
        ((50, 80, 75, 90, 82, 53, 64, 74, 21, 10, 16, 13), 17.41),
        ((*[0.0] * 11, 71.0), 35.5087),
    ],
)
def test_nowcast_of_published_vectors(values, expected):
    assert last(kernels.nowcast, *values) == pytest.approx(expected, abs=10.0 ** -len(str(expected).split(".")[1]))


def test_nowcast_of_zeros_is_zero():
    assert last(kernels.nowcast, *[0.0] * 12) == 0.0


def test_nowcast_by_hand():
    # w = 10/20 = 0.5: (20 + 0.5 * 10) / 1.5
    assert last(kernels.nowcast, 10.0, 20.0) == pytest.approx(25 / 1.5)
    # w = 18/20 = 0.9
    assert last(kernels.nowcast, 18.0, 20.0) == pytest.approx((20 + 0.9 * 18) / 1.9)
    # a missing hour is left out, the power of w goes on: (20 + 0.81 * 18) / 1.81
    assert last(kernels.nowcast, 18.0, NAN, 20.0) == pytest.approx((20 + 0.81 * 18) / 1.81)


def test_nowcast_does_not_clip_negatives():
    # min/max is negative, so w = 0.5: (-4 + 0.5 * 10) / 1.5
    assert last(kernels.nowcast, 10.0, -4.0) == pytest.approx(1 / 1.5)
    # none is above zero, so w = 1: their plain mean
    assert last(kernels.nowcast, -2.0, -4.0) == pytest.approx(-3.0)
    assert last(kernels.nowcast, -2.0, 0.0) == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("recent", "valid"),
    [
        ((1, 1, 1), True), ((1, 1, NAN), True), ((1, NAN, 1), True), ((NAN, 1, 1), True),
        ((NAN, NAN, 1), False), ((1, NAN, NAN), False), ((NAN, 1, NAN), False), ((NAN, NAN, NAN), False),
    ],
)  # fmt: skip
def test_nowcast_needs_two_of_the_last_three_hours(recent, valid):
    assert np.isnan(last(kernels.nowcast, *[1.0] * 9, *recent)) != valid


def test_nowcast_forgets_the_thirteenth_hour():
    assert last(kernels.nowcast, 900.0, *[5.0] * 12) == 5.0
    assert last(kernels.nowcast, 900.0, *[5.0] * 11) > 5.0


def test_tw_mean_by_hand():
    values = [float(x) for x in range(1, 13)]
    assert last(kernels.tw_mean, *values) == 0.5 * 6.5 + 0.5 * 10.5
    assert last(kernels.tw_mean, 1000.0, *values) == 8.5  # the hour itself is the first of the twelve


@pytest.mark.parametrize(
    ("before", "recent", "valid"),
    [
        (4, (1, 1, NAN, NAN), True),
        (3, (1, 1, NAN, NAN), False),  # 5 of 12
        (8, (NAN, NAN, 1, NAN), False),  # 1 of 4
        (8, (NAN, NAN, 1, 1), True),
        (2, (1, 1, 1, 1), True),
        (1, (1, 1, 1, 1), False),
    ],
)
def test_tw_mean_needs_six_of_twelve_and_two_of_four(before, recent, valid):
    assert np.isnan(last(kernels.tw_mean, *[NAN] * (8 - before), *[1.0] * before, *recent)) != valid


@pytest.mark.parametrize(("valid_hours", "valid"), [(24, True), (18, True), (17, False)])
def test_mean_24h_needs_eighteen_hours(valid_hours, valid):
    found = last(kernels.mean_24h, *[NAN] * (24 - valid_hours), *[3.0] * valid_hours)
    assert (found == 3.0) == valid
    assert np.isnan(found) != valid


def test_the_hour_itself_is_a_mean_of_one():
    np.testing.assert_array_equal(
        kernels.trailing_mean(np.array([1.5, NAN, -2.0]), window=1, least=1), [1.5, NAN, -2.0]
    )


@given(hours, st.integers(0, 39))
def test_a_window_is_the_same_in_the_stream_and_in_the_batch(values, at):
    at = min(at, len(values) - 1)
    for kernel, window in ((kernels.nowcast, 12), (kernels.tw_mean, 12), (kernels.mean_24h, 24)):
        batch = kernel(np.array(values))[at]
        stream = kernel(np.array(values[max(0, at + 1 - window) : at + 1]))[-1]
        np.testing.assert_array_equal(batch, stream)


@given(hours, st.integers(1, 9))
def test_blocks_change_no_bit(values, block):
    for kernel in (kernels.nowcast, kernels.tw_mean, kernels.mean_24h, kernels.mean_8h):
        whole = kernel(np.array([values, values[::-1]]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernels, "_BLOCK", block)
            np.testing.assert_array_equal(kernel(np.array([values, values[::-1]])), whole)


@given(hours)
def test_nowcast_equals_the_plain_loop_of_its_formula(values):
    found = kernels.nowcast(np.array(values))
    for i in range(len(values)):
        window = [values[j] if j >= 0 else NAN for j in range(i, i - 12, -1)]
        present = [x for x in window if not math.isnan(x)]
        if sum(not math.isnan(x) for x in window[:3]) < 2:
            assert np.isnan(found[i])
            continue
        low, high = min(present), max(present)
        w = 1.0 if high <= 0 else min(1.0, max(0.5, low / high))
        weighted = [(w**lag, x) for lag, x in enumerate(window) if not math.isnan(x)]
        expected = sum(p * x for p, x in weighted) / sum(p for p, _ in weighted)
        assert found[i] == pytest.approx(expected, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize(("valid_hours", "valid"), [(8, True), (6, True), (5, False)])
def test_mean_8h_needs_six_hours(valid_hours, valid):
    found = last(kernels.mean_8h, *[NAN] * (8 - valid_hours), *[3.0] * valid_hours)
    assert np.isnan(found) != valid


def test_means_of_hours_with_a_unit():
    hours_ = unit_registry().Quantity(np.arange(12.0), "mg/m**3")
    mean = load("us-2024").table("pm25").realtime
    for found in (mean.of(hours_), kernels.nowcast(hours_)):
        assert found.m_as("ug/m**3")[-1] == pytest.approx(1000 * kernels.nowcast(np.arange(12.0))[-1])
    with_index = sub_index(load("us-2024").table("pm25"), kernels.mean_24h(hours_[[0] * 24] + hours_[3]))
    assert with_index[-1] == sub_index_nounit(load("us-2024").table("pm25"), np.array(3000.0))
    assert kernels.count(hours_, 12)[-1] == 12


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 0), (2, 3, 5)])
def test_arrays_of_any_shape(shape):
    for kernel in (kernels.nowcast, kernels.tw_mean, kernels.mean_24h):
        assert kernel(np.ones(shape)).shape == shape


@given(hours)
def test_kits_beside_each_other_do_not_mix(values):
    both = np.array([values, values[::-1]])
    for kernel in (kernels.nowcast, kernels.tw_mean, kernels.mean_24h):
        np.testing.assert_array_equal(kernel(both), [kernel(row) for row in both])


@given(st.lists(st.floats(-15, 900), min_size=12, max_size=12))
def test_a_mean_lies_between_its_hours(values):
    slack = 1e-9 * max(1.0, *map(abs, values))
    for kernel in (kernels.nowcast, kernels.tw_mean):
        assert min(values) - slack <= last(kernel, *values) <= max(values) + slack
