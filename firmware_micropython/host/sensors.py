"""Simulated PMS5003 (bytes on a 9600 Bd line, commands and replies) and SHT31 (I2C, CRC), measuring a Signal.

A PMS reports whole ug/m3: the frame's integers are dithered, the error carried per channel from frame to frame, so that
means keep the signal's resolution.
"""

import struct
import time

from drivers.sht31 import crc8

# PM1 and PM10 are not among a recording's channels: they stay 0 rather than repeat PM2.5.
FRAME = ("", "cf1", "", "", "atm", "", "n03", "n05", "n10", "n25", "n50", "n100")
LATENCY_MS = 10
BYTES_PER_S = 960
ACTIVE_MS = 1000


def _checked(data):
    return data + struct.pack(">H", sum(data))


def _word(value):
    """A 16-bit word of Sensirion's with its checksum."""
    data = struct.pack(">H", value)
    return data + bytes((crc8(data),))


class PmsSim:
    """The sensor's end of the UART; `channel` a or b."""

    def __init__(self, signal, channel, faults=None):
        self._signal = signal
        self._faults = faults
        self._last = None  # the last frame, for one that is stuck
        self._awake = True
        self._at = signal.pick([name and name + "_" + channel for name in FRAME])
        self._carry = [0] * 12
        self._commands = b""
        self._out = b""
        self._due = time.ticks_ms()  # when the first byte of _out is there
        self._active = True
        self._next = time.ticks_add(time.ticks_ms(), ACTIVE_MS)

    def _frame(self):
        """One frame of the signal now, or None while the sensor is silent."""
        fault = self._faults.now() if self._faults else None
        row = self._signal.at(time.time())
        if not self._awake or fault == "silent" or row[self._at[1]] is None or row[self._at[4]] is None:
            return None
        if fault == "stuck" and self._last:
            return self._last
        values = []
        carry = self._carry
        for i, at in enumerate(self._at):
            value = (row[at] if at is not None else 0) or 0
            value += carry[i]
            carry[i] = value % 100
            values.append(0 if fault == "zero" else max(0, min(65535, value // 100)))
        self._last = _checked(b"\x42\x4d\x00\x1c" + struct.pack(">12H", *values) + b"\x97\x00")
        return self._faults.spoil(self._last) if fault == "noisy" else self._last

    def _send(self, data, delay):
        if not self._out:
            self._due = time.ticks_add(time.ticks_ms(), delay)
        self._out += data

    def write(self, data):
        """Commands from the kit."""
        self._commands += data
        while len(self._commands) >= 7:
            command, self._commands = self._commands[:7], self._commands[7:]
            if command == _checked(command[:5]) and command[:2] == b"\x42\x4d":
                self._obey(command[2], command[4])

    def _obey(self, command, data):
        delay = 7 * 1000 // BYTES_PER_S + LATENCY_MS
        if command == 0xE2 and not self._active:
            frame = self._frame()
            if frame:
                self._send(frame, delay)
        elif command == 0xE4:
            self._awake = bool(data)
            self._active = True
            self._out = b""
        elif command == 0xE1 and self._frame_wanted():
            self._active = bool(data)
            self._send(_checked(b"\x42\x4d\x00\x04\xe1" + bytes((data,))), delay)

    def _frame_wanted(self):
        row = self._signal.at(time.time())
        silent = self._faults and self._faults.now() == "silent"
        return self._awake and not silent and row[self._at[1]] is not None

    def read(self):
        """The bytes that have come by now, or None."""
        now = time.ticks_ms()
        if self._active and time.ticks_diff(now, self._next) >= 0:
            self._next = time.ticks_add(now, ACTIVE_MS)
            self._send(self._frame() or b"", 0)
        n = time.ticks_diff(now, self._due) * BYTES_PER_S // 1000 if self._out else 0
        if n <= 0:
            return None
        data, self._out = self._out[:n], self._out[n:]
        self._due = time.ticks_add(self._due, len(data) * 1000 // BYTES_PER_S)
        return data


class Sht31Sim:
    """The sensor's end of I2C: no acknowledgement while the signal has no value or a measurement runs."""

    MEASURE_MS = 15

    def __init__(self, signal, faults=None):
        self._signal = signal
        self._faults = faults
        self._last = None
        self._at = signal.pick(("temp", "rh"))
        self._data = None
        self._ready = 0

    def write(self, data):
        """A command."""
        fault = self._faults.now() if self._faults else None
        row = self._signal.at(time.time())
        temp, rh = row[self._at[0]], row[self._at[1]]
        if fault == "silent" or temp is None or rh is None:
            self._data = None
            raise OSError(19)
        if fault == "stuck" and self._last:
            temp, rh = self._last
        self._last = temp, rh
        if data == b"\xf3\x2d":
            self._data, self._ready = _word(0x8010), time.ticks_ms()
        elif data == b"\x24\x00":
            ticks = ((temp + 4500) * 131070 + 17500) // 35000, (rh * 131070 + 10000) // 20000
            self._data = b"".join([_word(max(0, min(65535, t))) for t in ticks])
            if fault == "noisy":
                self._data = self._faults.spoil(self._data)
            self._ready = time.ticks_add(time.ticks_ms(), self.MEASURE_MS)

    def read(self, n):
        """The measurement, once."""
        if self._data is None or time.ticks_diff(time.ticks_ms(), self._ready) < 0:
            raise OSError(19)
        data, self._data = self._data, None
        return data[:n]

    def there(self):
        """Whether it acknowledges its address."""
        row = self._signal.at(time.time())
        return not (self._faults and self._faults.now() == "silent") and row[self._at[0]] is not None
