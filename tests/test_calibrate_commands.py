"""Calibrations and voids as an operator gives them: what is derived again, who did it, and what is refused."""

import json
import math

import pytest
from made_place import HOUR0, at, derive, hours, iso, waiting
from made_store import HOUR_S, START_S, MadeStore
from test_commands import CONFIG, done, lichen, refused, running, stored

from calibration.no2_label import EXAMPLE
from gateway.records import Flag, Reason, Void
from gateway.store import calibrations, derived, registry, voids
from gateway.store.database import open_writer, read_meta, transaction, write_meta

COLS = (
    "seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "pm_n_b", "pm_bad_b", "pm25_cf1_b", "env_n", "env_bad",
    "temp", "rh", "gas_n", "gas_bad", "no2_we", "no2_ae", "temp_gas",
)  # fmt: skip
HOURS = 6  # the first four of which the cell warms up


def row(seq):
    t = START_S + 60 * (seq + 1)
    pm = [12, 0, 200 + seq % 3, 12, 0, 204 + seq % 3, 12, 0, 2000 + seq, 5000]
    return [seq, 60 * (seq + 1), t, 2, 60, *pm, 10, 0, 250_000 + seq % 7, 236_000, 2000]


@pytest.fixture
def place(tmp_path):
    """A folder with a configuration and a store of six hours of kit-1, derived; kit-2 has no gas cell."""
    (tmp_path / "gateway.toml").write_text(CONFIG)
    made = MadeStore(tmp_path / "store")
    made.add("kit-1", COLS, [row(seq) for seq in range(60 * HOURS)])
    made.add_span("kit-2", START_S, START_S + HOUR_S, lambda t: 20 + t % 7)
    made.derive()
    made.db.close()
    (tmp_path / "store" / "writer.lock").open().close()
    (tmp_path / "cell.toml").write_text(EXAMPLE)
    return tmp_path


# Labels of cells


def test_a_cells_label_given_to_a_kit_makes_its_no2_from_then_on(place):
    assert all("no2_ppb" not in h.values and "no2_ppb" not in h.valid_pct for h in hours(place).values())
    out = done("calibrate", "assign", "kit-1", place / "cell.toml", "--from", iso(1), *at(place))
    assert "5 hours are derived again" in out
    assert waiting(place) == [("kit-1", hour) for hour in range(1, HOURS)]
    derive(place)
    found = hours(place)
    assert "no2_ppb" not in found[0].valid_pct
    assert found[0].cal == "barkjohn2021@1"
    # we 250 - 224 = 26 mV and 3 µV, ae 236 - 231 = 5 mV, nT 0.6 at 20 °C: 23.003 mV over 0.259 mV/ppb
    assert found[5].values["no2_ppb"] == pytest.approx(23.003 / 0.259, abs=0.01)
    assert found[5].cal == "barkjohn2021@1|no2-202751234@1"
    assert (found[5].qc, found[5].reasons) == (Flag.GOOD, 0)
    assert found[2].values["pm25_ugm3"] == pytest.approx(0.524 * 20.3 - 4.31 + 5.75, abs=0.01)
    assert "no2_ppb" not in found[2].values  # warming up, which does not make its PM2.5 worse
    assert (found[2].qc, found[2].reasons) == (Flag.GOOD, Reason.INCOMPLETE | Reason.WARM_UP)
    air = stored(place, lambda db: list(derived.read_air(db, kit="kit-1")))[3]
    assert set(air.qc.tolist()) == {Flag.GOOD}
    assert sum(map(math.isnan, air.values["no2_ppb"].tolist())) == 59  # the row that ends at 14,400 s is warm


def test_a_kit_without_gas_channels_has_no_no2_whatever_it_is_given(place):
    done("calibrate", "assign", "kit-2", place / "cell.toml", "--from", iso(0), *at(place))
    derive(place)
    found = hours(place, "kit-2")[0]
    assert "no2_ppb" not in found.valid_pct
    assert (found.qc, found.reasons) == (Flag.GOOD, 0)


