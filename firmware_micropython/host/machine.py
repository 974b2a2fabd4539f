"""Stand-in for a board's `machine`. run.py hangs simulated sensors on BENCH before the node is built."""

import time

BENCH = {}  # ("uart", id) or ("i2c", id, address) -> simulated sensor; ("rtc",) -> whether it is valid at power-on
PWRON_RESET = 1


class Pin:
    """Only a number."""

    def __init__(self, number, *args, **kwargs):
        self.number = number


class UART:
    """A line to the simulated sensor hung on it; never blocks."""

    def __init__(self, number, **kwargs):
        self._device = BENCH.get(("uart", number))

    def write(self, data):
        if self._device:
            self._device.write(data)
        return len(data)

    def read(self):
        return self._device.read() if self._device else None


class I2C:
    """A bus; an address where nothing hangs does not acknowledge."""

    def __init__(self, number, **kwargs):
        self._number = number

    def _device(self, address):
        device = BENCH.get(("i2c", self._number, address))
        if not device:
            raise OSError(19)
        return device

    def writeto(self, address, data):
        self._device(address).write(data)
        return len(data)

    def readfrom(self, address, n):
        return self._device(address).read(n)


class RTC:
    """Right from power-on, or garbage until it is set."""

    _offset = 0
    _set = False

    def datetime(self, value=None):
        if value is None:
            if not (BENCH.get(("rtc",)) or RTC._set):
                return (2000, 25, 40, 0, 0, 0, 0, 0)
            y, mo, d, h, mi, s = time.gmtime(int(time.time()) + RTC._offset)[:6]
            return (y, mo, d, 0, h, mi, s, 0)
        from lichen.clock import epoch

        RTC._offset = epoch(*value[:3], *value[4:7]) - int(time.time())
        RTC._set = True
        return None


class WDT:
    """A watchdog that only counts."""

    def __init__(self, id=0, timeout=5000):
        self.fed = 0

    def feed(self):
        self.fed += 1


def unique_id():
    return b"lichen01"


def reset():
    """Ends the process; a board starts again."""
    raise SystemExit(3)


def reset_cause():
    return PWRON_RESET
