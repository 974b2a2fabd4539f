"""The ring's files as a start finds them: whole segments, and the notes beside them. Only a start needs it."""

import os
import struct
from binascii import crc32

from lichen import notes
from lichen.segment import HEAD, MAGIC, Layout, Segment


def _load(path, name, layouts):
    """The segment of a file as far as it is whole, or None. Only the last record can be torn: each one is on flash
    before the next is begun, and records that rotted later show when they are read.
    """
    size = struct.calcsize(HEAD)
    with open(path + "/" + name, "rb") as f:
        head = f.read(size)
        if len(head) < size:
            return None
        magic, boot, first, length = struct.unpack(HEAD, head)
        rest = f.read(length + 4) if magic == MAGIC and length < 1024 else b""
        if len(rest) < 8 or struct.unpack("<I", rest[-4:])[0] != crc32(head + rest[:-4]):
            return None
        names, fmt = rest[:-4].decode().split("|")
        layout = _layout(layouts, tuple(names.split(",")), fmt)
        segment = Segment(layout, int(name[:8], 16), boot, int(name[18:22], 16), first)
        segment.count = (f.seek(0, 2) - layout.start) // layout.size
        while segment.count > 0:
            f.seek(segment.at(segment.last()))
            if layout.unpack(f.read(layout.size), segment.last()):
                return segment
            segment.count -= 1
    return None


def _layout(layouts, columns, fmt):
    for layout in layouts:
        if layout.columns == columns and layout.codes == fmt:
            return layout
    layouts.append(Layout(columns, fmt))
    return layouts[-1]


def _segments(path, layout):
    """(segments, oldest first; how many files could not be read)."""
    segments = []
    layouts = [layout]
    errors = 0
    for name in sorted(os.listdir(path)):
        if not name.endswith(".seg"):
            continue
        try:
            segment = _load(path, name, layouts)
        except OSError:  # it may be readable at the next start
            errors += 1
            continue
        except ValueError:
            segment = None
        if segment:
            if segments and segments[-1].boot == segment.boot:
                segment.boot = segments[-1].boot  # one object for both
            segments.append(segment)
        else:  # cut before its first record was whole
            os.remove(path + "/" + name)
    return segments, errors


def look(path, layout):
    """(segments, number of the last boot, {boot: seq receipted}, [boot, first, last] of what is set aside, files that
    could not be read) of the ring at `path`, which is made if there is none. `layout`: that of this boot's rows.
    Without readable notes the number is what the segments know.
    """
    try:
        os.mkdir(path)
    except OSError:  # there already
        pass
    segments, errors = _segments(path, layout)
    number = int(segments[-1].name[:8], 16) if segments else 0
    freed = {}
    kept = []
    found = notes.read(path + "/state")
    if found:
        boots, freed, asides = found
        for boot, first, last in asides:
            held = [s for s in segments if s.boot == boot]
            if held and held[0].first <= last:
                kept.append([boot, max(first, held[0].first), last])
        number = max(number, boots)
    return segments, number, freed, kept, errors
