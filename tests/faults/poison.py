"""What no kit should send, sent by those who may: each message must become exactly one dead letter.

A poisoner is itself a kit on the wire: after its poison it sends a reading of its own, and the receipt for that proves
that the gateway has committed what came before. Without the receipt all of it is sent again.
"""

import base64
import itertools
import queue
import threading
import time
import zlib

import msgspec
import numpy as np
import paho.mqtt.client as mqtt
from faults.rows import ONE_SENSOR, Ledger, message, values
from wire import golden

from gateway.simulate.mosquitto import GATEWAY_USER

BASE = "lichen/v1"
POISONERS = tuple(f"poison-{i}" for i in range(6))
ODD_USERS = ("bad name", ".hidden", "-dash", "Grün", "k" * 65, "*", "kit@home")
"""Users that a broker's keeper may make and whose names are no kit's; the access list lets them write their own."""

_ACKNOWLEDGED_S = 6.0
_RECEIPT_S = 12.0
_MOST_BYTES = 60_000  # the broker refuses more than 64 KiB itself


def _good(rng, *, count=3, falling=False):
    """A valid batch of a boot that nobody has, as text; or one whose newest row stands first."""
    boot = rng.getrandbits(32)
    seq = np.arange(1, count + 1, dtype=np.int64) + rng.randrange(1000)
    when = {"up": seq * 60, "t": seq * 60 + 1_700_000_000, "q": np.full(count, 2), "dt": np.full(count, 60)}
    return message(boot, int(seq[0]), ONE_SENSOR, values(boot, seq, ONE_SENSOR, when)[:: -1 if falling else 1]).decode()


def _cell(rng, text):
    """A valid batch with one cell replaced."""
    head, tail = _good(rng).split("[[", 1)
    cells = tail.split(",")
    cells[rng.randrange(5, 8)] = text
    return f"{head}[[{','.join(cells)}"


def _nested(rng, opening, closing, depth):
    return f'{{"v":1,"boot":{rng.getrandbits(32)},"first":0,"cols":[],"rows":{opening * depth}{closing * depth}}}'


def _padded(rng, size):
    text = _good(rng)
    return f'{text[:-1]},"pad":"{"x" * (size - len(text))}"}}'


MADE = {
    "cut short": lambda r: _good(r)[: r.randrange(10, 150)],
    "cut at the end": lambda r: _good(r)[:-1],
    "two in one": lambda r: _good(r) + _good(r),
    "bytes": lambda r: r.randbytes(r.randrange(1, 400)),
    "zeros": lambda r: bytes(r.randrange(1, 9000)),
    "UTF-16": lambda r: _good(r).encode("utf-16"),
    "compressed": lambda r: zlib.compress(_good(r).encode()),
    "base64": lambda r: base64.b64encode(_good(r).encode()),
    "quoted": lambda r: '"' + _good(r).replace('"', '\\"') + '"',
    "over 16 KiB": lambda r: _padded(r, 16_500 + r.randrange(1000)),
    "50 KB": lambda r: _padded(r, 50_000 + r.randrange(1000)),
    "50 KB of bytes": lambda r: r.randbytes(50_000),
    "deep arrays": lambda r: _nested(r, "[", "]", 3000 + r.randrange(4000)),
    "deep objects": lambda r: _nested(r, '{"a":', "}", 1500) + " " * r.randrange(50),
    "deep, never closed": lambda r: "[" * (7000 + r.randrange(7000)),
    "a float": lambda r: _cell(r, f"{r.uniform(0, 90):.2f}"),
    "text for a number": lambda r: _cell(r, f'"{r.randrange(900)}"'),
    "NaN": lambda r: _cell(r, "NaN"),
    "an exponent": lambda r: _cell(r, f"{r.randrange(9)}e{r.randrange(300)}"),
    "thousands of digits": lambda r: _cell(r, "9" * r.randrange(5000, 9000)),
    "beyond 64 bits": lambda r: _cell(r, str(2**63 + r.getrandbits(40))),
    "a list in a cell": lambda r: _cell(r, f"[{r.randrange(900)}]"),
    "a cell too many": lambda r: _cell(r, f"{r.randrange(900)},1"),
    "unknown column": lambda r: _good(r).replace('"rh"', f'"pm_from_{r.getrandbits(32)}"'),
    "column of SQL": lambda r: _good(r).replace('"rh"', f'"rh); DROP TABLE chunk; --{r.getrandbits(32)}"'),
    "a column twice": lambda r: _good(r).replace('"rh"', '"temp"'),
    "version 2": lambda r: _good(r).replace('"v":1', f'"v":{r.randrange(2, 10**9)}'),
    "no version": lambda r: _good(r).replace('"v":1,', ""),
    "boot of 40 bits": lambda r: f'{{"v":1,"boot":{2**39 + r.getrandbits(38)},' + _good(r).split(",", 2)[2],
    "first beyond": lambda r: _good(r).replace('"first":', '"first":9'),
    "rows fall": lambda r: _good(r, falling=True),
    "260 rows": lambda r: _good(r, count=260),
    "keys of another world": lambda r: f'{{"temperature":{r.uniform(0, 40):.3f},"ts":{r.getrandbits(31)}}}',
}  # fmt: skip
"""Kinds that are made anew each time."""

