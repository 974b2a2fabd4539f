"""Bosch BME280 on I2C: Bosch's compensation in integers, pure, and forced measurements.

Registers, measurement time and compensation follow BST-BME280-DS002, sections 4 and 5; its worked example (25.08 degC,
100653 Pa) is a test. The chip has no checksums: what it marks as skipped and what cannot be is refused.
"""

import struct

from micropython import const

ID = const(0x60)
FORCED = const(b"\xf4\x25")  # temperature and pressure once each, forced mode; ready after 9.3 ms at most
_HUMIDITY = const(b"\xf2\x01")  # humidity once; takes effect with the next write to 0xF4
_RESET = const(b"\xe0\xb6")


class Calibration:
    """The chip's own constants: 26 bytes from 0x88 and 7 from 0xE1."""

    def __init__(self, low, high):
        self.t = struct.unpack("<Hhh", low[:6])
        self.p = struct.unpack("<Hhhhhhhhh", low[6:24])
        h2, h3 = struct.unpack("<hB", high[:3])
        e4, e5, e6, h6 = struct.unpack("<bBbb", high[3:7])
        self.h = low[25], h2, h3, e4 * 16 + (e5 & 15), e6 * 16 + (e5 >> 4), h6

    def plausible(self):
        """Whether it can be a chip's: a bus that reads all zeros or ones gives another."""
        return self.t[0] not in (0, 65535) and self.p[0] not in (0, 65535)

    def fine(self, adc):
        """Temperature in Bosch's fine units."""
        t1, t2, t3 = self.t
        d = (adc >> 4) - t1
        return ((((adc >> 3) - (t1 << 1)) * t2) >> 11) + ((((d * d) >> 12) * t3) >> 14)

    def pressure(self, adc, fine):
        """Pa, rounded half up, or None."""
        p1, p2, p3, p4, p5, p6, p7, p8, p9 = self.p
        a = fine - 128000
        b = a * a * p6 + ((a * p5) << 17) + (p4 << 35)
        a = ((a * a * p3) >> 8) + ((a * p2) << 12)
        a = (((1 << 47) + a) * p1) >> 33
        if a <= 0:
            return None
        p = (((1048576 - adc) << 31) - b) * 3125 // a
        c = (p9 * (p >> 13) * (p >> 13)) >> 25
        return (((p + c + ((p8 * p) >> 19)) >> 8) + (p7 << 4) + 128) >> 8

    def humidity(self, adc, fine):
        """0.01 %."""
        h1, h2, h3, h4, h5, h6 = self.h
        v = fine - 76800
        scale = ((((((v * h6) >> 10) * (((v * h3) >> 11) + 32768)) >> 10) + 2097152) * h2 + 8192) >> 14
        v = (((adc << 14) - (h4 << 20) - h5 * v + 16384) >> 15) * scale
        v -= ((((v >> 15) * (v >> 15)) >> 7) * h1) >> 4
        return (max(0, min(419430400, v)) * 100 + 2097152) >> 22


def decode(calibration, data):
    """The eight bytes from 0xF7 as (0.01 degC, 0.01 %, Pa), or None where one is skipped or out of the chip's range."""
    p = data[0] << 12 | data[1] << 4 | data[2] >> 4
    t = data[3] << 12 | data[4] << 4 | data[5] >> 4
    h = data[6] << 8 | data[7]
    if p == 0x80000 or t == 0x80000 or h == 0x8000:
        return None
    fine = calibration.fine(t)
    temp = (fine * 5 + 128) >> 8
    pressure = calibration.pressure(p, fine)
    if not -4000 <= temp <= 8500 or pressure is None or not 30000 <= pressure <= 110000:
        return None
    return temp, calibration.humidity(h, fine), pressure


class Bme280:
    """One BME280, outside the particle sensors' enclosure."""

    PREFIX = "env"
    TYPE = "BME280"
    TIMEOUT_MS = 200
    STUCK_S = 3600
    WARMUP_S = 0
    channels = [("temp_amb", 1, "degC"), ("rh_amb", 1, "percent"), ("pressure", 1, "Pa")]
    zero = False

    def __init__(self, i2c, address=0x76):
        self._i2c = i2c
        self._address = address
        self._calibration = None
        self._asked = False
        self.bad = 0

    def start(self):
        """Reads the chip's constants; without them nothing can be said, so it is tried again at each sample."""
        self._calibration = None
        try:
            if self._i2c.readfrom_mem(self._address, 0xD0, 1)[0] != ID:
                return
            low = self._i2c.readfrom_mem(self._address, 0x88, 26)
            high = self._i2c.readfrom_mem(self._address, 0xE1, 7)
        except OSError:
            return
        calibration = Calibration(low, high)
        if calibration.plausible():
            self._calibration = calibration
        else:
            self.bad += 1

    def sleep(self):
        """It sleeps after each forced measurement."""

    wake = sleep

    def trigger(self):
        """Starts a measurement."""
        if not self._calibration:
            self.start()
        self._asked = False
        try:
            self._i2c.writeto(self._address, _HUMIDITY)
            self._i2c.writeto(self._address, FORCED)
            self._asked = True
        except OSError:
            pass

    def poll(self):
        """The values, None while they are not here, False for a sample that failed."""
        if not self._asked or not self._calibration:
            return False
        try:
            if self._i2c.readfrom_mem(self._address, 0xF3, 1)[0] & 8:
                return None
            data = self._i2c.readfrom_mem(self._address, 0xF7, 8)
        except OSError:
            return None
        values = decode(self._calibration, data)
        if not values:
            self.bad += 1
        return values or False

    def give_up(self):
        """Perhaps it lost power, or hangs: reset, and read everything anew."""
        self._calibration = None
        try:
            self._i2c.writeto(self._address, _RESET)
        except OSError:
            pass

    def check(self):
        """Whether it says that it is one, and its constants can be."""
        self.start()
        return self._calibration is not None
