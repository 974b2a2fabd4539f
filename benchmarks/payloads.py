"""The same readings as messages: batches of our wire format for the gateway, arrays of objects for Telegraf.

A reading has six values; with boot, seq and time_error_s (for Telegraf: up) a line in InfluxDB has nine fields. Both
get the same integers, also where Telegraf would be sent 8.3 for our 83: shorter text is to its advantage.
"""

import random
from collections.abc import Iterator

COLUMNS = ("seq", "up", "t", "q", "dt", "pm_n", "pm_bad", "pm25_cf1", "pm25_atm", "temp", "rh")
STEP_S = 60
BASE = "lichen/v1"

_HEAD = '{"v":1,"boot":%d,"first":0,"cols":[' + ",".join(f'"{name}"' for name in COLUMNS) + '],"rows":['
_ROW = "[%d,%d,%d,2,60,12,0,%d,%d,%d,%d]"
_OBJECT = '{"t":%d,"boot":%d,"seq":%d,"up":%d,"pm_n":12,"pm_bad":0,"pm25_cf1":%d,"pm25_atm":%d,"temp":%d,"rh":%d}'


def kit_name(number):
    return f"kit-{number:04}"


def boot_of(number):
    return 3_000_000_000 + number


def rows(number, first, count, start_s):
    """Return rows of a kit, a minute apart: (seq, up, t, pm25_cf1, pm25_atm, temp, rh) as the wire scales them."""
    chance = random.Random(number << 32 | first)
    found = []
    for seq in range(first, first + count):
        pm = chance.randint(20, 600)
        at = (seq + 1) * STEP_S
        found.append((seq, 40 + at, start_s + at, pm, pm - 7, 2100 + pm % 300, 4500 + seq % 900))
    return found


def wire(number, some):
    """Return a batch of our wire."""
    return (_HEAD % boot_of(number) + ",".join([_ROW % row for row in some]) + "]}").encode()


def objects(number, some):
    """Return an array of objects, or one object for one row."""
    boot = boot_of(number)
    texts = [_OBJECT % (t, boot, seq, up, cf1, atm, temp, rh) for seq, up, t, cf1, atm, temp, rh in some]
    return (texts[0] if len(texts) == 1 else "[" + ",".join(texts) + "]").encode()


def messages(shape, total, kits, start_s, payload) -> Iterator[tuple[str, bytes]]:
    """Yield topics and payloads, each kit in turn, oldest first, as kits send after an outage."""
    kind = "obs" if shape == 1 else "backlog"
    each = total // kits
    for first in range(0, each, shape):
        for number in range(kits):
            some = rows(number, first, min(shape, each - first), start_s)
            yield f"{BASE}/{kit_name(number)}/{kind}", payload(number, some)
