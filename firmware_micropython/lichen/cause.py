"""Why the kit started, in a word of the wire."""

import machine
from micropython import const

_CAUSES = const((
    ("PWRON_RESET", "power"), ("BROWNOUT_RESET", "brownout"), ("WDT_RESET", "watchdog"), ("SOFT_RESET", "soft"),
    ("DEEPSLEEP_RESET", "sleep"), ("HARD_RESET", "other"),
))  # fmt: skip


def reset_cause():
    """The word. Ports that do not tell brown-outs apart have no constant for them."""
    cause = machine.reset_cause()
    for name, word in _CAUSES:
        if getattr(machine, name, None) == cause:
            return word
    return "other"
