"""Power cuts at every operation of the flash, torn writes included; how much a ring holds, and how it wears."""

import json
import os
import subprocess

import pytest
from figures import record
from firmware_bench import FIRMWARE, HERE

pytestmark = pytest.mark.micropython


def script(binary, name, *args, seconds=160, heap="16m"):
    """What a script of this folder prints last, as JSON."""
    env = os.environ | {"MICROPYPATH": f"{FIRMWARE}/host:{FIRMWARE}:{HERE}:.frozen"}
    command = [binary, "-X", f"heapsize={heap}", str(HERE / name), *map(str, args)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_power_cut_loses_nothing_that_was_kept_and_the_kit_starts(micropython):
    done = script(micropython, "on_kit_powercut.py", 7, 23)
    assert done["failed"] == []
    assert done["cuts"] > 300
    assert done["rows"] > 10_000


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_power_cut_at_every_operation(micropython, micropython32):
    cuts = failed = 0
    for seed, binary in ((1, micropython), (2, micropython32), (3, micropython)):
        done = script(binary, "on_kit_powercut.py", seed, 1, seconds=600)
        assert done["cuts"] == 3 * done["points"]
        cuts += done["cuts"]
        failed += done["n_failed"]
        assert done["failed"] == []
    how = "tests/firmware/on_kit_powercut.py: every write and erase of 3 histories, torn in 3 ways, on 64 and 32 bit"
    record("kit.power_cuts", cuts, unit="cuts", goal="every operation", how=how)
    record("kit.power_cut_lost", failed, unit="cuts", goal="0", how=how)


PICO_W_BLOCKS = 212  # 848 KiB, the file system of its official image


def test_capacity_of_the_ring(micropython32):
    done = script(micropython32, "on_kit_capacity.py", 262144, 80, 9000, 0)
    record(
        "kit.ring_rows_256k", done["rows"], unit="rows", goal="2 days of minutes",
        how="tests/firmware/on_kit_capacity.py: rows of a base kit that a full ring of 256 KiB holds",
    )  # fmt: skip
    assert 2 * 1440 < done["rows"] <= done["capacity"]


@pytest.mark.parametrize("live", [0, 1])
def test_the_smallest_flash_lasts_ten_years_of_minutes(micropython, live):
    done = script(micropython, "on_kit_capacity.py", 524288, PICO_W_BLOCKS, 6000 if live else 12000, live)
    assert done["worst_erases"] * 525_600 / done["appended"] < 1e5 / 10
    assert done["erases"] / done["appended"] < 1.2
