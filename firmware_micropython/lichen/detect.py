"""Which sensors hang here: those the board file names, whether they answer or not, and those found on the I2C bus.

A sensor that is wired must stay in the rows when it is slow or dead, so the board's table is never shortened; what the
scan finds besides is added. Drivers are imported only for what is used.
"""

from machine import I2C, UART, Pin

from lichen.meter import Meter

# Addresses that a base or NO2 kit can have: module, class.
KNOWN = {
    0x44: ("sht31", "Sht31"), 0x45: ("sht31", "Sht31"),
    0x76: ("bme280", "Bme280"), 0x77: ("bme280", "Bme280"),
    0x48: ("ads1115", "No2B43f"), 0x49: ("ads1115", "No2B43f"), 0x4A: ("ads1115", "No2B43f"),
    0x4B: ("ads1115", "No2B43f"),
}  # fmt: skip


def bus(board):
    """The board's I2C bus."""
    pins = {signal: pin for signal, pin, _, _ in board.PINS}
    number, sda, scl = board.I2C
    return I2C(number, sda=Pin(pins[sda]), scl=Pin(pins[scl]), freq=100_000, timeout=50_000)


def _scan(i2c):
    try:
        return i2c.scan()
    except OSError:  # a line held low
        return []


def _uarts(board, pm_channels):
    from drivers.pms import Pms

    pins = {signal: pin for signal, pin, _, _ in board.PINS}
    for channel, number, tx, rx in board.UARTS:
        # 1024: a stalled loop must not lose bytes to the default of 256
        port = UART(number, baudrate=9600, tx=Pin(pins[tx]), rx=Pin(pins[rx]), rxbuf=1024)
        sensor = Pms(port, pm_channels, getattr(board, "PM_KIND", "PMS5003"))
        yield Meter(sensor, "pms_" + channel, "" if channel == "a" else "_b", getattr(board, "PMS_WARMUP_S", None))


def find(board, pm_channels):
    """(meters, report): the report has a line for each address and port, wired or found."""
    i2c = bus(board)
    found = _scan(i2c)
    meters = list(_uarts(board, pm_channels))
    report = ["uart %d: %s wired, answers with its first sample" % (u[1], "pms_" + u[0]) for u in board.UARTS]
    wired = (board.SHT31_ADDRESS,)
    taken = set()
    for address in list(wired) + [a for a in sorted(found) if a not in wired]:
        if address not in KNOWN:
            report.append("i2c 0x%02x: unknown, not used" % address)
            continue
        module, name = KNOWN[address]
        if module in taken:
            report.append("i2c 0x%02x: a second %s, not used" % (address, module))
            continue
        sensor = getattr(getattr(__import__("drivers." + module), module), name)(i2c, address)
        there = address in found and sensor.check()
        if not there and address not in wired:
            report.append("i2c 0x%02x: answers, but not as a %s, not used" % (address, module))
            continue
        taken.add(module)
        # the second meter of a kind counts by itself; its channels have names of their own
        first = not any([m.sensor.PREFIX == sensor.PREFIX for m in meters])
        meters.append(Meter(sensor, module, "", None, "" if first else "_b"))
        where = "wired" if address in wired else "found"
        report.append("i2c 0x%02x: %s %s, %s" % (address, module, where, "answers" if there else "does not answer"))
    return meters, report
