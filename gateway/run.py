"""One gateway from its configuration file until it is told to stop: what `lichen run` does."""

from pathlib import Path

from gateway import log, settings
from gateway.service import Gateway
from gateway.signals import StopSignals


def run(config: Path) -> None:
    """Run the gateway of a configuration file until a signal comes.

    Raises
    ------
    LichenError
        If the configuration or the store cannot be used, or a part has broken down.
    """
    log.set_up()
    Gateway(settings.load(config)).run(StopSignals())
