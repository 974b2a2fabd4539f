"""Runs the InfluxDB sink's process with clocks around its steps: `python sink_driver.py CONFIG RESULT`."""

import os
import sys
from pathlib import Path

import hooks

from gateway.sinks import process

_STEPS = [
    ("sink: read changes", "gateway.sinks.influx", "changes"),
    ("sink: line protocol (records)", "gateway.sinks.lineprotocol", "changed"),
    ("sink: line protocol (text)", "gateway.sinks.lines", "Rows.text"),
    ("sink: line protocol (text)", "gateway.sinks.lines", "Ready.text"),
    ("sink: HTTP send", "gateway.sinks.influx_client", "InfluxClient.begin"),
    ("sink: HTTP answer", "gateway.sinks.influx_client", "InfluxClient.finish"),
    ("sink: wait for an answer", "gateway.sinks.pipeline", "Pipeline.take"),
    ("sink: cursor", "gateway.sinks.cursor", "SinkFiles.save_cursor"),
    ("sink: other", "gateway.sinks.influx", "InfluxSink.step"),
]

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as process.main does, before the clocks import what it imports
    for label, module, name in _STEPS:
        hooks.clock(label, module, name)
    code = process.main(sys.argv[1:2])
    hooks.save(Path(sys.argv[2]))
    sys.exit(code)