_GOLDEN = {
    m.name: m
    for m in golden.invalid("obs", "backlog", "about", "status")
    if len(m.payload) <= _MOST_BYTES and m.topic.count("/") == 3 and m.topic.endswith(f"/{m.kind}")
}
KINDS = (*MADE, "conflict", "another kit's about", "an odd user", "no kit's topic", *_GOLDEN)


class Poison:
    """One message: who sends it, on which topic, and whether the broker keeps it."""

    def __init__(self, user, topic, payload, *, retain=False):
        self.user = user
        self.topic = topic
        self.payload = payload if isinstance(payload, bytes) else payload.encode()
        self.retain = retain


class _Sender:
    """One user's connection, made again by itself; `drops` counts how often it was lost."""

    def __init__(self, user, password, port, on_message):
        self.drops = 0
        self._client = client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, f"sends as {user}", clean_session=True)
        client.username_pw_set(user, password)
        client.reconnect_delay_set(1, 2)
        client.on_message = on_message
        client.on_connect = lambda c, *_: c.subscribe(f"{BASE}/{user}/stored", 1) if user in POISONERS else None
        client.on_disconnect = self._dropped
        client.connect_async("127.0.0.1", port, 10)
        client.loop_start()

    def send(self, poison, stop):
        """Send; returns whether the broker has acknowledged it in time."""
        deadline_s = time.monotonic() + _ACKNOWLEDGED_S
        while not self._client.is_connected():
            if stop.wait(0.02) or time.monotonic() > deadline_s:
                return False
        info = self._client.publish(poison.topic, poison.payload, 1, poison.retain)
        while not info.is_published():
            if stop.wait(0.005) or time.monotonic() > deadline_s:
                return False
        return True

    def end(self):
        self._client.disconnect()
        self._client.loop_stop()

    def _dropped(self, *_):
        self.drops += 1


