"""Simulated time: shadows the built-in module; it moves only where the event loop is idle (select.py) or sleeps."""

import os

import utime
from utime import *  # noqa: F403  mktime, localtime and what else a caller may want

SPEED = int(os.getenv("SPEED") or 1000)  # simulated seconds a real second; 0: as fast as it goes
EPOCH = int(os.getenv("EPOCH") or 1693526400)
_PERIOD = 1 << 30  # ticks wrap as on boards, and the wrap is met ten minutes after the start
_start = now = _PERIOD - 600_000  # ms


def ticks_ms():
    """Milliseconds, wrapping at 2**30."""
    return now & (_PERIOD - 1)


def ticks_us():
    """Microseconds of the same clock."""
    return (now * 1000) & (_PERIOD - 1)


def ticks_add(ticks, delta):
    """Ticks moved by delta, wrapped."""
    return (ticks + delta) & (_PERIOD - 1)


def ticks_diff(a, b):
    """Signed distance from b to a."""
    return ((a - b + _PERIOD // 2) & (_PERIOD - 1)) - _PERIOD // 2


def time():
    """Epoch seconds of the simulated world."""
    return EPOCH + (now - _start) // 1000


def time_ns():
    """Epoch nanoseconds of the simulated world."""
    return (EPOCH * 1000 + now - _start) * 1_000_000


def gmtime(t=None):
    """Broken-down UTC of the simulated world."""
    return utime.gmtime(time() if t is None else t)


def advance(ms):
    """Moves the clock; only select.py and the blocking sleeps call it."""
    global now
    now += ms


def set_speed(speed):
    """Changes the pace from here on."""
    global SPEED
    SPEED = speed


def sleep_ms(ms):
    """A blocking sleep, paced like the rest."""
    advance(ms)
    if SPEED:
        utime.sleep_us(ms * 1000 // SPEED)


def sleep(s):
    """A blocking sleep in seconds."""
    sleep_ms(int(s * 1000))


def sleep_us(us):
    """Below the resolution of the simulated clock."""
