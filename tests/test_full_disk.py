"""No room, a read-only or broken disk: nothing is acknowledged, it is said, and it goes on without a restart."""

import errno
import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import components
import pytest
from influxd import wait_until
from live_gateway import Kit, LiveGateway, batch, read_store, write_config

from gateway.simulate.mosquitto import DemoBroker
from gateway.store import readings

pytestmark = pytest.mark.mosquitto
SOURCE = Path(__file__).parent / "failing_disk.c"
FULL = "nothing is acknowledged"


@pytest.fixture
def broker(mosquitto, tmp_path):
    broker = DemoBroker(tmp_path / "broker", "lichen/v1", ["kit-1"])
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 4 MB."""
    place = tmp_path / "gw" / "store"
    place.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", place], capture_output=True, check=False)
    if done.returncode:
        components.refuse("a small file system", "run the tests as root, who may mount one")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def shim(tmp_path):
    """A library that makes a disk fail, to be loaded before others."""
    compiler = shutil.which("cc")
    if not compiler:
        components.refuse("cc", "install the package gcc")
    library = tmp_path / "failing_disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


def stored_seqs(folder):
    return sorted(
        int(s) for some in read_store(folder, lambda db: list(readings.each_hour(db, kit="kit-1"))) for s in some.seq
    )


def receipts(kit):
    return max((r["seq"] for r in kit.heard_on("/stored")), default=-1)


def test_rows_sent_while_the_disk_is_full_are_stored_once_there_is_room(broker, small_disk, tmp_path):
    config = write_config(tmp_path / "gw", broker, more="[store]\nreserve_mb = 0\n")
    ballast = small_disk / "ballast"
    with LiveGateway(config) as gateway, Kit(broker) as kit:
        gateway.receives()
        kit.send(batch(1, range(100)))
        wait_until(lambda: receipts(kit) == 99, "the receipt")
        fill(ballast)
        for first in range(100, 4100, 100):  # what room the log of the database still has is soon used
            kit.send(batch(1, range(first, first + 100)))
        status = gateway.wait_for_status(FULL)
        assert status == "the store cannot be written (database or disk is full); nothing is acknowledged"
        time.sleep(2.5)  # two more attempts
        held = receipts(kit)
        assert held < 4099
        assert gateway.log.count(FULL) <= 2
        ballast.unlink()
        wait_until(lambda: receipts(kit) == 4099, "all receipts", 40)
        gateway.receives()
        assert gateway.totals()["rows"] == 4100
        assert gateway.process.poll() is None
        assert gateway.terminate()[0] == 0
    assert stored_seqs(tmp_path / "gw") == list(range(4100))


def fill(path):
    with path.open("wb", buffering=0) as out:
        for size in (65536, 4096, 512):
            with suppress(OSError):  # as soon as there is no room for so much
                while True:
                    out.write(bytes(size))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EIO], ids=["read-only", "broken"])
def test_a_disk_that_fails_below_open_files_and_comes_back_needs_no_restart(broker, shim, tmp_path, number):
    config = write_config(tmp_path / "gw", broker)
    flag = tmp_path / "flag"
    env = {"LD_PRELOAD": str(shim), "FAILING_DISK_FLAG": str(flag), "FAILING_DISK_PART": "lichen.sqlite"}
    with LiveGateway(config, env=env) as gateway, Kit(broker) as kit:
        gateway.receives()
        kit.send(batch(1, range(100)))
        wait_until(lambda: receipts(kit) == 99, "the receipt")
        for round_ in range(3):
            first = 100 + 200 * round_
            set_flag(flag, number)
            for some in range(first, first + 200, 100):
                kit.send(batch(1, range(some, some + 100)))
            gateway.wait_for_status(FULL)
            time.sleep(1.5)  # another attempt
            assert receipts(kit) == first - 1
            flag.unlink()
            wait_until(lambda first=first: receipts(kit) == first + 199, "the receipts", 20)
            gateway.receives()
        assert gateway.totals()["rows"] == 700
        assert gateway.terminate()[0] == 0
    assert stored_seqs(tmp_path / "gw") == list(range(700))
    check = read_store(tmp_path / "gw", lambda db: db.execute("PRAGMA integrity_check").fetchall())
    assert check == [("ok",)]


def set_flag(flag, number):
    new = flag.with_suffix(".new")
    new.write_text(str(number))
    os.replace(new, flag)  # noqa: PTH105
