"""How commands reach the one writing thread: a socket beside the store, or the store itself where no gateway runs.

A request is one line of JSON, `{"name": ..., "args": {...}}`; the answer is one line too, `{"result": ...}` or
`{"error": "..."}`. The writing thread takes requests between its commits::

    from gateway.control import ControlServer
    from gateway.control_handlers import control_handlers

    self._control = ControlServer(settings.store_dir, control_handlers(self._db, self._intake))  # after open_writer
    self._control.serve()   # every turn of the loop; never waits
    self._control.close()   # at the end, before the store is closed

A handler runs in the writing thread and opens its own transactions. A `LichenError` of it becomes the caller's error.
"""

import contextlib
import json
import logging
import os
import socket
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from gateway.errors import LichenError, StoreError
from gateway.store.database import FILE_NAME, open_writer

log = logging.getLogger(__name__)

SOCKET_NAME: Final = "control.sock"
MAX_REQUEST_BYTES: Final = 512 * 1024
"""A calibration record of trees is the longest thing that is sent."""
MAX_CLIENTS: Final = 8
CLIENT_TIMEOUT_S: Final = 10.0
"""A client that has sent no whole request, or not taken its answer, for so long is left."""
ANSWER_TIMEOUT_S: Final = 15.0
_PIECE_BYTES: Final = 64 * 1024

Handler = Callable[[dict[str, Any]], Any]
Handlers = Mapping[str, Handler]


class ControlError(LichenError):
    """A command could not be carried out by the gateway."""


class _Client(msgspec.Struct):
    """One connection: what it has sent, what it is still to get, and until when it is waited for."""

    connection: socket.socket
    until_s: float
    received: bytearray = msgspec.field(default_factory=bytearray)
    answer: bytes | None = None


