"""The rows not yet receipted, on flash: segments of fixed-size records, bounded, the oldest given up first.

Rows of several boots lie in one ring. `state` beside the segments notes how far the receipts reach, what was set aside
and how often the kit was started; it is replaced as a whole. RAM holds an index only.
"""

import os

from micropython import const

from lichen import notes
from lichen.segment import Layout, Segment

_BLOCK = const(4096)
SEGMENT = 4 * _BLOCK - 64  # with littlefs's own pointers it fills four blocks
_RESERVE = const(6 * _BLOCK)  # free before a segment is begun: its blocks, and those of the directory
_RING_BYTES = const(512 * 1024)
_ENOSPC = const(28)
_MARK_EVERY = const(60)  # receipted rows between two notes of how far the receipts reach
_ASIDES = const(16)  # batches kept aside; beyond, the oldest is given up


class Ring:
    """All segments under `path`, of `limit` bytes at most (512 KiB where none are given); this boot appends, the
    publisher reads and frees.
    """

    def __init__(self, path, boot, columns, limit=None):
        self._path = path
        self._limit = max(2, (limit or _RING_BYTES) // (SEGMENT + 64))  # segments
        self.boot = boot
        self._layout = Layout(tuple(columns))
        self._unmarked = 0
        self._file = None  # of the last segment, open for appending
        self._last = 0  # seq last appended in this boot
        self.dropped = 0  # rows given up without a receipt for want of room
        self.rotten = 0  # records that did not hold when they were read
        self.on_drop = None  # called with (boot, first, last) of rows given up; the host's ledger
        from lichen import opening

        # segments: oldest first; freed: boot -> every row up to it may go, but for what is set aside; asides: [boot,
        # first, last] of batches never receipted, oldest first; errors: what the flash refused
        self._segments, number, self._freed, self._asides, self.errors = opening.look(path, self._layout)
        self._collect()
        self.boot_number = number + 1
        self.mark()

    def mark(self):
        """Notes it now; by itself every _MARK_EVERY rows, to spare the flash. A lost note costs duplicates, no rows."""
        self._unmarked = 0
        held = {s.boot for s in self._segments}
        self._freed = {boot: seq for boot, seq in self._freed.items() if boot in held}
        try:
            notes.write(self._path + "/state", self.boot_number, self._freed, self._asides)
        except OSError:  # a full or broken flash must not keep a kit from starting
            self.errors += 1

    # writing

    def append(self, row):
        """Keeps a row for good; when it returns the row survives a power cut. OSError if the flash refuses: the row
        is not kept, and the next attempt begins a segment of its own.
        """
        segment = self._segments[-1] if self._file else None
        if not segment or segment.last() + 1 != row[0] or segment.at(row[0] + 1) > SEGMENT:
            segment = self._begin(row[0])
        try:
            self._write(segment, row)
        except OSError as e:
            self._end()
            if e.errno != _ENOSPC or len(self._segments) < 2:
                raise
            self._drop_oldest()  # full after all: make room, once
            self._write(self._begin(row[0]), row)

    def _write(self, segment, row):
        try:
            self._file.write(segment.layout.pack(row))
            self._file.flush()
        except OSError:
            self._end()
            raise
        segment.count += 1
        self._last = row[0]

    def _begin(self, seq):
        self._end()
        self._make_room()
        part = 0
        if self._segments and self._segments[-1].boot == self.boot:
            part = self._segments[-1].part + 1
        segment = Segment(self._layout, self.boot_number, self.boot, part, seq)
        self._file = open(self._path + "/" + segment.name, "wb")  # noqa: SIM115  closed by _end
        self._segments.append(segment)
        try:
            self._file.write(self._layout.head(self.boot, seq))
        except OSError:
            self._end()
            raise
        return segment

    def _end(self):
        if not self._file:
            return
        file, self._file = self._file, None
        try:
            file.close()
        except OSError:  # what was flushed is there
            pass
        if not self._segments[-1].count:
            self._remove(self._segments[-1])
        else:
            self._collect()

    def _make_room(self):
        while len(self._segments) > 1:
            info = os.statvfs(self._path)
            if len(self._segments) < self._limit and info[0] * info[3] >= _RESERVE:
                return
            self._drop_oldest()

    def _drop_oldest(self):
        segment = self._segments[0]
        boot = segment.boot
        kept = []
        for aside in self._asides:
            if aside[0] == boot and aside[1] <= segment.last():
                self._count_drop(boot, aside[1], min(aside[2], segment.last()))
                aside[1] = segment.last() + 1
            if aside[1] <= aside[2]:
                kept.append(aside)
        self._asides = kept
        if self._held(segment):
            self._count_drop(boot, max(segment.first, self._freed.get(boot, 0) + 1), segment.last())
        self._remove(segment)

    def _count_drop(self, boot, first, last):
        self.dropped += last - first + 1
        if self.on_drop:
            self.on_drop(boot, first, last)

    def _remove(self, segment):
        self._segments.remove(segment)
        try:
            os.remove(self._path + "/" + segment.name)
        except OSError:  # it is found, and freed again, at the next start
            pass

    # reading

    def _held(self, segment):
        return max(0, segment.last() - max(segment.first, self._freed.get(segment.boot, 0) + 1) + 1)

    @property
    def pending(self):
        """Rows without a receipt that are still to be sent."""
        return sum([self._held(s) for s in self._segments])

    @property
    def set_aside(self):
        """Rows kept aside."""
        return sum([last - first + 1 for _, first, last in self._asides])

    def capacity(self):
        """Rows of this boot's columns that fit."""
        return self._limit * ((SEGMENT - self._layout.start) // self._layout.size)

    def boots(self):
        """Boots with rows to send, oldest first."""
        boots = []
        for segment in self._segments:
            if segment.boot not in boots and self._held(segment):
                boots.append(segment.boot)
        return boots

    def last(self, boot):
        """Newest seq of the boot; 0 if there is none."""
        last = self._last if boot == self.boot else 0
        for segment in self._segments:
            if segment.boot == boot:
                last = segment.last()
        return last

    def first(self, boot):
        """Oldest seq of the boot to be sent, past what rotted; last + 1 if there is none."""
        for segment in self._segments:
            if segment.boot == boot and self._held(segment):
                seq = max(segment.first, self._freed.get(boot, 0) + 1)
                while seq in segment.rotten:
                    seq += 1
                if seq <= segment.last():
                    return seq
        return self.last(boot) + 1

    def columns(self, boot):
        """Names of the values in that boot's rows."""
        for segment in self._segments:
            if segment.boot == boot:
                return segment.layout.columns
        return self._layout.columns

    def read(self, boot, first, count):
        """Yields the rows from that seq on, of `count` seqs at most, oldest first: one at a time, since a list of them
        would leave the heap in pieces (it does not compact). close() it if it is not read to its end: a file is open.
        """
        end = first + count
        for segment in self._segments:
            if segment.boot != boot or segment.last() < first or segment.first >= end:
                continue
            seq = max(segment.first, first)
            with open(self._path + "/" + segment.name, "rb") as f:
                f.seek(segment.at(seq))
                while seq <= segment.last() and seq < end:
                    row = segment.layout.unpack(f.read(segment.layout.size), seq)
                    if row:
                        yield row
                    elif seq not in segment.rotten:
                        segment.rotten += (seq,)
                        self.rotten += 1
                    seq += 1

    # giving up what was received

    def free(self, boot, seq):
        """Gives up the boot's rows up to seq, but for those set aside; files go when all their rows are."""
        before = self._freed.get(boot, 0)
        if seq <= before or not any([s.boot == boot for s in self._segments]):
            return
        self._freed[boot] = seq
        self._unmarked += seq - before
        self._collect()
        if self._unmarked >= _MARK_EVERY:
            self.mark()

    def _collect(self):
        for segment in list(self._segments):
            if self._held(segment) or (self._file and segment is self._segments[-1]):  # the last one is being written
                continue
            if not any([b == segment.boot and f <= segment.last() and z >= segment.first for b, f, z in self._asides]):
                self._remove(segment)

    def put_aside(self, boot, last):
        """Keeps the boot's rows up to `last` out of the way; they are kept on flash, and counted, until settle()."""
        self._asides.append([boot, self.first(boot), last])
        if len(self._asides) > _ASIDES:
            self._count_drop(*self._asides.pop(0))
        self._freed[boot] = last
        self.mark()
        self._collect()

    def asides(self):
        """(boot, first, last) of what is set aside, oldest first."""
        return [tuple(aside) for aside in self._asides]

    def settle(self, boot, first, last):
        """The rows from `first`, where something set aside begins, to `last` are stored."""
        for aside in self._asides:
            if aside[0] == boot and aside[1] == first:
                aside[1] = last + 1
        self._asides = [aside for aside in self._asides if aside[1] <= aside[2]]
        self.mark()
        self._collect()
