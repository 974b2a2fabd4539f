"""For processes under libfaketime 0.9.10, whose clock_nanosleep(2) answers EINVAL: sleeping by a lock instead."""

import threading
import time


def _sleep(seconds):
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    threading.Event().wait(seconds)


time.sleep = _sleep
