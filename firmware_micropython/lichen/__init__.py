"""The node of a Lichen kit: sampler -> ring -> publisher."""

import sys

VERSION = "0.1.0"
BUILD = 1767225600  # 2026-01-01: no clock of a kit with this firmware can rightly be earlier


def forget(*modules):
    """Gives back the heap of modules that only a start needs; whoever imports one again has it again."""
    for name in modules:
        package, _, attribute = name.rpartition(".")
        if sys.modules.pop(name, None) and package:
            delattr(sys.modules[package], attribute)
