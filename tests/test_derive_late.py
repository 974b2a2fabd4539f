"""P7 and P8: whatever the order of arrival, derived = recomputed; late rows derive again exactly what they touch."""

import random

import msgspec
from collocated import record_text
from hypothesis import given, settings
from hypothesis import strategies as st
from test_intake import Bench

from gateway.derive import chain
from gateway.derive.dirty import Deriver
from gateway.derive.recipe import Recipe
from gateway.derive.verify import verify
from gateway.settings import Derive
from gateway.store import counters, derived, registry
from gateway.store.calibrations import StoredCalibration, add
from gateway.store.database import transaction

RECIPE = Recipe.of(Derive())
T0 = 1_795_215_600  # a whole hour
COLUMNS = ["seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "env_n", "env_bad", "temp", "rh"]


def message(bench, minutes, *, value=None, boot=7, kit="kit-1"):
    rows = [
        [m, 60 * m, T0 + 60 * m, 2, 60, 12, 0, (value or 50) + m * 7 % 90, 12, 0, 2100, 4000 + m % 500] for m in minutes
    ]
    body = {"v": 1, "boot": boot, "first": 1, "cols": COLUMNS, "rows": rows}
    return bench.message(f"lichen/v1/{kit}/backlog", msgspec.json.encode(body))


def derive_all(db):
    deriver = Deriver(db, RECIPE)
    while deriver.step():
        pass


def revisions(db):
    found = {("hour", h.hour): h.rev for h in derived.read_hours(db)}
    found |= {("index", i.scheme, i.hour): i.rev for i in derived.read_indices(db)}
    for a in derived.read_air(db):
        found |= {("air", a.hour, t): rev for t, rev in zip(a.time_ms.tolist(), a.rev.tolist(), strict=True)}
    return found


def test_a_late_row_changes_its_hour_and_the_indices_it_reaches_and_nothing_else(tmp_path):
    bench = Bench(tmp_path)
    late = 10 * 60 + 5
    for hour in range(40):
        minutes = [m for m in range(hour * 60 + 1, hour * 60 + 61) if m != late]
        bench.send(message(bench, minutes))
    derive_all(bench.db)
    before = revisions(bench.db)
    bench.send(message(bench, [late], value=9000))
    derive_all(bench.db)
    after = revisions(bench.db)
    changed = {key for key in after if after[key] != before.get(key)}
    hour = T0 // 3600 + 10
    time_ms = (T0 + late * 60) * 1000
    assert {key for key in changed if key[0] == "hour"} == {("hour", hour)}
    assert {key for key in changed if key[0] == "air"} == {("air", hour, time_ms)}
    touched = {key[2] for key in changed if key[0] == "index"}
    assert touched <= set(range(hour, hour + 24))
    assert {hour, hour + 23} <= touched
    assert not verify(bench.db, RECIPE).different


def test_an_hour_that_comes_gives_the_gap_before_it_its_index(tmp_path):
    bench = Bench(tmp_path)
    bench.send(message(bench, range(1, 121)))
    derive_all(bench.db)
    gap = T0 // 3600 + 2
    assert gap not in {index.hour for index in derived.read_indices(bench.db)}
    bench.send(message(bench, range(181, 241)))
    derive_all(bench.db)
    assert gap in {index.hour for index in derived.read_indices(bench.db)}
    assert not verify(bench.db, RECIPE).different


def test_a_copy_derives_nothing_again(tmp_path):
    bench = Bench(tmp_path)
    minutes = message(bench, range(1, 200))
    bench.send(minutes)
    derive_all(bench.db)
    before = revisions(bench.db)
    bench.send(minutes)
    assert derived.count_dirty(bench.db) == 0
    assert revisions(bench.db) == before


@settings(max_examples=15)
@given(st.integers(0, 2**32), st.sampled_from([1, 7, 45]), st.booleans())
def test_any_order_with_restarts_equals_a_clean_recomputation(tmp_path_factory, seed, size, gaps):
    rng = random.Random(seed)
    bench = Bench(tmp_path_factory.mktemp("store"))
    minutes = [m for m in range(1, 8 * 60) if not (gaps and 100 < m < 290)]
    parts = [minutes[i : i + size] for i in range(0, len(minutes), size)]
    rng.shuffle(parts)
    while parts:
        count = rng.randint(1, len(parts))
        bench.send(*[message(bench, sorted(part)) for part in parts[:count]])
        parts = parts[count:]
        if rng.random() < 0.6:
            Deriver(bench.db, RECIPE).step()
        if rng.random() < 0.3:
            bench.open()
    derive_all(bench.db)
    verdict = verify(bench.db, RECIPE)
    assert verdict.compared > 0
    assert not verdict.different
    clean = Bench(tmp_path_factory.mktemp("clean"))
    clean.send(*[message(clean, minutes[i : i + 45]) for i in range(0, len(minutes), 45)])
    derive_all(clean.db)
    for read in (derived.read_hours, derived.read_indices):
        assert [without_rev(r) for r in read(bench.db)] == [without_rev(r) for r in read(clean.db)]


def without_rev(record):
    return msgspec.structs.replace(record, rev=0)


def test_another_recipe_derives_everything_again(tmp_path):
    bench = Bench(tmp_path)
    bench.send(*[message(bench, range(m, m + 100)) for m in (1, 101, 201, 301)])
    derive_all(bench.db)
    before = revisions(bench.db)
    Deriver(bench.db, RECIPE)
    assert derived.count_dirty(bench.db) == 0
    other = Recipe.of(Derive(schemes=("tw-2025",)))
    deriver = Deriver(bench.db, other)
    while deriver.step():
        pass
    assert {i.scheme for i in derived.read_indices(bench.db)} == {"tw-2025"}
    assert revisions(bench.db) == {k: v for k, v in before.items() if k[1] != "us-2024"}  # what is equal stays
    assert not verify(bench.db, other).different


def test_an_index_that_no_longer_holds_goes(tmp_path):
    bench = Bench(tmp_path)
    hours = [message(bench, range(h * 60 + 1, h * 60 + 61)) for h in (0, 1, 3)]
    bench.send(*hours)
    derive_all(bench.db)
    bridged = T0 // 3600 + 2  # an hour without data: NowCast has two of the last three
    assert bridged in {i.hour for i in derived.read_indices(bench.db, scheme="us-2024")}
    (kit,) = bench.db.execute("SELECT id FROM kit").fetchone()
    bench.db.execute("DELETE FROM chunk WHERE hour = ?", (T0 // 3600 + 1,))
    bench.db.execute("DELETE FROM hour WHERE hour = ?", (T0 // 3600 + 1,))
    bench.db.execute("DELETE FROM air WHERE hour = ?", (T0 // 3600 + 1,))
    bench.db.execute("INSERT INTO dirty (kit, hour) VALUES (?, ?)", (kit, T0 // 3600))
    derive_all(bench.db)
    assert bridged not in {i.hour for i in derived.read_indices(bench.db, scheme="us-2024")}
    assert not verify(bench.db, RECIPE).different


def test_verify_finds_what_was_changed_behind_its_back(tmp_path):
    bench = Bench(tmp_path)
    bench.send(message(bench, range(1, 130)))
    derive_all(bench.db)
    bench.db.execute("DELETE FROM site_index WHERE hour = (SELECT max(hour) FROM site_index)")
    assert {name.split()[0] for name in verify(bench.db, RECIPE).different} == {"index"}
    bench.db.execute("UPDATE hour SET record = replace(CAST(record AS TEXT), 'kit-1', 'kit-9')")
    assert any(name.startswith("hour") for name in verify(bench.db, RECIPE).different)
    bench.db.execute("UPDATE chunk SET hour = hour + 1")
    assert any(name.startswith("time kit-1 7") for name in verify(bench.db, RECIPE).different)


def test_an_hour_that_meets_a_mistake_of_the_program_holds_up_no_other(tmp_path, monkeypatch):
    bench = Bench(tmp_path)
    bench.send(message(bench, range(1, 185)))
    bad = T0 // 3600 + 1
    real = chain.derive_hours

    def derive_hours(stretches, **how):
        if any(((one.readings.time_ms - 30_000) // 3_600_000 == bad).any() for one in stretches):
            raise FloatingPointError("a mistake")
        return real(stretches, **how)

    monkeypatch.setattr(chain, "derive_hours", derive_hours)
    deriver = Deriver(bench.db, RECIPE)
    for _ in range(3):
        deriver.step()
    assert {h.hour for h in derived.read_hours(bench.db)} == {bad - 1, bad + 1, bad + 2}
    assert counters.totals(bench.db)["hours_failed"] == 1  # tried once, not for ever
    assert derived.count_dirty(bench.db) == 1
    monkeypatch.undo()
    bench.send(message(bench, [61], boot=9))  # something of it changes
    while deriver.step():
        pass
    assert {h.hour for h in derived.read_hours(bench.db)} == {bad - 1, bad, bad + 1, bad + 2}
    assert not verify(bench.db, RECIPE).different


def test_kits_with_records_of_their_own_derived_together_equal_a_clean_recomputation(tmp_path):
    bench = Bench(tmp_path)
    names = [f"kit-{n}" for n in range(1, 6)]
    parts = [(name, m) for name in names for m in range(1, 180, 20)]
    random.Random(3).shuffle(parts)

    def send(some):
        bench.send(*[message(bench, range(m, m + 20), kit=name) for name, m in some])

    send(parts[:20])
    with transaction(bench.db):
        for number, name in enumerate(names[1:]):  # of the first the configured correction
            terms = {"pm25_cf1": 0.5 + number / 10, "rh": 0.01 * number + 0.01, "pm25_cf1*rh": 0.001}
            text = record_text(
                f"of-{name}", terms, intercept=number, widths=((60, 1.0 + number, 0.1), (3600, 1.0, 0.2))
            )
            add(bench.db, StoredCalibration(f"of-{name}", text, 0, "test"))
            registry.set_correction(bench.db, name, T0 // 3600 + 1, f"of-{name}")
    deriver = Deriver(bench.db, RECIPE)
    deriver.step()
    send(parts[20:])
    assert deriver.step() > len(names)
    while deriver.step():
        pass
    verdict = verify(bench.db, RECIPE)
    assert not verdict.different
    assert verdict.compared > 2 * 3 * len(names)
    found = {(h.kit, h.cal) for h in derived.read_hours(bench.db) if h.hour > T0 // 3600}
    assert found == {("kit-1", "barkjohn2021@1"), *((name, f"of-{name}") for name in names[1:])}
    assert any(hour.lo for hour in derived.read_hours(bench.db))
