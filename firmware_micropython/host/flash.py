"""A kit's flash on an image file: littlefs on a block device, created and formatted if the image is absent."""

import os
import time

import vfs

BLOCK = 4096


class ImageDevice:
    """Block device over a file; every write goes to the operating system at once, so a killed kit keeps its rows.
    `erase_ms`: how long an erase stops everything, as it does on a board.
    """

    def __init__(self, path, size, erase_ms=0):
        self._erase_ms = erase_ms
        self.new = False
        try:
            size = os.stat(path)[6]
        except OSError:
            self.new = True
            with open(path, "wb") as f:
                for _ in range(size // BLOCK):
                    f.write(b"\xff" * BLOCK)
        self._blocks = size // BLOCK
        self._file = open(path, "r+b")  # noqa: SIM115  open as long as the kit lives

    def readblocks(self, block, buf, off=0):
        self._file.seek(block * BLOCK + off)
        self._file.readinto(buf)

    def writeblocks(self, block, buf, off=None):
        self._file.seek(block * BLOCK + (off or 0))
        self._file.write(buf)

    def ioctl(self, op, arg):
        if op == 4:
            return self._blocks
        if op == 5:
            return BLOCK
        if op == 6 and self._erase_ms:  # littlefs does not need erased bytes to read as 0xFF
            time.sleep_ms(self._erase_ms)
        return 0


def mount(path, size, where, erase_ms=0):
    """Mounts the image's file system."""
    device = ImageDevice(path, size, erase_ms)
    if device.new:
        vfs.VfsLfs2.mkfs(device)
    vfs.mount(vfs.VfsLfs2(device), where)