def test_an_assignment_is_shown_taken_back_and_derived_again(place):
    before = hours(place)
    done("calibrate", "assign", "kit-1", place / "cell.toml", "--from", iso(0), *at(place))
    found = json.loads(done("kit", "show", "kit-1", *at(place), "--json"))
    assert found["calibrations"] == [{"from": iso(0), "quantity": "no2_ppb", "calibration": "no2-202751234@1"}]
    assert found["corrections"] == []
    assert "no2-202751234@1" in done("kit", "show", "kit-1", *at(place))
    done("calibrate", "assign", "kit-1", "barkjohn2022", "--from", iso(0), *at(place))
    derive(place)
    assert {h.cal for h in hours(place).values()} == {"barkjohn2022@1|no2-202751234@1"}
    refused("calibrate", "unassign", "kit-1", "--from", iso(0), *at(place), status=1, says="name one with --quantity")
    done("calibrate", "unassign", "kit-1", "--from", iso(0), "--quantity", "no2_ppb", *at(place))
    done("calibrate", "unassign", "kit-1", "--from", iso(0), *at(place))
    derive(place)
    assert [h.values for h in hours(place).values()] == [h.values for h in before.values()]


def test_a_label_that_was_given_can_be_given_again_by_name_and_never_changes(place):
    done("calibrate", "assign", "kit-1", place / "cell.toml", "--from", iso(0), *at(place))
    done("calibrate", "assign", "kit-2", "no2-202751234@1", "--from", iso(0), *at(place))
    (place / "cell.toml").write_text(EXAMPLE.replace("0.259", "0.269"))
    refused(
        "calibrate", "assign", "kit-1", place / "cell.toml", *at(place), status=1, says="another id or version"
    )  # fmt: skip
    (place / "cell.toml").write_text(EXAMPLE.replace("0.259", "0.269").replace("version = 1", "version = 2"))
    done("calibrate", "assign", "kit-1", place / "cell.toml", "--from", iso(3), *at(place))
    kept = stored(place, calibrations.everything)
    assert [one.label for one in kept] == ["no2-202751234@1", "no2-202751234@2"]
    assert all(one.added_by and one.added_ms for one in kept)
    listed = json.loads(done("calibrate", "list", *at(place), "--json"))
    assert [line["calibration"] for line in listed["assigned"] if line["kit"] == "kit-1"] == [one.label for one in kept]
    assert json.loads(done("calibrate", "show", "no2-202751234@2", *at(place), "--json"))["record"] == kept[1].record


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (EXAMPLE.replace("0.259", "259.0"), "another unit"),
        (EXAMPLE.replace("NO2-B43F", "NO2-B4"), "NO2-B43F or NO2-A43F"),
        ("not TOML", "not TOML"),
        ("schema = 1", "incomplete"),
        ('kind = "no2-cell"\nid = "barkjohn2021"\n' + EXAMPLE.split("\n", 2)[2], "known with another content"),
    ],
)
def test_a_record_that_cannot_be_right_is_refused_and_nothing_is_kept(place, text, says):
    (place / "cell.toml").write_text(text)
    refused("calibrate", "assign", "kit-1", place / "cell.toml", *at(place), status=1, says=says)
    assert stored(place, calibrations.everything) == []
    assert waiting(place) == []
    assert stored(place, lambda db: registry.history(db, "kit-1").calibrations) == {}


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("calibrate assign kit-1 nowhere.toml", "nowhere.toml: cannot be read"),
        ("calibrate assign kit-1 no2-cell", "no correction is called 'no2-cell'"),
        ("calibrate assign kit-1 hackair_pm25", "takes pm25_sds, rh and gives pm25_ugm3: not for kits"),
        ("calibrate show barkjon2021", "did you mean 'barkjohn2021"),
    ],
)
def test_what_cannot_be_assigned_or_shown_is_told(place, command, says):
    refused(*command.split(), *at(place), status=1, says=says)


