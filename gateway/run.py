"""One gateway from its configuration file until it is told to stop: what `lichen run` does."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import log, settings
from gateway.loading import loading
from gateway.settings import Settings
from gateway.signals import StopSignals
from gateway.sinks.process import SinkProcess

if TYPE_CHECKING:
    from gateway.service import Gateway


def run(config: Path) -> None:
    """Run the gateway of a configuration file until a signal comes.

    Raises
    ------
    LichenError
        If the configuration or the store cannot be used, or a part has broken down.
    """
    log.set_up()
    make(settings.load(config)).run(StopSignals())


def make(loaded: Settings) -> "Gateway":
    """Return the gateway of a configuration; its sink's process and this one load what they need side by side."""
    with ExitStack() as where_it_cannot_begin:
        if sink := SinkProcess.of(loaded):
            sink.prepare()
            where_it_cannot_begin.callback(sink.stop)
        with loading():
            from gateway.service import Gateway

        gateway = Gateway(loaded, sink=sink)
        where_it_cannot_begin.pop_all()
    return gateway
