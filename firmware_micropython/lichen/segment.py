"""One file of the ring: a header that describes itself, then records of one size, each with its CRC-32.

Header: magic, boot, first seq, length of what follows; names of the columns and struct codes, CRC-32. Record: the row
without its seq, packed, and the CRC-32 over seq and row: a record in the wrong place is as bad as a torn one.
"""

import struct
from binascii import crc32

MAGIC = b"LRG2"
_HEAD = "<4sIIH"
_HEAD_SIZE = 14
# Struct codes of what does not need 32 bits with a sign. Null is the code's extreme value.
_CODES = {"up": "I", "t": "I", "q": "B", "dt": "I", "temp": "h", "rh": "h"}
_LOW = {"i": -(1 << 31), "h": -(1 << 15), "I": 0, "H": 0, "B": 0}
_NULL = {"i": -(1 << 31), "h": -(1 << 15), "I": (1 << 32) - 1, "H": 65535, "B": 255}
_HIGH = {"i": (1 << 31) - 1, "h": (1 << 15) - 1, "I": (1 << 32) - 2, "H": 65534, "B": 254}


def codes(columns):
    """Struct codes of a row's values behind its seq."""
    out = ""
    for name in columns[1:]:
        base = name[:-2] if name.endswith("_b") else name
        out += "H" if base.endswith(("_n", "_bad")) else _CODES.get(base[:4] if base[:4] == "temp" else base, "i")
    return out


class Segment:
    """Index entry of one file; `rotten` lists the seqs whose record does not hold, as far as they were read."""

    def __init__(self, name, boot, first, columns, fmt=None):
        self.name = name
        self.boot = boot
        self.first = first
        self.columns = columns
        self.codes = fmt or codes(columns)
        self._fmt = "<" + self.codes
        self.size = struct.calcsize(self._fmt) + 4
        self.count = 0
        self.rotten = []
        self.start = len(self.head())

    def last(self):
        """Seq of the last record."""
        return self.first + self.count - 1

    def head(self):
        """The header's bytes."""
        text = (",".join(self.columns) + "|" + self.codes).encode()
        data = struct.pack(_HEAD, MAGIC, self.boot, self.first, len(text)) + text
        return data + struct.pack("<I", crc32(data))

    def pack(self, row):
        """A record; a value that its code cannot hold becomes the nearest that it can."""
        values = []
        for i, code in enumerate(self.codes):
            v = row[i + 1]
            low, null = _LOW[code], _NULL[code]
            if v is None:
                v = null
            else:
                v = max(low + (low == null), min(_HIGH[code], v))
            values.append(v)
        body = struct.pack(self._fmt, *values)
        return body + struct.pack("<I", crc32(body, row[0]))

    def unpack(self, record, seq):
        """The row, or None if the record is torn, rotten or not the one expected here."""
        if len(record) != self.size or struct.unpack("<I", record[-4:])[0] != crc32(record[:-4], seq):
            return None
        row = [seq]
        for code, v in zip(self.codes, struct.unpack(self._fmt, record[:-4])):
            row.append(None if v == _NULL[code] else v)
        return row

    def at(self, seq):
        """Where that record begins."""
        return self.start + (seq - self.first) * self.size


def load(path, name, columns):
    """The segment of a file as far as it is whole, or None. Only the last record can be torn: each one is on flash
    before the next is begun, and records that rotted later show when they are read.
    """
    with open(path + "/" + name, "rb") as f:
        head = f.read(_HEAD_SIZE)
        if len(head) < _HEAD_SIZE:
            return None
        magic, boot, first, length = struct.unpack(_HEAD, head)
        rest = f.read(length + 4) if magic == MAGIC and length < 1024 else b""
        if len(rest) < 8 or struct.unpack("<I", rest[-4:])[0] != crc32(head + rest[:-4]):
            return None
        names, fmt = rest[:-4].decode().split("|")
        names = tuple(names.split(","))
        segment = Segment(name, boot, first, columns if names == columns else names, fmt)
        segment.count = (f.seek(0, 2) - segment.start) // segment.size
        while segment.count > 0:
            f.seek(segment.at(segment.last()))
            if segment.unpack(f.read(segment.size), segment.last()):
                return segment
            segment.count -= 1
    return None
