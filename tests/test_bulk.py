"""What is read together equals what is read one by one; nothing passes that `wire` refuses."""

import json
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_intake import Bench
from wire import golden

from gateway import intake, wire
from gateway.bulk import joined, read_runs
from gateway.records import NULL
from gateway.store import chunks, counters, readings
from gateway.store.raw import RawWriter

T0_S = 1_795_217_400
COLUMNS = ["seq", "up", "t", "q", "dt", "pm_n", "pm25_cf1", "temp"]


def payload(seqs, *, boot=7, first=0, t0_s=T0_S, q=2, dt=60, columns=COLUMNS, separators=(",", ":"), value=None):
    rows = [[s, 40 + 60 * s, t0_s + 60 * s, q, dt, 12, 80 + s % 9, 2100 if value is None else value] for s in seqs]
    body = {"v": 1, "boot": boot, "first": first, "cols": columns, "rows": rows}
    return json.dumps(body, separators=separators).encode()


def check(run, text):
    """A run says exactly what the batch says that `wire` reads."""
    batch = wire.decode_batch(text)
    assert (run.boot, run.first, run.layout) == (batch.boot, batch.first, batch.layout)
    assert run.values.tolist() == [[NULL if v is None else v for v in row] for row in batch.rows]
    at = batch.layout
    assert [run.seq_from, run.seq_to] == [batch.rows[0][at.seq], batch.rows[-1][at.seq]]
    assert len(batch.rows) == run.seq_to - run.seq_from + 1
    assert {row[at.q] for row in batch.rows} == {2}
    assert {row[at.dt] for row in batch.rows} == {run.interval_s}
    times_s = [row[at.t] for row in batch.rows]
    assert times_s == sorted(set(times_s))
    assert [run.time_from_s, run.time_to_s] == [times_s[0], times_s[-1]]
    hours = {t: (t * 1000 - run.interval_s * 500) // 3_600_000 for t in times_s}
    found = [(hour, t) for hour, table, _, _ in run.hours() for t in table[:, at.t].tolist()]
    assert found == [(hours[t], t) for t in times_s]
    ends = [(table[0, at.t], table[-1, at.t], a, b) for _, table, a, b in run.hours()]
    assert all((low, high) == (a, b) for low, high, a, b in ends)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_what_kits_send_is_read_together(separators):
    texts = [
        payload(range(20), separators=separators),
        payload(range(20, 21), separators=separators),
        payload(range(5, 200), t0_s=T0_S - 5, separators=separators),
        *(
            payload(range(70), t0_s=T0_S + late, dt=dt, separators=separators)
            for late in (0, 30, 31)
            for dt in (60, 61)
        ),
    ]
    for run, text in zip(read_runs(texts), texts, strict=True):
        check(run, text)


def test_more_rows_than_a_message_may_have_are_no_run():
    def rows(count):
        body = {"v": 1, "boot": 7, "first": 0, "cols": COLUMNS[:5], "rows": [[i, i, i, 2, 1] for i in range(count)]}
        return json.dumps(body, separators=(",", ":")).encode()

    assert len(rows(wire.MAX_ROWS + 1)) < wire.MAX_MESSAGE_BYTES
    most, more = read_runs([rows(wire.MAX_ROWS), rows(wire.MAX_ROWS + 1)])
    check(most, rows(wire.MAX_ROWS))
    assert more is None


def test_a_null_where_no_sensor_answered_is_read_together_too():
    text = payload(range(3)).replace(b"2100]", b"null]", 2)
    (run,) = read_runs([text])
    check(run, text)
    assert run.values[:, -1].tolist() == [NULL, NULL, 2100]


def test_golden_messages_are_read_as_one_by_one_or_left_alone():
    messages = [*golden.valid("obs", "backlog"), *golden.invalid("obs", "backlog")]
    runs = read_runs([m.payload for m in messages])
    for message, run in zip(messages, runs, strict=True):
        if run is not None:
            check(run, message.payload)
    assert any(run is not None for run in runs)


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_no_mutation_of_a_batch_passes_that_one_by_one_would_not(seed, changes):
    chance = random.Random(seed)
    text = bytearray(payload(range(chance.randrange(4), 6), separators=chance.choice([(",", ":"), (", ", ": ")])))
    pieces = [
        b"", b"-", b"0", b"9" * 20, b"1.5", b"1e3", b"null", b"true", b'"7"', b"],[", b"]", b"[", b",", b"[[", b" ",
        b"n", b"u", b"\xff", str(NULL).encode(), str(-NULL).encode(),
    ]  # fmt: skip
    for _ in range(changes):
        at = chance.randrange(len(text))
        text[at : at + chance.randrange(3)] = chance.choice(pieces)
    (run,) = read_runs([bytes(text)])
    if run is not None:
        check(run, bytes(text))


@given(value=st.integers(-(2**70), 2**70), place=st.sampled_from(range(len(COLUMNS))), with_null=st.booleans())
@example(value=NULL, place=7, with_null=False)
@example(value=NULL, place=7, with_null=True)
@example(value=-NULL, place=7, with_null=False)
@example(value=-NULL - 1, place=7, with_null=False)
def test_no_number_is_changed(value, place, with_null):
    rows = [[1, 100, T0_S, 2, 60, 12, 80, 2100], [2, 160, T0_S + 60, 2, 60, 12, 81, 2100]]
    rows[1][place] = value
    rows[0][6] = None if with_null else 80
    text = json.dumps({"v": 1, "boot": 7, "first": 0, "cols": COLUMNS, "rows": rows}, separators=(",", ":")).encode()
    (run,) = read_runs([text])
    if run is not None:
        check(run, text)


@st.composite
def messages(draw):
    kit = draw(st.sampled_from(["kit-a", "kit-b"]))
    seqs = draw(st.sampled_from([range(a, a + n) for a in (0, 3, 6, 40) for n in (1, 4, 70)] + [[1, 3, 4]]))
    text = payload(
        seqs, boot=draw(st.sampled_from([3, 9])), first=draw(st.sampled_from([0, 0, 2])),
        t0_s=T0_S + draw(st.sampled_from([0, 0, 0, -3600, 86_400 * 3])), q=draw(st.sampled_from([2, 2, 2, 1, 0])),
        value=draw(st.sampled_from([None, None, 10**10, 5])),
        columns=draw(st.sampled_from([COLUMNS, COLUMNS, [*COLUMNS[:-1], "unheard"]])),
    )  # fmt: skip
    return f"lichen/v1/{kit}/{draw(st.sampled_from(['obs', 'backlog']))}", text


@st.composite
def sequels(draw):
    """Each message of a kit mostly continues its last, as in a backlog."""
    found, at = [], {}
    for kit in draw(st.lists(st.sampled_from(["kit-a", "kit-b"]), min_size=3, max_size=14)):
        boot, seq, late_s = at.get(kit, (3, 0, 0))
        change = draw(st.sampled_from(["", "", "", "", "", "boot", "gap", "again", "later", "earlier", "interval"]))
        boot += change == "boot"
        seq += {"gap": 2, "again": -min(seq, 1)}.get(change, 0)
        late_s += {"later": 4000, "earlier": -60}.get(change, 0)
        seqs = range(seq, seq + draw(st.sampled_from([1, 4, 70])))
        text = payload(
            seqs, boot=boot, first=draw(st.sampled_from([0, seq])), t0_s=T0_S + late_s,
            dt=1800 if change == "interval" else 60,
        )  # fmt: skip
        found.append((f"lichen/v1/{kit}/{draw(st.sampled_from(['backlog', 'backlog', 'obs']))}", text))
        at[kit] = boot, seqs[-1] + 1, late_s
    return found


@given(st.lists(messages(), max_size=12) | sequels(), st.booleans(), st.randoms(use_true_random=False))
def test_a_store_is_the_same_whether_messages_are_read_together_or_one_by_one(tmp_path_factory, some, trusted, chance):
    sizes = [chance.randrange(1, 8) for _ in some]
    found = []
    for reader in (read_runs, lambda payloads: [None] * len(payloads)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(intake, "read_runs", reader)
            bench = Bench(tmp_path_factory.mktemp("store"), trusted=trusted)
            left = [bench.message(topic, text, (T0_S + 90_000) * 1000) for topic, text in some]
            for size in sizes:
                bench.send(*left[:size])
                left = left[size:]
            bench.intake.gather()
            found.append((everything(bench.db), bench.receipts(), bench.acknowledged))
            bench.db.close()
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("seqs", "change"),
    [
        (range(5, 9), {}), (range(6, 9), {}), (range(4, 9), {}), (range(5, 9), {"boot": 8}), (range(5, 9), {"dt": 61}),
        (range(5, 9), {"t0_s": T0_S - 60}), (range(5, 9), {"columns": [*COLUMNS[:-1], "rh"]}),
    ],
)  # fmt: skip
def test_only_the_next_rows_of_the_same_boot_and_kind_continue_a_message(seqs, change):
    before, run = read_runs([payload(range(5)), payload(seqs, **change)])
    assert run.continues(before) == (seqs == range(5, 9) and not change)


def test_messages_that_continue_each_other_say_together_what_one_would_say():
    parts = [payload(range(5, 8), first=0), payload(range(8, 80), first=4), payload(range(80, 82), first=1)]
    check(joined(read_runs(parts)), payload(range(5, 82), first=4))


def test_messages_that_continue_each_other_are_placed_as_one(tmp_path, monkeypatch):
    bench, placed = Bench(tmp_path), []
    bench.send(bench.message("lichen/v1/kit-a/obs", payload(range(1)), (T0_S + 90_000) * 1000))
    real = RawWriter.add_run
    monkeypatch.setattr(RawWriter, "add_run", lambda *a, **kw: placed.append(len(a[2].values)) or real(*a, **kw))
    seqs = [range(a, a + 20) for a in (1, 21, 41, 62)]
    some = [bench.message("lichen/v1/kit-a/backlog", payload(s), (T0_S + 90_000) * 1000) for s in seqs]
    bench.send(*some)
    assert placed == [60, 20]
    assert counters.totals(bench.db) == {"batches": 5, "rows": 81}
    assert bench.acknowledged[-4:] == [message.mid for message in some]


def everything(db):
    rows = sorted(
        (r.kit, int(r.time_ms[i]), int(r.boot[i]), int(r.seq[i]), int(r.time_source[i]), int(r.time_error_s[i]),
         repr({name: values[i] for name, values in r.columns.items()}))
        for r in readings.each_hour(db) for i in range(len(r))
    )  # fmt: skip
    waiting = sorted((w.kit, w.boot, w.seq.tolist()) for w in readings.waiting(db))
    tables = {
        name: db.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3").fetchall()  # noqa: S608
        for name in ("cover", "settled", "dirty", "loose", "dead_letter")
    }
    # `moved` is a revision: how many chunks were made before.
    tables["boot"] = db.execute(
        "SELECT kit, boot, first_seq, heard_ms, moved > 0, offset_s, offset_seq, live_from_ms, live_to_ms, "
        "live_offset_ms FROM boot ORDER BY 1, 2"
    ).fetchall()
    return rows, waiting, tables, counters.totals(db)


def test_a_table_of_one_width_packs_as_rows_do():
    rows = [[1, None, 3], [4, 5, 6]]
    assert chunks.unpack(chunks.pack(chunks.table_of(rows)), 3).tolist() == [[1, NULL, 3], [4, 5, 6]]


def test_nothing_and_what_is_no_batch_is_left_alone():
    large = b"x" * (wire.MAX_MESSAGE_BYTES + 1)
    assert read_runs([None, b"", b"[]", b"{}", b"\xff", b"[" * 10_000, large]) == [None] * 7
    assert read_runs([]) == []
