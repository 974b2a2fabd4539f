"""Stand-in for a board's `network`: a WLAN that joins at once."""

STA_IF = 0


class WLAN:
    """The host's own network is there already."""

    def __init__(self, interface):
        self._joined = False

    def active(self, on=None):
        return True

    def connect(self, ssid, password=None):
        self._joined = True

    def isconnected(self):
        return self._joined

    def status(self, what=None):
        return -50 if what == "rssi" else 3

    def ifconfig(self):
        return ("127.0.0.1", "255.0.0.0", "127.0.0.1", "127.0.0.1")
