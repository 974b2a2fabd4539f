"""The golden messages agree with the schemas, the schemas with the quantities, and the index with the files."""

import json
import tomllib
from itertools import pairwise

import pytest
from jsonschema import Draft202012Validator, validators
from referencing import Registry, Resource
from wire import golden, make_large

from calibration import quantities

REASONS = {
    "not_json", "too_large", "unknown_version", "unknown_column", "wrong_type",
    "row_length", "too_many_rows", "bad_range", "bad_topic",
}  # fmt: skip

SCHEMAS = {path.stem: json.loads(path.read_text("utf-8")) for path in (golden.HERE / "schema").glob("*.json")}
REGISTRY = Registry().with_resources((s["$id"], Resource.from_contents(s)) for s in SCHEMAS.values())
Strict = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)


def refuse_constant(name):
    raise ValueError(f"{name} is not JSON")


def accepts(message):
    """Whether a strict JSON reader and the schema take the message."""
    try:
        value = json.loads(message.payload.decode("utf-8"), parse_constant=refuse_constant)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        return False
    return Strict(SCHEMAS[message.kind], registry=REGISTRY).is_valid(value)


def named(messages):
    return [pytest.param(m, id=m.name) for m in messages]


@pytest.mark.parametrize("kind", golden.TOPICS)
def test_every_topic_has_a_sound_schema_and_a_golden_of_each_side(kind):
    Draft202012Validator.check_schema(SCHEMAS[kind])
    assert list(golden.valid(kind))
    assert kind == "backlog" or [m for m in golden.invalid(kind) if m.schema]
    assert set(SCHEMAS) == set(golden.TOPICS)


@pytest.mark.parametrize("message", named(golden.valid()))
def test_a_valid_message_passes_its_schema_and_is_as_short_as_it_can_be(message):
    value = json.loads(message.payload)
    assert json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() == message.payload
    Strict(SCHEMAS[message.kind], registry=REGISTRY).validate(value)


@pytest.mark.parametrize("message", named(golden.invalid()))
def test_an_invalid_message_is_refused_by_the_schema_where_it_can_tell(message):
    assert message.reason in REASONS
    assert accepts(message) != message.schema or len(message.payload) > make_large.MAX_BYTES


def test_every_reason_has_a_golden():
    assert {m.reason for m in golden.invalid("obs", "backlog")} == REASONS


def test_the_index_lists_exactly_the_messages_there_are():
    index = tomllib.loads((golden.HERE / "golden/invalid.toml").read_text("utf-8"))
    stored = {path.stem for path in (golden.HERE / "golden/invalid").iterdir()}
    assert {name for name, entry in index.items() if not entry.get("made")} == stored
    assert {name for name, entry in index.items() if entry.get("made")} == set(make_large.INVALID)


def test_sizes_of_the_large_messages_are_what_their_reason_says():
    for message in (*golden.valid(), *golden.invalid()):
        assert (len(message.payload) > make_large.MAX_BYTES) == (message.reason == "too_large"), message.name


def test_the_batch_schema_knows_the_columns_of_the_table_of_quantities():
    columns = SCHEMAS["obs"]["properties"]["cols"]["items"]["enum"]
    assert columns == [*quantities.ROW_COLUMNS, *quantities.CHANNELS, *quantities.COUNTERS]


def test_about_states_units_and_scales_of_the_table_of_quantities():
    seen = set()
    for message in golden.valid("about"):
        for column in json.loads(message.payload)["cols"]:
            channel = quantities.CHANNELS[column["name"]]
            assert (column["unit"], column["per_unit"]) == (channel.unit.replace("**", ""), channel.per_unit)
            seen.add(column["name"])
    assert {"pm25_cf1", "n03_b", "temp", "rh"} <= seen


@pytest.mark.parametrize("key", ["lat", "lon", "site", "address"])
def test_about_never_says_where_a_kit_stands(key):
    about = json.loads(next(iter(golden.valid("about"))).payload)
    assert not Strict(SCHEMAS["about"], registry=REGISTRY).is_valid({**about, key: 1})


def test_invalid_batches_that_a_schema_cannot_refuse_do_break_their_rule():
    """A golden that only the reader can refuse must really be wrong: checked here rule by rule, without the reader."""
    broken = 0
    for message in golden.invalid("obs", "backlog"):
        if message.schema or message.reason not in {"row_length", "bad_range"}:
            continue
        batch = json.loads(message.payload)
        seqs = [row[0] for row in batch["rows"]]
        assert (
            any(len(row) != len(batch["cols"]) for row in batch["rows"])
            or any(b <= a for a, b in pairwise(seqs))
            or batch["first"] > seqs[0]
        ), message.name
        broken += 1
    assert broken >= 6