def test_what_is_unverified_is_said_wherever_a_correction_is_shown(place):
    listed = done("calibrate", "list")
    starred = [line.split("@1")[0] for line in listed.splitlines() if "@1*" in line]
    facts = json.loads(done("calibrate", "list", "--json"))["corrections"]
    assert starred == [one["label"].split("@")[0] for one in facts if one["unverified"]]
    assert "malings2020" in starred
    for one in facts:
        shown = done("calibrate", "show", one["label"])
        assert shown.count("UNVERIFIED") == len(one["unverified"])
        assert all(text in shown for text in (*one["unverified"], *one["jumps"], one["source"]))
    given = done("calibrate", "assign", "kit-1", "malings2020", "--from", iso(0), *at(place))
    assert "UNVERIFIED" in given
    (place / "cell.toml").write_text(EXAMPLE.replace("algorithm = 1", "algorithm = 4"))
    assert "one source alone" in done("calibrate", "assign", "kit-1", place / "cell.toml", *at(place))
    assert "one source alone" in done("calibrate", "show", "no2-202751234@1", *at(place))


# Voids


def void(place, *arguments):
    out = done("void", "add", "kit-1", *arguments, "--reason", "paint fumes", *at(place), "--json")
    return json.loads(out)


def test_a_voided_span_is_used_in_nothing_and_comes_back_when_undone(place):
    before = hours(place)
    found = void(place, "--from", iso(1.5), "--to", iso(2.5))
    assert found == {"id": 1, "hours": 2, "sealed": 0}
    assert waiting(place) == [("kit-1", 1), ("kit-1", 2)]
    derive(place)
    after = hours(place)
    assert after[1].valid_pct["pm25_ugm3"] == after[2].valid_pct["pm25_ugm3"] == 50.0
    assert after[1].valid_pct["pm25_cf1"] == 50.0
    assert "pm25_ugm3" not in after[1].values
    assert after[1].reasons & Reason.VOIDED
    assert {k: v.values for k, v in after.items() if k not in (1, 2)} == {
        k: v.values for k, v in before.items() if k not in (1, 2)
    }
    air = stored(place, lambda db: list(derived.read_air(db, kit="kit-1")))[1]
    assert [math.isnan(x) for x in air.values["pm25_ugm3"].tolist()] == [False] * 30 + [True] * 30
    assert set(air.qc[30:].tolist()) == {Flag.FAIL}
    assert json.loads(done("void", "undo", 1, "--reason", "wrong day", *at(place), "--json"))["hours"] == 2
    derive(place)
    assert {k: v.values for k, v in hours(place).items()} == {k: v.values for k, v in before.items()}


def test_a_row_belongs_to_a_span_by_the_middle_of_its_interval(place):
    void(place, "--from", iso(1), "--to", iso(2))
    derive(place)
    assert {hour: record.valid_pct["pm25_ugm3"] for hour, record in hours(place).items()} == {
        hour: 0.0 if hour == 1 else 100.0 for hour in range(HOURS)
    }


def test_of_two_sensors_the_other_stands_in_for_a_voided_one(place):
    void(place, "--from", iso(0), "--to", iso(6), "--what", "pm25_cf1")
    derive(place)
    found = hours(place)[2]
    assert found.values["pm25_ugm3"] == pytest.approx(0.524 * 20.5 - 4.31 + 5.75, abs=0.01)
    assert (found.qc, found.reasons) == (Flag.SUSPECT, Reason.SINGLE_CHANNEL)
    assert "pm25_cf1" not in found.values


def test_a_quantity_alone_is_voided(place):
    done("calibrate", "assign", "kit-1", place / "cell.toml", "--from", iso(0), *at(place))
    void(place, "--from", iso(0), "--to", iso(6), "--what", "no2_ppb")
    derive(place)
    found = hours(place)[5]
    assert "no2_ppb" not in found.values
    assert {"pm25_ugm3", "no2_we"} <= found.values.keys()
    assert (found.qc, found.reasons) == (Flag.GOOD, Reason.INCOMPLETE | Reason.VOIDED)


