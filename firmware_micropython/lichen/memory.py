"""The largest block that the heap can give: what fragmentation leaves, which the sum of free bytes does not show."""

import gc

from micropython import const

_LEAST = const(256)  # bytes, or a sixteenth: how exact the answer is


def largest_block():
    """Bytes, or None where finding out would do harm."""
    try:
        import esp32
    except ImportError:
        return _probe()
    regions = esp32.idf_heap_info(esp32.HEAP_DATA)  # asking for memory would make this port's heap grow
    return max([region[2] for region in regions])


def _probe():
    """By asking for it, halving: a few attempts, each given back."""
    low, high = 0, gc.mem_free()
    while high - low > max(_LEAST, low // 16):
        middle = (low + high) // 2
        try:
            bytearray(middle)
            low = middle
        except MemoryError:
            high = middle
        gc.collect()
    return low
