"""Days of simulated time through outages, broker restarts, a killed gateway and power cuts: nothing lost, no hole."""

import json

import pytest
from components import REPO
from figures import record
from week import Week

pytestmark = [pytest.mark.micropython, pytest.mark.mosquitto]
GROWTH_BYTES = 1024  # of live heap over a day and more: lists of different length at the moment of counting


def check(result):
    assert (result.lost, result.doubled, result.foreign, result.wrong, result.holes) == (0, 0, 0, 0, 0), result
    assert result.heap_growth <= GROWTH_BYTES, result


def test_a_day_of_two_kits(mosquitto, micropython, tmp_path):
    result = Week(tmp_path, mosquitto, micropython, days=1, kits=2, seed=4, speed=4000, limit_s=150).run()
    check(result)
    assert result.rows > 1500


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_a_week_of_four_kits(mosquitto, micropython, tmp_path):
    result = Week(tmp_path, mosquitto, micropython, days=7, kits=4, seed=1, speed=4000, limit_s=1300).run()
    (REPO / "build" / "kit_week.json").write_text(json.dumps(result.__dict__) + "\n")
    check(result)
    assert result.rows > 30_000
    assert result.power_cuts >= 15
    assert result.dropped > 0
    assert result.broker_kills >= 10
    assert result.gateway_kills >= 10
    how = (
        f"tests/firmware/test_kit_week.py: 4 kits for 7 simulated days, {result.power_cuts} power cuts, "
        f"{result.outages} outages, {result.broker_kills} broker and {result.gateway_kills} gateway kills; "
        f"{result.dropped} rows given up by full rings"
    )
    record("kit.soak_rows", result.rows, unit="rows", goal="7 days", how=how)
    record("kit.soak_lost", result.lost, unit="rows", goal="0", how=how)
    record("kit.soak_doubled", result.doubled, unit="rows", goal="0", how=how)
    record("kit.sampling_holes", result.holes, unit="slots", goal="0", how=how)
