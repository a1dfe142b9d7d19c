#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "krul/backend/kv_rows.hpp"
#include "krul/compress/block_context.hpp"
#include "krul/core/error.hpp"
#include "krul/core/geometry.hpp"

namespace krul {

/// Turns the K and V of a group of layers over a block of T tokens into one chunk and back.
///
///   name()                                  names what decodes a chunk, its version included: "acme.fp8.1". It is
///                                           stored, so what it stands for never changes; names without a dot are
///                                           krul's
///   layers()                                layers of a group, >= 1
///   largest_bytes(geometry, rows)           no chunk of so many tokens is longer
///   encode(geometry, group, context)        group [layers()], each [T, G, D] -> the chunk, which is not empty
///   decode(geometry, from, group, context)  the inverse up to the coder's error; corrupt if the bytes cannot be its
///   own
///
/// Const calls come from several threads at once. Bytes to decode come from a store and are not trusted. A chunk
/// decodes without any other.
template <class C>
concept ChunkCoder = requires(const C& coder, const Geometry& geometry, std::size_t rows, std::span<const KvRows> read,
                              std::span<const MutableKvRows> write, std::span<const std::byte> from,
                              const BlockContext& context) {
  { coder.name() } -> std::same_as<std::string>;
  { coder.layers() } -> std::same_as<std::size_t>;
  { coder.largest_bytes(geometry, rows) } -> std::same_as<std::size_t>;
  { coder.encode(geometry, read, context) } -> std::same_as<std::vector<std::byte>>;
  { coder.decode(geometry, from, write, context) } -> std::same_as<Status>;
};

}  // namespace krul
