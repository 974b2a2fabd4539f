"""Finds the real components that tests need; absent ones skip a test, or fail it where LICHEN_REQUIRE=all."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent
SHARED = REPO.parent / "shared"
ABSENT: dict[str, str] = {}


@dataclass(frozen=True)
class Component:
    name: str
    variable: str
    place: str
    remedy: str


MOSQUITTO = Component("mosquitto", "LICHEN_MOSQUITTO", "mosquitto/mosquitto", "tools/get_mosquitto.sh")
MICROPYTHON = Component("micropython", "LICHEN_MICROPYTHON", "micropython/micropython", "tools/get_micropython.sh")
MICROPYTHON32 = Component(
    "micropython32", "LICHEN_MICROPYTHON32", "micropython/micropython32", "tools/get_micropython.sh with BITS 32"
)
MICROPYTHON_TRACE = Component(
    "micropython-trace", "LICHEN_MICROPYTHON_TRACE", "micropython/micropython-trace", "tools/build_micropython_trace.sh"
)
INFLUXD = Component("influxd", "LICHEN_INFLUXD", "influxd/influxd", "tools/build_influxd.sh")
CHROMIUM = Component("chromium", "LICHEN_CHROMIUM", "chromium/chromium", "the package chromium")


def locate(component: Component) -> str | None:
    tools = Path(os.environ.get("LICHEN_TOOLS") or REPO / ".tools")
    for candidate in (os.environ.get(component.variable), str(tools / component.place), shutil.which(component.name)):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    return None


def need(component: Component) -> str:
    """Return the path of a component, or skip (or fail) the test."""
    if found := locate(component):
        return found
    refuse(component.name, f"get it with {component.remedy}")
    raise AssertionError


def need_shared() -> Path:
    """Return the folder of records beside the project, or skip (or fail) the test."""
    if SHARED.is_dir():
        return SHARED
    refuse("the records in ../shared", "put them beside the project")
    raise AssertionError


def refuse(name: str, remedy: str) -> None:
    ABSENT[name] = remedy
    if os.environ.get("LICHEN_REQUIRE") == "all":
        pytest.fail(f"{name} is absent, and LICHEN_REQUIRE=all: {remedy}", pytrace=False)
    pytest.skip(f"{name} is absent: {remedy}")
