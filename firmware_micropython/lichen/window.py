"""What to send next, and what to send again: pointers over the ring, without I/O or time.

At most LIMIT rows beyond the receipts are under way. Patience counts the gateway's time messages: PATIENCE of them
without a receipt, and it starts again behind the last one; after ROUNDS of these the first batch is set aside (kept,
passed by `first`) and tried again at the next connection, after everything else.

Receipts pass what `first` passed, so one frees what was set aside only if nothing else can have caused it. The batch is
sent when the newest row, sent once, has its receipt: what went before it is done with, copies too. After the PUBACKs of
the batch the first receipt of its boot is then its own; once any other row goes the try is over, and the batch is kept
for the next connection. (Waiting for a second receipt proves nothing: this boot's next row brings one though the batch
was lost, and an earlier boot's batch brings only one.)
"""

LIMIT = 256
LIVE_ROOM = 16  # of them kept free for live rows
BATCH = 100
PATIENCE = 3
ROUNDS = 5


class Window:
    """Sending state of one kit; `boot` is the present one."""

    def __init__(self, ring, boot):
        self._ring = ring
        self._boot = boot
        self._sent = {}  # boot -> last seq sent on this connection
        self._aside = {}  # boot -> (first, last) set aside
        self._base = {}  # boot -> last receipt, for boots with something set aside: the ring cannot free beyond it
        self._retry = {}  # boot -> last seq sent again of what is set aside; not in it: not in this connection
        self._acked = set()  # boots whose retry has all its PUBACKs
        self._made = 0  # last row made before sending began anew: those after it are sent once
        self._once = False  # the last row sent, of nothing set aside, was such a one
        self._waits = self._rounds = 0
        self.resent = 0  # times it started again without a new connection

    def restart(self):
        """A new connection: everything without a receipt is to be sent again."""
        self._retry = {boot: first - 1 for boot, (first, _) in self._aside.items()}
        self._acked = set()
        self._waits = 0
        self._anew()

    def _anew(self):
        self._sent = {}
        self._made = self._ring.last(self._boot)
        self._once = False

    def base(self, boot):
        """Last seq that need not be sent."""
        return max(self._base.get(boot, 0), self._ring.first(boot) - 1)

    def _pointer(self, boot):
        return max(self._sent.get(boot, 0), self.base(boot))

    def outstanding(self):
        """Rows sent on this connection and not receipted."""
        sent = self._sent
        return sum([max(0, sent[boot] - self.base(boot)) for boot in self._ring.boots() if boot in sent])

    def next(self):
        """(live, boot, from seq, rows at most, first) or None. sent() must follow before the next call."""
        ring, boot = self._ring, self._boot
        room = LIMIT - self.outstanding()
        sent = self._pointer(boot)
        if room > 0 and sent + 1 == ring.last(boot):
            return True, boot, sent + 1, 1, self.base(boot) + 1
        room = min(BATCH, room - LIVE_ROOM)
        if room <= 0:
            return None
        for boot in ring.boots():
            sent = self._pointer(boot)
            if sent < ring.last(boot):
                return False, boot, sent + 1, room, self.base(boot) + 1
        return self._again(room)

    def _again(self, room):
        if not self._once or self.outstanding():
            return None
        for boot, sent in self._retry.items():
            first, last = self._aside[boot]
            sent = max(sent, self._ring.first(boot) - 1)
            if sent < last <= self._ring.last(boot):  # a full ring may have given it up
                return False, boot, sent + 1, min(room, last - sent), first
        return None

    def sent(self, boot, last):
        """The rows up to `last` are on their way."""
        if last <= self.base(boot):
            self._retry[boot] = last
            return
        self._sent[boot] = last
        self._once = boot == self._boot and last > self._made
        for other in [b for b, seq in self._retry.items() if seq >= self._aside[b][0]]:
            self._give_up(other)

    def _give_up(self, boot):
        self._retry.pop(boot, None)
        self._acked.discard(boot)

    def acknowledged(self, boot):
        """The broker has every message of that boot that was sent."""
        if boot in self._retry and self._retry[boot] >= self._aside[boot][1]:
            self._acked.add(boot)

    def receipt(self, boot, seq):
        """Everything of that boot up to seq is stored. False if there is no such boot here."""
        if boot not in self._ring.boots():
            return False
        self._waits = self._rounds = 0
        seq = min(seq, self._ring.last(boot))
        if boot in self._aside:
            last = self._aside[boot][1]
            self._base[boot] = max(self._base[boot], seq)
            if boot not in self._acked or seq < last:
                return True
            del self._aside[boot]
            self._give_up(boot)
            seq = self._base.pop(boot)
        self._ring.free(boot, seq)
        return True

    def tick(self):
        """A time message of the gateway. True if rows are to be sent again."""
        if not self.outstanding():
            self._waits = self._rounds = 0
            return False
        self._waits += 1
        if self._waits < PATIENCE:
            return False
        self._waits = 0
        self._rounds += 1
        if self._rounds >= ROUNDS:
            self._rounds = 0
            self._set_aside()
        self._anew()
        self.resent += 1
        return True

    def _set_aside(self):
        for boot in self._ring.boots():
            base = self.base(boot)
            sent = self._sent.get(boot, 0)
            if sent > base:
                last = min(sent, base + BATCH)
                self._aside[boot] = (self._aside.get(boot, (base + 1,))[0], last)
                self._base[boot] = last
                self._give_up(boot)
                return

    def set_aside(self):
        """Number of boots of which rows are set aside."""
        return len(self._aside)
