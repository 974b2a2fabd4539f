"""A simulated kit: what it holds, what it sends and when, as the firmware does, over a real MQTT connection.

The sending window is the firmware's own file. The ring keeps rows in memory; a power cut of a kit is a new boot with
the same ring.
"""

import importlib.util
import random
import sys
import time
import types

import msgspec
import numpy as np
import paho.mqtt.client as mqtt
from components import REPO
from faults.rows import FOLLOWS, NONE, NULL, OWN, STUCK, message, values

BASE = "lichen/v1"
INFLIGHT = 4  # messages without PUBACK, as in the firmware
SETTLE_S = 0.7
KEEPALIVE_S = 10
BACKOFF_S = (0.5, 4.0)
_REST_S = 5  # of a calm kit between its rows

_spec = importlib.util.spec_from_file_location(
    "firmware_window", REPO / "firmware_micropython" / "lichen" / "window.py"
)
_window = importlib.util.module_from_spec(_spec)
sys.modules.setdefault("micropython", types.SimpleNamespace(const=lambda value: value))  # all it takes of MicroPython
_spec.loader.exec_module(_window)
_ABOUT = (REPO / "tests/wire/golden/valid/about.base_kit.json").read_bytes()


class _Segment:
    """Rows of one boot that are held: `first` to `last`; `source` gives their values."""

    def __init__(self, first, last, read):
        self.first = first
        self.last = last
        self.read = read


class Ring:
    """Rows without a receipt, of all boots, oldest first; the interface that the firmware's window asks."""

    def __init__(self, past):
        self._held = {p.boot: _Segment(1, p.count, p.rows) for p in past}
        self._asides = []  # (boot, first, last, read) of batches never receipted
        self._last = 0
        self.boot = None
        self.rows = []  # of the present boot, all that were ever made

    def start(self, boot):
        self.boot = boot
        self._last = 0
        self.rows = rows = []
        self.made = lambda first, last: np.array(rows[first - 1 : last], np.int64)
        self._held[boot] = _Segment(1, 0, self.made)

    def append(self, row):
        self._last += 1
        self.rows.append(row)
        self._held[self.boot].last = self._last

    def boots(self):
        return [boot for boot, s in self._held.items() if s.last >= s.first]

    def first(self, boot):
        held = self._held.get(boot)
        return held.first if held else self.last(boot) + 1

    def last(self, boot):
        held = self._held.get(boot)
        return held.last if held else 0

    def read(self, boot, first, count):
        held = self._held.get(boot)
        if held and first >= held.first:
            return held.read(first, min(held.last, first + count - 1))
        read = next(a[3] for a in self._asides if a[0] == boot and a[1] <= first <= a[2])
        return read(first, first + count - 1)

    def put_aside(self, boot, last):
        held = self._held[boot]
        self._asides.append((boot, held.first, last, held.read))
        self.free(boot, last)

    def asides(self):
        return [a[:3] for a in self._asides]

    def settle(self, boot, first, last):
        self._asides = [
            (b, last + 1 if (b, f) == (boot, first) else f, z, read)
            for b, f, z, read in self._asides
            if (b, f) != (boot, first) or z > last
        ]

    def free(self, boot, seq):
        held = self._held.get(boot)
        if held:
            held.first = max(held.first, min(seq, held.last) + 1)
            if held.first > held.last and boot != self.boot:
                del self._held[boot]

    def drop_oldest(self):
        """Give up the oldest row; returns which."""
        boot = self.boots()[0]
        seq = self._held[boot].first
        self.free(boot, seq)
        return boot, seq

    @property
    def pending(self):
        return sum(s.last - s.first + 1 for s in self._held.values()) + sum(z - f + 1 for _, f, z, _ in self._asides)


