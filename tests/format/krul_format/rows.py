"""Row codecs, and what layers share: chunks to rows of K and V. Rows are bytes in the cache's type."""

import numpy as np

from .basics import F32, Cursor, from_floats, refuse_unless, to_floats
from .entropy import read_bytes
from .joint import decode_joint

EXACT, F16, BF16, INT8, INT4 = range(1, 6)
GROUP = 32


def group_bytes(values):
    return 2 + -(-values // 2)


def coded_bytes(codec, geometry, rows):
    """Bytes of so many coded rows."""
    dim = geometry.head_dim
    refuse_unless(EXACT <= codec <= INT4, f"row codec {codec} is unknown")
    if codec == EXACT:
        return rows * geometry.row_bytes
    if codec == INT4:
        return rows * geometry.kv_heads * sum(group_bytes(min(GROUP, dim - at)) for at in range(0, dim, GROUP))
    return rows * geometry.kv_heads * (2 + dim if codec == INT8 else 2 * dim)


def decode_rows(codec, geometry, coded):
    if codec == EXACT or (codec, geometry.cache) in ((F16, "f16"), (BF16, "bf16")):
        return coded
    if codec in (F16, BF16):
        return from_floats(geometry.cache, to_floats("f16" if codec == F16 else "bf16", coded))
    values = decode_int8(geometry, coded) if codec == INT8 else decode_int4(geometry, coded)
    return from_floats(geometry.cache, values)


def sound_peaks(peaks, codes):
    """Refuses infinite peaks, and codes under one that is zero or NaN."""
    refuse_unless(not np.isinf(peaks).any(), "a peak is infinite")
    refuse_unless(not codes[(peaks == 0) | np.isnan(peaks)].any(), "there are codes under a peak of zero or NaN")


def decode_int8(geometry, coded):
    heads = np.frombuffer(coded, np.uint8).reshape(-1, 2 + geometry.head_dim)
    stored, codes = heads[:, :2].copy().view("<u2")[:, 0], heads[:, 2:].view(np.int8)
    peaks = (stored.astype(np.uint32) << 15).view(F32) if geometry.cache == "f32" \
        else to_floats(geometry.cache, stored.tobytes())
    refuse_unless(not np.signbit(peaks).any(), "a peak is negative")
    refuse_unless(not (codes == -128).any(), "a code is -128")
    sound_peaks(peaks, codes)
    values = codes.astype(F32) * (F32(1) / F32(127)) * peaks[:, None]
    return np.where(np.isnan(peaks)[:, None], F32(np.nan), values)


def decode_int4(geometry, coded):
    dim, at = geometry.head_dim, 0
    heads = np.frombuffer(coded, np.uint8).reshape(-1, coded_bytes(INT4, geometry, 1) // geometry.kv_heads)
    values = np.empty((len(heads), dim), F32)
    for first in range(0, dim, GROUP):
        count = min(GROUP, dim - first)
        stored, codes = heads[:, at : at + 2].tobytes(), heads[:, at + 2 : at + group_bytes(count)]
        at += group_bytes(count)
        peaks = to_floats("f16" if geometry.cache == "f16" else "bf16", stored)
        refuse_unless(not (np.signbit(peaks) & (peaks == 0)).any(), "a peak is a negative zero")
        sound_peaks(peaks, codes)
        halves = np.concatenate([codes & 15, codes >> 4], axis=1)
        refuse_unless(not halves[:, count:].any(), "there is a code of no value")
        steps = peaks * F32(0.125)
        values[:, first : first + count] = (8 - halves[:, :count].astype(np.int32)).astype(F32) * steps[:, None]
    return values


class ChunkRows:
    """Takes coded rows off a chunk."""

    def __init__(self, codec, geometry, chunk):
        self.codec, self.geometry, self.cursor = codec, geometry, Cursor(chunk)

    def take(self, rows):
        return decode_rows(self.codec, self.geometry, self.cursor.take(coded_bytes(self.codec, self.geometry, rows)))

    def packed(self, rows):
        length = coded_bytes(self.codec, self.geometry, rows)
        planes = max(length // (rows * self.geometry.row_values), 1)
        coded = np.empty(length, np.uint8)
        for plane in range(planes):
            part = self.cursor.take(self.cursor.number(4))
            coded[plane::planes] = np.frombuffer(read_bytes(part, len(coded[plane::planes])), np.uint8)
        return decode_rows(self.codec, self.geometry, coded.tobytes())

    def merged(self, rows, per_head):
        geometry, parts = self.geometry, self.geometry.kv_heads if per_head else 1
        bits = np.unpackbits(np.frombuffer(self.cursor.take(-(-rows // 8)), np.uint8), bitorder="little")
        refuse_unless(not bits[rows:].any(), "a token is retained that is not there")
        shared = np.flatnonzero(bits[:rows] == 0)
        scales = self.cursor.array("<f2", len(shared) * parts * 2).astype(F32).reshape(len(shared), parts, 2, 1)
        refuse_unless(((scales >= 2.0**-14) & (scales < 2.0**16)).all(), "a scale is none that an encoder writes")
        directions = to_floats(geometry.cache, self.take(len(shared)))
        directions = directions.reshape(len(shared), parts, geometry.row_values // parts)
        layers = np.empty((2, rows, geometry.row_bytes), np.uint8)
        for layer in range(2):
            scaled = from_floats(geometry.cache, directions * scales[:, :, layer])
            layers[layer, shared] = np.frombuffer(scaled, np.uint8).reshape(-1, geometry.row_bytes)
        for token in np.flatnonzero(bits[:rows]):
            for layer in range(2):
                layers[layer, token] = np.frombuffer(self.take(1), np.uint8)
        return [layer.tobytes() for layer in layers]


def decode_chunk(coding, geometry, chunk, block):
    """[layers][K, V] of a block. For a joint transform also see joint.Block."""
    sharing, codec, rows = coding >> 4, coding & 15, block.rows
    if sharing == 4:
        refuse_unless(codec == EXACT, "no joint transform")
        return decode_joint(geometry, chunk, block)
    reader = ChunkRows(codec, geometry, chunk)
    if sharing == 0:
        tensors = [[reader.take(rows)] for _ in range(2)]
    elif sharing == 5:
        tensors = [[reader.packed(rows)] for _ in range(2)]
    else:
        refuse_unless(sharing in (1, 2), f"sharing {sharing} is unknown or holds no rows")
        flags = reader.cursor.number(1)
        refuse_unless(flags & 3 and not flags & (0xF8 if sharing == 1 else 0xFC), "flags that no encoder writes")
        tensors = []
        for tensor in range(2):
            if not flags >> tensor & 1:
                tensors.append([reader.take(rows), reader.take(rows)])
            elif sharing == 1:
                tensors.append(reader.merged(rows, flags & 4))
            else:
                tensors.append([reader.take(rows)] * 2)
    reader.cursor.finish()
    refuse_unless(len(tensors[0]) == len(block.layers), "the chunk is of another number of layers")
    return list(zip(*tensors))
