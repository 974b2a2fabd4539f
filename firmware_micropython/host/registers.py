"""Simulated BME280 and ADS1115 with an NO2 cell, as register machines; they measure around the Signal's climate."""

import struct
import time

from drivers import bme280

# Bosch's worked example (BST-BME280-DS002 4.2.3 is for this family): constants of a chip.
LOW = struct.pack(
    "<HhhHhhhhhhhhBB", 27504, 26435, -1000, 36477, -10685, 3024, 2855, 140, -7, 15500, -14600, 6000, 0, 75
)
HIGH = struct.pack("<hBbBbb", 362, 0, 20, 0x4, 3, 30)
MEASURE_MS = 9
CONVERT_MS = 125


def _search(value, of):
    """The 20-bit reading for which the rising function gives that value."""
    low, high = 0, 1 << 20
    while low < high:
        middle = (low + high) // 2
        if of(middle) < value:
            low = middle + 1
        else:
            high = middle
    return low


class Bme280Sim:
    """Two degrees colder and a little drier than inside the enclosure, at 101 325 Pa and what the hour adds."""

    def __init__(self, signal, faults=None):
        self._signal = signal
        self._faults = faults
        self._at = signal.pick(("temp", "rh"))
        self._calibration = bme280.Calibration(LOW, HIGH)
        self._data = b"\x80\x00\x00\x80\x00\x00\x80\x00"
        self._ready = time.ticks_ms()

    def there(self):
        return not (self._faults and self._faults.now() == "silent")

    def _acknowledge(self):
        if not self.there():
            raise OSError(19)

    def write(self, data):
        self._acknowledge()
        if data != bme280.FORCED:
            return
        self._ready = time.ticks_add(time.ticks_ms(), MEASURE_MS)
        if self._faults and self._faults.now() == "stuck":
            return
        row = self._signal.at(time.time())
        temp, rh = (row[self._at[0]] or 0) - 200, max(0, (row[self._at[1]] or 0) - 100)
        pressure = 101325 + int(time.time()) // 3600 % 24
        c = self._calibration
        t = _search(temp, lambda adc: (c.fine(adc) * 5 + 128) >> 8)
        fine = c.fine(t)
        p = _search(-pressure, lambda adc: -(c.pressure(adc, fine) or 0))
        h = min(65535, _search(rh, lambda adc: c.humidity(adc, fine)))
        self._data = bytes((p >> 12, p >> 4 & 255, p << 4 & 255, t >> 12, t >> 4 & 255, t << 4 & 255, h >> 8, h & 255))

    def read_register(self, register, n):
        self._acknowledge()
        if register == 0xD0:
            return bytes((bme280.ID,))
        if register == 0x88:
            return LOW
        if register == 0xE1:
            return HIGH
        if register == 0xF3:
            return bytes((8 if time.ticks_diff(time.ticks_ms(), self._ready) < 0 else 0,))
        return self._data


class Ads1115Sim:
    """WE 40 mV above AE, both with a slow drift; the conversion register changes when a conversion ends."""

    def __init__(self, signal, faults=None):
        self._faults = faults
        self._config = 0x8583
        self._value = 0
        self._ready = time.ticks_ms()
        self._n = 0

    def there(self):
        return not (self._faults and self._faults.now() == "silent")

    def write(self, data):
        if not self.there():
            raise OSError(19)
        if data[0] == 1 and len(data) == 3:
            self._config = data[1] << 8 | data[2]
            self._ready = time.ticks_add(time.ticks_ms(), CONVERT_MS)
            fault = self._faults.now() if self._faults else None
            if fault != "stuck":
                self._n += 1
            auxiliary = self._config >> 12 & 7 == 5
            uv = (231000 if auxiliary else 271000) + self._n * 7919 % 400 + int(time.time()) % 86400 // 100
            self._value = 0 if fault == "zero" else 32767 if fault == "noisy" else uv * 4 // 125

    def read_register(self, register, n):
        if not self.there():
            raise OSError(19)
        done = time.ticks_diff(time.ticks_ms(), self._ready) >= 0
        value = self._value if register == 0 else (self._config | 0x8000 if done else self._config & 0x7FFF)
        return bytes((value >> 8 & 255, value & 255))
