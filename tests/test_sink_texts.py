"""Numbers as text, many at once, are the texts that Python writes one by one; lines of rows keep order and gaps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.records import NULL
from gateway.sinks import texts
from gateway.sinks.lines import Column, Ready, Rows, requests

LARGEST = 2**63 - 1
whole = st.lists(
    st.sampled_from([10**4, 10**8, 10**16, 20_000]).flatmap(lambda size: st.integers(-size, size))
    | st.integers(-LARGEST, LARGEST),
    min_size=1, max_size=30,
)  # fmt: skip
finite = st.lists(
    st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1e-4, 9.9e-5, 1e16, 5e-324, 0.1]),
    min_size=1, max_size=30,
)  # fmt: skip


def rows_of(parts, n):
    return texts.text_of(texts.beside([*parts, b"\n"], n)).decode().splitlines()


@given(whole)
def test_integers(values):
    assert rows_of(texts.integers(np.array(values)), len(values)) == [str(value) for value in values]


@given(whole, st.sampled_from([1, 10, 100, 1000]))
def test_decimals_are_the_shortest_texts_of_their_floats(values, per_unit):
    floats = (np.array(values) / float(per_unit)).tolist()
    assert rows_of(texts.decimals(np.array(values), per_unit), len(values)) == [repr(value) for value in floats]


@given(finite)
def test_floats_are_written_as_repr_does(values):
    assert rows_of([texts.floats(np.array(values))], len(values)) == [repr(value) for value in values]
    assert [texts.float_text(value) for value in values] == [repr(value) for value in values]


@given(finite, st.sampled_from([1, 10, 100]))
def test_scaled_integers_give_the_same_floats_again_or_nothing(values, per_unit):
    array = np.array(values)
    found = texts.scaled(array, per_unit)
    if found is not None:
        assert [repr(v) for v in (found / per_unit).tolist()] == [repr(v) for v in values]


optional = st.lists(st.none() | st.integers(-(2**40), 2**40), min_size=12, max_size=12)


@given(optional, optional, st.lists(st.none() | st.floats(), min_size=12, max_size=12), st.data())
def test_rows_have_their_values_and_nothing_where_there_is_none(counts, tenths, floats, data):
    heads = [b"m,kit=a ", b"m,kit=longer ", b"m,kit=b\\ c "]
    head = data.draw(st.lists(st.integers(0, 2), min_size=12, max_size=12))
    part = Rows(
        heads, np.array(head),
        [
            Column("n", np.array([NULL if v is None else v for v in counts]), whole=True),
            Column("x y", np.array([NULL if v is None else v for v in tenths]), per_unit=10),
            Column("f", np.array([math.nan if v is None else v for v in floats])),
            Column("seq", np.arange(12), whole=True),
        ],
        np.arange(12) * 997,
    )  # fmt: skip
    expected = []
    for i in range(12):
        fields = [f"n={counts[i]}i"] if counts[i] is not None else []
        fields += [f"x\\ y={tenths[i] / 10!r}"] if tenths[i] is not None else []
        fields += [f"f={floats[i]!r}"] if floats[i] is not None and math.isfinite(floats[i]) else []
        expected.append(heads[head[i]].decode() + ",".join([*fields, f"seq={i}i"]) + f" {i * 997}")
    assert part.text(0, 12).decode().split("\n") == expected
    start, stop = sorted(data.draw(st.tuples(st.integers(0, 12), st.integers(0, 12))))
    assert part.text(start, stop).decode() == "\n".join(expected[start:stop])


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 20))
def test_requests_hold_every_line_once_in_order_and_are_even(lengths, size):
    parts = [Ready(b"%d.%d" % (i, j) for j in range(length)) for i, length in enumerate(lengths)]
    found = list(requests(parts, size))
    together = [b"\n".join([part.text(start, stop) for part, start, stop in some]).split(b"\n") for _, some in found]
    assert [line for some in together for line in some] == [line for part in parts for line in part]
    assert [len(some) for some in together] == [count for count, _ in found]
    assert all(count <= size for count, _ in found)
    assert len(found) == -(-sum(lengths) // size)


@pytest.mark.parametrize("text", [b"a\0b"])
def test_a_zero_byte_in_a_name_is_no_gap(text):
    from gateway.sinks import lineprotocol

    assert lineprotocol.raw_tags(text.decode()) == (("kit", "a b"),)
