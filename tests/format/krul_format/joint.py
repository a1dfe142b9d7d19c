"""The joint transform: rows of a group of layers, decoded with a profile."""

import math
from dataclasses import dataclass

import numpy as np

from .basics import F32, Cursor, from_floats, fused, product, refuse_unless
from .entropy import UNIVERSAL_TABLES, SymbolReader, read_table_indices, universal

LEAST_SPREAD, LEAST_TABLE, USUAL, COLUMNS_FINER, RUN = 11, 17, 8, 2, 32
# 2^(i / 16), as the nearest f32
ROOTS = [F32(float.fromhex(root)) for root in
         "0x1p0 0x1.0b5586p0 0x1.172b84p0 0x1.2387a6p0 0x1.306fep0 0x1.3dea64p0 0x1.4bfdaep0 0x1.5ab07ep0 "
         "0x1.6a09e6p0 0x1.7a1148p0 0x1.8ace54p0 0x1.9c4918p0 0x1.ae89fap0 0x1.c199bep0 0x1.d5818ep0 "
         "0x1.ea4afap0".split()]


@dataclass
class Block:
    """Of which rows a chunk is, and what decoding it takes."""

    layers: list
    first: int  # position of the first row
    rows: int
    profile: object = None
    features: object = None  # [rows, F] f32


@dataclass
class Run:
    first: int
    count: int
    finest: int = 0
    usual: int = 0


def step_factor(code):
    code = (code + 128) % 256 - 128
    return np.ldexp(ROOTS[code & 15], code >> 4)


def lowered(index, step, coarser):
    pairs = (step + 3) // 6 if step >= 0 else -((3 - step) // 6)
    return min(max(int(index) - 2 * (pairs + coarser), 0), 62)


class Columns:
    """The columns of a tensor that count for a run."""

    def __init__(self, tensor, step, run, first):
        self.coded, self.expected, self.places, place = [], [], [], 0
        for spread, table in zip(tensor.spreads, tensor.tables):
            if lowered(spread, step, run.finest) < LEAST_SPREAD:
                break
            self.coded.append(lowered(table, step, run.finest) >= LEAST_TABLE)
            if self.coded[-1]:
                self.expected.append(lowered(table, step, run.usual))
                self.places.append(place)
            place += lowered(table, step, first.finest) >= LEAST_TABLE
        self.count = len(self.coded)


