"""One file of the ring: a header that describes itself, then records of one size, each with its CRC-32.

Header: magic, boot, first seq, length of what follows; names of the columns and struct codes, CRC-32. Record: the row
without its seq, packed, and the CRC-32 over seq and row: a record in the wrong place is as bad as a torn one.
"""

import struct
from binascii import crc32

MAGIC = b"LRG2"
HEAD = "<4sIIH"
# Struct codes of what does not need 32 bits with a sign. Null is the code's extreme value.
_CODES = {"up": "I", "t": "I", "q": "B", "dt": "I", "temp": "h", "rh": "h"}


def _null(code):
    """The value that means null: the lowest of a code with a sign, else the highest."""
    bits = 8 * struct.calcsize(code)
    return -(1 << bits - 1) if code in "ih" else (1 << bits) - 1


def codes(columns):
    """Struct codes of a row's values behind its seq."""
    out = ""
    for name in columns[1:]:
        base = name[:-2] if name.endswith("_b") else name
        out += "H" if base.endswith(("_n", "_bad")) else _CODES.get(base[:4] if base[:4] == "temp" else base, "i")
    return out


class Layout:
    """How rows of these columns lie in a file; one serves all segments that have them."""

    def __init__(self, columns, fmt=None):
        self.columns = columns
        self.codes = fmt or codes(columns)
        self._fmt = "<" + self.codes
        self.size = struct.calcsize(self._fmt) + 4
        self.start = len(self.head(0, 0))

    def head(self, boot, first):
        """The header's bytes."""
        text = (",".join(self.columns) + "|" + self.codes).encode()
        data = struct.pack(HEAD, MAGIC, boot, first, len(text)) + text
        return data + struct.pack("<I", crc32(data))

    def pack(self, row):
        """A record; a value that its code cannot hold becomes the nearest that it can."""
        values = []
        for i, code in enumerate(self.codes):
            v = row[i + 1]
            null = _null(code)
            low, high = (null + 1, -null - 1) if null < 0 else (0, null - 1)
            values.append(null if v is None else max(low, min(high, v)))
        body = struct.pack(self._fmt, *values)
        return body + struct.pack("<I", crc32(body, row[0]))

    def unpack(self, record, seq):
        """The row, or None if the record is torn, rotten or not the one expected here."""
        if len(record) != self.size or struct.unpack("<I", record[-4:])[0] != crc32(record[:-4], seq):
            return None
        row = [seq]
        for code, v in zip(self.codes, struct.unpack(self._fmt, record[:-4])):
            row.append(None if v == _null(code) else v)
        return row


class Segment:
    """Index entry of one file, `part` of those of a boot, the kit's start `number`. A full ring has dozens of them, so
    they hold little.
    """

    rotten = ()  # seqs whose record does not hold, as far as they were read

    def __init__(self, layout, number, boot, part, first):
        self.layout = layout
        self._number = number
        self.boot = boot
        self.part = part
        self.first = first
        self.count = 0

    @property
    def name(self):
        """The file's."""
        return "%08x-%08x-%04x.seg" % (self._number, self.boot, self.part)

    def last(self):
        """Seq of the last record."""
        return self.first + self.count - 1

    def at(self, seq):
        """Where that record begins."""
        return self.layout.start + (seq - self.first) * self.layout.size
