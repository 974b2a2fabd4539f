"""Parsers and the MQTT core, fed with millions of bytes in the interpreter they are meant for."""

import pytest
from figures import record
from test_kit_flash import script

pytestmark = pytest.mark.micropython
PARTS = ["pms", "sht31", "bme280", "drivers", "mqtt", "datagrams"]


@pytest.mark.parametrize("part", PARTS)
def test_nothing_escapes_and_what_is_intact_is_found(micropython, part):
    done = script(micropython, "on_kit_fuzz.py", part, 11, 200_000)
    assert done["bytes"] >= 200_000
    assert done["found"] > 50


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_ten_million_bytes_each(micropython, micropython32):
    total = []
    for part in PARTS:
        done = script(micropython, "on_kit_fuzz.py", part, 1, 10_000_000, seconds=1000)
        total.append(done["bytes"])
        script(micropython32, "on_kit_fuzz.py", part, 2, 500_000, seconds=600)
    record(
        "kit.fuzz_bytes", min(total), unit="bytes", goal="10,000,000 per parser and core",
        how=f"tests/firmware/on_kit_fuzz.py, each of {', '.join(PARTS)}; on 32 bit 500,000",
    )  # fmt: skip
