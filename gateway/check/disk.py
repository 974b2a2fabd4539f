"""The disk of the store: its room, its kind, and how long it takes until written data are really there."""

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.check.finding import Finding, Findings, Subject
from gateway.settings import Settings
from gateway.store import room
from gateway.store.database import FILE_NAME

WRITES: Final = 20
_BYTES: Final = 4096
_SLOW_S: Final = 0.2
_HANGS_S: Final = 5.0
_MB: Final = 1_000_000
_MOUNTS: Final = Path("/proc/self/mountinfo")

_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs", "afs"})
_NO_JOURNAL: Final = frozenset({"vfat", "exfat", "msdos", "fuseblk", "ntfs", "ntfs3", "hfsplus"})
_MEMORY: Final = frozenset({"tmpfs", "ramfs", "overlay", "rootfs"})


def check_disk(
    settings: Settings, db: sqlite3.Connection | None, *, sync: Callable[[int], None] = os.fdatasync
) -> Findings:
    """Measure; writes a small file for a moment, and takes it away."""
    folder = next(p for p in (settings.store_dir.resolve(), *settings.store_dir.resolve().parents) if p.exists())
    subject = Subject("disk", str(folder))
    yield _space(subject, settings, folder, room.measure(db, settings.store_dir / FILE_NAME).held if db else 0)
    yield judge_kind(subject, file_system(folder))
    if folder == settings.store_dir.resolve():
        yield _speed(subject, folder, sync)


def _space(subject: Subject, settings: Settings, folder: Path, held: int) -> Finding:
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    store = settings.store
    if free < store.reserve_mb * _MB:
        return subject.error(
            f"{free // _MB} MB free, less than [store] reserve_mb = {store.reserve_mb}: intake stops when it is full",
            "free space, or use a larger disk",
        )
    if held + free - store.reserve_mb * _MB < store.budget_mb * _MB:
        return subject.warning(
            f"{free // _MB} MB free: the store cannot grow to [store] budget_mb = {store.budget_mb}, and old raw "
            "readings will go sooner",
            "free space, or lower budget_mb to what is there",
        )
    return subject.ok(f"{free // _MB} MB free, enough for [store] budget_mb = {store.budget_mb}")


def file_system(folder: Path) -> str:
    """Return the type of the file system that holds a folder; empty where the system does not tell."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = _MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    kinds = [line.partition(" - ")[2].split()[0] for line in lines if line.split()[2] == wanted]
    return kinds[-1] if kinds else ""


def judge_kind(subject: Subject, kind: str) -> Finding:
    """Tell what a type of file system means for the store."""
    if kind in _NETWORK:
        return subject.error(
            f"the file system is {kind}: SQLite cannot share its log over a network", "put [store] dir on a local disk"
        )
    if kind in _NO_JOURNAL:
        return subject.warning(
            f"the file system is {kind}, which a power cut can damage", "put [store] dir on ext4, xfs, btrfs or f2fs"
        )
    if kind in _MEMORY:
        return subject.warning(
            f"the file system is {kind}: what is stored may be gone after a restart", "put [store] dir on a disk"
        )
    return subject.ok(f"the file system is {kind or 'not known'}")


def _speed(subject: Subject, folder: Path, sync: Callable[[int], None]) -> Finding:
    took_s = []
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            for _ in range(WRITES):
                started_s = time.monotonic()
                file.write(b"\0" * _BYTES)
                file.flush()
                sync(file.fileno())
                took_s.append(time.monotonic() - started_s)
                if sum(took_s) > 2 * _HANGS_S:
                    break
    except OSError as error:
        return subject.error(f"it cannot be written ({error.strerror})", "see the finding on files")
    typical_s, worst_s = sorted(took_s)[len(took_s) // 2], max(took_s)
    told = f"a synced write takes {typical_s * 1000:.1f} ms, at most {worst_s * 1000:.0f} ms of {len(took_s)}"
    if worst_s > _HANGS_S:
        return subject.error(told, "the disk is failing, or far too slow: replace it")
    if typical_s > _SLOW_S:
        return subject.warning(f"{told}: receipts come late", "use a faster card or an SSD; raise [store] commit_s")
    return subject.ok(told)
