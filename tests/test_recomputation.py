"""P6 to P9: whatever arrives in whatever order, changes in the past, or breaks anywhere: store = recomputation.

One store lives through messages, copies, late rows, clockless boots, wrong clocks, shared seconds, deployments,
corrections, records and cells' labels that change in the past, voids and their undoing, merging, and breaks inside any
statement. In the end it equals a store that got each row once, alone, in another order.
"""

import contextlib
import dataclasses
import json
import shutil
import sqlite3
from pathlib import Path
from tempfile import mkdtemp

import hypothesis.strategies as st
import msgspec
from collocated import record_text
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from test_intake import Bench

from calibration.corrections import CORRECTIONS as KNOWN
from calibration.corrections import find
from calibration.no2_label import EXAMPLE
from gateway import intake
from gateway.derive.dirty import Deriver
from gateway.derive.recipe import Recipe
from gateway.derive.verify import verify
from gateway.records import Void
from gateway.settings import Derive
from gateway.store import calibrations, deadletters, derived, merge, readings, registry, voids
from gateway.store.air_pack import air_content
from gateway.store.calibrations import StoredCalibration
from gateway.store.database import last_revision, transaction

RECIPE = Recipe.of(Derive())
T0 = 1_795_215_600  # a whole hour
HOUR0 = T0 // 3600
COLUMNS = ["seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "pm25_atm", "env_n", "env_bad", "temp", "rh"]
COLUMNS += ["gas_n", "gas_bad", "no2_we", "no2_ae", "temp_gas"]
KITS = ("kit-a", "kit-b")
SITES = (None, "school", "kit-a", "hall")
OTHER = dataclasses.replace(find("barkjohn2021"), version=99, constants={
    name: 2 * value for name, value in find("barkjohn2021").constants.items()
})  # fmt: skip
RECORDS = {
    "roof-1": record_text("roof-1", {"pm25_cf1": 0.5}, domain={"pm25_cf1": (8, 80)},
                          widths=((1800, 2.0, 0.1), (3600, 1.0, 0.1))),
    "roof-2": record_text("roof-2", {"pm25_cf1": 0.6, "rh": 0.01}, widths=((3600, 1.5, 0.0),)),
}  # fmt: skip
CORRECTIONS = (None, find("barkjohn2021").label, OTHER.label, *RECORDS)
LABELS = {
    "no2-202751234@1": EXAMPLE,
    "no2-202751234@2": EXAMPLE.replace("version = 1", "version = 2").replace("algorithm = 1", "algorithm = 3"),
}
VOIDED = ("", "pm25_cf1", "rh", "no2_we", "no2_ppb", "pm25_ugm3")
BOOTS = (3, 9)
SPAN = 12  # rows a boot, half an hour apart: some hours are valid, some are not


def row_of(kit, boot, seq):
    """The row that a kit made, a function of its name: quality, clock and gaps differ from boot to boot."""
    up = 40 + 1800 * seq
    start = T0 + (0 if boot == BOOTS[0] else 5400)
    q = (0, 2, 2, 1, 2, 0)[(seq + boot + len(kit)) % 6]
    t = start + up
    if kit == "kit-b":  # its clock jumps back at times, so that seconds are shared; and once it lies by four days
        t -= 1800 * (seq % 3 == 2)
        t += 4 * 86_400 * (seq == 7)
    value = 10 * (5 + (seq * 37 + boot * 11) % 90)
    gas = [10, 0, 240_000 + 900 * seq, 233_000 + 100 * seq, 2000] if kit == "kit-b" and seq % 5 else [None] * 5
    return [
        seq,
        up,
        None if q == 0 else t,
        q,
        1800,
        12,
        0,
        value,
        value - 3,
        12,
        0,
        2100,
        4000 + 1600 * (seq % 5),
        *gas,
    ]


class Life(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        KNOWN[OTHER.label] = OTHER
        self.bench = Bench(Path(mkdtemp(prefix="lichen-life-")), trusted=True)
        self.first = {}  # (kit, boot, seq) -> (received_ms, topic): the receipt under which a row came in
        self.sent = []
        self.now_ms = (T0 + 30 * 3600) * 1000
        self.lines = {"site": {}, "correction": {}, "no2": {}}
        self.voids = {}
        keep_labels(self.bench.db)
        self.deriver = Deriver(self.bench.db, RECIPE)

    def message(self, kit, boot, seqs, topic):
        rows = [row_of(kit, boot, seq) for seq in seqs]
        body = {"v": 1, "boot": boot, "first": 0, "cols": COLUMNS, "rows": rows}
        return self.bench.message(f"lichen/v1/{kit}/{topic}", msgspec.json.encode(body), received_ms=self.now_ms)

    @rule(
        kit=st.sampled_from(KITS), boot=st.sampled_from(BOOTS), start=st.integers(0, SPAN - 1),
        count=st.integers(1, 5), step=st.integers(1, 2), topic=st.sampled_from(["obs", "backlog"]),
        breaks=st.one_of(st.none(), st.integers(0, 3000)),
    )  # fmt: skip
    def send(self, kit, boot, start, count, step, topic, breaks):
        seqs = [seq for seq in range(start, start + count * step, step) if seq < SPAN]
        message = self.message(kit, boot, seqs, topic)
        revision = last_revision(self.bench.db)
        # A COMMIT can be broken when it has committed: then the kit has no receipt, but the store has the rows.
        if not self.broken(lambda: self.bench.send(message), breaks) or last_revision(self.bench.db) > revision:
            self.take(kit, boot, seqs, topic, message.received_ms)
            self.sent.append(message)

    def take(self, kit, boot, seqs, topic, received_ms):
        for seq in seqs:
            self.first.setdefault((kit, boot, seq), (received_ms, topic))

    @rule(seconds=st.integers(1, 4000))
    def time_passes(self, seconds):
        self.now_ms += 1000 * seconds

    @rule(
        kit=st.sampled_from(KITS), boot=st.sampled_from(BOOTS), start=st.integers(0, SPAN - 1),
        count=st.integers(1, SPAN), breaks=st.one_of(st.none(), st.integers(0, 3000)),
    )  # fmt: skip
    def send_one_by_one(self, kit, boot, start, count, breaks):
        for seq in range(start, min(start + count, SPAN)):
            self.now_ms = max(self.now_ms, 1000 * (T0 + 30 * 3600 + 1800 * seq))
            self.send(kit, boot, seq, 1, 1, "obs", breaks if seq % 3 == 0 else None)

    @rule(data=st.data())
    def send_again(self, data):
        if self.sent:
            self.bench.send(data.draw(st.sampled_from(self.sent)))

    @rule(breaks=st.one_of(st.none(), st.integers(0, 3000)))
    def gather(self, breaks):
        self.broken(self.bench.intake.gather, breaks)

    @rule(breaks=st.one_of(st.none(), st.integers(0, 8000)))
    def derive(self, breaks):
        self.broken(self.deriver.step, breaks)

    @rule(breaks=st.one_of(st.none(), st.integers(0, 3000)))
    def release(self, breaks):
        self.broken(self.release_once, breaks)

    def release_once(self):
        before, intake.now_ms = intake.now_ms, lambda: self.now_ms
        try:
            return self.bench.intake.release_waiting()
        finally:
            intake.now_ms = before

    @rule(breaks=st.one_of(st.none(), st.integers(0, 3000)))
    def merge(self, breaks):
        self.broken(lambda: merge.merge_quiet(self.bench.db, self.now_ms + 4_000_000), breaks)

    @rule(
        kit=st.sampled_from(KITS), hour=st.integers(HOUR0 - 1, HOUR0 + 8),
        change=st.one_of(
            st.tuples(st.just("site"), st.sampled_from(SITES)),
            st.tuples(st.just("correction"), st.sampled_from(CORRECTIONS)),
            st.tuples(st.just("no2"), st.sampled_from([None, *LABELS])),
        ),
        first=st.booleans(),
    )  # fmt: skip
    def change_the_past(self, kit, hour, change, first):
        what, value = change
        self.derive_all(first)
        if kit in {name for name, _ in registry.kits_with_sites(self.bench.db)}:
            with transaction(self.bench.db):
                set_line(self.bench.db, what, kit, hour, value)
            self.lines[what][kit, hour] = value

    def derive_all(self, really):
        """Derive what waits, so that only what a change itself marks is derived after it."""
        while really and self.deriver.step():
            pass

    @rule(data=st.data(), first=st.booleans())
    def take_it_back(self, data, first):
        self.derive_all(first)
        what = data.draw(st.sampled_from(sorted(self.lines)))
        if self.lines[what]:
            kit, hour = data.draw(st.sampled_from(sorted(self.lines[what])))
            with transaction(self.bench.db):
                drop_line(self.bench.db, what, kit, hour)
            del self.lines[what][kit, hour]

    @rule(
        kit=st.sampled_from(KITS), what=st.sampled_from(VOIDED), start=st.integers(-3600, 8 * 3600),
        length=st.integers(1, 6 * 3600), first=st.booleans(),
    )  # fmt: skip
    def void(self, kit, what, start, length, first):
        self.derive_all(first)
        if kit in {name for name, _ in registry.kits_with_sites(self.bench.db)}:
            void = Void(what, 1000 * (T0 + start), 1000 * (T0 + start + length))
            with transaction(self.bench.db):
                number, _ = voids.add(self.bench.db, kit, void, reason="fumes", who="ann", now_ms=self.now_ms)
            self.voids[number] = kit, void

    @rule(data=st.data(), first=st.booleans())
    def undo_a_void(self, data, first):
        self.derive_all(first)
        if self.voids:
            number = data.draw(st.sampled_from(sorted(self.voids)))
            with transaction(self.bench.db):
                voids.undo(self.bench.db, number, reason="no fumes", who="bob", now_ms=self.now_ms)
            del self.voids[number]

    def broken(self, work, instructions):
        """Do something, or break inside a statement after so many instructions and start again; whether it broke."""
        if instructions is None:
            work()
            return False
        left = [instructions]

        def count():
            left[0] -= 1
            return left[0] == -1  # once: what cleans up after it is not broken

        self.bench.db.set_progress_handler(count, 1)
        try:
            work()
        except sqlite3.OperationalError:
            self.restart()
            return True
        finally:
            with contextlib.suppress(sqlite3.ProgrammingError):
                self.bench.db.set_progress_handler(None, 1)
        return False

    def restart(self):
        self.bench.db.close()
        self.bench.open(trusted=True)
        self.deriver = Deriver(self.bench.db, RECIPE)

    def teardown(self):
        if not hasattr(self, "bench"):
            return
        self.settle(self.bench, self.release_once)
        assert deadletters.count(self.bench.db) == {}
        verdict = verify(self.bench.db, RECIPE)
        assert not verdict.different
        assert not verdict.waiting
        clean = Bench(self.bench.folder / "clean", trusted=True)
        for (kit, boot, seq), (received_ms, topic) in sorted(
            self.first.items(), key=lambda x: x[0][::-1], reverse=True
        ):
            rows = [row_of(kit, boot, seq)]
            body = {"v": 1, "boot": boot, "first": 0, "cols": COLUMNS, "rows": rows}
            clean.send(clean.message(f"lichen/v1/{kit}/{topic}", msgspec.json.encode(body), received_ms=received_ms))
        keep_labels(clean.db)
        with transaction(clean.db):
            for what, lines in self.lines.items():
                for (kit, hour), value in lines.items():
                    set_line(clean.db, what, kit, hour, value)
            for _, (kit, void) in sorted(self.voids.items(), reverse=True):
                voids.add(clean.db, kit, void, reason="another", who="eve", now_ms=0)
        ours, self.bench = self.bench, clean
        self.settle(clean, self.release_once)
        assert everything(ours.db) == everything(clean.db)
        for bench in (ours, clean):
            bench.db.close()
        shutil.rmtree(ours.folder)
        del KNOWN[OTHER.label]

    def settle(self, bench, release):
        while release():
            pass
        bench.intake.gather()
        deriver = Deriver(bench.db, RECIPE)
        while deriver.step():
            pass


def keep_labels(db):
    with transaction(db):
        texts = LABELS | RECORDS
        assert all(calibrations.add(db, StoredCalibration(label, text, 0, "ann")) for label, text in texts.items())


def set_line(db, what, kit, hour, value):
    if what == "no2":
        registry.set_correction(db, kit, hour, value, "no2_ppb")
    else:
        getattr(registry, f"set_{what}")(db, kit, hour, value)


def drop_line(db, what, kit, hour):
    if what == "no2":
        registry.drop_correction(db, kit, hour, "no2_ppb")
    else:
        getattr(registry, f"drop_{what}")(db, kit, hour)


def everything(db):
    """All that a store says, but revisions: where each row stands, and every derived record."""
    found = {}
    for some in readings.each_hour(db):
        for i in range(len(some)):
            columns = {name: repr(values[i]) for name, values in some.columns.items()}
            where = (int(some.time_ms[i]), int(some.time_source[i]), int(some.time_error_s[i]))
            found["raw", some.kit, int(some.boot[i]), int(some.seq[i])] = (*where, json.dumps(columns, sort_keys=True))
    for some in readings.waiting(db):
        for seq in some.seq.tolist():
            found["raw", some.kit, some.boot, seq] = "waits"
    found |= {("air", a.kit, a.hour): (a.site, a.cal, air_content(a)) for a in derived.read_air(db)}
    found |= {("hour", h.kit, h.hour): msgspec.structs.replace(h, rev=0) for h in derived.read_hours(db)}
    found |= {("index", i.site, i.scheme, i.hour): msgspec.structs.replace(i, rev=0) for i in derived.read_indices(db)}
    return found


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
