"""The configuration file: read with its defaults, replaced so that a power cut leaves the old or the new one."""

import json
import os

DEFAULTS = {
    "port": 1883, "user": None, "password": None, "base": "lichen/v1", "receipts": True, "config_rev": 0, "cycle_s": 0,
    "ring_bytes": None, "floor": None, "pm_channels": None, "ntp": True, "ca": None,
}  # fmt: skip
NEEDED = ("kit", "board", "host")


class ConfigError(Exception):
    """No configuration, or one that lacks something; args[0] says what."""


def _read(path):
    try:
        with open(path) as f:
            text = f.read()
        found = json.loads(text) if text.rstrip().endswith("}") else None  # MicroPython takes one that is cut short
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and all([found.get(key) for key in NEEDED]) else None


def load(path):
    """The configuration, or what lies beside it where a power cut hit its replacement."""
    for candidate in (path, path + ".new", path + ".old"):
        found = _read(candidate)
        if found:
            return dict(DEFAULTS, **found)
    raise ConfigError("no configuration with %s in %s" % (", ".join(NEEDED), path))


def save(path, text):
    """Replaces the configuration; the one before stays beside it. ConfigError, with nothing done, if it lacks a key."""
    with open(path + ".new", "w") as f:
        f.write(text)
    if not _read(path + ".new"):
        os.remove(path + ".new")
        raise ConfigError("lacks one of " + ", ".join(NEEDED))
    try:
        os.rename(path, path + ".old")
    except OSError:  # the first one
        pass
    os.rename(path + ".new", path)
