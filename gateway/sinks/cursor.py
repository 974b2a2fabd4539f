"""What a sink keeps between runs: how far it has come, how it fares, what was refused, and that it runs once.

All lies in `<store>/sinks/`, a few small files a sink; the readings stay in the store. Deleting `NAME.cursor` makes the
sink send everything again, which changes nothing where it arrived before.
"""

import fcntl
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

log = logging.getLogger(__name__)

DEAD_LETTER_BYTES: Final = 10_000_000
"""Room for refused lines; the older half goes first."""

_LOCK_POLL_S: Final = 0.1


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a sink has come.

    Everything up to revision `rev` is confirmed. `complete` is the last revision at which nothing at all was left to
    send: between the two, a calibrated hour that has changed since may hold older rows that were passed over. `store`
    is the id of the store that they belong to. `settled` holds the counts of what the store let go before this sink
    was given it, as they were when it was last filled again.
    """

    rev: int = 0
    complete: int = 0
    store: str = ""
    settled: dict[str, int] = {}


class Refill(msgspec.Struct, frozen=True, kw_only=True):
    """A span [ms] of which everything that the store holds is to be sent again; what lies before `at_ms` is done."""

    from_ms: int
    to_ms: int
    at_ms: int


class SinkState(msgspec.Struct, kw_only=True):
    """How a sink fares, for whoever looks; counts go on over restarts.

    `behind` says why the sink is *behind*, empty where it is not: it has more to send than its budget allows, or the
    store had to let go what it was never given, which `missed` counts since it was last filled again. `unsent_s` is how
    long ago the oldest readings were received that are still to be sent, `unsent_rows` about how many there are.
    `refilled_to_ms` is how far a refill is, None where none is under way.
    """

    cursor: int = 0
    last_revision: int = 0
    attempts: int = 0
    lines_written: int = 0
    lines_refused: int = 0
    lines_expired: int = 0
    lines_refilled: int = 0
    points_withdrawn: int = 0
    behind: str = ""
    unsent_s: float = 0.0
    unsent_rows: int = 0
    missed: dict[str, int] = {}
    refilled_to_ms: int | None = None
    last_attempt_ms: int | None = None
    last_success_ms: int | None = None
    last_error: str = ""


class SinkFiles:
    """The files of one sink; only the process that holds `lock` writes them, anyone may read."""

    def __init__(self, store_dir: Path, name: str) -> None:
        self.dir = store_dir / "sinks"
        self.name = name
        self.cursor_path = self.dir / f"{name}.cursor"
        self.state_path = self.dir / f"{name}.state.json"
        self.refill_path = self.dir / f"{name}.refill.json"
        self.dead_path = self.dir / f"{name}.dead.jsonl"
        self.older_dead_path = self.dir / f"{name}.dead.older.jsonl"

    @contextmanager
    def lock(self, stop: threading.Event, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
        """Wait until no other process runs this sink, calling `waiting` all the time; False where `stop` came first."""
        self.dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.dir / f"{self.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            yield self._wait_for(descriptor, stop, waiting)
        finally:
            os.close(descriptor)

    def _wait_for(self, descriptor: int, stop: threading.Event, waiting: Callable[[], None]) -> bool:
        said = False
        while not stop.is_set():
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not said:
                    log.info("waiting for another process that still runs the sink %s", self.name)
                    said = True
                waiting()
                stop.wait(_LOCK_POLL_S)
            else:
                return True
        return False

    def load_cursor(self) -> Cursor:
        """Return the confirmed cursor; zero where there is none or it cannot be read."""
        try:
            return msgspec.json.decode(self.cursor_path.read_bytes(), type=Cursor)
        except FileNotFoundError:
            return Cursor()
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s cannot be read (%s): everything is sent again", self.cursor_path, error)
            return Cursor()

    def cursor_of(self, store: str) -> Cursor:
        """Return the confirmed cursor in this store; zero where it belongs to another one."""
        cursor = self.load_cursor()
        return cursor if cursor.store in {store, ""} else Cursor()

    def save_cursor(self, cursor: Cursor) -> None:
        """Keep the cursor through a power cut."""
        self._replace(self.cursor_path, msgspec.json.encode(cursor), sync=True)

    def load_refill(self) -> Refill | None:
        """Return what is to be sent again, None where nothing is."""
        try:
            return msgspec.json.decode(self.refill_path.read_bytes(), type=Refill)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            log.warning("%s cannot be read (%s): nothing is sent again", self.refill_path, error)
            self.refill_path.unlink(missing_ok=True)
            return None

    def save_refill(self, refill: Refill | None) -> None:
        """Ask for a refill, keep how far it is, or end it (None)."""
        if refill is None:
            self.refill_path.unlink(missing_ok=True)
        else:
            self._replace(self.refill_path, msgspec.json.encode(refill), sync=True)

    def load_state(self) -> SinkState:
        """Return the last state; a new one where there is none or it cannot be read."""
        try:
            return msgspec.json.decode(self.state_path.read_bytes(), type=SinkState)
        except (OSError, msgspec.DecodeError):
            return SinkState()

    def save_state(self, state: SinkState) -> None:
        """Show the state; it need not survive a power cut."""
        self._replace(self.state_path, msgspec.json.format(msgspec.json.encode(state)), sync=False)

    def add_dead(self, lines: Iterable[tuple[bytes, str]], time_ms: int) -> None:
        """Append refused lines with the server's reasons, within `DEAD_LETTER_BYTES`."""
        self.dir.mkdir(parents=True, exist_ok=True)
        for line, reason in lines:
            record = {"time_ms": time_ms, "reason": reason, "line": line.decode("utf-8", "replace")}
            text = json.dumps(record, ensure_ascii=False).encode() + b"\n"
            if self.dead_path.exists() and self.dead_path.stat().st_size + len(text) > DEAD_LETTER_BYTES // 2:
                self.dead_path.replace(self.older_dead_path)
            with self.dead_path.open("ab") as file:
                file.write(text)

    def _replace(self, path: Path, content: bytes, *, sync: bool) -> None:
        self.dir.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        with temporary.open("wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if sync:
            folder = os.open(self.dir, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
