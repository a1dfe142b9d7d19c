"""What all parts of the format have in common: refusals, bytes read in order, checksums, geometry, float arithmetic."""

import re
from dataclasses import dataclass

import numpy as np
import xxhash

F32, F64, I64 = np.float32, np.float64, np.int64


class Refused(Exception):
    """A reader must not use these bytes; the text says why."""


class OtherVersion(Refused):
    """They are whole, but of a version that this reader does not know."""


def refuse_unless(holds, why):
    if not holds:
        raise Refused(why)


def checksum(data):
    return xxhash.xxh3_128_digest(data)  # canonical: the most significant byte first


class Cursor:
    """Bytes, taken from front to back; what does not fit is refused before anything is allocated."""

    def __init__(self, data):
        self.data, self.at = memoryview(data), 0

    def left(self):
        return len(self.data) - self.at

    def take(self, count):
        refuse_unless(count <= self.left(), "the bytes end too early")
        self.at += count
        return bytes(self.data[self.at - count : self.at])

    def rest(self):
        return self.take(self.left())

    def number(self, size):
        return int.from_bytes(self.take(size), "little")

    def text(self):
        return self.take(self.number(4))

    def array(self, dtype, count):
        refuse_unless(count <= self.left() // np.dtype(dtype).itemsize, "the bytes end too early")
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype)

    def finish(self):
        refuse_unless(self.left() == 0, "bytes are left over")


@dataclass
class Geometry:
    layers: int
    kv_heads: int
    head_dim: int
    hidden: int
    vocabulary: int
    interleaved: bool
    rotated: int  # leading dimensions of each head
    base: float
    cache: str

    @classmethod
    def parse(cls, text):
        form = (rb"L=(\d+) H=\d+ G=(\d+) D=(\d+) hidden=(\d+) vocabulary=(\d+) "
                rb"rotary=(interleaved|halves)/(\d+)/(\S+) cache=(f32|f16|bf16)")
        found = re.fullmatch(form, text)
        refuse_unless(found, "the geometry is none that krul writes")
        layers, heads, dim, hidden, words, pairs, rotated, base, cache = found.groups()
        return cls(int(layers), int(heads), int(dim), int(hidden), int(words), pairs == b"interleaved", int(rotated),
                   float(base), cache.decode())

    @property
    def row_values(self):
        return self.kv_heads * self.head_dim

    @property
    def row_bytes(self):
        return self.row_values * (4 if self.cache == "f32" else 2)


def to_floats(kind, data):
    """Values of a type of the cache as f32, exactly."""
    if kind == "bf16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(F32)
    return np.frombuffer(data, "<f4" if kind == "f32" else "<f2").astype(F32)


def from_floats(kind, values):
    """The inverse, to nearest even."""
    values = np.ascontiguousarray(values, F32)
    if kind == "f32":
        return values.astype("<f4").tobytes()
    if kind == "f16":
        with np.errstate(over="ignore"):
            return values.astype("<f2").tobytes()
    bits = values.view(np.uint32)
    nearest = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
    return np.where(np.isnan(values), bits >> 16 | 0x40, nearest).astype("<u2").tobytes()


def fused(a, b, c):
    """a * b + c, rounded once: in f64 the product is exact, and the sum is rounded to odd, so that rounding it again
    to f32 is rounding once."""
    product, c = np.asarray(a, F64) * np.asarray(b, F64), np.asarray(c, F64)
    total = product + c
    of_c = total - product
    error = (product - (total - of_c)) + (c - of_c)
    bits = total.view(I64)
    odd = (bits - ((error < 0) != (total < 0))) | 1
    return np.where(error != 0, odd, bits).view(F64).astype(F32)


def product(left, right):
    """left [rows, depth] times right [depth, columns]: fused, from the first depth to the last, beginning at zero."""
    sums = np.zeros((len(left), right.shape[1]), F32)
    for k in range(right.shape[0]):
        sums = fused(left[:, k, None], right[k], sums)
    return sums
