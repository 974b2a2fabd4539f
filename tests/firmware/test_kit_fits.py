"""The budgets of docs/kit.md: flash, heap as deployed on words of 32 bit, and that the heap does not grow."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from components import REPO
from figures import record
from firmware_bench import FIRMWARE, HERE, Gateway, wait_for
from test_kit_tls import tls_broker

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
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


def run_node(binary, where, folder, port, seconds, **more):
    """A node of two PMS5003 and an SHT31 that sends ten hours of backlog; what it took."""
    path = folder / "heap.json"
    (folder / "heap.json.img").unlink(missing_ok=True)
    config = {"kit": "k1", "board": "host", "host": "127.0.0.1", "port": port, "floor": 1_600_000_000}
    path.write_text(json.dumps(config | more))
    command = [binary, "-X", "heapsize=256k", str(HERE / "on_kit_heap.py"), str(path), str(seconds), str(where)]
    env = os.environ | {"MICROPYPATH": f"{FIRMWARE}/host:.frozen"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds + 60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


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
    frozen = re.findall(r'freeze_mpy\("files", "(.*?)"\)', (built / "manifest.py").read_text())
    assert {*frozen, "main.py"} == {target for target, _ in package["urls"]}


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


def send_backlog(binary, where, folder, broker, port, **more):
    gateway = Gateway(broker.port)
    try:
        done = run_node(binary, where, folder, port, 10, **more)
        wait_for(lambda: len(gateway.rows) >= 600, 5, "the backlog")
    finally:
        gateway.close()
    assert done["sent"] == 600
    return done["peak"]


def test_the_heap_from_a_rom_file_system_is_within_its_budget(built, broker, micropython32, tmp_path):
    peak = send_backlog(micropython32, built / "lichen.romfs", tmp_path, broker, broker.port)
    record(
        "kit.heap_bytes_32bit", peak, unit="bytes", goal="65536",
        how="tests/firmware/test_kit_fits.py: live bytes at most while a backlog goes out, ROM file system",
    )  # fmt: skip
    assert peak <= budget("heap, ROM file system") <= 65_536


def test_the_heap_with_compiled_files_is_within_its_budget(built, broker, micropython32, tmp_path):
    peak = send_backlog(micropython32, built / "files", tmp_path, broker, broker.port)
    assert peak <= budget("heap, .mpy files")


def test_the_heap_with_tls_is_within_its_budget(built, mosquitto, micropython32, tmp_path):
    if not shutil.which("openssl"):
        pytest.skip("openssl is absent")
    broker, port, ca = tls_broker(mosquitto, tmp_path)
    broker.start()
    try:
        peak = send_backlog(micropython32, built / "lichen.romfs", tmp_path, broker, port, ca=str(ca))
    finally:
        broker.stop()
    assert peak <= budget("heap, ROM file system, TLS")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_heap_does_not_grow_in_ten_minutes_of_real_time(built, broker, micropython32, tmp_path):
    gateway = Gateway(broker.port, tick_s=5)
    try:
        done = run_node(micropython32, built / "lichen.romfs", tmp_path, broker.port, 660)
    finally:
        gateway.close()
    assert done["rows"] >= 10
    assert max(done["minutes"][-3:]) - max(done["minutes"][1:4]) <= 512
