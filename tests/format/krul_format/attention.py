"""What a manifest keeps of attention."""

import math
import struct

import numpy as np

from .basics import Cursor, refuse_unless

MASK = 2**64 - 1


def mix(value):
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def checked(data, magic):
    """What stands between magic, version 1 and check."""
    cursor = Cursor(data[:-8])
    refuse_unless(cursor.take(4) == magic and cursor.number(4) == 1, "it does not begin as what was seen of attention")
    state = len(data) - 8
    for byte in data[:-8]:
        state = mix(state ^ byte)
    refuse_unless(state.to_bytes(8, "little") == data[-8:], "what was seen of attention is damaged")
    return cursor


def check_statistics(data):
    cursor = checked(data, b"KRSM")
    layers, _, bins, _ = (cursor.number(size) for size in (4, 4, 4, 8))
    sums = cursor.array("<f4", layers * (layers - 1) // 2 + layers * bins)
    refuse_unless(np.isfinite(sums).all() and (sums >= 0).all(), "a sum of squares or weights is negative or no number")
    cursor.finish()


def check_row_attention(data):
    cursor = checked(data, b"KRRA")
    bands, rows, query_rows = cursor.number(4), cursor.number(4), struct.unpack("<d", cursor.take(8))[0]
    refuse_unless(math.isfinite(query_rows) and query_rows >= 0, "query rows that cannot be counted")
    cursor.take(4 * bands + bands * rows)
    cursor.finish()
