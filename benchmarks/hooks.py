"""Clocks around functions of a running program: what each step costs by itself, without those it calls that have one.

CPU is that of the thread; wall minus CPU is waiting (for the disk, a lock, InfluxDB).
"""

import functools
import importlib
import json
import threading
import time
from contextlib import contextmanager

_local = threading.local()
_cpu_ns: dict[str, int] = {}
_wall_ns: dict[str, int] = {}
_calls: dict[str, int] = {}
_missing: list[str] = []


@contextmanager
def step(label):
    """Count what happens within as `label`."""
    stack = getattr(_local, "stack", None)
    if stack is None:
        stack = _local.stack = []
    inner = [0, 0]
    stack.append(inner)
    wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
    try:
        yield
    finally:
        cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
        stack.pop()
        if stack:
            stack[-1][0] += cpu
            stack[-1][1] += wall
        _cpu_ns[label] = _cpu_ns.get(label, 0) + cpu - inner[0]
        _wall_ns[label] = _wall_ns.get(label, 0) + wall - inner[1]
        _calls[label] = _calls.get(label, 0) + 1


def clock(label, module, name):
    """Put a clock around `name` (or `Class.name`) of a module; what is not there is listed in the result."""
    owner, attribute = _owner(module, name)
    if owner is None:
        return

    real = getattr(owner, attribute)

    @functools.wraps(real)
    def clocked(*args, **options):
        with step(label):
            return real(*args, **options)

    setattr(owner, attribute, clocked)


def clock_commits(label, module):
    """Put a clock around the end of the transactions of a module, where the log is synced to disk."""
    owner, attribute = _owner(module, "transaction")
    if owner is None:
        return
    real = getattr(owner, attribute)

    @contextmanager
    def clocked(connection):
        held = real(connection)
        held.__enter__()
        try:
            yield
        except BaseException as error:
            if not held.__exit__(type(error), error, error.__traceback__):
                raise
        else:
            with step(label):
                held.__exit__(None, None, None)

    setattr(owner, attribute, clocked)


def save(path):
    """Write what was counted as JSON."""
    found = {
        label: {"cpu_s": _cpu_ns[label] / 1e9, "wall_s": _wall_ns[label] / 1e9, "calls": _calls[label]}
        for label in _cpu_ns
    }
    path.write_text(json.dumps({"steps": found, "missing": _missing, "process_cpu_s": time.process_time()}))


def _owner(module, name):
    *path, attribute = name.split(".")
    try:
        owner = importlib.import_module(module)
        for part in path:
            owner = getattr(owner, part)
        getattr(owner, attribute)
    except (ImportError, AttributeError):
        _missing.append(f"{module}.{name}")
        return None, attribute
    return owner, attribute
