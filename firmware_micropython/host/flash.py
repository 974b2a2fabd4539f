"""A kit's flash on an image file: littlefs on a block device, created and formatted if the image is absent."""

import os

import vfs

BLOCK = 4096


class ImageDevice:
    """Block device over a file; every write goes to the operating system at once, so a killed kit keeps its rows."""

    def __init__(self, path, size):
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
        return 0  # erase: littlefs does not need erased bytes to read as 0xFF


def mount(path, size, where):
    """Mounts the image's file system."""
    device = ImageDevice(path, size)
    if device.new:
        vfs.VfsLfs2.mkfs(device)
    vfs.mount(vfs.VfsLfs2(device), where)
