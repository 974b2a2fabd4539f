"""Two requests at once: a series keeps its order, the cursor waits for all of a batch, removals for all before them."""

import re
import threading
import time
from itertools import pairwise

import pytest
from sink_store import T0_S, Store
from test_sink_influx import answering

from gateway.settings import Influx
from gateway.sinks.influx import InfluxSink
from gateway.sinks.influx_client import UnavailableError
from gateway.store import tombstones
from gateway.store.database import last_revision, transaction
from gateway.store.tombstones import Kind

KITS = 8
HOUR = T0_S // 3600


class Server:
    """Answers each request after a while, and keeps in which order what began and ended."""

    def __init__(self):
        self.lock = threading.Lock()
        self.events = []
        self.most = self.now = 0
        self.refuse = lambda _body, _path: None
        self.pause_s = 0.02
        self.slow = None

    def __call__(self, body, path):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            number = len(self.events)
            self.events.append(("begin", number, path, body))
        time.sleep(self.pause_s * (10 if self.slow and re.search(self.slow, body) else 1))
        answer = self.refuse(body, path) or (204, {}, b"")
        with self.lock:
            self.now -= 1
            self.events.append(("end", number, path, body))
        return answer

    def seqs(self, which="begin"):
        """Return what was written of each kit, as requests begin or end."""
        found = {}
        for event, _, _, body in self.events:
            if event == which:
                for kit, seq in re.findall(rb"^raw,kit=(\S+) .*seq=(\d+)i", body, re.MULTILINE):
                    found.setdefault(kit.decode(), []).append(int(seq))
        return found


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def sink(server, store, tmp_path):
    (tmp_path / "token").write_text("t")
    with answering(server, with_path=True) as (url, _):
        settings = Influx(url=url, org="o", bucket="b", token_file="t", batch_lines=200, timeout_s=5.0)
        made = InfluxSink(settings, tmp_path / "token", store.dir)
        yield made
        made.close()


def fill(store, rounds):
    for number in range(rounds):
        for kit in range(KITS):
            store.add_raw(f"k{kit}", 1, 100 * number, 100)


def test_two_requests_are_under_way_and_each_kit_keeps_its_order(sink, server, store):
    fill(store, 4)
    server.slow = rb"kit=k0 \S*,seq=0i"
    while sink.step():
        pass
    assert server.most == 2
    for which in ("begin", "end"):
        assert server.seqs(which) == {f"k{kit}": list(range(400)) for kit in range(KITS)}
    for (_, _, _, first), (_, _, _, second) in pairwise(e for e in server.events if e[0] == "begin"):
        if kits(first) & kits(second):
            ended = server.events.index(next(e for e in server.events if e[0] == "end" and e[3] is first))
            assert ended < server.events.index(next(e for e in server.events if e[0] == "begin" and e[3] is second))


def kits(body):
    return set(re.findall(rb"kit=(\S+) ", body))


def test_the_next_batch_is_under_way_before_the_last_is_confirmed_and_no_more(sink, server, store):
    fill(store, 8)
    server.slow = rb"kit=k0 \S*,seq=0i"
    sink._rows = 800
    assert sink.step() == 800
    begun = sum(len(found) for found in server.seqs().values())
    assert 800 < begun <= 1600
    confirmed = sink._cursor.rev
    assert confirmed == 8
    assert len(sink._ahead) == 1


def test_the_cursor_waits_for_every_request_of_its_batch(sink, server, store):
    """The half of one kit fails: nothing of the batch counts, all of it is sent again."""
    fill(store, 1)
    server.slow = rb"kit=k0 \S*,seq=0i"
    server.refuse = lambda body, _: (503, {}, b"") if b"kit=k1 " in body else None
    with pytest.raises(UnavailableError):
        sink.step()
    sink.close()
    assert server.now == 0, "what was sent has been answered before it is given up"
    assert sink.files.load_cursor().rev == 0
    server.refuse = lambda *_: None
    while sink.step():
        pass
    assert sink._cursor.rev == last_revision(store.db)
    assert set(server.seqs()) == {f"k{kit}" for kit in range(KITS)}


def test_a_removal_waits_for_all_before_it_and_all_after_it_wait(sink, server, store):
    fill(store, 3)
    sink._rows = 800
    with transaction(store.db):
        tombstones.leave(store.db, Kind.RAW, "k3", "", [(T0_S + 5) * 1000])
    after = range(300, 1100)
    for first in after[::100]:
        store.add_raw("k3", 1, first, 100)
        store.add_raw("k4", 1, first, 100)
    while sink.step():
        pass
    calls = [(event, path.partition("?")[0].rpartition("/")[2], body) for event, _, path, body in server.events]
    began = next(i for i, (event, what, _) in enumerate(calls) if (event, what) == ("begin", "delete"))
    before = [event for event, _, _ in calls[:began]]
    assert before.count("begin") == before.count("end") > 0
    assert calls[began + 1][:2] == ("end", "delete")
    assert not any(re.search(rb"seq=(3|4|5|6|7|8|9|10)\d\di", body) for _, _, body in calls[:began])
    assert server.seqs()["k3"][-len(after) :] == list(after)
    assert sink.state.points_withdrawn == 1


def test_a_refused_line_in_one_lane_stops_nothing_in_the_other(sink, server, store):
    fill(store, 2)
    bad = b"seq=57i"

    def refuse(body, _):
        if any(b"kit=k2 " in line and bad in line for line in body.split(b"\n")):
            return 400, {}, b'{"message":"unable to parse it"}'
        return None

    server.refuse = refuse
    while sink.step():
        pass
    assert (sink.state.lines_refused, sink.state.lines_written) == (1, 2 * KITS * 100 - 1)
    assert sink._cursor.rev == last_revision(store.db)
    assert set(server.seqs()["k2"]) == set(range(200))


def test_a_server_that_answers_neither_request_is_given_up_after_one_timeout(sink, server, store):
    fill(store, 1)
    sink._settings = Influx(url=sink._settings.url, org="o", bucket="b", token_file="t", batch_lines=200, timeout_s=0.3)
    server.pause_s = 3.0
    with pytest.raises(UnavailableError, match="does not answer"):
        sink.step()
    begun = time.monotonic()
    sink.close()
    assert time.monotonic() - begun < 1.0
