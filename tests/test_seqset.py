"""Intervals of sequence numbers behave as the sets they stand for."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.store.seqset import SeqSet, runs

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda p: (p[0], p[0] + p[1])), max_size=20)


@given(spans, st.integers(0, 80), st.integers(0, 12))
def test_it_is_the_set_of_its_numbers(added, low, length):
    found, expected = SeqSet(), set()
    for first, last in added:
        (merged_first, merged_last), swallowed = found.add(first, last)
        before = [start for start, _ in runs(sorted(expected))]
        expected |= set(range(first, last + 1))
        assert (merged_first, merged_last) in list(runs(sorted(expected)))
        assert set(swallowed) <= set(before)
        assert {start for start, _ in found} == (set(before) - set(swallowed)) | {merged_first}
    assert list(found) == list(runs(sorted(expected)))
    assert (low in found) == (low in expected)
    assert found.overlaps(low, low + length) == bool(expected & set(range(low, low + length + 1)))
    end = low - 1
    while end + 1 in expected:
        end += 1
    assert found.end_of_run(low) == end
