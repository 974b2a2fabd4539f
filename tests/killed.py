"""Ends a process with SIGKILL at every line of some modules in turn: no moment of them may leave a broken store."""

import os
import signal
import sys


def at_each_line(modules, prepare, act, judge, *, every=1):
    """For n = 1, 2, … prepare, act in a child that is killed at its n-th line of the modules, and judge what is left.

    Ends with the first child that was not killed; returns how many were.
    """
    files = {module.__file__ for module in modules}
    n = 1
    while True:
        prepare()
        if not _act(files, act, n):
            judge(n)
            return n - 1
        judge(n)
        n += every


def _act(files, act, limit):
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return os.WIFSIGNALED(status)
    count = 0

    def line(_frame, event, _arg):
        nonlocal count
        count += event == "line"
        if count == limit:
            os.kill(os.getpid(), signal.SIGKILL)
        return line

    sys.settrace(lambda frame, _event, _arg: line if frame.f_code.co_filename in files else None)
    try:
        act()
    except BaseException as error:  # noqa: BLE001 - told by the exit status
        sys.settrace(None)
        print(repr(error), file=sys.stderr)  # noqa: T201
        os._exit(9)
    os._exit(0)