class Poisoner:
    """Sends poison in a thread of its own until it is known to be stored; `sent` is what must be dead letters."""

    def __init__(self, passwords, port, rng):
        self.sent = set()  # (topic, payload)
        self.kinds = set()
        self.ledger = Ledger()
        self.rounds = 0
        self._rng = rng
        self._passwords = passwords
        self._port = port
        self._began_s = int(time.time()) - 86_400
        self._senders = {}
        self._boots = {name: rng.getrandbits(32) for name in POISONERS}
        self._rows = {name: [] for name in POISONERS}
        self._receipts = dict.fromkeys(POISONERS, 0)
        for name in POISONERS:
            self.ledger.add_boot(name, self._boots[name], ONE_SENSOR, self._rows[name])
        self._order = itertools.cycle(rng.sample(KINDS, len(KINDS)))
        self._work = queue.Queue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="poisoner", daemon=True)
        self._thread.start()

    def order(self, count):
        """Have the next kinds sent; returns their names."""
        kinds = [next(self._order) for _ in range(count)]
        self._work.put(kinds)
        return kinds

    @property
    def waiting(self):
        """Orders that are not yet known to be stored."""
        return self._work.unfinished_tasks

    def end(self):
        self._stop.set()
        self._thread.join()
        for sender in self._senders.values():
            sender.end()

    def _run(self):
        while not self._stop.is_set():
            try:
                kinds = self._work.get(timeout=0.1)
            except queue.Empty:
                continue
            name = self._rng.choice(POISONERS)
            poison = [self._make(kind, name) for kind in kinds]
            while not self._stop.is_set() and not self._deliver(name, poison):
                pass
            self.sent |= {(p.topic, p.payload) for p in poison}
            self.kinds |= set(kinds)
            self._work.task_done()

    def _make(self, kind, name):
        rng = self._rng
        topic = f"{BASE}/{name}/{rng.choice(('obs', 'backlog'))}"
        if kind in _GOLDEN:
            found = _GOLDEN[kind]
            known = found.topic.replace(golden.KIT, name)
            return Poison(name if known != found.topic else GATEWAY_USER, known, found.payload)
        if kind == "conflict" and self._receipts[name]:
            row = np.array([self._rows[name][0]], np.int64)
            row[0, -1] = rng.getrandbits(30) + 20_000  # as no sensor said, so never the stored value
            return Poison(name, topic, message(self._boots[name], 1, ONE_SENSOR, row))
        if kind == "another kit's about":
            about = b'{"v":1,"kit":"kit-%d","board":"x","fw":{"version":"1","hash":null}}' % rng.getrandbits(32)
            return Poison(name, f"{BASE}/{name}/about", about, retain=True)
        if kind == "an odd user":
            user = rng.choice(ODD_USERS)
            return Poison(user, f"{BASE}/{user}/obs", _good(rng), retain=rng.random() < 0.3)
        if kind == "no kit's topic":
            odd = rng.choice(("", " ", "$SYS", "gateway", "..", "a" * 5000, "\U0001f9ff", "kit 1", "\uff21"))
            return Poison(GATEWAY_USER, f"{BASE}/{odd}/{rng.choice(('obs', 'status'))}", _good(rng))
        made = MADE[kind if kind in MADE else "cut short"]
        return Poison(name, topic, made(rng), retain=rng.random() < 0.2)

    def _deliver(self, name, poison):
        """Send poison, then a reading; returns whether its receipt came and nothing was cut meanwhile."""
        self.rounds += 1
        drops = {user: self._sender(user).drops for user in {name, *(p.user for p in poison)}}
        if not all(self._sender(p.user).send(p, self._stop) for p in poison):
            return False
        boot, rows = self._boots[name], self._rows[name]
        seq = len(rows) + 1
        when = {"up": seq, "t": self._began_s + seq, "q": 2, "dt": 1}
        rows.append(tuple(values(boot, np.array([seq], np.int64), ONE_SENSOR, when)[0].tolist()))
        held = self._receipts[name]
        reading = message(boot, held + 1, ONE_SENSOR, np.array(rows[held:], np.int64))
        if not self._sender(name).send(Poison(name, f"{BASE}/{name}/obs", reading), self._stop):
            return False
        deadline_s = time.monotonic() + _RECEIPT_S
        while self._receipts[name] < seq:
            if self._stop.wait(0.02) or time.monotonic() > deadline_s:
                return False
        return all(self._sender(user).drops == count for user, count in drops.items())

    def _sender(self, user):
        if user not in self._senders:
            self._senders[user] = _Sender(user, self._passwords[user], self._port, self._receipt)
        return self._senders[user]

    def _receipt(self, _client, _data, message):
        name = message.topic.split("/")[2]
        found = msgspec.json.decode(message.payload)
        if found["boot"] == self._boots[name]:
            self._receipts[name] = max(self._receipts[name], found["seq"])
