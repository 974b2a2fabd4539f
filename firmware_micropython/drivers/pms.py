"""Plantower PMS5003 and PMS7003 on a UART, 9600 8N1: a pure parser of their bytes, and the sensor in passive mode.

The pattern of all drivers: a pure part that turns bytes into integers and counts what it refused, and a class with
PREFIX (whose counters count), TYPE, TIMEOUT_MS, STUCK_S, `channels` of (name, scale, unit), `bad` (frames refused) and
the methods below. None of them waits: the sampler asks with trigger() and looks with poll() until the time is up.
"""

import struct

from micropython import const

# Values of a frame in wire order: three masses CF=1, the same atmospheric (ug/m3), six counts (per 0.1 L).
NAMES = "pm1_cf1 pm25_cf1 pm10_cf1 pm1_atm pm25_atm pm10_atm n03 n05 n10 n25 n50 n100"  # one text, for RAM's sake
_PASSIVE = const(b"\x42\x4d\xe1\x00\x00\x01\x70")
_READ = const(b"\x42\x4d\xe2\x00\x00\x01\x71")
_SLEEP = const(b"\x42\x4d\xe4\x00\x00\x01\x73")
_WAKE = const(b"\x42\x4d\xe4\x00\x01\x01\x74")
_HEAD = const(b"\x42\x4d")
_DATA = const(28)  # length field of a data frame
_REPLY = const(4)  # of a command's reply, 8 bytes long; peers that do not know it report false checksum errors


class Parser:
    """Bytes in, frames out: data as a tuple of 12 integers, a command's reply as bytes (command, data)."""

    def __init__(self):
        self._buf = b""
        self.bad = 0  # candidates whose checksum failed

    def reset(self):
        """Forgets a frame begun."""
        self._buf = b""

    def feed(self, data):
        """Takes one byte (int) or many; returns the frames completed. On a failure it moves on by one byte only."""
        buf = self._buf + (bytes((data,)) if isinstance(data, int) else data)
        frames = []
        while True:
            start = buf.find(_HEAD)
            if start < 0:
                buf = buf[-1:] if buf[-1:] == b"\x42" else b""
                break
            if start:
                buf = buf[start:]
            if len(buf) < 4:
                break
            length = buf[2] << 8 | buf[3]
            if length != _DATA and length != _REPLY:
                buf = buf[1:]
                continue
            if len(buf) < length + 4:
                break
            if sum(buf[: length + 2]) == buf[length + 2] << 8 | buf[length + 3]:
                frames.append(struct.unpack(">12H", buf[4:28]) if length == _DATA else buf[4:6])
                buf = buf[length + 4 :]
            else:
                self.bad += 1
                buf = buf[1:]
        self._buf = buf
        return frames


class Pms:
    """One sensor, asked for a frame per sample. The UART must not block (timeout 0, the default)."""

    PREFIX = "pm"
    TIMEOUT_MS = 800
    STUCK_S = 1800  # without any of its numbers moving, in air that has particles
    WARMUP_S = 30  # after its fan starts (datasheet v2.3, as quoted in AirGradient's firmware-one-openair issue 382)

    def __init__(self, uart, channels, kind="PMS5003"):
        """`channels`: which of NAMES go out. `kind`: PMS5003 or PMS7003, which no frame tells apart."""
        self.TYPE = kind
        self._uart = uart
        self._pick = [NAMES.split().index(name) for name in channels]
        self._parser = Parser()
        # mass on the wire in 0.1 ug/m3, counts as they are
        self.channels = [(name, 10, "ug/m3") if name[0] == "p" else (name, 1, "1/dl") for name in channels]
        self.zero = False  # whether the last frame says what cannot be: no particles at all, or mass without any

    @property
    def bad(self):
        """Frames refused."""
        return self._parser.bad

    def start(self):
        """Puts the sensor into passive mode; it starts in active mode whenever it gets power."""
        self._uart.write(_PASSIVE)

    def sleep(self):
        """Stops fan and laser."""
        self._uart.write(_SLEEP)

    def wake(self):
        """Starts them; it wakes in active mode, and what it sends until the next start() is dropped."""
        self._uart.write(_WAKE)

    def trigger(self):
        """Asks for a frame; whatever came unasked is dropped."""
        self._uart.read()
        self._parser.reset()
        self._uart.write(_READ)

    def poll(self):
        """The values, None while they are not here, False for a sample that failed."""
        data = self._uart.read()
        if not data:
            return None
        bad = self._parser.bad
        for frame in self._parser.feed(data):
            if len(frame) == 12:
                self.zero = not any(frame) or (not frame[6] and any(frame[:6]))
                return [frame[i] for i in self._pick]
        return False if self._parser.bad != bad else None

    def give_up(self):
        """No answer in time: perhaps it lost power and is back in active mode."""
        self.start()

    def check(self):
        """Whether it is there: None, since it must be waited for; the first samples tell."""
        return None
