"""The gateway reads every golden message of version 1, and refuses every other with its reason."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import golden

from gateway import wire

BATCHES = ("obs", "backlog")
OTHERS = {"status": wire.decode_status, "about": wire.decode_about, "diag": wire.decode_diag}
BAD_CONTENT = [m for m in golden.invalid(*BATCHES) if m.reason != "bad_topic"]


@pytest.mark.parametrize("message", list(golden.valid(*BATCHES)), ids=lambda m: m.name)
def test_valid_batch_is_read(message):
    batch = wire.decode_batch(message.payload)
    assert batch.rows
    assert all(len(row) == len(batch.cols) for row in batch.rows)


@pytest.mark.parametrize("message", BAD_CONTENT, ids=lambda m: m.name)
def test_invalid_batch_has_its_reason(message):
    with pytest.raises(wire.WireError) as refused:
        wire.decode_batch(message.payload)
    assert refused.value.reason == message.reason


@pytest.mark.parametrize("message", list(golden.valid("status", "about", "diag")), ids=lambda m: m.name)
def test_valid_status_about_and_diag_are_read(message):
    OTHERS[message.kind](message.payload)


@pytest.mark.parametrize("message", list(golden.invalid("status", "about", "diag")), ids=lambda m: m.name)
def test_invalid_status_about_and_diag_have_their_reason(message):
    with pytest.raises(wire.WireError) as refused:
        OTHERS[message.kind](message.payload)
    assert refused.value.reason == message.reason


def test_an_unknown_column_tells_its_rows_so_that_receipts_can_pass_them():
    payload = (
        b'{"v":1,"boot":7,"first":4,"cols":["seq","up","t","q","dt","later"],'
        b'"rows":[[4,60,1795217406,2,60,1],[5,120,1795217466,2,60,1]]}'
    )
    with pytest.raises(wire.WireError) as refused:
        wire.decode_batch(payload)
    rows = refused.value.rows
    assert (refused.value.reason, rows.boot, rows.first, list(rows.seqs)) == ("unknown_column", 7, 4, [4, 5])


def test_receipt_and_time_are_the_golden_bytes():
    for message in golden.valid("stored"):
        fields = wire.msgspec.json.decode(message.payload)
        assert wire.encode(wire.Stored(**fields)) == message.payload
    for message in golden.valid("time"):
        fields = wire.msgspec.json.decode(message.payload)
        assert wire.encode(wire.GatewayTime(**fields)) == message.payload


@given(st.binary(max_size=300))
def test_no_payload_escapes_as_another_error(payload):
    for decode in (wire.decode_batch, wire.decode_status, wire.decode_about):
        with suppress(wire.WireError):
            decode(payload)
