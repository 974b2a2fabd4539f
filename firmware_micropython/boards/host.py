"""The simulated board of host/: the same parts at numbers of its own."""

NAME = "host"
PERIOD_S = 5
# signal, pin, device, device pin
PINS = (
    ("pms_a_tx", 1, "PMS5003 A", "RXD"),
    ("pms_a_rx", 2, "PMS5003 A", "TXD"),
    ("pms_b_tx", 3, "PMS5003 B", "RXD"),
    ("pms_b_rx", 4, "PMS5003 B", "TXD"),
    ("i2c_sda", 5, "SHT31", "SDA"),
    ("i2c_scl", 6, "SHT31", "SCL"),
)
UARTS = (("a", 1, "pms_a_tx", "pms_a_rx"), ("b", 2, "pms_b_tx", "pms_b_rx"))  # channel, id, signals
I2C = (0, "i2c_sda", "i2c_scl")
SHT31_ADDRESS = 0x44
PMS_WARMUP_S = 0  # the simulated sensors give the signal from the first second
