"""The demonstration: broker, gateway and kits on this machine, all of them real, in one folder."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway.errors import LichenError, PartFailedError, StoreError
from gateway.programs import MICROPYTHON, MOSQUITTO, MOSQUITTO_PASSWD, find
from gateway.simulate import model
from gateway.simulate.gateway_process import GatewayProcess
from gateway.simulate.kits import KitPlan, SimulatedKit
from gateway.simulate.mosquitto import GATEWAY_USER, DemoBroker, free_port
from gateway.simulate.recording import Recording, Span
from gateway.sinks.cursor import SinkFiles
from gateway.store import counters, deadletters, derived
from gateway.store.database import last_revision, open_reader

BASE: Final = "lichen/v1"
REPLAY_KIT: Final = "kit-1"
LIVE_KITS: Final = ("kit-1", "kit-2")
_DAY_S: Final = 86_400
_LIVE_SIGNAL_S: Final = 10 * _DAY_S
_POLL_S: Final = 0.2
_NO_PROGRESS_S: Final = 120.0

Progress = Callable[[str, float, float], None]
"""Called with what is going on, how far it is, and how far it goes."""

Then = Callable[[str, Callable[[], None]], None]
"""Called with the page's address and a check that raises when a part has failed; everything ends when it returns."""

_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class InfluxTarget:
    """An InfluxDB that takes part."""

    url: str
    token_file: Path
    org: str
    bucket: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What a replay came to."""

    rows_made: int
    rows_stored: int
    duplicates: int
    dead_letters: int
    hours: int
    indices: int
    influx_revisions_behind: int | None
    gateway_restarts: int
    boots: int
    seconds: float


class Demo:
    """One folder with a broker, a gateway that is kept running, and kits."""

    def __init__(self, folder: Path, *, clock_trusted: bool, kits: Sequence[str], influx: InfluxTarget | None) -> None:
        for program in (MOSQUITTO, MOSQUITTO_PASSWD, MICROPYTHON):
            find(program)  # what is missing is said before anything is made
        self.folder = folder.resolve()
        for name in ("store", "kits"):
            if (self.folder / name).exists():
                raise StoreError(self.folder / name, "is there already", "name a new folder with --dir")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(self.folder, f"cannot be made ({error.strerror})", "name another with --dir") from error
        self.ledger = self.folder / "ledger.csv"
        self._kit_names = kits
        self._influx = influx
        self._clock_trusted = clock_trusted
        self._stack = ExitStack()
        self.broker = DemoBroker(self.folder / "broker", BASE, kits)
        self.gateway: GatewayProcess | None = None
        self.kits: list[SimulatedKit] = []
        self.page_url = ""

    @contextmanager
    def running(self) -> Iterator["Demo"]:
        """Start broker and gateway; end everything that was started."""
        with self._stack:
            self._stack.callback(self._stop_kits)
            self.broker.start()
            self._stack.callback(self.broker.stop)
            config = self._write_config()
            self.gateway = GatewayProcess(
                config, pid_file=self.folder / "gateway.pid", log_file=self.folder / "gateway.log"
            )
            self._stack.callback(self.gateway.stop)
            self.gateway.wait_until_it_receives()
            yield self

    def add_kit(self, name: str, recording: Recording, on_progress: Callable[[dict[str, Any]], None]) -> SimulatedKit:
        """Make a kit that connects to this broker and writes the ledger."""
        ledger = self.ledger if len(self._kit_names) == 1 else self.folder / f"ledger-{name}.csv"
        plan = KitPlan(
            name=name, folder=self.folder / "kits", recording=recording, ledger=ledger, host="127.0.0.1",
            port=self.broker.port, base=BASE, user=name, password=self.broker.passwords[name],
        )  # fmt: skip
        kit = SimulatedKit(plan, on_progress)
        self.kits.append(kit)
        return kit

    def check(self) -> None:
        """Raise `PartFailedError` when the gateway cannot be kept running."""
        if self.gateway:
            self.gateway.check()

    def rows_made(self) -> int:
        """Return how many rows the kits have appended to their rings."""
        return sum(kit.rows_made() for kit in self.kits)

    def wait_until_all_is_stored(self, on_progress: Progress) -> None:
        """Wait until every row made is stored, derived and, where InfluxDB takes part, written there.

        Raises
        ------
        PartFailedError
            When nothing has moved for two minutes.
        """
        moved_s, last = time.monotonic(), (-1, -1, -1)
        while True:
            self.check()
            stored, dirty, behind = self._open_work()
            made = self.rows_made()
            on_progress("stored", stored, made)
            if stored >= made and not dirty and not behind:
                return
            if (stored, dirty, behind) != last:
                moved_s, last = time.monotonic(), (stored, dirty, behind)
            elif time.monotonic() - moved_s > _NO_PROGRESS_S:
                raise PartFailedError(
                    f"nothing has moved for {_NO_PROGRESS_S:.0f} s: {stored} of {made} rows stored, {dirty} hours to "
                    f"derive, InfluxDB {behind} revisions behind; see {self.folder / 'gateway.log'}"
                )
            time.sleep(_POLL_S)

    def summary(self, boots: int, started_s: float) -> Summary:
        """Count what is in the store."""

        def count(db: Any) -> Summary:
            totals = counters.totals(db)
            hours, indices = derived.counts(db)
            return Summary(
                rows_made=self.rows_made(),
                rows_stored=totals.get("rows", 0),
                duplicates=totals.get("duplicates", 0),
                dead_letters=sum(deadletters.count(db).values()),
                hours=hours,
                indices=indices,
                influx_revisions_behind=self._behind(db) if self._influx else None,
                gateway_restarts=self.gateway.restarts if self.gateway else 0,
                boots=boots,
                seconds=round(time.monotonic() - started_s, 1),
            )

        return self._read(count)

    def _open_work(self) -> tuple[int, int, int]:
        try:
            return self._read(
                lambda db: (counters.totals(db).get("rows", 0), derived.count_dirty(db), self._behind(db))
            )
        except StoreError:  # the gateway has not made it yet
            return (0, 0, 0)

    def _behind(self, db: Any) -> int:
        return last_revision(db) - SinkFiles(self.folder / "store", "influx").load_cursor().rev if self._influx else 0

    def _read(self, query: Callable[[Any], _Found]) -> _Found:
        db = open_reader(self.folder / "store")
        try:
            return query(db)
        finally:
            db.close()

    def _stop_kits(self) -> None:
        for kit in self.kits:
            kit.stop()

    def _write_config(self) -> Path:
        port = free_port()
        self.page_url = f"http://127.0.0.1:{port}/"
        lines = [
            "[broker]", f"port = {self.broker.port}", f'username = "{GATEWAY_USER}"',
            f"password_file = {json.dumps(str(self.broker.gateway_password_file.relative_to(self.folder)))}",
            f'base = "{BASE}"', "", "[clock]", f"trusted = {str(self._clock_trusted).lower()}", "",
            "[web]", f"port = {port}",
        ]  # fmt: skip
        if self._influx:
            keys = {**asdict(self._influx), "token_file": str(self._influx.token_file.resolve())}
            lines += [
                "",
                "[influx]",
                *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()),
            ]
        config = self.folder / "gateway.toml"
        config.write_text("\n".join(lines) + "\n", "utf-8")
        return config


def replay(
    recording: Recording,
    folder: Path,
    *,
    hours: float | None,
    speed: int,
    influx: InfluxTarget | None,
    on_progress: Progress,
    then: Then | None,
) -> Summary:
    """Replay a recording through a kit, broker and gateway, and wait until all of it is stored and derived."""
    started_s = time.monotonic()
    spans = recording.spans(hours)
    first_s, last_s = spans[0].start_s, spans[-1].end_s
    with Demo(folder, clock_trusted=False, kits=[REPLAY_KIT], influx=influx).running() as demo:

        def sampled(state: dict[str, Any]) -> None:
            on_progress("sampled", max(0.0, (state.get("t") or first_s) - first_s) / 3600, (last_s - first_s) / 3600)

        kit = demo.add_kit(REPLAY_KIT, recording, sampled)
        _Jobs([lambda: kit.run_simulated(spans, speed)]).wait(demo.check)
        demo.wait_until_all_is_stored(on_progress)
        summary = demo.summary(len(spans), started_s)
        (demo.folder / "summary.json").write_text(json.dumps(asdict(summary), indent=1) + "\n", "utf-8")
        if then:
            then(demo.page_url, demo.check)
    return summary


def live(folder: Path, *, hours: float, influx: InfluxTarget | None, on_progress: Progress, then: Then) -> None:
    """Let two kits gather hours without a gateway, start it, let the backlog in, and go on in real time."""
    demo = Demo(folder, clock_trusted=True, kits=LIVE_KITS, influx=influx)
    now_s = int(time.time())
    start_s = now_s - round(hours * 3600)
    for seed, name in enumerate(LIVE_KITS):
        recording = model.invent(seed, start_s - model.INTERVAL_S, now_s + _LIVE_SIGNAL_S)

        def sampled(state: dict[str, Any]) -> None:
            on_progress("kept in flash", max(0.0, (state.get("t") or start_s) - start_s) / 3600, hours)

        demo.add_kit(name, recording, sampled)
    span = Span(start_s, now_s)
    _Jobs([partial(kit.run_simulated, [span], speed=0, offline=True) for kit in demo.kits]).wait(lambda: None)
    with demo.running():
        kits = _Jobs([kit.run_live for kit in demo.kits])
        demo.wait_until_all_is_stored(on_progress)

        def check() -> None:
            demo.check()
            kits.check()

        then(demo.page_url, check)


class _Jobs:
    """Work in threads; `check` raises the first error of any."""

    def __init__(self, work: Sequence[Callable[[], None]]) -> None:
        self._errors: list[LichenError] = []
        self._threads = [threading.Thread(target=self._guarded, args=(job,), daemon=True) for job in work]
        for thread in self._threads:
            thread.start()

    def check(self) -> None:
        """Raise what went wrong."""
        if self._errors:
            raise self._errors[0]

    def wait(self, check: Callable[[], None]) -> None:
        """Wait until all are done, looking at `check` meanwhile."""
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_POLL_S)
                self.check()
                check()
        self.check()

    def _guarded(self, job: Callable[[], None]) -> None:
        try:
            job()
        except LichenError as error:
            self._errors.append(error)
        except Exception as error:  # noqa: BLE001 - the thread's boundary: told to whoever waits
            self._errors.append(PartFailedError(f"{type(error).__name__}: {error}"))