def test_the_list_tells_who_when_and_why_and_what_was_undone(place):
    with running(place):
        void(place, "--from", iso(1), "--to", iso(2))
        void(place, "--from", iso(3), "--to", iso(4), "--what", "rh")
        assert "is undone" in done("void", "undo", 1, "--reason", "wrong day", *at(place))
        first, second = json.loads(done("void", "list", *at(place), "--json"))
    assert (first["kit"], first["what"], first["from"], first["to"]) == ("kit-1", None, iso(1), iso(2))
    assert (first["reason"], first["undo_reason"], second["what"], second["undone"]) == (
        "paint fumes", "wrong day", "rh", None,
    )  # fmt: skip
    assert first["by"]
    assert first["undone_by"]
    text = done("void", "list", "--kit", "kit-1", *at(place))
    assert "paint fumes" in text
    assert "wrong day" in text
    assert done("void", "list", "--kit", "kit-2", *at(place)) == "nothing was voided\n"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("kit-1", "--from", 1, "--to", 1), 1, "ends before it begins"),
        (("kit-1", "--from", 1, "--to", 2, "--what", "pm25_cf"), 1, "did you mean pm25_cf1"),
        (("kit-9", "--from", 1, "--to", 2), 1, "did you mean kit-"),
        (("kit-1", "--from", "2026-11-21T14:00:00", "--to", 2), 2, "names no zone"),
    ],
)
def test_a_void_that_makes_no_sense_is_refused(place, arguments, status, says):
    texts = [iso(a) if isinstance(a, int) else a for a in arguments]
    refused("void", "add", *texts, "--reason", "x", *at(place), status=status, says=says)
    assert stored(place, voids.lines) == []


def test_a_reason_is_needed_and_a_void_is_undone_once(place):
    refused("void", "add", "kit-1", "--from", iso(1), "--to", iso(2), *at(place), status=2, says="--reason")
    refused(
        "void", "add", "kit-1", "--from", iso(1), "--to", iso(2), "--reason", " ", *at(place), status=1, says="say why"
    )
    refused("void", "undo", 1, "--reason", "x", *at(place), status=1, says="there is no void 1")
    void(place, "--from", iso(1), "--to", iso(2))
    done("void", "undo", 1, "--reason", "wrong day", *at(place))
    refused("void", "undo", 1, "--reason", "again", *at(place), status=1, says="undone already")


def test_sealed_hours_keep_what_they_have_and_that_is_said(place):
    db = open_writer(place / "store")
    with transaction(db):
        write_meta(db, "horizon_hour", str(HOUR0 + 2))
    db.close()
    (place / "store" / "writer.lock").open().close()
    assert stored(place, lambda db: read_meta(db, "horizon_hour")) == str(HOUR0 + 2)
    result = lichen("void", "add", "kit-1", "--from", iso(0), "--to", iso(3), "--reason", "fumes", *at(place))
    assert "1 hours are derived again" in result.stdout
    assert "2 hours of it are sealed" in result.stdout
    assert waiting(place) == [("kit-1", 2)]


def test_the_same_span_voided_twice_stays_voided_until_both_are_undone(place):
    void(place, "--from", iso(1), "--to", iso(2))
    void(place, "--from", iso(1), "--to", iso(2))
    done("void", "undo", 1, "--reason", "once", *at(place))
    assert stored(place, lambda db: voids.in_force(db, ["kit-1"])["kit-1"]) == (
        Void("", 1000 * (START_S + HOUR_S), 1000 * (START_S + 2 * HOUR_S)),
    )
    derive(place)
    assert hours(place)[1].valid_pct["pm25_ugm3"] == 0.0
