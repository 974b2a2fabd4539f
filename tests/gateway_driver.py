"""Runs a gateway as `lichen run` does, with limits and faults that no configuration can name.

`python gateway_driver.py CONFIG [LIMITS_JSON] [hang=FILE]`: once FILE exists the derivation hangs for ever.
"""

import json
import logging
import select
import sys
import threading
import time
from pathlib import Path

from gateway import settings
from gateway.errors import LichenError
from gateway.service import Gateway, Limits
from gateway.signals import StopSignals


def main():
    config, limits, *faults = [*sys.argv[1:], "{}"][: max(2, len(sys.argv) - 1)]
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # Under libfaketime 0.9.10 the clock_nanosleep of CPython's sleep is refused with EINVAL.
    time.sleep = lambda seconds: select.select([], [], [], seconds)
    gateway = Gateway(settings.load(Path(config)), Limits(**json.loads(limits)))
    for fault in faults:
        hang_derivation(gateway, Path(fault.removeprefix("hang=")))
    try:
        gateway.run(StopSignals())
    except LichenError as error:
        sys.exit(f"lichen: {error}")


def hang_derivation(gateway, flag):
    real = gateway._deriver.step

    def step():
        if flag.exists():
            threading.Event().wait()
        return real()

    gateway._deriver.step = step


if __name__ == "__main__":
    main()
