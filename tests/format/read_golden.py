#!/usr/bin/env python3
"""Reads what krul has written with a reader that shares nothing with krul but docs/format.md: every folder of
tests/golden and the coded rows of tests/vectors. Decoded rows are compared bit for bit with what krul decodes, by their
checksums.

Usage: read_golden.py TESTS, the folder in which golden and vectors lie
"""

import pathlib
import sys

import numpy as np

sys.dont_write_bytecode = True

from krul_format.attention import check_row_attention, check_statistics
from krul_format.basics import F32, Cursor, Geometry, Refused, checksum, from_floats
from krul_format.joint import Block
from krul_format.manifest import load_manifest, read_chunk
from krul_format.profile import Profile
from krul_format.rows import decode_chunk

HIDDEN_STATES = 0x32


# ---- what the goldens were made from: tests/golden/golden_conversation.hpp and the toy model ----


def drawn(count, seed):
    """`count` values near a bell curve, after the first `seed` of them."""
    bits = np.arange(seed + 1, seed + 1 + count, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = (bits ^ bits >> np.uint64(shift)) * np.uint64(factor)
    bits ^= bits >> np.uint64(31)
    sums = sum((bits >> np.uint64(12 * part) & np.uint64(4095)).astype(np.int64) - 2048 for part in range(4))
    return sums.astype(F32) * np.where(bits >> np.uint64(56) == 0, F32(2.0**-6), F32(2.0**-11))


def toy_features(geometry, tokens):
    """Each token's embedding in the toy model, over its root mean square."""
    sequence, values = 5, np.empty(geometry.vocabulary * geometry.hidden, F32)
    scale = np.sqrt(F32(3) / F32(geometry.hidden))
    for i in range(values.size):
        sequence = (sequence * 6364136223846793005 + 1442695040888963407) % 2**64
        values[i] = scale * F32((sequence >> 40) * 2.0**-23 - 1)
    return normed(values.reshape(-1, geometry.hidden)[list(tokens)])


def normed(embeddings):
    squares = np.zeros(len(embeddings), F32)
    for column in embeddings.T:
        squares = squares + column * column
    return embeddings * (F32(1) / np.sqrt(squares / F32(embeddings.shape[1]) + F32(1e-12)))[:, None]


def toy_hidden(geometry, rows, layer):
    of_layer = rows * (2 * geometry.row_values + geometry.hidden)
    return drawn(rows * geometry.hidden, layer * of_layer + rows * 2 * geometry.row_values).reshape(rows, -1)


# ---- what is read ----


def read_conversation(folder, profile_bytes):
    """{(layer, block): checksum of its K and V}, and how many chunks hold hidden states."""
    manifest = load_manifest(folder)
    geometry = Geometry.parse(manifest.identity[3])
    profile = Profile(profile_bytes, geometry)
    features = toy_features(geometry, manifest.tokens[: manifest.rows])
    if manifest.statistics:
        check_statistics(manifest.statistics)
    if manifest.row_attention:
        check_row_attention(manifest.row_attention)
    rows, projected = {}, 0
    for block in range(manifest.blocks):
        begin, end = block * manifest.block, min((block + 1) * manifest.block, manifest.rows)
        for layer in range(manifest.layers):
            record, layers = manifest.record(layer, block), manifest.layers_of(layer, block)
            if record.length == 0 or layer != layers[0]:
                continue
            chunk = read_chunk(folder, manifest, record)
            if record.coding == HIDDEN_STATES:
                if chunk != from_floats("f16", toy_hidden(geometry, manifest.rows, layer)[begin:end]):
                    raise Refused(f"layer {layer}, block {block}: other hidden states than were saved")
                projected += 1
                continue
            here = Block(layers, begin, end - begin, profile, features[begin:end])
            for to, (keys, values) in zip(layers, decode_chunk(record.coding, geometry, chunk, here)):
                rows[to, block] = checksum(keys + values).hex()
    return manifest.conversation.decode(), rows, projected


def read_folder(version):
    """All conversations that one version wrote."""
    known = {}
    for line in (version / "rows.txt").read_text().splitlines():
        strategy, layer, block, sum_of_it = line.split()
        known.setdefault(strategy, {})[int(layer), int(block)] = sum_of_it
    profile, conversations = (version / "toy.krulprofile").read_bytes(), sorted((version / "store").iterdir())
    for folder in conversations:
        name, rows, projected = read_conversation(folder, profile)
        if rows != known.pop(name, {}):
            raise Refused(f"{name}: other rows than krul decodes")
        print(f"{version.name} {name}: {len(rows)} blocks of rows and {projected} of hidden states")
    if known or not conversations:
        raise Refused(f"conversations are missing: {sorted(known)}")


def vector_cases():
    """Geometry, layers, coding and rows of each case of tests/vectors/coded-rows.bin, in order."""
    def geometry(cache, dim=8, interleaved=True):
        return Geometry(4, 2, dim, 32, 64, interleaved, 8, 10000.0, cache)
    for cache in ("f32", "f16", "bf16"):
        for codec in range(1, 6):
            yield geometry(cache, 72), codec, Block([0], 0, 9)
            yield geometry(cache, 72), 0x10 | codec, Block([0, 1], 0, 9)
        for interleaved in (True, False):
            for _, first in ((step, first) for step in range(3) for first in (0, 200)):
                yield geometry(cache, interleaved=interleaved), 0x41, Block([0, 1], first, 45)


def class_cases():
    for _, first in ((step, first) for step in range(3) for first in (0, 200)):
        yield Geometry(4, 2, 8, 32, 64, False, 8, 10000.0, "f16"), 0x41, Block([0, 1], first, 64)


def read_vectors(folder):
    """Chunks of all codings and types of caches, and checksums of the rows that krul decodes."""
    rows = Cursor((folder / "coded-rows.bin").read_bytes())
    profile = rows.text()
    for cursor, cases in ((rows, vector_cases()), (Cursor((folder / "coded-rows-with-classes.bin").read_bytes()),
                                                   class_cases())):
        for number, (geometry, coding, block) in enumerate(cases):
            if coding == 0x41:
                values = 2 * len(block.layers) * block.rows * geometry.row_values
                block.features = drawn(block.rows * 32, 2000 + block.rows + values).reshape(-1, 32)
                block.profile = Profile(profile, geometry)
            layers = decode_chunk(coding, geometry, cursor.text(), block)
            if checksum(b"".join(keys + values for keys, values in layers)) != cursor.take(16):
                raise Refused(f"coded rows, case {number}: other rows than krul decodes")
        cursor.finish()
        print(f"coded rows: {number + 1} chunks")


def main():
    tests = pathlib.Path(sys.argv[1])
    versions = sorted(path for path in (tests / "golden").iterdir() if path.is_dir())
    try:
        for version in versions:
            read_folder(version)
        read_vectors(tests / "vectors")
    except Refused as error:
        sys.exit(f"read_golden.py: {error}")
    if not versions:
        sys.exit("read_golden.py: there is no golden folder")


if __name__ == "__main__":
    main()
