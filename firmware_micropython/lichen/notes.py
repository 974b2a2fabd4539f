"""The ring's notes as a file with a CRC-32: boots so far, how far the receipts reach, and what is set aside."""

import os
import struct
from binascii import crc32


def write(path, boots, freed, asides):
    """Replaces the file as a whole. `freed`: boot -> seq; `asides`: (boot, first, last)."""
    data = struct.pack("<IHH", boots, len(freed), len(asides))
    data += b"".join([struct.pack("<II", boot, seq) for boot, seq in freed.items()])
    data += b"".join([struct.pack("<III", *aside) for aside in asides])
    with open(path + ".new", "wb") as f:
        f.write(data + struct.pack("<I", crc32(data)))
    os.rename(path + ".new", path)


def read(path):
    """(boots, freed, asides), or None if there is no file that holds."""
    try:
        with open(path, "rb") as f:
            data = f.read()
        boots, n_freed, n_aside = struct.unpack("<IHH", data[:8])
    except (OSError, ValueError):
        return None
    at = 8 + 8 * n_freed
    if len(data) != at + 12 * n_aside + 4 or struct.unpack("<I", data[-4:])[0] != crc32(data[:-4]):
        return None
    freed = dict([struct.unpack("<II", data[i : i + 8]) for i in range(8, at, 8)])
    return boots, freed, [struct.unpack("<III", data[i : i + 12]) for i in range(at, at + 12 * n_aside, 12)]
