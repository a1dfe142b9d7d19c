#!/usr/bin/env python3
"""Makes tests/vectors/dequantize_vectors.hpp: random blocks of each tensor type, and the floats that the `gguf` Python
package reads from them.

    pip install gguf==0.19.0 numpy
    python3 scripts/make_dequantize_vectors.py > tests/vectors/dequantize_vectors.hpp
"""

import random
import textwrap

import gguf
import numpy as np

# Type, blocks, and where in a block its f16 scales lie: these are drawn apart, so that every value is finite.
TYPES = [
    ("f32", 8, []),
    ("f16", 16, [0]),
    ("bf16", 16, []),
    ("q4_0", 2, [0]),
    ("q4_1", 2, [0, 2]),
    ("q5_0", 2, [0]),
    ("q5_1", 2, [0, 2]),
    ("q8_0", 2, [0]),
    ("q4_k", 1, [0, 2]),
    ("q5_k", 1, [0, 2]),
    ("q6_k", 1, [208]),
]


def rows(numbers, form):
    return textwrap.fill(", ".join(form % int(number) for number in numbers), 118)


def main():
    draw = random.Random(2507)
    print("// Made by scripts/make_dequantize_vectors.py; do not edit.")
    print("#pragma once\n")
    print("#include <cstdint>\n#include <span>\n")
    print('#include "krul/model/gguf_type.hpp"\n')
    print("namespace krul::testing {\n")
    print("/// Blocks of one type and the bit patterns of the floats they stand for.")
    print("struct DequantizeVector {")
    print("  GgufType type;\n  std::span<const std::uint8_t> blocks;\n  std::span<const std::uint32_t> values;\n};\n")
    print("// clang-format off")
    for name, count, scales in TYPES:
        kind = gguf.GGMLQuantizationType[name.upper()]
        size = gguf.GGML_QUANT_SIZES[kind][1]
        blocks = np.array([[draw.randrange(256) for _ in range(size)] for _ in range(count)], dtype=np.uint8)
        for block in blocks:
            if name == "f32":
                block[:] = np.frombuffer(np.float32(draw.gauss(0, 1)).tobytes(), dtype=np.uint8)
            if name == "bf16":
                block[1] = draw.choice([0x00, 0x3F, 0x40, 0x80, 0xBE, 0xC1])
            for at in scales:
                block[at : at + 2] = np.frombuffer(np.float16(draw.gauss(0, 0.1)).tobytes(), dtype=np.uint8)
        values = gguf.quants.dequantize(blocks, kind).astype(np.float32).ravel()
        assert np.isfinite(values).all()
        print(f"inline constexpr std::uint8_t {name}_blocks[] = {{\n{rows(blocks.ravel(), '%d')}}};")
        print(f"inline constexpr std::uint32_t {name}_values[] = {{\n{rows(values.view(np.uint32), '0x%x')}}};\n")
    print("inline constexpr DequantizeVector dequantize_vectors[] = {")
    for name, _, _ in TYPES:
        print(f"    {{GgufType::{name}, {name}_blocks, {name}_values}},")
    print("};\n// clang-format on\n\n}  // namespace krul::testing")


if __name__ == "__main__":
    main()
