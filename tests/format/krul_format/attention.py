"""What a manifest keeps of attention."""

import math
import struct
from dataclasses import dataclass

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
    refuse_unless(len(data) >= 8, "what was seen of attention is cut off")
    cursor = Cursor(data[:-8])
    refuse_unless(cursor.take(4) == magic and cursor.number(4) == 1, "it does not begin as what was seen of attention")
    state = len(data) - 8
    for byte in data[:-8]:
        state = mix(state ^ byte)
    refuse_unless(state.to_bytes(8, "little") == data[-8:], "what was seen of attention is damaged")
    return cursor


@dataclass
class Statistics:
    heads: int  # of queries
    rows: int
    distances: list  # of each layer but the last to those behind it, squared
    masses: np.ndarray  # [layers, bins]


@dataclass
class RowAttention:
    query_rows: float
    bands: tuple  # layers of each
    codes: np.ndarray  # [bands, rows] u8; c > 0 stands for 2^(c / 8 - 20)


def parse_statistics(data):
    cursor = checked(data, b"KRSM")
    layers, heads, bins, rows = (cursor.number(size) for size in (4, 4, 4, 8))
    refuse_unless(layers <= 4096 and heads <= 4096 and bins <= 1 << 18, "too large")
    sums = [cursor.array("<f4", layers - 1 - layer) for layer in range(layers - 1)]
    sums.append(cursor.array("<f4", layers * bins))
    cursor.finish()
    refuse_unless(all(np.isfinite(part).all() and (part >= 0).all() for part in sums),
                  "a sum of squares or weights is negative or no number")
    return Statistics(heads, rows, sums[:-1], sums[-1].reshape(layers, bins))


def parse_row_attention(data):
    cursor = checked(data, b"KRRA")
    bands, rows, query_rows = cursor.number(4), cursor.number(4), struct.unpack("<d", cursor.take(8))[0]
    refuse_unless(bands <= 4096 and rows <= 1 << 24, "too large")
    refuse_unless(math.isfinite(query_rows) and query_rows >= 0, "query rows that cannot be counted")
    layers, codes = cursor.array("<u4", bands), cursor.array("u1", bands * rows)
    cursor.finish()
    return RowAttention(query_rows, tuple(layers), codes.reshape(bands, rows))
