"""The pure parts on MicroPython itself, 64 and 32 bit, and the simulated time beneath asyncio."""

import os
import subprocess

import pytest
from firmware_bench import FIRMWARE, HERE

pytestmark = pytest.mark.micropython
PARTS = ["parser", "climate", "arithmetic", "clock", "packets", "messages", "ring", "damaged"]


def run(binary, *args, discrete=False, **env):
    path = f"{FIRMWARE}/host/discrete:" if discrete else ""
    env = os.environ | {"MICROPYPATH": f"{path}{FIRMWARE}/host:{FIRMWARE}:{HERE}:.frozen"} | env
    return subprocess.run([binary, *args], env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("bits", [64, 32])
def test_pure_parts(request, bits):
    binary = request.getfixturevalue("micropython" if bits == 64 else "micropython32")
    golden = HERE.parent / "wire/golden"
    done = run(binary, str(HERE / "on_kit_suite.py"), str(golden) if golden.exists() else "")
    assert done.stdout.split() == PARTS, done.stderr


WITH_STAND_INS = [
    "bosch", "electrodes", "drivers", "detection", "states", "clocks", "steps", "cycles", "keeping", "broken_flash",
    "patience", "memory", "watchdog", "diaries", "mistakes", "starting", "configuration", "names",
]  # fmt: skip


@pytest.mark.parametrize("bits", [64, 32])
def test_parts_with_stand_ins(request, bits, tmp_path):
    binary = request.getfixturevalue("micropython" if bits == 64 else "micropython32")
    done = run(binary, str(HERE / "on_kit_parts.py"), str(tmp_path), discrete=True, SPEED="0")
    said = [line for line in done.stdout.splitlines() if line in WITH_STAND_INS]  # beside the crash it is to note
    assert said == WITH_STAND_INS, done.stderr


def test_simulated_time_keeps_order_and_survives_the_wrap(micropython, tmp_path):
    (tmp_path / "t.py").write_text(
        """
import sys, pytask
sys.modules["_asyncio"] = pytask
import asyncio, asyncio.core, time
pytask.core = asyncio.core
seen = []
async def every(name, ms, n):
    for i in range(n):
        await asyncio.sleep_ms(ms)
        seen.append((time.time() - time.EPOCH, name))
    return name
async def forever():
    try:
        await asyncio.sleep(10**5)
    finally:
        seen.append("cancelled")
async def main():
    a, b = asyncio.create_task(every("a", 300_000, 4)), asyncio.create_task(every("b", 200_000, 6))
    c = asyncio.create_task(forever())
    print(await asyncio.gather(a, b))
    c.cancel()
    try:
        await c
    except asyncio.CancelledError:
        pass
    try:
        await asyncio.wait_for_ms(forever(), 5)
    except asyncio.TimeoutError:
        print("timeout", time.time() - time.EPOCH)
    d = asyncio.create_task(every("d", 1, 1))
    await asyncio.sleep_ms(5)
    print(d.done(), await d)
asyncio.run(main())
print([s if isinstance(s, str) else s[0] for s in seen])
print("".join([s[1] for s in seen if isinstance(s, tuple)]))
"""
    )
    done = run(micropython, str(tmp_path / "t.py"), discrete=True, SPEED="0", EPOCH="1700000000")
    lines = done.stdout.splitlines()
    assert lines[:3] == ["['a', 'b']", "timeout 1200", "True d"], done.stdout + done.stderr
    assert lines[3] == "[200, 300, 400, 600, 600, 800, 900, 1000, 1200, 1200, 'cancelled', 'cancelled', 1200]"
    assert sorted(lines[4]) == list("aaaabbbbbbd")
