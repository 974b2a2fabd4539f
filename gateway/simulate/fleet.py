"""Many simulated kits at once: each a process of the real firmware with a character, faults and weather of its own."""

import json
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.errors import LichenError, PartFailedError
from gateway.simulate import model
from gateway.simulate.kits import KitPlan, SimulatedKit
from gateway.simulate.recording import Span

SENSORS: Final = {"pm": ("pms_a", "pms_b"), "pm_a": ("pms_a",), "pm_b": ("pms_b",), "env": ("sht31",),
                  "weather": ("bme280",), "no2": ("ads1115",)}  # fmt: skip
"""What a fault may name, and which simulated sensors it means."""

KINDS: Final = ("silent", "stuck", "zero", "noisy")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_FAULT: Final = re.compile(
    r"(?:(?P<kit>[^:=]+):)?(?P<sensor>\w+)=(?P<kind>\w+)(?:@(?P<start>[\w.]+)(?:\+(?P<length>[\w.]+))?)?"
)
_POLL_S: Final = 0.2


class PlanError(LichenError):
    """A fault or an outage that cannot be read."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"{text!r} {problem}")
        self.text = text


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with which sensors [s after the start]; of every kit where `kit` is empty."""

    kit: str
    sensors: tuple[str, ...]
    kind: str
    start_s: int
    end_s: int | None


