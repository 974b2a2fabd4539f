"""The rows not yet receipted, on flash: append-only segments of fixed-size records, a new one each boot and 32 KiB.

A segment: header (magic, boot, first seq, names of the columns, CRC-32), then records (row packed, CRC-32), seq first
and rising by one. Opening after a power cut keeps what lies before the first bad record. RAM holds an index only.
"""

import os
import struct
from binascii import crc32

MAGIC = b"LRG1"
SEGMENT = 32768
RESERVE = 2 * SEGMENT  # free bytes wanted before a new segment is begun; the oldest one gives way
MARK_EVERY = 60  # receipted rows between two notes of how far the receipts reach
_HEAD = "<4sIIH"
_HEAD_SIZE = 14
_WIDE = ("up", "t")  # 64 bit; everything else fits 32
_NULL = {"i": -(1 << 31), "q": -(1 << 63)}


def _format(columns):
    return "".join("q" if c in _WIDE else "i" for c in columns)


class _Segment:
    """Index entry of one file."""

    def __init__(self, name, boot, first, columns):
        self.name = name
        self.boot = boot
        self.first = first
        self.columns = columns
        self.codes = _format(columns)
        self.fmt = "<I" + self.codes[1:]  # seq is unsigned
        self.size = struct.calcsize(self.fmt) + 4
        self.start = _HEAD_SIZE + len(",".join(columns)) + 4
        self.count = 0

    def last(self):
        return self.first + self.count - 1

    def pack(self, row):
        codes = self.codes
        values = [_NULL[codes[i]] if v is None else v for i, v in enumerate(row)]
        body = struct.pack(self.fmt, *values)
        return body + struct.pack("<I", crc32(body))

    def unpack(self, record, seq):
        """The row, or None if the record is torn or not the one expected here."""
        if len(record) < self.size or struct.unpack("<I", record[-4:])[0] != crc32(record[:-4]):
            return None
        row = struct.unpack(self.fmt, record[:-4])
        if row[0] != seq:
            return None
        codes = self.codes
        return [None if i and v == _NULL[codes[i]] else v for i, v in enumerate(row)]


