"""A network that can fail: a TCP proxy whose connections can be cut, refused, or held without a byte passing."""

import contextlib
import selectors
import socket
import threading

_CHUNK = 65536
_HIGH_WATER = 1 << 20  # no more is read for a peer that does not take it


class _End:
    """One end of a connection through the proxy; `out` are bytes on their way to it."""

    def __init__(self, sock):
        sock.setblocking(False)  # noqa: FBT003 - the name is the socket's
        self.sock = sock
        self.out = bytearray()
        self.other = None


class Proxy:
    """Listens on a loopback port of its own and leads to `target`; any thread may call what changes it."""

    def __init__(self, target):
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._listener.setblocking(False)  # noqa: FBT003
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._ends = set()
        self._refuses = self._holds = self._stopping = False
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()

    def cut(self):
        """End all connections, with what is on its way in them."""
        with self._lock:
            for end in list(self._ends):
                self._close(end)

    def refuse(self):
        """Cut, and take no new connection until `accept`."""
        self._refuses = True
        self.cut()

    def accept(self):
        self._refuses = False

    def hold(self):
        """Let nothing through until `let_go`."""
        self._set_hold(holds=True)

    def let_go(self):
        self._set_hold(holds=False)

    def close(self):
        """End the proxy."""
        self._stopping = True
        self._thread.join()
        self.cut()
        self._listener.close()
        self._selector.close()

    def _set_hold(self, *, holds):
        with self._lock:
            self._holds = holds
            for end in self._ends:
                self._mind(end)

    def _run(self):
        while not self._stopping:
            for key, events in self._selector.select(0.05):
                with self._lock:
                    if key.data is None:
                        self._accept()
                    elif key.data in self._ends:
                        self._move(key.data, events)

    def _accept(self):
        try:
            ours, _ = self._listener.accept()
        except OSError:
            return
        if self._refuses:
            ours.close()
            return
        try:
            theirs = socket.create_connection(("127.0.0.1", self._target), timeout=1)
        except OSError:
            ours.close()
            return
        a, b = _End(ours), _End(theirs)
        a.other, b.other = b, a
        for end in (a, b):
            end.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._ends.add(end)
            self._selector.register(end.sock, selectors.EVENT_READ, end)
            self._mind(end)

    def _move(self, end, events):
        try:
            if events & selectors.EVENT_WRITE and end.out:
                del end.out[: end.sock.send(end.out)]
            if events & selectors.EVENT_READ:
                data = end.sock.recv(_CHUNK)
                if not data:
                    self._close(end)
                    return
                end.other.out += data
        except BlockingIOError:
            pass
        except OSError:
            self._close(end)
            return
        self._mind(end)
        self._mind(end.other)

    def _mind(self, end):
        """Watch an end for what it can do now."""
        wanted = 0
        if not self._holds:
            reads = len(end.other.out) < _HIGH_WATER
            wanted = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if end.out else 0)
        known = end.sock in self._selector.get_map()
        if wanted and known:
            self._selector.modify(end.sock, wanted, end)
        elif wanted:
            self._selector.register(end.sock, wanted, end)
        elif known:
            self._selector.unregister(end.sock)

    def _close(self, end):
        for one in (end, end.other):
            if one in self._ends:
                with contextlib.suppress(OSError):
                    one.sock.send(one.out)  # what was said before the other end closed
                self._ends.discard(one)
                if one.sock in self._selector.get_map():
                    self._selector.unregister(one.sock)
                one.sock.close()