@dataclass(frozen=True, slots=True)
class Outage:
    """A network that is away for `length_s` in every `period_s`, for each kit at a moment of its own."""

    length_s: int
    period_s: int


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Which kits live, when [s since 1970], and what happens to them."""

    names: Sequence[str]
    folder: Path
    host: str
    port: int
    base: str
    passwords: Callable[[str], str]
    start_s: int
    end_s: int
    speed: int | None
    """Simulated seconds a second, 0 as fast as it goes; None: real time."""
    faults: Sequence[Fault] = ()
    outages: Sequence[Outage] = ()
    seed: int = 0


def duration_s(text: str) -> int:
    """Return the seconds of a length such as 90s, 10m, 2h or 1d; raises `PlanError`."""
    found = _DURATION.fullmatch(text)
    if not found or not round(float(found[1]) * _UNITS[found[2]]):
        raise PlanError(text, "is no length of time; write 90s, 10m, 2h or 1d")
    return round(float(found[1]) * _UNITS[found[2]])


def read_fault(text: str) -> Fault:
    """Return the fault that [KIT:]SENSOR=KIND[@START[+LENGTH]] says, such as pm=stuck@2h; raises `PlanError`."""
    found = _FAULT.fullmatch(text)
    if not found:
        raise PlanError(text, "is no fault; write SENSOR=KIND@START+LENGTH, such as pm=stuck@2h+30m")
    if found["sensor"] not in SENSORS:
        raise PlanError(text, f"names no sensor; there are {', '.join(SENSORS)}")
    if found["kind"] not in KINDS:
        raise PlanError(text, f"names no kind of fault; there are {', '.join(KINDS)}")
    start_s = duration_s(found["start"]) if found["start"] not in {None, "0"} else 0
    end_s = start_s + duration_s(found["length"]) if found["length"] else None
    return Fault(found["kit"] or "", SENSORS[found["sensor"]], found["kind"], start_s, end_s)


def read_outage(text: str) -> Outage:
    """Return the weather that LENGTH/PERIOD says, such as 10m/1h; raises `PlanError`."""
    length, slash, period = text.partition("/")
    if not slash:
        raise PlanError(text, "is no outage; write LENGTH/PERIOD, such as 10m/1h")
    outage = Outage(duration_s(length), duration_s(period))
    if outage.length_s >= outage.period_s:
        raise PlanError(text, "is longer than its period: such a kit would never connect; shorten it")
    return outage


def character(name: str, plan: FleetPlan) -> dict[str, Any]:
    """Return what is peculiar to a kit, the same for the same seed: its sensors, clock, flash, faults and weather."""
    rng = random.Random(f"{plan.seed} {name}")  # noqa: S311 - repeatable, not secret
    more = [sensor for sensor, share in (("bme280", 0.25), ("ads1115", 0.25)) if rng.random() < share]
    at = plan.start_s
    faults = [
        [sensor, fault.kind, at + fault.start_s, None if fault.end_s is None else at + fault.end_s]
        for fault in plan.faults
        if fault.kit in {"", name}
        for sensor in fault.sensors
    ]
    wanted = {fault[0] for fault in faults} & {"bme280", "ads1115"}  # a fault of a sensor wants the sensor
    outages = []
    for outage in plan.outages:
        first_s = at + rng.randrange(outage.period_s - outage.length_s)
        outages += [[s, s + outage.length_s] for s in range(first_s, plan.end_s, outage.period_s)]
    # In simulated time nobody could tell a kit without a clock what time it is, and its rows would wait for ever.
    has_clock = rng.random() < 0.8 or plan.speed is not None
    return {
        "more_sensors": sorted({*more, *wanted}), "rtc": has_clock, "erase_ms": rng.choice((0, 0, 45, 400)),
        "faults": faults, "outages": sorted(outages), "ntp": False,
    }  # fmt: skip


class Fleet:
    """The kits of a plan; `run` blocks, `stop` may come from another thread."""

    def __init__(self, plan: FleetPlan, on_progress: Callable[[str, float, float], None]) -> None:
        self._plan = plan
        self._on_progress = on_progress
        self._reached: dict[str, float] = dict.fromkeys(plan.names, float(plan.start_s))
        self._errors: list[LichenError] = []
        self.kits: list[SimulatedKit] = []
        for number, name in enumerate(plan.names):
            recording = model.invent(plan.seed + number, plan.start_s - model.INTERVAL_S, plan.end_s + model.INTERVAL_S)
            kit_plan = KitPlan(
                name=name, folder=plan.folder, recording=recording, ledger=plan.folder / f"ledger-{name}.csv",
                host=plan.host, port=plan.port, base=plan.base, user=name, password=plan.passwords(name),
                more=character(name, plan),
            )  # fmt: skip
            self.kits.append(SimulatedKit(kit_plan, self._follower(name)))

    def run(self) -> dict[str, int]:
        """Let all kits live to their end and have every receipt; return the rows each has made.

        Raises
        ------
        PartFailedError
            Naming the first kit that ended before its work.
        """
        threads = [threading.Thread(target=self._live, args=(kit,), daemon=True) for kit in self.kits]
        for thread in threads:
            thread.start()
        try:
            while any(thread.is_alive() for thread in threads) and not self._errors:
                time.sleep(_POLL_S)
                least = min(self._reached.values())
                hours = (self._plan.end_s - self._plan.start_s) / 3600
                self._on_progress("sampled", max(0.0, (least - self._plan.start_s) / 3600), hours)
        finally:
            self.stop()
        if self._errors:
            raise self._errors[0]
        return {kit.plan.name: kit.rows_made() for kit in self.kits}

    def stop(self) -> None:
        """End every kit, as if its power was cut."""
        for kit in self.kits:
            kit.stop()

    def _live(self, kit: SimulatedKit) -> None:
        try:
            if self._plan.speed is None:
                kit.run_live(self._plan.end_s)
            else:
                kit.run_simulated([Span(self._plan.start_s, self._plan.end_s)], self._plan.speed)
        except LichenError as error:
            self._errors.append(error)
        except Exception as error:  # noqa: BLE001 - the thread's boundary: told to whoever waits
            self._errors.append(PartFailedError(f"kit {kit.plan.name}: {type(error).__name__}: {error}"))

    def _follower(self, name: str) -> Callable[[dict[str, Any]], None]:
        def follow(state: dict[str, Any]) -> None:
            self._reached[name] = state.get("t") or self._reached[name]

        return follow


def write_summary(folder: Path, rows: dict[str, int]) -> None:
    """Write beside the ledgers what each kit has made."""
    (folder / "summary.json").write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
