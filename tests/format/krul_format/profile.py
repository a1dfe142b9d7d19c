"""A profile: what was calibrated for a model, as it is stored and as rows are decoded with it."""

import math
from dataclasses import dataclass

import numpy as np

from .basics import F32, Cursor, OtherVersion, checksum, product, refuse_unless, to_floats

MAGIC, VERSION = b"KRULPRO\n", 2
LARGEST_VALUE, LARGEST_FACTOR, LONGEST_COLUMN = 65504.0, 1e9, 1 + 2.0**-6


@dataclass
class Tensor:
    """K or V of a group, ready to decode with."""

    mean: np.ndarray  # [n]
    wide: np.ndarray  # [C1, n] f32: the first rows of Q^T W^-1
    narrow: np.ndarray  # [C - C1, n] i8: the others, over both scales
    narrow_scales: np.ndarray  # [C - C1]
    value_scales: np.ndarray  # [n]
    prediction: np.ndarray  # [C, F] i8
    prediction_scales: np.ndarray  # [C]
    spreads: np.ndarray  # [C]
    tables: np.ndarray  # [C]


@dataclass
class Group:
    first_layer: int
    layers: int
    tensors: tuple  # K, V


class Profile:
    def __init__(self, data, geometry):
        refuse_unless(len(data) >= 26 and data[:8] == MAGIC, "it does not begin like a profile")
        refuse_unless(checksum(data[:-16]) == data[-16:], "the checksum of the profile does not fit")
        self.checksum = checksum(data)
        cursor = Cursor(data[8:-16])
        version = cursor.number(2)
        if version != VERSION:
            raise OtherVersion(f"profile version {version} is not {VERSION}")
        self.model, self.geometry, self.notes = (read_list(cursor, "u1").tobytes() for _ in range(3))
        self.features = cursor.number(8)
        refuse_unless(self.features in (0, geometry.hidden) and self.features % 2 == 0, "features of another width")
        self.first_row = read_list(cursor, "<f2")
        refuse_unless(len(self.first_row) == geometry.layers * 2 * geometry.row_values, "a first row of another length")
        refuse_unless(np.isfinite(self.first_row).all(), "a first row that is not finite")
        self.groups, next_layer = [], 0
        for _ in range(cursor.number(8)):
            first, layers = cursor.number(8), cursor.number(8)
            refuse_unless(first == next_layer and 1 <= layers <= geometry.layers - first, "groups are not in order")
            next_layer += layers
            heads = layers * geometry.kv_heads
            tensors = tuple(read_tensor(cursor, heads, geometry.head_dim, self.features) for _ in range(2))
            self.groups.append(Group(first, layers, tensors))
        refuse_unless(next_layer == geometry.layers, "a layer has no group")
        cursor.finish()

    def first_rows(self, group):
        """[layers][K, V] at position 0, [G * D] f32."""
        rows = self.first_row.astype(F32).reshape(-1, 2, self.first_row.size // self.layers // 2)
        return rows[group.first_layer : group.first_layer + group.layers]

    @property
    def layers(self):
        return sum(group.layers for group in self.groups)


def read_list(cursor, dtype):
    return cursor.array(dtype, cursor.number(8))


def read_bytes_and_sixths(cursor):
    """A list of i8 of which the last ones have six bits each."""
    whole, short = cursor.number(8), cursor.number(8)
    values = cursor.array("i1", whole)
    packed = cursor.array("u1", short // 4 * 3).reshape(-1, 3).astype(np.int32)
    four = packed[:, 0] | packed[:, 1] << 8 | packed[:, 2] << 16
    parts = np.stack([four >> 6 * i & 63 for i in range(4)], axis=1).reshape(-1)
    return np.concatenate([values, np.where(parts >= 32, parts - 64, parts)]).astype(np.int8)


def read_tensor(cursor, heads, dim, features):
    mean, weights, weight_scales = read_list(cursor, "<f4"), read_list(cursor, "<f2"), read_list(cursor, "<f4")
    wide_basis, narrow_basis = read_list(cursor, "<u2"), read_bytes_and_sixths(cursor)
    narrow_scales, prediction = read_list(cursor, "<f4"), read_bytes_and_sixths(cursor)
    prediction_scales, spreads, tables = read_list(cursor, "<f4"), read_list(cursor, "u1"), read_list(cursor, "u1")
    n, columns, narrow = heads * dim, len(tables), len(narrow_scales)
    refuse_unless(0 < columns <= n and narrow <= columns, "a basis of another shape")
    lengths = [(mean, n), (weights, heads * (dim * (dim + 1) // 2)), (weight_scales, heads), (spreads, columns),
               (wide_basis, (columns - narrow) * n), (narrow_basis, narrow * n), (prediction, columns * features),
               (prediction_scales, columns if features else 0)]
    refuse_unless(all(len(part) == length for part, length in lengths), "parts of other lengths than each other")
    refuse_unless(spreads[0] < 64 and (np.diff(spreads.astype(int)) <= 0).all() and (tables <= spreads).all(),
                  "columns are not in order")
    within(mean, LARGEST_VALUE)
    within(narrow_scales, LONGEST_COLUMN)
    within(prediction_scales, LARGEST_FACTOR)
    within(weight_scales, LARGEST_FACTOR)
    refuse_unless((weight_scales >= F32(1 / LARGEST_FACTOR)).all(), "a weight is absurdly small")
    inverses = [inverse_weight(triangle, scale, dim)
                for triangle, scale in zip(weights.astype(F32).reshape(heads, -1), weight_scales)]
    wide_basis = to_floats("bf16", wide_basis.tobytes()).reshape(-1, n)
    within(wide_basis, LONGEST_COLUMN)
    wide = unweighted(wide_basis, inverses, dim)
    narrow_rows = unweighted(narrow_basis.astype(F32).reshape(-1, n), inverses, dim)
    within(wide, LARGEST_VALUE)
    within(narrow_rows * narrow_scales[:, None], LARGEST_VALUE)
    most = np.abs(narrow_rows).max(axis=0, initial=0)
    steps = np.rint(narrow_rows / np.where(most > 0, most, F32(1)) * F32(127))
    return Tensor(mean, wide, steps.astype(np.int8), narrow_scales, most / F32(127),
                  prediction.reshape(columns, features), prediction_scales, spreads, tables)


def within(values, limit):
    refuse_unless((np.abs(values) <= F32(limit)).all(), "a number is larger than any of a model")  # or NaN


def inverse_weight(triangle, scale, dim):
    """W^-1 [D, D] by Cholesky's method in f64, rounded to f32 at the end."""
    lower = iter((scale * triangle).tolist())
    a = [[next(lower) if column <= row else 0.0 for column in range(dim)] for row in range(dim)]
    within(np.array(a, F32), LARGEST_FACTOR)
    for j in range(dim):
        for i in range(j, dim):
            total = a[i][j]
            for k in range(j):
                total -= a[i][k] * a[j][k]
            if i == j:
                refuse_unless(0 < total < math.inf, "a weight cannot be inverted")
                total = math.sqrt(total)
            a[i][j] = total if i == j else total / a[j][j]
    inverse = np.empty((dim, dim), F32)
    for column in range(dim):
        x = [0.0] * dim
        for i in range(dim):
            total = 1.0 if i == column else 0.0
            for k in range(i):
                total -= a[i][k] * x[k]
            x[i] = total / a[i][i]
        for i in reversed(range(dim)):
            total = x[i]
            for k in range(i + 1, dim):
                total -= a[k][i] * x[k]
            x[i] = total / a[i][i]
        inverse[:, column] = x
    return inverse


def unweighted(rows, inverses, dim):
    """Rows of Q^T, each head's values times its W^-1."""
    parts = [product(rows[:, head * dim : (head + 1) * dim], inverse) for head, inverse in enumerate(inverses)]
    return np.concatenate(parts, axis=1)
