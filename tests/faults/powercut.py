"""Power is cut: broker, gateway and InfluxDB end at once, before the broker saved; what is missing afterwards?

A killed process does not lose what the kernel has not yet written; a real power cut does. What this shows is that
nothing depends on the broker's memory: its file is as old as its start.
"""

import os
import signal
import time
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass

from faults.check import Found, compare, open_store
from faults.processes import Broker, Fleet, Gateway
from faults.rows import ONE_SENSOR, OWN
from faults.soak import wait_until
from influxd import BUCKET, Influxd

KITS = 20
_NEVER_SAVES_S = 86_400
_DRAIN_S = 300  # three time messages of the gateway, where a kit was there before it: more than two minutes


@dataclass
class Cut:
    """What a power cut has cost."""

    found: Found
    at_risk: int  # rows that the broker had acknowledged and whose kits had no receipt when the power went
    missing_influx: int | None  # None: no InfluxDB took part


class _Parts:
    """Broker, gateway, kits, and InfluxDB where its program is there."""

    def __init__(self, folder, influxd_path, *, past_rows, live_every_s, stack):
        self.folder = folder
        self.influx = Influxd(influxd_path, folder / "influx") if influxd_path else None
        stack.enter_context(self.influx or nullcontext())
        names = [f"kit-{i}" for i in range(KITS)]
        self.broker = Broker(folder / "broker", names, autosave_s=_NEVER_SAVES_S)
        stack.callback(self.broker.stop)
        self.broker.start()
        config = folder / "gateway.toml"
        config.write_text(
            f'[broker]\nport = {self.broker.port}\npassword_file = "broker/gateway.password"\n'
            "[clock]\ntrusted = true\n[web]\nport = 0\n" + (self.influx.toml() if self.influx else "")
        )
        self.store = folder / "store"
        self.gateway = Gateway(config, log_path=folder / "gateway.log", environment={})
        stack.callback(self.gateway.end)
        self.gateway.wait_until_connected()
        start_s = int(time.time()) - 3 * 86_400
        rows = past_rows // KITS
        kits = [
            {
                "name": name, "password": self.broker.passwords[name], "clock": OWN, "cols": ONE_SENSOR,
                "past": [{"boot": i + 1, "count": rows, "start_s": start_s, "clock": OWN, "cols": ONE_SENSOR}],
                "live_every_s": live_every_s,
            }
            for i, name in enumerate(names)
        ]  # fmt: skip
        self.fleet = Fleet({"seed": 1, "port": self.broker.port, "kits": kits}, folder)
        stack.callback(self.fleet.end)

    def lose_power(self):
        """End all at once; the gateway was busy, so the broker had messages queued and in flight."""
        os.kill(self.gateway.pid, signal.SIGSTOP)
        began = self.fleet.state["at_risk"]
        wait_until(
            lambda: self.fleet.state["at_risk"] >= max(began, 20 * KITS), "the broker has messages queued", 20, self
        )
        at_risk = self.fleet.state["at_risk"]
        self.gateway.kill(hold=True)
        self.broker.kill()
        if self.influx:
            self.influx.kill()
        return at_risk

    def power_returns(self):
        if self.influx:
            self.influx.start(wait=False)
        self.broker.start_again()
        self.gateway.release()
        self.gateway.wait_until_connected()
        if self.influx:
            self.influx.wait()


def run(folder, influxd_path, *, past_rows, live_every_s, live_s, hurry):
    """Cut the power in the middle of `past_rows` stored rows and live ones; returns what was missing.

    With `hurry` the kits connect once more when the gateway is back, which spares them the wait for its time messages.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        parts = _Parts(folder, influxd_path, past_rows=past_rows, live_every_s=live_every_s, stack=stack)
        fleet, total = parts.fleet, past_rows
        wait_until(lambda: fleet.state.get("connected") == KITS, "all kits are connected", 30, parts)
        wait_until(lambda: fleet.state["held"] < total - total // 8, "the first rows have receipts", 30, parts)
        at_risk = parts.lose_power()
        time.sleep(0.5)
        parts.power_returns()
        if hurry:
            fleet.tell("drop")
        time.sleep(live_s)
        fleet.tell("hush")
        wait_until(lambda: not fleet.state["held"], "all rows have receipts", _DRAIN_S, parts)
        ledger = fleet.write_ledger()
        found = compare(parts.store, [ledger], set())
        missing = _missing_in_influx(parts, found.rows) if parts.influx else None
        return Cut(found, at_risk, missing)


def _missing_in_influx(parts, rows):
    """Wait until the sink has come to the end, or comes no further; returns how many rows are not there."""
    with closing(open_store(parts.store)) as db:
        wait_until(lambda: not db.execute("SELECT EXISTS (SELECT 1 FROM dirty)").fetchone()[0], "derived", 60, parts)
    deadline_s = time.monotonic() + 60
    while (there := parts.influx.count("raw", "seq", BUCKET)) < rows and time.monotonic() < deadline_s:
        time.sleep(0.5)
    points = parts.influx.points("raw")
    distinct = {(tags, fields["boot"], fields["seq"]) for (tags, _), fields in points.items()}
    assert len(distinct) == there
    return rows - len(distinct)
