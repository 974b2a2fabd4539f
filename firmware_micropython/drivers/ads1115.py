"""Alphasense NO2-B43F on its ISB, read by a TI ADS1115: both electrodes in microvolts. Gas is computed by the gateway.

ADS1115: SBAS444D, tables 6 to 8. 8 samples a second (it rejects 50 and 60 Hz), +-1.024 V: 31.25 uV, 0.12 ppb at the
0.26 mV/ppb that is usual for this cell. WE lies on A0, AE on A1, against ground.
"""

from micropython import const

_WE = const(b"\x01\xc7\x03")  # config: start, A0 against ground, +-1.024 V, single, 8 SPS, comparator off
_AE = const(b"\x01\xd7\x03")  # the same for A1
_PAIRS = const(2)  # per sample: 24 in a minute's row
_CONVERSION_MS = const(138)  # 125 ms, and its clock may be 10 % slow


def microvolts(data):
    """Two bytes of the conversion register in units of 1/4 uV; None at either end of the range, where it saturates."""
    raw = data[0] << 8 | data[1]
    raw -= (raw & 0x8000) << 1
    return None if raw in (32767, -32768) else raw * 125


class No2B43f:
    """WE and AE in turn, a few times a sample. The cell is never switched off: it would take hours to settle."""

    PREFIX = "gas"
    TYPE = "NO2-B43F"
    TIMEOUT_MS = 2 * _PAIRS * (_CONVERSION_MS + 60) + 200
    STUCK_S = 1800  # at this resolution noise moves both
    WARMUP_S = 7200  # hours until it settles after power-on (Alphasense's application notes; unverified)
    channels = [("no2_we", 1, "uV"), ("no2_ae", 1, "uV")]

    def __init__(self, i2c, address=0x48):
        self._i2c = i2c
        self._address = address
        self._step = -1
        self._sums = [0, 0]
        self.bad = 0
        self.zero = False  # whether the last pair shows no cell: an ISB's electrodes lie above 100 mV

    def start(self):
        """Nothing to prepare."""

    def sleep(self):
        """The converter sleeps between conversions; the cell stays on."""

    wake = sleep

    def trigger(self):
        """Starts the first conversion."""
        self._sums = [0, 0]
        self._step = 0
        self._convert()

    def _convert(self):
        try:
            self._i2c.writeto(self._address, _AE if self._step & 1 else _WE)
        except OSError:
            self._step = -1

    def poll(self):
        """The means, None while they are not here, False for a sample that failed."""
        if self._step < 0:
            return False
        try:
            if not self._i2c.readfrom_mem(self._address, 1, 2)[0] & 0x80:
                return None
            value = microvolts(self._i2c.readfrom_mem(self._address, 0, 2))
        except OSError:
            return None
        if value is None:
            self.bad += 1
            return False
        self._sums[self._step & 1] += value
        self._step += 1
        if self._step < 2 * _PAIRS:
            self._convert()
            return None
        values = [(s + 2 * _PAIRS) // (4 * _PAIRS) for s in self._sums]
        self.zero = values[0] < 20000 and values[1] < 20000
        return values

    def give_up(self):
        """A dead bus; the next trigger starts afresh."""
        self._step = -1

    def check(self):
        """Whether the config register answers as one does: the comparator's bits read back as they are set."""
        try:
            self._i2c.writeto(self._address, _WE)
            return self._i2c.readfrom_mem(self._address, 1, 2)[1] == 0x03
        except OSError:
            return False
