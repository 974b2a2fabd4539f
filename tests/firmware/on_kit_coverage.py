"""Runs a script under MicroPython's trace build and notes which lines of the firmware ran.

argv: file to append to, script, its arguments. What is killed notes nothing.
"""

import sys

OUT = sys.argv[1]
seen = set()


def local(frame, event, arg):
    if event == "line":
        seen.add((frame.f_code.co_filename, frame.f_lineno))
    return local


def trace(frame, event, arg):
    name = frame.f_code.co_filename
    if "/lichen/" in name or "/drivers/" in name:
        seen.add((name, frame.f_lineno))
        return local
    return None


def note():
    sys.settrace(None)
    with open(OUT, "a") as f:
        for name, line in seen:
            f.write("%s:%d\n" % (name, line))


script = sys.argv[2]
sys.argv[:] = sys.argv[2:]
sys.path.insert(0, script.rsplit("/", 1)[0])
with open(script) as f:
    code = f.read()
sys.settrace(trace)
try:
    exec(code, {"__name__": "__main__", "__file__": script})
finally:
    note()