class Ring:
    """All segments under `path`; this boot appends, the publisher reads and frees."""

    def __init__(self, path, boot, columns):
        self._path = path
        self.boot = boot
        self._columns = tuple(columns)
        self._segments = []  # oldest first
        self._freed = {}  # boot -> every row up to it may go
        self._unmarked = 0
        self._file = None  # of the last segment, open for appending
        self._last = 0  # seq last appended in this boot
        self.dropped = 0  # rows given up unsent for want of room
        try:
            os.mkdir(path)
        except OSError:  # there already
            pass
        self._scan()
        self._read_marks()
        self.boot_number = self._count_boot()

    # opening

    def _scan(self):
        for name in sorted(os.listdir(self._path)):
            if not name.endswith(".seg"):
                continue
            segment = self._open_segment(name)
            if segment:
                self._segments.append(segment)
            else:  # cut before its first record was whole
                os.remove(self._path + "/" + name)

    def _open_segment(self, name):
        with open(self._path + "/" + name, "rb") as f:
            head = f.read(_HEAD_SIZE)
            if len(head) < _HEAD_SIZE:
                return None
            magic, boot, first, length = struct.unpack(_HEAD, head)
            rest = f.read(length + 4) if magic == MAGIC and length < 1024 else b""
            if len(rest) < 8 or struct.unpack("<I", rest[-4:])[0] != crc32(head + rest[:-4]):
                return None
            columns = tuple(rest[:-4].decode().split(","))
            segment = _Segment(name, boot, first, self._columns if columns == self._columns else columns)
            while segment.unpack(f.read(segment.size), first + segment.count):
                segment.count += 1
        return segment if segment.count else None

    def _count_boot(self):
        number = int(self._segments[-1].name[:8], 16) if self._segments else 0
        try:
            with open(self._path + "/boots") as f:
                number = max(number, int(f.read()))
        except (OSError, ValueError):
            pass
        with open(self._path + "/boots", "w") as f:
            f.write(str(number + 1))
        return number + 1

    # how far the receipts reach, so that a restart does not send again what is stored

    def _read_marks(self):
        try:
            with open(self._path + "/freed", "rb") as f:
                data = f.read()
        except OSError:
            return
        if len(data) >= 4 and struct.unpack("<I", data[-4:])[0] == crc32(data[:-4]):
            for i in range(0, len(data) - 4, 8):
                boot, seq = struct.unpack("<II", data[i : i + 8])
                self.free(boot, seq)
        self._unmarked = 0

    def mark(self):
        """Notes it now; by itself every MARK_EVERY rows, to spare the flash. A lost note costs duplicates, no rows."""
        self._unmarked = 0
        held = {s.boot for s in self._segments}
        data = b"".join(struct.pack("<II", b, s) for b, s in self._freed.items() if b in held)
        with open(self._path + "/freed.new", "wb") as f:
            f.write(data + struct.pack("<I", crc32(data)))
        os.rename(self._path + "/freed.new", self._path + "/freed")

    # writing

    def append(self, row):
        """Keeps a row for good; when it returns the row survives a power cut. OSError if the flash refuses."""
        segment = self._segments[-1] if self._file else None
        if not segment or segment.last() + 1 != row[0] or segment.start + (segment.count + 1) * segment.size > SEGMENT:
            segment = self._begin(row[0])
        try:
            self._file.write(segment.pack(row))
            self._file.flush()
        except OSError:  # full after all: make room, once
            self._end()
            if len(self._segments) > 1:
                self._drop_oldest()
            segment = self._begin(row[0])
            self._file.write(segment.pack(row))
            self._file.flush()
        segment.count += 1
        self._last = row[0]

    def _begin(self, seq):
        self._end()
        self._make_room()
        part = sum(1 for s in self._segments if s.boot == self.boot)
        part = int(self._segments[-1].name[18:22], 16) + 1 if part else 0
        segment = _Segment("%08x-%08x-%04x.seg" % (self.boot_number, self.boot, part), self.boot, seq, self._columns)
        names = ",".join(self._columns).encode()
        head = struct.pack(_HEAD, MAGIC, self.boot, seq, len(names)) + names
        self._file = open(self._path + "/" + segment.name, "wb")  # noqa: SIM115  closed by _end
        self._segments.append(segment)
        self._file.write(head + struct.pack("<I", crc32(head)))
        return segment

    def _end(self):
        if self._file:
            self._file.close()
            self._file = None
            if not self._segments[-1].count:
                self._remove(self._segments[-1])

    def _make_room(self):
        while len(self._segments) > 1:
            info = os.statvfs(self._path)
            if info[0] * info[3] >= RESERVE:
                return
            self._drop_oldest()

    def _drop_oldest(self):
        segment = self._segments[0]
        self.dropped += self._held(segment)
        self._remove(segment)

    def _remove(self, segment):
        os.remove(self._path + "/" + segment.name)
        self._segments.remove(segment)

    # reading

    def _held(self, segment):
        return max(0, segment.last() - max(segment.first, self._freed.get(segment.boot, 0) + 1) + 1)

    @property
    def pending(self):
        """Rows without a receipt."""
        return sum(self._held(s) for s in self._segments)

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
        """Oldest seq of the boot still held; last + 1 if there is none."""
        for segment in self._segments:
            if segment.boot == boot and self._held(segment):
                return max(segment.first, self._freed.get(boot, 0) + 1)
        return self.last(boot) + 1

    def columns(self, boot):
        """Names of the values in that boot's rows."""
        for segment in self._segments:
            if segment.boot == boot:
                return segment.columns
        return self._columns

    def read(self, boot, from_seq, max_rows):
        """Yields up to max_rows rows from that seq on, oldest first: one at a time, since a list of them would leave
        the heap in pieces (it does not compact). close() it if it is not read to its end: a file is open.
        """
        n = 0
        for segment in self._segments:
            if segment.boot != boot or segment.last() < from_seq:
                continue
            seq = max(segment.first, from_seq)
            with open(self._path + "/" + segment.name, "rb") as f:
                f.seek(segment.start + (seq - segment.first) * segment.size)
                while seq <= segment.last() and n < max_rows:
                    row = segment.unpack(f.read(segment.size), seq)
                    if row:  # one that rotted since it was written is passed over
                        n += 1
                        yield row
                    seq += 1
            if n >= max_rows:
                break

    def free(self, boot, seq):
        """Gives up the boot's rows up to seq; files go when all their rows are."""
        before = self._freed.get(boot, 0)
        if seq <= before or not any(s.boot == boot for s in self._segments):
            return
        self._freed[boot] = seq
        self._unmarked += seq - before
        for segment in [s for s in self._segments if s.boot == boot and s.last() <= seq]:
            if self._file and segment is self._segments[-1]:
                continue  # still being written
            self._remove(segment)
        if self._unmarked >= MARK_EVERY:
            self.mark()
