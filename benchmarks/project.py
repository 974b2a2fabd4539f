"""What benchmarks take over from the tests: the real InfluxDB, where components are, how figures are kept."""

import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
sys.path.append(str(REPO / "tests"))

from components import INFLUXD, locate  # noqa: E402 - found by the path above
from figures import record  # noqa: E402
from influxd import BUCKET, ORG, TOKEN, Influxd  # noqa: E402

__all__ = ["BUCKET", "ORG", "REPO", "TOKEN", "Influxd", "need_influxd", "record"]


def need_influxd():
    """Return the path of influxd, or end with how to get it."""
    if found := locate(INFLUXD):
        return found
    raise SystemExit("no influxd here; get it with: sh tools/build_influxd.sh")
