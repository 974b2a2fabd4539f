"""Sensirion SHT31 on I2C: a pure decoder of its six bytes, and single-shot measurements without clock stretching."""

from micropython import const

_SINGLE_SHOT = const(b"\x24\x00")  # high repeatability; ready after 15.5 ms at most
_STATUS = const(b"\xf3\x2d")


def crc8(data):
    """Sensirion's CRC-8: polynomial 0x31, start 0xFF, not reflected."""
    crc = 0xFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1) ^ 0x31 if crc & 0x80 else crc << 1
        crc &= 0xFF
    return crc


def decode(buf):
    """Six bytes as (0.01 degC, 0.01 %), rounded half up, or None if a checksum fails."""
    if len(buf) != 6 or crc8(buf[0:2]) != buf[2] or crc8(buf[3:5]) != buf[5]:
        return None
    t = buf[0] << 8 | buf[1]
    rh = buf[3] << 8 | buf[4]
    return (35000 * t + 65535) // 131070 - 4500, (20000 * rh + 65535) // 131070


class Sht31:
    """One SHT31, by default at address 0x44."""

    PREFIX = "env"
    TYPE = "SHT31"
    TIMEOUT_MS = 200
    STUCK_S = 3600  # noise moves the last bit of either value far sooner
    WARMUP_S = 0
    channels = [("temp", 1, "degC"), ("rh", 1, "percent")]  # scale 1: already in 0.01
    zero = False

    def __init__(self, i2c, address=0x44):
        self._i2c = i2c
        self._address = address
        self._asked = False
        self.bad = 0

    def start(self):
        """Nothing to prepare."""

    def sleep(self):
        """It sleeps between single shots."""

    wake = sleep

    def trigger(self):
        """Starts a measurement; an absent sensor does not acknowledge."""
        self._asked = False
        try:
            self._i2c.writeto(self._address, _SINGLE_SHOT)
            self._asked = True
        except OSError:
            pass

    def poll(self):
        """The values, None while they are not here, False for a sample that failed."""
        if not self._asked:
            return False
        try:
            buf = self._i2c.readfrom(self._address, 6)
        except OSError:  # not acknowledged: still measuring, or gone
            return None
        values = decode(buf)
        if not values:
            self.bad += 1
        return values or False

    def give_up(self):
        """The next trigger starts afresh."""

    def check(self):
        """Whether its status register answers with a right checksum."""
        try:
            self._i2c.writeto(self._address, _STATUS)
            buf = self._i2c.readfrom(self._address, 3)
        except OSError:
            return False
        return crc8(buf[:2]) == buf[2]