class Kit:
    """One sender. `turn` is called often, and after anything was received."""

    def __init__(self, plan, past, *, port, ledger, live_every_s, seed, on_socket):
        self.name = plan["name"]
        self.plan = plan
        self.client = None
        self.ring = Ring(past)
        self.connects = 0
        self.acked = 0  # rows that the broker has acknowledged since the last connection began
        self.hushed = self.calm = False
        self._rests_until_s = 0.0
        self._past = past
        self._cols = tuple(plan["cols"])
        self._port = port
        self._ledger = ledger
        self._every_s = live_every_s
        self._rng = random.Random(f"{seed} {self.name}")
        self._on_socket = on_socket
        self._epoch_s = int(time.time())  # where a stuck clock starts
        self._connected = False
        self._sock = None
        self._backoff_s = BACKOFF_S[0]
        self._connect_at_s = 0.0
        self._sends_at_s = None
        self._misc_at_s = 0.0
        self._inflight = {}
        for boot in past:
            ledger.add_past(self.name, boot)
        self.boot()

    def boot(self):
        """Start anew; what the ring holds stays."""
        boot = self._rng.getrandbits(32)
        self.ring.start(boot)
        self._ledger.add_boot(self.name, boot, self._cols, self.ring.rows)
        self.window = _window.Window(self.ring, boot)
        self._started_s = time.monotonic()
        self._made = 0
        now_s = int(time.time())
        self._offset_s = {OWN: now_s, STUCK: self._epoch_s, FOLLOWS: None, NONE: None}[self.plan["clock"]]

    def power_cut(self, dark_s):
        """Lose power for so long: the connection goes without goodbye, then a new boot begins."""
        self.drop(dark_s)
        self.boot()
        self._started_s += dark_s

    def wipe(self):
        """Lose the ring, if all of it has receipts; returns whether."""
        if self.ring.pending:
            return False
        self.drop(1.0)
        self.ring = Ring([])
        self.boot()
        return True

    def drop(self, away_s=0.0):
        """Lose the connection."""
        client, self.client = self.client, None
        if self._sock:
            self._on_socket(self, self._sock, is_open=False)  # paho may have closed it already
            self._sock.close()
            self._sock = None
        if client:
            client.on_disconnect = None
        self._connected = False
        self._sends_at_s = None
        self._connect_at_s = time.monotonic() + (away_s or self._backoff_s * self._rng.uniform(0.5, 1.5))
        self._backoff_s = min(BACKOFF_S[1], 2 * self._backoff_s)

    def flood(self, copies):
        """Send old batches again, as often as asked; the broker keeps one of them for those who come later."""
        if not self._connected:
            return 0
        sent = 0
        for _ in range(copies):
            source = self._rng.choice([*self._past, None])
            last = source.count if source else self._made
            boot, read = (source.boot, source.rows) if source else (self.ring.boot, self.ring.made)
            if boot in self.ring.boots():
                last = self.ring.first(boot) - 1  # only what was received
            if last < 1:
                continue
            first = self._rng.randint(1, last)
            rows = read(first, min(last, first + self._rng.randint(0, 99)))
            payload = message(boot, self._rng.randint(1, first), self._cols, rows)
            topic = self._rng.choice(("obs", "backlog"))
            self.client.publish(f"{BASE}/{self.name}/{topic}", payload, 1, retain=self._rng.random() < 0.01)
            sent += 1
        return sent

    def turn(self, now_s):
        """Do what is due."""
        if not self.hushed and now_s >= self._rests_until_s:
            self._rests_until_s = now_s + _REST_S if self.calm else now_s
            self._sample(now_s)
        if self.client is None:
            if now_s >= self._connect_at_s:
                self._connect(now_s)
            return
        if self._sends_at_s is not None and now_s >= self._sends_at_s:
            self._send()
        if self.client and self.client.want_write():
            self.client.loop_write()
        if self.client and now_s >= self._misc_at_s:
            self._misc_at_s = now_s + 1
            self.client.loop_misc()

    def _sample(self, now_s):
        while (self._made + 1) * self._every_s <= now_s - self._started_s:
            self._made = seq = self._made + 1
            up = max(1, round(seq * self._every_s))
            known = self._offset_s is not None
            q = {STUCK: 1}.get(self.plan["clock"], 2) if known else 0
            when = {"up": up, "t": self._offset_s + up if known else NULL, "q": q, "dt": max(1, round(self._every_s))}
            self.ring.append(tuple(values(self.ring.boot, np.int64(seq).reshape(1), self._cols, when)[0].tolist()))
            if (limit := self.plan.get("ring_rows")) and self.ring.pending > limit:
                self._ledger.drop(self.name, *self.ring.drop_oldest())

    def _connect(self, now_s):
        self.client = client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, self.name, clean_session=True)
        client.connect_timeout = 2.0
        client.username_pw_set(self.name, self.plan["password"])
        client.will_set(f"{BASE}/{self.name}/status", b'{"v":1,"up":0}', 1, retain=True)
        client.on_connect = self._connack
        client.on_subscribe = self._ready
        client.on_publish = self._puback
        client.on_message = self._message
        client.on_disconnect = lambda *_: self.drop() if client is self.client else None
        try:
            client.connect("127.0.0.1", self._port, KEEPALIVE_S)
        except (OSError, ValueError):
            self.drop()
            return
        if self.client is client:
            self._misc_at_s = now_s + 1
            self._sock = client.socket()
            self._on_socket(self, self._sock, is_open=True)

    def _connack(self, client, _data, _flags, reason, _properties):
        if not reason.is_failure:
            topics = [(f"{BASE}/{self.name}/cmd", 1), (f"{BASE}/{self.name}/stored", 1), (f"{BASE}/gateway/time", 0)]
            client.subscribe(topics)

    def _ready(self, client, *_):
        self._connected = True
        self.connects += 1
        self.acked = 0
        self._backoff_s = BACKOFF_S[0]
        self._inflight = {}
        client.publish(f"{BASE}/{self.name}/about", _ABOUT.replace(b"kit-7f3a", self.name.encode()), 1, retain=True)
        client.publish(f"{BASE}/{self.name}/status", b'{"v":1,"up":1,"boot":%d}' % self.ring.boot, 1, retain=True)
        self.window.restart()
        self._sends_at_s = time.monotonic() + SETTLE_S

    def _send(self):
        while self.client and len(self._inflight) < INFLIGHT and (item := self.window.next()):
            live, boot, seq, count, first = item
            rows = self.ring.read(boot, seq, count)
            last = int(rows[-1, 0])
            payload = message(boot, first, self._cols, rows)
            self.window.sent(boot, last)
            # Noted first: the broker's answer may come while it is being written.
            info = self.client.publish(f"{BASE}/{self.name}/{'obs' if live else 'backlog'}", payload, 1)
            self._inflight[info.mid] = (boot, last, len(rows))

    def _puback(self, _client, _data, mid, *_):
        if what := self._inflight.pop(mid, None):
            boot, _, count = what
            self.acked += count
            if not any(w[0] == boot for w in self._inflight.values()):
                self.window.acknowledged(boot)

    def _message(self, _client, _data, message):
        content = msgspec.json.decode(message.payload)
        if message.topic.endswith("/stored"):
            self.window.receipt(content["boot"], content["seq"])
            return
        if content["sync"] and self.plan["clock"] == FOLLOWS:
            self._offset_s = content["t"] - int(time.monotonic() - self._started_s)
        self.window.tick()
