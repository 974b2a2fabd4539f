"""select.poll in simulated time: where the loop would wait, the clock jumps to its next deadline, sockets being served.

Pacing waits in a real poll, so late wake-ups cannot exist. After a write that a peer must answer, simulated time
stands still until it does (GRACE_MS of real time at most): else time-outs would fire for an answer under way.
"""

import time

import utime
from uselect import *  # noqa: F403
from uselect import POLLIN, POLLOUT
from uselect import poll as _real_poll

GRACE_MS = 2000
LAG_US = 500_000  # how much real time lost to computing is caught up
_answer_due = False


def answer_due():
    """Says that a peer owes an answer in real time."""
    global _answer_due
    _answer_due = True


class _Poll:
    """What asyncio uses of a poll object."""

    def __init__(self):
        self._poll = _real_poll()
        self._count = 0
        self._debt = 0  # real microseconds still owed to the pace
        self._mark = utime.ticks_us()

    def register(self, obj, mask=POLLIN | POLLOUT):
        if mask & POLLOUT:  # a connection being opened, or a full socket buffer
            answer_due()
        self._count += 1
        self._poll.register(obj, mask)

    def unregister(self, obj):
        self._count -= 1
        self._poll.unregister(obj)

    def modify(self, obj, mask):
        self._poll.modify(obj, mask)

    def _sockets(self, ms):
        global _answer_due
        ready = self._poll.poll(ms)
        if ready:
            _answer_due = False
        return ready

    def ipoll(self, dt=-1):
        """Ready sockets within dt simulated ms."""
        global _answer_due
        ready = self._sockets(0) if self._count else ()
        if ready or dt == 0:
            return ready
        if dt < 0:
            return self._sockets(-1)  # only sockets can wake: wait for real
        if _answer_due and self._count:
            _answer_due = False
            ready = self._sockets(GRACE_MS)
            if ready:
                return ready
        if not time.SPEED:
            time.advance(dt)
            return ready
        return self._paced(dt)

    poll = ipoll

    def _paced(self, dt):
        real = utime.ticks_us()
        self._debt = max(-LAG_US, self._debt - utime.ticks_diff(real, self._mark)) + dt * 1000 // time.SPEED
        self._mark = real
        ready = ()
        if self._debt >= 1000:
            ready = self._sockets(self._debt // 1000)
            real = utime.ticks_us()
            self._debt -= utime.ticks_diff(real, self._mark)
            self._mark = real
        if ready and self._debt > 0:  # woken early: only part of the step has passed
            dt = max(0, dt - self._debt * time.SPEED // 1000)
            self._debt = 0
        time.advance(dt)
        return ready


def poll():
    """As select.poll."""
    return _Poll()
