"""The birth certificate of wire version 1: which firmware and sensors a kit has. Made once, at the start."""

import binascii
import hashlib
import os

import lichen
from lichen.wire import text


def digest(root):
    """SHA-256 over the node's own files below root, shortened; "frozen" where they are part of the image."""
    h = hashlib.sha256()
    found = False
    for folder in ("lichen", "drivers", "boards"):
        try:
            names = sorted(os.listdir(root + "/" + folder))
        except OSError:
            continue
        for name in names:
            if name.endswith((".py", ".mpy")):
                found = True
                h.update((folder + "/" + name).encode())
                with open(root + "/" + folder + "/" + name, "rb") as f:
                    while True:
                        piece = f.read(512)
                        if not piece:
                            break
                        h.update(piece)
    return binascii.hexlify(h.digest()).decode()[:16] if found else "frozen"


def message(kit, board, version, code, sensors, columns, config_rev, boots):
    """The payload, never a place. `code`: the firmware's hash; `sensors`: (type, serial, batch, channels); `columns`:
    (name, unit, scale).
    """
    out = b'{"v":1,"kit":%s,"board":%s,"fw":{"version":%s,"hash":%s},"sensors":[' % (
        text(kit), text(board), text(version), text(code))  # fmt: skip
    out += b",".join(
        [b'{"type":%s,"serial":%s,"batch":%s,"channels":%s}' % tuple([text(v) for v in s]) for s in sensors]
    )
    out += b'],"cols":['
    out += b",".join([b'{"name":%s,"unit":%s,"per_unit":%d}' % (text(n), text(u), p) for n, u, p in columns])
    return out + b'],"config_rev":%d,"boots":%d}' % (config_rev, boots)


def of(config, board, meters, code, boots):
    """The payload of a kit whose files lie below `code`, at its start number `boots`."""
    sensors = [(m.sensor.TYPE, None, None, m.suffix[1:] or "a") for m in meters]
    columns = []
    for meter in meters:
        for (_, scale, unit), column in zip(meter.sensor.channels, meter.columns()[2:]):
            columns.append((column, unit, 100 if unit in ("degC", "percent") else scale))
    rev = config.get("config_rev", 0)
    return message(config["kit"], board.NAME, lichen.VERSION, digest(code), sensors, columns, rev, boots)
