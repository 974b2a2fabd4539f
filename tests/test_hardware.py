"""The wiring list equals the pins the firmware uses, and the parts list has every part that is wired."""

import csv
import runpy
from datetime import date
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOARDS = ("esp32s3", "picow")
PMS5003_PINS = {"VCC", "GND", "SET", "RXD", "TXD", "RESET"}
COLUMNS = {
    "bom": "ref qty part manufacturer_part_no supplier_no_1 supplier_no_2 unit_price_eur price_date substitute notes"
    " needed_for",
    "wiring": "board signal pin device device_pin notes",
}


def table(name):
    with (ROOT / "hardware" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def pins(board):
    return [tuple(entry) for entry in runpy.run_path(str(ROOT / f"firmware_micropython/boards/{board}.py"))["PINS"]]


def wires(board):
    return [row for row in table("wiring") if row["board"] == board]


def refs():
    return [ref for row in table("bom") for ref in row["ref"].split(";")]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_table_has_the_columns_promised_in_every_row(name):
    rows = table(name)
    assert rows
    for row in rows:
        assert list(row) == COLUMNS[name].split()
        assert None not in row.values()


def test_the_wiring_list_is_of_the_boards_the_firmware_has():
    files = {path.stem for path in (ROOT / "firmware_micropython/boards").glob("*.py")} - {"__init__", "host"}
    assert files == {row["board"] for row in table("wiring")} == set(BOARDS)


@pytest.mark.parametrize("board", BOARDS)
def test_wires_of_a_board_equal_the_pins_of_its_firmware(board):
    wired = [
        (row["signal"], int(row["pin"]), row["device"], row["device_pin"])
        for row in wires(board)
        if row["pin"].isdigit()
    ]
    assert sorted(wired) == sorted(pins(board))


@pytest.mark.parametrize("board", BOARDS)
def test_no_pin_carries_two_signals(board):
    used = [pin for _, pin, _, _ in pins(board)]
    assert len(set(used)) == len(used)


@pytest.mark.parametrize("board", BOARDS)
def test_every_pin_of_a_device_is_wired_once_and_every_device_has_power(board):
    devices = {}
    for row in wires(board):
        devices.setdefault(row["device"], []).append(row)
    assert set(devices) == {device for _, _, device, _ in pins(board)}
    for device, rows in devices.items():
        names = [row["device_pin"] for row in rows]
        assert len(set(names)) == len(names), device
        assert {"power", "ground"} <= {row["signal"] for row in rows}, device
        if device.startswith("PMS5003"):
            assert set(names) == PMS5003_PINS
            assert [row["pin"] for row in rows if row["signal"] == "power"] == ["5V" if board == "esp32s3" else "VBUS"]


def test_references_are_unique_and_as_many_as_the_quantity_says():
    assert len(set(refs())) == len(refs())
    for row in table("bom"):
        assert int(row["qty"]) == len(row["ref"].split(";")), row["ref"]


def test_every_wired_device_and_every_board_is_in_the_parts_list():
    assert {row["device"] for row in table("wiring")} <= set(refs())
    assert {row["needed_for"] for row in table("bom")} == {"base", *BOARDS}


def test_prices_have_a_date_and_numbers_are_not_half_filled_in():
    for row in table("bom"):
        assert bool(row["unit_price_eur"]) == bool(row["price_date"]), row["ref"]
        if row["price_date"]:
            assert float(row["unit_price_eur"]) > 0
            assert date.fromisoformat(row["price_date"]) <= date.today()  # noqa: DTZ011


def test_the_bench_protocol_numbers_its_steps_and_says_that_it_was_not_run():
    text = (ROOT / "hardware/bench_protocol.md").read_text("utf-8")
    first_cells = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    steps = [int(cell) for cell in first_cells if cell.isdigit()]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 12
    assert "Not run on a physical board here" in text
