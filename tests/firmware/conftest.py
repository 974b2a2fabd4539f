"""Fixtures of the firmware's tests: a broker on a free loopback port, a stand-in for the gateway, a bench with kits."""

import sys
from types import ModuleType

import pytest
from firmware_bench import FIRMWARE, Bench, Broker, Gateway

sys.path.append(str(FIRMWARE))  # the pure modules are plain Python and are tested here too
sys.modules["micropython"] = ModuleType("micropython")  # which has one thing that they use
sys.modules["micropython"].const = lambda value: value


@pytest.fixture
def broker(mosquitto, tmp_path):
    """A running broker; stop() and start() for outages."""
    broker = Broker(mosquitto, tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def gateway(broker):
    """A receiver that stores rows and sends receipts and time messages."""
    gateway = Gateway(broker.port)
    yield gateway
    gateway.close()


@pytest.fixture
def bench(micropython, tmp_path):
    """Starts kits; what still runs at the end is killed."""
    bench = Bench(micropython, FIRMWARE, tmp_path)
    yield bench
    bench.close()
