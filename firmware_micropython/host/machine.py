"""Stand-in for a board's `machine`. run.py hangs simulated sensors on BENCH before the node is built."""

import time

BENCH = {}  # ("uart", id) or ("i2c", id, address) -> simulated sensor; ("rtc",) -> whether it is valid at power-on
PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5
BROWNOUT_RESET = 6
cause = PWRON_RESET  # set by run.py before the node is built
watchdogs = []  # those started


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

    def readfrom_mem(self, address, register, n):
        return self._device(address).read_register(register, n)

    def scan(self):
        return sorted([key[2] for key in BENCH if key[:2] == ("i2c", self._number) and BENCH[key].there()])


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
    """A watchdog that bites only where `bite` says so."""

    def __init__(self, id=0, timeout=5000):
        self.timeout = timeout
        self.fed = 0
        self.fed_ms = time.ticks_ms()
        watchdogs.append(self)

    def feed(self):
        self.fed += 1
        self.fed_ms = time.ticks_ms()


def lightsleep(ms):
    time.sleep_ms(ms)


def unique_id():
    return b"lichen01"


def reset():
    """Ends the process; a board starts again."""
    raise SystemExit(3)


def reset_cause():
    return cause
