"""ESP32-S3-DevKitC-1: what is wired where. Not run on a real board.

Clear of strapping pins (0, 3, 45, 46), USB (19, 20), flash and PSRAM (26-37), console (43, 44) and JTAG (39-42).
"""

NAME = "esp32s3"
PERIOD_S = 5
# signal, pin, device, device pin
PINS = (
    ("pms_a_tx", 17, "PMS5003 A", "RXD"),
    ("pms_a_rx", 18, "PMS5003 A", "TXD"),
    ("pms_b_tx", 15, "PMS5003 B", "RXD"),
    ("pms_b_rx", 16, "PMS5003 B", "TXD"),
    ("i2c_sda", 8, "SHT31", "SDA"),
    ("i2c_scl", 9, "SHT31", "SCL"),
)
UARTS = (("a", 1, "pms_a_tx", "pms_a_rx"), ("b", 2, "pms_b_tx", "pms_b_rx"))  # channel, id, signals
I2C = (0, "i2c_sda", "i2c_scl")
SHT31_ADDRESS = 0x44
