"""NOR flash for MicroPython scripts: erase sets bits, programming clears them; operations can be recorded and torn."""

import random

BLOCK = 4096


class Chip:
    """A block device for littlefs. `log` (if a list) takes (block, offset, data), data None for an erase."""

    def __init__(self, blocks, image=None):
        self.data = image if image is not None else bytearray(b"\xff" * (blocks * BLOCK))
        self.log = None
        self.count = 0
        self.erases = [0] * blocks
        self.stall = None  # called before each operation: a slow chip

    def readblocks(self, block, buf, off=0):
        at = block * BLOCK + off
        buf[:] = self.data[at : at + len(buf)]

    def writeblocks(self, block, buf, off=0):
        self.count += 1
        if self.stall:
            self.stall()
        if self.log is not None:
            self.log.append((block, off, bytes(buf)))
        program(self.data, block, off, buf)

    def ioctl(self, op, arg):
        if op == 4:
            return len(self.data) // BLOCK
        if op == 5:
            return BLOCK
        if op == 6:
            self.count += 1
            if self.stall:
                self.stall()
            self.erases[arg] += 1
            if self.log is not None:
                self.log.append((arg, 0, None))
            erase(self.data, arg)
        return 0


def program(data, block, off, buf):
    """Bits go from 1 to 0 only: programming what is not erased is a mistake of the file system."""
    at = block * BLOCK + off
    for i, byte in enumerate(buf):
        data[at + i] &= byte


def erase(data, block, n=BLOCK):
    """The first n bytes of a block read as ones."""
    data[block * BLOCK : block * BLOCK + n] = b"\xff" * n


def tear(data, op, way):
    """Applies an operation that the power cut ended: before it, half way, or with bits that are not through."""
    block, off, buf = op
    if way == "before":
        return
    if buf is None:
        if way == "half":
            erase(data, block, BLOCK // 2)
        else:
            at = block * BLOCK
            for i in range(0, BLOCK, 7):
                data[at + i] |= random.getrandbits(8)
    elif way == "half":
        program(data, block, off, buf[: len(buf) // 2])
    else:
        program(data, block, off, bytes([byte | random.getrandbits(8) for byte in buf]))
