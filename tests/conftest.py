"""Fixtures that every test may use, and the list of absent components at the end."""

import os
import resource
import sys
from pathlib import Path

import components
import pytest
from hypothesis import settings
from influxd import Influxd

from gateway.store import database

sys.path.insert(0, str(Path(__file__).parent))
# A process holds the lock of each store that it ever opened for writing: one test can open hundreds, no gateway does.
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
settings.register_profile("lichen", deadline=None)  # shared machines: a slow example is no failure
settings.load_profile("lichen")


LONG = {
    "test_backup.py", "test_check_broker.py", "test_commands.py", "test_deploy_influx.py", "test_full_disk.py",
    "test_kit_week.py", "test_migrations.py", "test_sink_outages.py", "test_sink_withdrawn.py",
}  # fmt: skip
"""Together five minutes: `make test` runs them where LICHEN_REQUIRE is set."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.name in LONG:
            item.add_marker("long")


def _fixture(component):
    @pytest.fixture(scope="session", name=component.name.replace("-", "_"))
    def found():
        return components.need(component)

    return found


mosquitto = _fixture(components.MOSQUITTO)
micropython = _fixture(components.MICROPYTHON)
micropython32 = _fixture(components.MICROPYTHON32)
micropython_trace = _fixture(components.MICROPYTHON_TRACE)
influxd = _fixture(components.INFLUXD)
chromium = _fixture(components.CHROMIUM)


@pytest.fixture(scope="module")
def server(influxd, tmp_path_factory):
    """An InfluxDB for the tests of a module."""
    with Influxd(influxd, tmp_path_factory.mktemp("influxd")) as running:
        yield running


@pytest.fixture
def bucket(server, request):
    """A bucket of it for one test."""
    name = request.node.name[:60]
    server.create_bucket(name)
    return name


@pytest.fixture(autouse=True)
def _locks_end_with_their_test():
    """Hundreds of locks that stay open would take the descriptors below 1024, and `select` knows no others."""
    yield
    for descriptor in database._locks.values():
        os.close(descriptor)
    database._locks.clear()


@pytest.fixture(scope="session")
def shared():
    return components.need_shared()


def pytest_terminal_summary(terminalreporter):
    if components.ABSENT:
        terminalreporter.section("absent, so not tested")
        for name, remedy in sorted(components.ABSENT.items()):
            terminalreporter.write_line(f"{name}: {remedy}")
    elif os.environ.get("LICHEN_REQUIRE") == "all":
        terminalreporter.write_line("every real component was there")
