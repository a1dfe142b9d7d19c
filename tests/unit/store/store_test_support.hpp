#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "krul/store/manifest.hpp"
#include "krul/store/segment.hpp"

namespace krul::test {

inline const std::string folder_a(32, 'a');
inline const std::string folder_b(32, 'b');

/// One of 256 folders.
inline std::string folder_of(std::size_t number) {
  std::string folder(32, '0');
  folder[30] = "0123456789abcdef"[number / 16 % 16];
  folder[31] = "0123456789abcdef"[number % 16];
  return folder;
}

/// `count` bytes that depend on `seed`: never all equal, the same on every machine.
inline std::vector<std::byte> some_bytes(std::size_t count, std::uint32_t seed) {
  std::vector<std::byte> bytes(count);
  std::uint32_t state = seed * 2654435761U + 1;
  for (std::byte& byte : bytes) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<std::byte>(state >> 24);
  }
  return bytes;
}

/// The chunks of all layers for some neighbouring blocks, of various lengths.
inline SegmentWriter some_segment(SegmentShape shape, std::uint32_t seed) {
  SegmentWriter segment(shape);
  for (std::size_t i = 0; i < shape.layers * shape.count(); ++i)
    segment.add(some_bytes(40 + 7 * i, seed + static_cast<std::uint32_t>(i)), 3, 0);
  return segment;
}

/// A small manifest in which every field has a value of its own: 2 layers, 2 blocks of 4, the last one of 2 rows.
inline Manifest some_manifest() {
  Manifest manifest;
  manifest.conversation = std::string("gr\xfc\xc3\x9f/../\0id", 12);
  manifest.generation = 7;
  manifest.identity = {"llama", "12ab", "34cd", "L=2 G=1 D=4", "56ef", "eigen f32", "AMD", "2"};
  manifest.tokens = {1, 5, 49151, 0, 2147483647, 9, 12};
  manifest.layers = 2;
  manifest.block = 4;
  manifest.plans = {{"krul", "int8", "bound=0.003"}};
  manifest.writer = "krul 0.1.0";
  manifest.saved_unix_s = 1'790'000'000;
  const SegmentWriter first = some_segment({2, 0, 1}, 1);
  enter_segment(manifest, first, first.name(6), 4);
  const SegmentWriter second = some_segment({2, 1, 1}, 9);
  enter_segment(manifest, second, second.name(7), 6);
  return manifest;
}

}  // namespace krul::test
