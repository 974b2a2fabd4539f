"""Runs the InfluxDB sink's process with clocks around its steps: `python sink_driver.py CONFIG RESULT`."""

import sys
from pathlib import Path

import hooks

from gateway.sinks import process

_STEPS = [
    ("sink: read changes", "gateway.sinks.influx", "changes"),
    ("sink: line protocol", "gateway.sinks.lineprotocol", "raw_lines"),
    ("sink: line protocol (derived)", "gateway.sinks.lineprotocol", "air_lines"),
    ("sink: line protocol (derived)", "gateway.sinks.lineprotocol", "hour_lines"),
    ("sink: line protocol (derived)", "gateway.sinks.lineprotocol", "index_lines"),
    ("sink: HTTP", "gateway.sinks.influx_client", "InfluxClient.write"),
    ("sink: cursor", "gateway.sinks.cursor", "SinkFiles.save_cursor"),
    ("sink: other", "gateway.sinks.influx", "InfluxSink.step"),
]

if __name__ == "__main__":
    for label, module, name in _STEPS:
        hooks.clock(label, module, name)
    code = process.main(sys.argv[1:2])
    hooks.save(Path(sys.argv[2]))
    sys.exit(code)
