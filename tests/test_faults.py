"""Nothing is lost, nothing is doubled, whatever happens: the fault suite's cut, and in full with `make soak`."""

import os
import time

import components
import pytest
from faults import powercut, report, soak

pytestmark = pytest.mark.mosquitto


def require_all(result):
    """Kinds of faults that cannot happen here are told at the end, or are a failure where nothing may be absent."""
    for what in result.lacking:
        kind, _, remedy = what.partition(": ")
        components.ABSENT[kind] = remedy
    if result.lacking and os.environ.get("LICHEN_REQUIRE") == "all":
        pytest.fail(f"LICHEN_REQUIRE=all: {result.lacking}", pytrace=False)


def test_nothing_is_lost_or_doubled_in_a_minute_of_faults(mosquitto, tmp_path):
    result = soak.run(soak.CUT, tmp_path)
    soak.say(report.table(result))
    report.check(result)
    require_all(result)


def test_a_power_cut_of_everything_loses_no_row(mosquitto, tmp_path):
    influxd = components.locate(components.INFLUXD)
    cut = powercut.run(tmp_path, influxd, past_rows=8000, live_every_s=0.5, live_s=1, hurry=True)
    soak.say(str(cut))
    assert cut.at_risk > 0
    assert cut.found.faults == {}, cut.found.examples
    assert cut.missing_influx in {None, 0}


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_fault_suite_in_full(mosquitto, influxd, tmp_path):
    began_s = time.monotonic()
    cut = powercut.run(tmp_path / "powercut", influxd, past_rows=20_000, live_every_s=0.25, live_s=10, hurry=False)
    soak.say(str(cut))
    result = soak.run(soak.FULL, tmp_path / "faults")
    soak.say(report.table(result))
    report.write(result, cut)
    report.check(result)
    require_all(result)
    assert result.events >= 200
    assert result.kinds >= 40
    assert result.found.made >= 5_000_000
    assert cut.at_risk > 0
    assert cut.found.made >= 2000
    assert cut.found.faults == {}, cut.found.examples
    assert cut.missing_influx == 0
    assert time.monotonic() - began_s < 1740, "with the kit's runs beside it, half an hour"
