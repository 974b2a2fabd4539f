"""What to send next, and what to send again: pointers over the ring, without I/O or time.

The newest row goes first, also while older ones of its boot wait (`_ahead`); then the backlog, oldest first. At most
_LIMIT rows beyond the receipts are under way. Patience counts the gateway's time messages, for each boot by
itself: _PATIENCE of them without a receipt that gets that boot further, and it starts again behind its last one; after
_ROUNDS of these its first batch is set aside (kept on flash by the ring, passed by `first`, so that it blocks nothing)
and tried again at the next connection, after everything else.

Receipts pass what `first` passed, so one settles what was set aside only if nothing else can have caused it. The batch
is sent, one message at a time, when the newest row, sent once, has its receipt: what went before it is done with,
copies too. After the PUBACK of that message the first receipt of its boot is then its own; once any other row goes the
try is over, and the batch is kept for the next connection. (Waiting for a second receipt proves nothing: this boot's
next row brings one though the batch was lost, and an earlier boot's batch brings only one.)
"""

from micropython import const

_LIMIT = const(256)
_LIVE_ROOM = const(16)  # of them kept free for live rows
_BATCH = const(100)
_PATIENCE = const(3)
_ROUNDS = const(5)


class _Retry:
    """The try of one batch set aside on this connection."""

    def __init__(self, boot, first, last):
        self.boot = boot
        self.first = first
        self.last = last
        self.sent = first - 1
        self.acked = False


class Window:
    """Sending state of one kit; `boot` is the present one."""

    def __init__(self, ring, boot):
        self._ring = ring
        self._boot = boot
        self._sent = {}  # boot -> last seq sent since its sending began anew
        self._ahead = []  # seqs of this boot sent before older ones, rising
        self._live = False  # whether next() offered such a row
        self._waits = {}  # boot -> time messages since then or its last receipt
        self._rounds = {}  # boot -> how often it began anew without a receipt that got it further
        self._retries = []  # what was set aside before this connection and not tried on it
        self._retry = None
        self._made = 0  # last row made before sending began anew: those after it are sent once
        self._once = False  # the last row sent, of nothing set aside, was such a one

    def restart(self):
        """A new connection: everything without a receipt is to be sent again."""
        self._retries = self._ring.asides()
        self._retry = None
        self._sent = {}
        self._ahead = []
        self._waits = {}
        self._anew()

    def _anew(self):
        self._made = self._ring.last(self._boot)
        self._once = False

    def base(self, boot):
        """Last seq that need not be sent."""
        return self._ring.first(boot) - 1

    def _pointer(self, boot):
        return max(self._sent.get(boot, 0), self.base(boot))

    def _under_way(self, boot):
        pointer = self._pointer(boot)
        ahead = len([seq for seq in self._ahead if seq > pointer]) if boot == self._boot else 0
        return pointer - self.base(boot) + ahead

    def outstanding(self):
        """Rows sent on this connection and not receipted."""
        return sum([self._under_way(boot) for boot in self._ring.boots()])

    def next(self):
        """(live, boot, from seq, rows at most, first) or None. sent() must follow before the next call."""
        ring, boot = self._ring, self._boot
        room = _LIMIT - self.outstanding()
        newest = ring.last(boot)
        self._live = room > 0 and newest > self._pointer(boot) and newest not in self._ahead
        if self._live:
            return True, boot, newest, 1, self.base(boot) + 1
        room = min(_BATCH, room - _LIVE_ROOM)
        if room <= 0:
            return None
        for boot in ring.boots():
            sent = self._pointer(boot)
            end = ring.last(boot)
            if boot == self._boot:
                sent, end = self._pass_ahead(sent, end)
            if sent < end:
                return False, boot, sent + 1, min(room, end - sent), self.base(boot) + 1
        return self._again(room)

    def _pass_ahead(self, sent, end):
        """(pointer, last row to be sent before one that went ahead), past those that the pointer has reached."""
        while self._ahead and self._ahead[0] <= sent + 1:
            sent = max(sent, self._ahead.pop(0))
            self._sent[self._boot] = sent
        return sent, min([end] + [seq - 1 for seq in self._ahead[:1]])

    def _again(self, room):
        if not self._once or self.outstanding():
            return None
        held = self._ring.asides()
        while not self._retry and self._retries:
            self._retry = _Retry(*self._retries.pop(0))
        retry = self._retry
        if retry and (retry.boot, retry.first, retry.last) not in held:  # a full ring has given it up
            self._retry = retry = None
        if not retry or retry.sent >= retry.first:
            return None
        return False, retry.boot, retry.sent + 1, min(room, retry.last - retry.sent), retry.first

    def sent(self, boot, last):
        """The rows up to `last` are on their way."""
        retry = self._retry
        if retry and boot == retry.boot and last <= retry.last:
            retry.sent = last
            return
        if self._live and last > self._pointer(boot) + 1:
            self._ahead.append(last)
        else:
            self._sent[boot] = last
        self._once = boot == self._boot and last > self._made
        if retry and retry.sent >= retry.first:
            self._retry = None

    def acknowledged(self, boot):
        """The broker has every message of that boot that was sent."""
        retry = self._retry
        if retry and boot == retry.boot and retry.sent >= retry.first:
            retry.acked = True

    def receipt(self, boot, seq):
        """Everything of that boot up to seq is stored. False if there is no such boot here."""
        retry = self._retry
        if retry and boot == retry.boot and retry.acked and seq >= retry.sent:
            self._settle(retry)
        elif boot not in self._ring.boots():
            return any([aside[0] == boot for aside in self._ring.asides()])
        seq = min(seq, self._ring.last(boot))
        if seq > self.base(boot):
            self._waits.pop(boot, None)
            self._rounds.pop(boot, None)
            self._ring.free(boot, seq)
        return True

    def _settle(self, retry):
        self._ring.settle(retry.boot, retry.first, retry.sent)
        self._once = False  # the next one waits for a row of its own
        self._retry = None
        if retry.sent < retry.last:
            self._retry = _Retry(retry.boot, retry.sent + 1, retry.last)

    def tick(self):
        """A time message of the gateway. True if rows are to be sent again."""
        again = False
        for boot in self._ring.boots():
            if not self._under_way(boot):
                continue
            self._waits[boot] = self._waits.get(boot, 0) + 1
            if self._waits[boot] >= _PATIENCE:
                self._lose_patience(boot)
                again = True
        if again:
            self._anew()
        return again

    def _lose_patience(self, boot):
        self._waits[boot] = 0
        self._rounds[boot] = self._rounds.get(boot, 0) + 1
        sent = self._sent.pop(boot, 0)
        if boot == self._boot:
            self._ahead = []
        if self._rounds[boot] >= _ROUNDS and sent > self.base(boot):
            self._rounds[boot] = 0
            self._ring.put_aside(boot, min(sent, self.base(boot) + _BATCH))
