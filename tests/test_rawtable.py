"""Raw rows as tables of wire integers hold what the store gives as readings, kit by kit, sorted the same way."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sink_store import GAS, PM

from gateway.records import NULL
from gateway.store import chunks, rawtable, readings

row = st.tuples(
    st.integers(0, 40), st.integers(0, 10**6), st.integers(0, 2**40), st.none() | st.integers(-(2**35), 2**35)
)


@st.composite
def chunk(draw):
    names = draw(st.sampled_from([PM, GAS]))
    rows = [
        [seq, up, t, 2, 60, *[value] * (len(names) - 5)]
        for seq, up, t, value in draw(st.lists(row, min_size=1, max_size=4))
    ]
    packed = chunks.pack(chunks.table_of(rows))
    boot, error_s, shift_ms = draw(st.tuples(st.integers(1, 3), st.integers(0, 9), st.integers(0, 999)))
    offset_s = draw(st.none() | st.integers(-100, 2**40))
    return draw(st.integers(1, 10**6)), boot, ",".join(names), packed.width, packed.rows, 1, error_s, offset_s, shift_ms


def facts(kit, table, rows):
    """Return each row as a tuple: NaN is None, so that rows can be compared."""
    columns = {name: readings._canonical(name, values[rows]) for name, values in table.columns.items() if name != "seq"}
    return as_tuples(
        kit,
        (table.time_ms[rows], table.boot[rows], table.seq[rows], table.time_error_s[rows], table.rev[rows]),
        columns,
    )


def as_tuples(kit, arrays, columns):
    named = [(name, [None if np.isnan(v) else v for v in values.tolist()]) for name, values in sorted(columns.items())]
    known = [{name: values[i] for name, values in named if values[i] is not None} for i in range(len(arrays[0]))]
    return [(kit, *map(int, numbers), sorted(fields.items())) for *numbers, fields in zip(*arrays, known, strict=True)]


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), chunk()), max_size=8))
def test_a_table_has_the_rows_of_the_readings_and_their_order(found):
    tables = rawtable.tables(found)
    assert {tuple(table.names) for table in tables} == {tuple(c[2].split(",")) for _, c in found}
    for table in tables:
        assert (np.diff(table.kit) >= 0).all()
        for number, kit in enumerate(table.kits):
            same = [c for name, c in found if name == kit and c[2] == ",".join(table.names)]
            expected = readings.assemble(kit, same)
            arrays = (expected.time_ms, expected.boot, expected.seq, expected.time_error_s, expected.rev)
            got = facts(kit, table, np.flatnonzero(table.kit == number))
            assert sorted(got) == sorted(as_tuples(kit, arrays, expected.columns))
            assert [each[1:4] for each in got] == sorted(each[1:4] for each in got)
    assert sum(map(len, tables)) == sum(len(c[4]) // (c[3] * len(c[2].split(","))) for _, c in found)


def test_null_stays_null():
    rows = chunks.pack(chunks.table_of([[1, 60, 100, 2, 60, 12, 0, None, 5, 6, 7]]))
    (table,) = rawtable.tables([("a", (1, 1, ",".join(PM), rows.width, rows.rows, 0, 2, None, 0))])
    assert table.columns["pm25_cf1"].tolist() == [NULL]


tables = st.lists(st.lists(st.tuples(*[st.none() | st.integers(-(2**35), 2**35)] * 2), min_size=1), min_size=1)


@given(tables, st.data())
def test_tables_that_are_packed_together_are_the_same_as_each_by_itself(some, data):
    tables = [chunks.table_of(rows) for rows in some]
    cuts = [data.draw(st.integers(0, len(table))) for table in tables]
    parts = [[table[:cut], table[cut:]] for table, cut in zip(tables, cuts, strict=True)]
    assert chunks.pack_each(parts) == [chunks.pack(table) for table in tables]
