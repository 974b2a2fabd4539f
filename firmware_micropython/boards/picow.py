"""Raspberry Pi Pico W: what is wired where. Not run on a real board.

GP23, GP24, GP25 and GP29 belong to its radio; UART 0 is free because the console is on USB.
"""

NAME = "picow"
PERIOD_S = 5
# signal, pin (GP number), device, device pin
PINS = (
    ("pms_a_tx", 0, "PMS5003 A", "RXD"),
    ("pms_a_rx", 1, "PMS5003 A", "TXD"),
    ("pms_b_tx", 4, "PMS5003 B", "RXD"),
    ("pms_b_rx", 5, "PMS5003 B", "TXD"),
    ("i2c_sda", 8, "SHT31", "SDA"),
    ("i2c_scl", 9, "SHT31", "SCL"),
)
UARTS = (("a", 0, "pms_a_tx", "pms_a_rx"), ("b", 1, "pms_b_tx", "pms_b_rx"))  # channel, id, signals
I2C = (0, "i2c_sda", "i2c_scl")
SHT31_ADDRESS = 0x44