class ControlServer:
    """Answers commands; belongs to the writing thread, which holds the lock of the store."""

    def __init__(self, store_dir: Path, handlers: Handlers) -> None:
        self._store_dir = store_dir
        self._handlers = handlers
        self._clients: list[_Client] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        with _address(store_dir) as address:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(address)  # noqa: PTH108 - of a gateway that was killed: the lock says that none runs
            self._listener.bind(address)
            # As open as the folder: to the group where that keeps others out. Before it listens: nobody has connected.
            os.chmod(address, 0o660 if stat.S_IMODE(store_dir.stat().st_mode) & 0o057 == 0o050 else 0o600)  # noqa: PTH101
        self._listener.listen(MAX_CLIENTS)

    def serve(self) -> int:
        """Answer the requests that are whole; returns how many. Waits for nobody."""
        self._accept()
        answered = 0
        for client in self._clients:
            try:
                answered += self._attend(client)
            except OSError:
                client.until_s = 0.0
        now_s = time.monotonic()
        for client in [c for c in self._clients if c.until_s <= now_s]:
            client.connection.close()
            self._clients.remove(client)
        return answered

    def close(self) -> None:
        """End all connections and remove the socket."""
        for client in self._clients:
            client.connection.close()
        self._clients.clear()
        self._listener.close()
        (self._store_dir / SOCKET_NAME).unlink(missing_ok=True)

    def _accept(self) -> None:
        while len(self._clients) < MAX_CLIENTS:  # further ones wait in the kernel
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setblocking(False)  # noqa: FBT003 - its only argument
            self._clients.append(_Client(connection, time.monotonic() + CLIENT_TIMEOUT_S))

    def _attend(self, client: _Client) -> int:
        answered = 0
        if client.answer is None:
            try:
                piece = client.connection.recv(_PIECE_BYTES)
            except BlockingIOError:
                return 0
            client.received += piece
            end = client.received.find(b"\n")
            if end < 0 and len(client.received) <= MAX_REQUEST_BYTES:
                if not piece:
                    client.until_s = 0.0
                return 0
            client.answer = self._answer(bytes(client.received[:end])) if 0 <= end <= MAX_REQUEST_BYTES else _TOO_LONG
            answered = 1
        with contextlib.suppress(BlockingIOError):
            client.answer = client.answer[client.connection.send(client.answer) :]
        if not client.answer:
            client.until_s = 0.0  # one request a connection
        return answered

    def _answer(self, line: bytes) -> bytes:
        try:
            request = json.loads(line)
            handler = self._handlers[request["name"]]
            args = dict(request["args"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return _encode({"error": "the gateway does not know this command; is it of another version?"})
        try:
            return _encode({"result": handler(args)})
        except LichenError as error:
            return _encode({"error": str(error)})
        except sqlite3.Error as error:
            return _encode({"error": f"the store cannot be written ({error}); free some space, or see the log"})
        except Exception as error:  # a mistake of this program must not end intake
            log.exception("the command %.100r failed", request["name"])
            return _encode({"error": f"{type(error).__name__}: {error}; the gateway's log says where"})


class Client:
    """Carries out commands on a store: by the gateway that has it, else here as its writer, until the end of `with`.

    Parameters
    ----------
    store_dir
        The folder of the store.
    local
        What makes the handlers for the store that was opened here.
    timeout_s
        How long the gateway's answer is waited for [s], more than 0.
    """

    def __init__(
        self,
        store_dir: Path,
        local: Callable[[sqlite3.Connection], Handlers],
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._store_dir = store_dir
        self._local = local
        self._timeout_s = timeout_s
        self._db: sqlite3.Connection | None = None
        self._handlers: Handlers = {}

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store where it was opened here."""
        if self._db is not None:
            self._db.close()

    def __call__(self, name: str, args: Mapping[str, Any]) -> Any:
        """Carry out one command.

        Raises
        ------
        LichenError
            What the handler says, or that there is no store, or that a gateway has it and does not answer.
        """
        if self._db is None and not self._open():
            return ask(self._store_dir, name, args, self._timeout_s)
        return self._handlers[name](dict(args))

    def _open(self) -> bool:
        """Open the store as its writer; tells whether nobody else has it."""
        if not (self._store_dir / FILE_NAME).exists():
            remedy = "name the folder that holds store/, or run the gateway first"
            raise StoreError(self._store_dir / FILE_NAME, "no store here", remedy)
        try:
            self._db = open_writer(self._store_dir)
        except StoreError as error:
            # Its lock is held; or this user may read the store and not write it, and its gateway may let him in.
            may_ask = isinstance(error.__cause__, PermissionError) and (self._store_dir / SOCKET_NAME).exists()
            if may_ask or isinstance(error.__cause__, BlockingIOError):
                return False
            raise
        self._handlers = self._local(self._db)
        return True


def ask(store_dir: Path, name: str, args: Mapping[str, Any], timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
    """Have the gateway that has a store carry out a command; never opens the store itself.

    Raises
    ------
    ControlError
        What the handler says, or that nobody answers.
    """
    request = _encode({"name": name, "args": args})
    try:
        answer = json.loads(_exchange(store_dir, request, timeout_s))
    except (OSError, ValueError) as error:
        raise ControlError(
            f"{store_dir}: a gateway has this store and does not answer ({error or type(error).__name__}); "
            "it may be starting or stuck: try again, then look at its log"
        ) from error
    if "error" in answer:
        raise ControlError(answer["error"])
    return answer["result"]


def _exchange(store_dir: Path, request: bytes, timeout_s: float = ANSWER_TIMEOUT_S) -> bytes:
    """Send a request and return the answer; the socket of a gateway that is starting is waited for."""
    deadline_s = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        while True:
            connection.settimeout(max(0.1, deadline_s - time.monotonic()))
            try:
                with _address(store_dir) as address:
                    connection.connect(address)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.1)
        connection.sendall(request)
        answer = bytearray()
        while not answer.endswith(b"\n"):
            connection.settimeout(max(0.1, deadline_s - time.monotonic()))
            piece = connection.recv(_PIECE_BYTES)
            if not piece:
                raise ConnectionError("it ended before it answered")
            answer += piece
        return bytes(answer)


@contextmanager
def _address(store_dir: Path) -> Iterator[str]:
    """Yield a path of the socket that is short enough: the address of a socket holds 107 bytes."""
    descriptor = os.open(store_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)


def _encode(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


_TOO_LONG: Final = _encode({"error": f"a request has at most {MAX_REQUEST_BYTES} bytes"})
