"""Runs inside MicroPython: how many rows of a base kit a ring of that many bytes holds when it is full, and its wear.

argv: ring's bytes, blocks of the flash, rows, 1 if each row gets its receipt at once (else the ring fills).
"""

import json
import sys

import vfs
from flash_chip import Chip
from lichen.ring import Ring
from lichen.segment import Layout

PM = ["pm_n", "pm_bad", "pm25_cf1", "pm25_atm", "n03"]
COLUMNS = ["seq", "up", "t", "q", "dt"] + PM + [name + "_b" for name in PM] + ["env_n", "env_bad", "temp", "rh"]


def main(size, blocks, n, live):
    chip = Chip(blocks)
    vfs.VfsLfs2.mkfs(chip)
    vfs.mount(vfs.VfsLfs2(chip), "/f")
    r = Ring("/f/ring", 1, COLUMNS, size)
    most = 0
    for seq in range(1, n + 1):
        r.append(
            [seq, seq * 60, 1800000000 + seq * 60, 2, 60, 12, 0, 83, 83, 1521, 12, 0, 79, 79, 1498, 12, 0, 2130, 4710]
        )
        most = max(most, r.pending)
        if live:
            r.free(1, seq)
    assert live or r.pending + r.dropped == n
    out = {"rows": r.pending, "most": most, "capacity": r.capacity(), "record": Layout(COLUMNS).size}
    out.update(
        {"appended": n, "erases": sum(chip.erases), "worst_erases": max(chip.erases), "blocks": len(chip.erases)}
    )
    print(json.dumps(out))


main(*[int(a) for a in sys.argv[1:]])