def read_classes(cursor, rows):
    head = cursor.number(1)
    lowest, width = head & 15, head >> 4
    refuse_unless(width <= 4, "classes that no encoder writes")
    bits = int.from_bytes(cursor.take(-(-rows * width // 8)), "little")
    classes = [lowest + (bits >> row * width & ((1 << width) - 1)) for row in range(rows)]
    refuse_unless(max(classes, default=0) <= 15, "classes that no encoder writes")
    return classes


def coding_order(classes, rows):
    """Which row comes at which place, and the runs."""
    if not classes:
        return list(range(rows)), [Run(0, rows)]
    order = sorted(range(rows), key=classes.__getitem__)
    runs = []
    for first in range(0, rows, RUN):
        here = [classes[row] for row in order[first : first + RUN]]
        mean = (sum(here) + len(here) // 2) // len(here)
        runs.append(Run(first, len(here), here[0] - USUAL - COLUMNS_FINER, mean - USUAL))
    return order, runs


def table_of(index, shift):
    return index if index == 0 or shift == 0 else min(max(index + shift, 1), UNIVERSAL_TABLES)


def round_rows(rows):
    """127 steps of each row's largest magnitude: whole numbers, and what a step is worth."""
    largest = np.abs(rows).max(axis=1, initial=0)
    none = largest < F32(1e-30)
    per_step = F32(127) / np.where(none, F32(1), largest)
    steps = np.where(none[:, None], 0, np.rint(rows * per_step[:, None]))
    return steps.astype(np.int64), np.where(none, F32(0), largest / F32(127))


def whole_product(rows, matrix, scales, offsets):
    """rows times matrix [depth, columns] of i8: exact sums, scaled by row, then by column, and added once."""
    steps, row_scales = round_rows(rows)
    sums = (steps @ matrix[: rows.shape[1]].astype(np.int64)).astype(F32)
    return fused(sums * row_scales[:, None], scales, offsets)


def decode_joint(geometry, chunk, block):
    profile = block.profile
    refuse_unless(profile, "the profile is missing")
    group = next((group for group in profile.groups if group.first_layer == block.layers[0]), None)
    refuse_unless(group and block.layers == list(range(group.first_layer, group.first_layer + group.layers)),
                  "the layers are no group of the profile")
    cursor = Cursor(chunk)
    refuse_unless(cursor.take(8) == profile.checksum[7::-1], "coded by another profile")
    step = int.from_bytes(cursor.take(1), "little", signed=True)
    flags, apart = cursor.number(1), 1 if block.first == 0 else 0
    refuse_unless((flags & ~4) in ((1, 2) if apart else (0,)), "a first row that no encoder writes")
    rows, first_rows = block.rows - apart, None
    if flags & 3 == 1:
        first_rows = [[cursor.take(geometry.row_bytes) for _ in range(2)] for _ in block.layers]
    elif flags & 3 == 2:
        first_rows = [[from_floats(geometry.cache, row) for row in rows_of] for rows_of in profile.first_rows(group)]
    classes = read_classes(cursor, rows) if flags & 4 else []
    order, runs = coding_order(classes, rows)
    steps = np.array([step_factor(step + 6 * (classes[row] - USUAL)) if classes else step_factor(step)
                      for row in order], F32)
    columns = [[Columns(tensor, step, run, runs[0]) for run in runs] for tensor in group.tensors]
    expected = [index for side in columns for index in side[0].expected]
    indices = read_table_indices(cursor.take(cursor.number(2)), expected)
    chosen = [indices[: len(columns[0][0].expected)], indices[len(columns[0][0].expected) :]]
    reader = SymbolReader(cursor.rest(), min(runs[0].count, 32) if expected else 0)
    features = block.features[apart:][order] if profile.features else None
    tensors = []
    for tensor, of_runs, tables, is_keys in zip(group.tensors, columns, chosen, (True, False)):
        values = decode_tensor(reader, tensor, of_runs, runs, tables, steps, features)
        in_order = np.empty_like(values)
        in_order[order] = values
        heads = in_order.reshape(rows, group.layers, geometry.kv_heads, geometry.head_dim)
        if is_keys:
            turn(heads, geometry, block.first + apart)
        tensors.append([from_floats(geometry.cache, heads[:, layer]) for layer in range(group.layers)])
    reader.finish()
    if first_rows:
        tensors = [[first_rows[layer][side] + rest for layer, rest in enumerate(tensors[side])] for side in range(2)]
    return list(zip(*tensors))


def decode_tensor(reader, tensor, columns, runs, tables, steps, features):
    """[rows, n], in the order in which the rows are coded."""
    most, wide = columns[0].count, min(columns[0].count, len(tensor.wide))
    predicted = np.zeros((len(steps), most), F32)
    if features is not None and most:
        plain = whole_product(features, tensor.prediction[:most].T, F32(1), F32(0))
        predicted = tensor.prediction_scales[:most] * plain
    coefficients, parts = np.zeros((len(steps), most), F32), []
    for run, here in zip(runs, columns):
        rows = slice(run.first, run.first + run.count)
        shift = -2 * (run.usual - runs[0].usual)
        symbols, places = np.zeros((run.count, here.count), F32), iter(here.places)
        for column in np.flatnonzero(here.coded):
            index = table_of(tables[next(places)], shift)
            if index:
                symbols[:, column] = reader.column(universal(index), run.count)
        away = symbols + np.sign(symbols) * F32(0.05)
        coefficients[rows, : here.count] = fused(steps[rows, None], away, predicted[rows, : here.count])
        narrow = coefficients[rows, wide : here.count] * tensor.narrow_scales[: max(here.count - wide, 0)]
        parts.append(whole_product(narrow, tensor.narrow, tensor.value_scales, tensor.mean))
    return np.concatenate(parts) + product(coefficients[:, :wide], tensor.wide[:wide])


# ---- rotary embedding, in f64 by sums and products alone, so that every processor gives the same bits ----


def same_exp(y):
    n = math.floor(y * 1.4426950408889634 + 0.5)
    r = (y - n * float.fromhex("0x1.62e42fefa38p-1")) - n * float.fromhex("0x1.ef35793c7673p-45")
    total = 1.0
    for k in range(18, 0, -1):
        total = 1 + total * r / k
    return math.ldexp(total, n)


def same_log(x):
    mantissa, exponent = math.frexp(x)
    if mantissa < 0.70710678118654752:
        mantissa, exponent = mantissa * 2, exponent - 1
    z = (mantissa - 1) / (mantissa + 1)
    square, total = z * z, 0.0
    for k in range(27, 0, -2):
        total = total * square + 1.0 / k
    return exponent * 0.69314718055994531 + 2 * z * total


def same_turn(angle):
    """(cosine, sine)"""
    n = math.floor(angle * 0.63661977236758134 + 0.5)
    r = angle - n * float.fromhex("0x1.921fb544p+0")
    r = (r - n * float.fromhex("0x1.0b4611a6p-34")) - n * float.fromhex("0x1.3198a2e037073p-69")
    square, cosine, sine = r * r, 1.0, 1.0
    for k in range(20, 0, -2):
        cosine = 1 - cosine * square / (k * (k - 1))
        sine = 1 - sine * square / (k * (k + 1))
    sine *= r
    return [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)][n & 3]


def turn(heads, geometry, first):
    """Keys [rows, layers, G, D] by the rotary embedding of their positions, in place."""
    half = geometry.rotated // 2
    for pair in range(half):
        speed = same_exp(-2.0 * pair / geometry.rotated * same_log(geometry.base))
        step_cosine, step_sine = same_turn(speed)
        cosine, sine = same_turn(speed * first)
        a, b = (2 * pair, 2 * pair + 1) if geometry.interleaved else (pair, pair + half)
        for row in heads:
            x, y, c, s = row[..., a].copy(), row[..., b].copy(), F32(cosine), F32(sine)
            row[..., a] = x * c - y * s
            row[..., b] = y * c + x * s
            cosine, sine = cosine * step_cosine - sine * step_sine, sine * step_cosine + cosine * step_sine
