"""The process of all simulated kits: one thread, told what to do by lines on its input, telling its state by lines.

Run as `python tests/faults/fleet.py PLAN.json`. It knows nothing of gateways or faults: what it wrote to its ledger is
what must be stored in the end.
"""

import json
import os
import selectors
import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from faults.kit import Kit
from faults.rows import Ledger, Past

TURN_S = 0.02
TELL_S = 0.25


def _say(state):
    sys.stdout.write(json.dumps(state) + "\n")
    sys.stdout.flush()


class Fleet:
    """All kits, one selector."""

    def __init__(self, plan):
        self._ledger = Ledger()
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ, None)
        os.set_blocking(0, False)
        self._input = b""
        self._going = True
        self._flooded = 0
        self._wiped = 0
        self._kits = {
            entry["name"]: Kit(
                entry, [Past(**{**p, "cols": tuple(p["cols"])}) for p in entry["past"]], port=plan["port"],
                ledger=self._ledger, live_every_s=entry["live_every_s"], seed=plan["seed"], on_socket=self._watch,
            )
            for entry in plan["kits"]
        }  # fmt: skip

    def run(self):
        """Go on until told to end."""
        tell_at_s = 0.0
        while self._going:
            for key, _ in self._selector.select(TURN_S):
                if key.data is None:
                    self._obey()
                elif key.data.client:
                    key.data.client.loop_read()
            now_s = time.monotonic()
            for kit in self._kits.values():
                kit.turn(now_s)
            if now_s >= tell_at_s:
                tell_at_s = now_s + TELL_S
                self._tell()

    def _watch(self, kit, sock, *, is_open):
        if is_open:
            self._selector.register(sock, selectors.EVENT_READ, kit)
        else:
            with suppress(KeyError, ValueError):
                self._selector.unregister(sock)

    def _tell(self):
        kits = self._kits.values()
        state = {
            "held": sum(k.ring.pending for k in kits), "aside": sum(len(k.ring.asides()) for k in kits),
            "made": sum(len(k.ring.rows) for k in kits), "connects": sum(k.connects for k in kits),
            "connected": sum(k.client is not None for k in kits), "flooded": self._flooded, "wiped": self._wiped,
            "at_risk": sum(min(k.acked, k.window.outstanding()) for k in kits),
            "slowest": max(self._kits, key=lambda n: self._kits[n].ring.pending),
        }  # fmt: skip
        _say(state)

    def _obey(self):
        data = os.read(0, 65536)
        if not data:
            self._going = False
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            self._do(**json.loads(line))

    def _do(self, do, kits=None, **how):
        chosen = [self._kits[name] for name in kits] if kits else list(self._kits.values())
        if do == "ledger":
            self._ledger.write(how["path"])
            _say({"written": how["path"]})
            return
        for kit in chosen:
            if do == "hush":
                kit.hushed = True
            elif do == "calm":
                kit.calm = True
            elif do == "power_cut":
                kit.power_cut(how["dark_s"])
            elif do == "drop":
                kit.drop()
            elif do == "wipe":
                self._wiped += kit.wipe()
            elif do == "flood":
                self._flooded += kit.flood(how["copies"])
            else:
                raise ValueError(do)


if __name__ == "__main__":
    Fleet(json.loads(Path(sys.argv[1]).read_text())).run()
