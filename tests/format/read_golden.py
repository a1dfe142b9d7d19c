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

from krul_format.attention import parse_row_attention, parse_statistics
from krul_format.basics import F32, Cursor, Geometry, Refused, checksum, from_floats
from krul_format.joint import Block
from krul_format.manifest import load_manifest, object_path, read_chunk, read_loans
from krul_format.profile import Profile
from krul_format.rows import decode_chunk

HIDDEN_STATES, FIRST_FOREIGN = 0x32, 128
MINOR_OF_SECTION = {9: 1, 10: 2, 11: 2, 12: 3, 13: 4}


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


def toy_texts(tokens):
    """Token t means "<t>"."""
    texts = [f"<{token}>".encode() for token in tokens]
    return checksum(b"".join(len(text).to_bytes(4, "little") + text for text in texts)).hex().encode()


def foreign_rows(name, chunk, block):
    """[layers][K, V] by the coders of tests/support/foreign_parts.hpp, of which krul knows the names."""
    parts = (255 - np.frombuffer(chunk, np.uint8)).reshape(2, len(block.layers), -1)
    if name == b"acme.differing-bits.1+acme.inverted.1":
        parts[:, 1] ^= parts[:, 0]
    elif name != b"acme.inverted.1":
        raise Refused(f"nobody knows the coder {name}")
    return [(keys.tobytes(), values.tobytes()) for keys, values in parts.swapaxes(0, 1)]


# ---- what is read ----


def manifest_lines(manifest):
    """All that a manifest says but checksums, as tests/golden/manifest_lines.hpp writes it."""
    lines = []

    def line(name, *values):
        text = " ".join(value.decode() if isinstance(value, bytes) else f"{value:.9g}" if isinstance(value, float)
                        else str(value) for value in values)
        lines.append(f"{manifest.conversation.decode()} {name} {text}".rstrip())

    line("format", 1, manifest.minor)
    for name in ("generation", "rows", "layers", "block"):
        line(name, getattr(manifest, name))
    for text in manifest.identity:
        line("identity", text)
    line("tokens", *manifest.tokens)
    for name in manifest.objects:
        line("object", name)
    for plan in manifest.plans:
        for name, text in (("plan", plan.strategy), ("codec", plan.codec), ("settings", plan.settings),
                           ("profile", plan.profile)):
            line(name, text)
        if plan.measured_step is not None:
            line("step", plan.measured_step)
        for coder in plan.coders:
            line("coder", coder)
    for chunk in manifest.chunks:
        line("chunk", chunk.object, chunk.offset, chunk.length, chunk.coding, chunk.plan)
    line("writer", manifest.origin[0])
    line("saved", manifest.origin[1])
    if manifest.statistics:
        seen = parse_statistics(manifest.statistics)
        line("statistics", *seen.masses.shape[:1], seen.heads, *seen.masses.shape[1:], seen.rows)
        for name, sums in (("distances", seen.distances), ("masses", seen.masses)):
            for part in sums:
                line(name, *part.tolist())
    line("texts", manifest.texts)
    if manifest.row_attention:
        seen = parse_row_attention(manifest.row_attention)
        line("query-rows", seen.query_rows)
        line("bands", *seen.bands)
        for codes in seen.codes:
            line("received", *codes)
    return lines


def read_conversation(folder, manifest, profile_bytes):
    """{(layer, block): checksum of its K and V}, and how many chunks hold hidden states."""
    geometry = Geometry.parse(manifest.identity[3])
    profile = Profile(profile_bytes, geometry)
    if (profile.model, profile.geometry) != (manifest.identity[1], manifest.identity[3]):
        profile = None  # it is another cache's
    features = toy_features(geometry, manifest.tokens[: manifest.rows])
    rows, projected = {}, 0
    for block in range(manifest.blocks):
        begin, end = block * manifest.block, min((block + 1) * manifest.block, manifest.rows)
        for layer in range(manifest.layers):
            record, layers = manifest.record(layer, block), manifest.layers_of(layer, block)
            if record.length == 0 or layer != layers[0]:
                continue
            chunk = read_chunk(folder, manifest, record)
            if chunk is None:
                continue
            here = Block(layers, begin, end - begin, profile, features[begin:end])
            if record.coding == HIDDEN_STATES:
                if chunk != from_floats("f16", toy_hidden(geometry, manifest.rows, layer)[begin:end]):
                    raise Refused(f"layer {layer}, block {block}: other hidden states than were saved")
                projected += 1
                continue
            if record.coding >= FIRST_FOREIGN:
                name = manifest.plans[record.plan].coders[record.coding - FIRST_FOREIGN]
                decoded = foreign_rows(name, chunk, here)
            else:
                decoded = decode_chunk(record.coding, geometry, chunk, here)
            for to, (keys, values) in zip(layers, decoded):
                rows[to, block] = checksum(keys + values).hex()
    return rows, projected


def check_store(folders, manifests):
    """That names fit contents, and that whatever is borrowed is lent."""
    lent = {folder.name: read_loans(folder) for folder in folders}
    for folder in folders:
        for segment in folder.glob("segment-*"):
            if not segment.name.endswith(checksum(segment.read_bytes()).hex()[:8]):
                raise Refused(f"{folder.name}: {segment.name} has another checksum")
        if folder not in manifests and not lent[folder.name]:
            raise Refused(f"{folder.name}: there is no manifest, and nothing is lent")
    for folder, manifest in manifests.items():
        borrowed = [name.decode().split("/") for name in manifest.objects if b"/" in name]
        if not all(name in lent[lender].get(folder.name, ()) for lender, name in borrowed):
            raise Refused(f"{folder.name}: it names what is not lent to it")
        for lender, name in borrowed:
            if not object_path(folder, f"{lender}/{name}").is_file():
                raise Refused(f"{folder.name}: what it borrows is gone")


def read_folder(version):
    """All conversations that one version wrote."""
    known = {}
    for line in (version / "rows.txt").read_text().splitlines():
        conversation, layer, block, sum_of_it = line.split()
        known.setdefault(conversation, {})[int(layer), int(block)] = sum_of_it
    folders = sorted((version / "store").iterdir())
    manifests = {folder: load_manifest(folder) for folder in folders if (folder / "manifest-a").is_file()}
    check_store(folders, manifests)
    profile, lines = (version / "toy.krulprofile").read_bytes(), []
    for folder, manifest in sorted(manifests.items(), key=lambda each: each[1].conversation):
        name = manifest.conversation.decode()
        if manifest.minor != max((MINOR_OF_SECTION.get(number, 0) for number in manifest.sections), default=0):
            raise Refused(f"{name}: it states another version than its sections need")
        if manifest.texts not in (b"", toy_texts(manifest.tokens)):
            raise Refused(f"{name}: its tokens mean something else")
        rows, projected = read_conversation(folder, manifest, profile)
        if rows != known.pop(name, {}):
            raise Refused(f"{name}: other rows than krul decodes")
        lines += manifest_lines(manifest)
        print(f"{version.name} {name}: {len(rows)} blocks of rows and {projected} of hidden states")
    if known or not manifests:
        raise Refused(f"conversations are missing: {sorted(known)}")
    if version.name != "1.1" and lines != (version / "manifests.txt").read_text().splitlines():
        raise Refused(f"{version.name}: manifests say something else than krul reads")


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
