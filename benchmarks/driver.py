"""Runs a gateway as `lichen run` does, for benchmarks: on request without derivation, or with clocks around its steps.

`python driver.py CONFIG '{"derive": true, "profile": null}'`. Neither is a setting of the product: without derivation
a gateway shows nothing, and exists here only to be compared with a program that derives nothing.
"""

import json
import logging
import sys
import threading
from pathlib import Path

import hooks

from gateway import run, settings
from gateway.errors import LichenError
from gateway.signals import StopSignals
from gateway.sinks.process import SinkProcess

_STEPS = [
    ("gather", "gateway.service", "Gateway._gather"),
    ("decode", "gateway.intake", "read_runs"),
    ("decode one by one", "gateway.wire", "decode_batch"),
    ("route and count", "gateway.intake", "Intake.store"),
    ("place in time", "gateway.store.raw", "RawWriter.add_run"),
    ("place one by one", "gateway.store.raw", "RawWriter.add"),
    ("insert", "gateway.store.raw", "RawWriter.flush"),
    ("acknowledge", "gateway.broker", "Broker.acknowledge"),
    ("receipts", "gateway.intake", "Intake.send_receipts"),
    ("derive: other", "gateway.derive.dirty", "Deriver.step"),
    ("derive: read", "gateway.store.readings", "read"),
    ("derive: hours", "gateway.derive.chain", "derive_hours"),
    ("derive: indices", "gateway.derive.dirty", "Deriver._index"),
    ("derive: write", "gateway.store.derived", "write_air"),
    ("derive: write", "gateway.store.derived", "write_hours"),
    ("derive: write", "gateway.store.derived", "write_indices"),
    ("housekeeping", "gateway.housekeeping", "Housekeeper.step"),
]
_THREAD = "receive (network thread)"


class _NoDeriver:
    """Derives nothing; the hours stay marked, as they would for a gateway that is killed before it derives."""

    waiting = False

    def step(self):
        return 0


def _clock_network_thread():
    """Count what paho's thread costs as a whole, whatever its functions are called."""
    import paho.mqtt.client as mqtt

    real = mqtt.Client._thread_main

    def clocked(self):
        with hooks.step(_THREAD):
            real(self)

    mqtt.Client._thread_main = clocked


def _clock_sink(config, result):
    """Let each sink's process have clocks, and save what they show."""
    real = SinkProcess.prepare

    def prepare(sink):
        sink._command = [sys.executable, str(Path(__file__).with_name("sink_driver.py")), str(config), result]
        real(sink)

    SinkProcess.prepare = prepare


def main():
    config, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    profile = options["profile"]
    if profile:
        for label, module, name in _STEPS:
            hooks.clock(label, module, name)
        hooks.clock_commits("commit", "gateway.intake")
        hooks.clock_commits("derive: commit", "gateway.derive.dirty")
        _clock_network_thread()
        _clock_sink(config, f"{profile}.sink")
    gateway = run.make(settings.load(config))
    if not options["derive"]:
        assert hasattr(gateway, "_deriver")
        gateway._deriver = _NoDeriver()
    try:
        gateway.run(StopSignals())
    except LichenError as error:
        sys.exit(f"lichen: {error}")
    finally:
        if profile:
            for thread in threading.enumerate():
                if thread is not threading.current_thread() and not thread.daemon:
                    thread.join(2)
            hooks.save(Path(profile))


if __name__ == "__main__":
    main()
