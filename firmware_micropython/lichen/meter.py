"""A sensor's samples within an interval, and how it fares: warming, ok, zero, stuck, noisy, silent or absent."""

from micropython import const

_SILENT_AFTER = const(12)  # samples due without an answer
_NOISY_PERMILLE = const(100)  # of the last 64 answers or so refused
_ZERO_S = const(600)


def mean(total, scale, n):
    """total * scale / n rounded half up, for negative totals too; None without samples."""
    return (2 * total * scale + n) // (2 * n) if n else None


class Meter:
    """`suffix`: "_b" for the second sensor of a kind; `counters`: the same where only its counters need it."""

    def __init__(self, sensor, name="", suffix="", warmup_s=None, counters=None):
        self.sensor = sensor
        self.name = name
        self.suffix = suffix
        self._counters = suffix if counters is None else counters
        self.warmup_s = sensor.WARMUP_S if warmup_s is None else warmup_s
        self.ready_up = self.warmup_s  # samples before this uptime are not to be trusted: they count as bad
        self._answered = False  # ever
        self._missed = 0  # samples due without an answer, in a row
        self._noise = 0  # permille of refused answers, decaying
        self._refused = sensor.bad
        self._values = None
        self._same_since = self._zero_since = None
        self._up = 0
        self._clear()

    def columns(self):
        """Names of what take() returns."""
        p = self.sensor.PREFIX
        names = [p + "_n" + self._counters, p + "_bad" + self._counters]
        return names + [c[0] + self.suffix for c in self.sensor.channels]

    def _clear(self):
        self.n = self.bad = 0
        self._sums = [0] * len(self.sensor.channels)

    def add(self, values, up):
        """What came of a sample at that uptime: values, False where they were refused, None where nothing came."""
        self._up = up
        self._watch(values, up)
        if not values or up < self.ready_up:
            self.bad += 1
            return
        self.n += 1
        sums = self._sums
        for i, value in enumerate(values):
            sums[i] += value

    def take(self):
        """Counts and means of the interval, which ends here."""
        out = [self.n, self.bad] + [mean(s, c[1], self.n) for s, c in zip(self._sums, self.sensor.channels)]
        self._clear()
        return out

    def _watch(self, values, up):
        refused = self.sensor.bad != self._refused
        self._refused = self.sensor.bad
        if values or refused:
            self._answered = True
            self._missed = 0
            self._noise += ((1000 if refused else 0) - self._noise) // 64 + (1 if refused else 0)
        else:
            self._missed += 1
            return
        if not values:
            return
        if values != self._values:
            self._values = values
            self._same_since = up
        if not self.sensor.zero:
            self._zero_since = None
        elif self._zero_since is None:
            self._zero_since = up

    def state(self):
        """A word, as `diag` says it."""
        if self._missed >= _SILENT_AFTER:
            return "silent" if self._answered else "absent"
        if self._noise >= _NOISY_PERMILLE:
            return "noisy"
        if self._zero_since is not None and self._up - self._zero_since >= _ZERO_S:
            return "zero"
        if self._same_since is not None and self._up - self._same_since >= self.sensor.STUCK_S:
            return "stuck"
        return "warming" if self._up < self.ready_up else "ok"
