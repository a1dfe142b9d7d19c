#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>

#include "krul/core/error.hpp"
#include "krul/core/geometry.hpp"

namespace krul {

/// Codes rows of K (or of V) of one layer by themselves: [T, G, D] in the cache's element type to bytes and back.
///
///   name()                       names what decodes the bytes, its version included: "acme.fp8.1". It is stored, so
///                                what it stands for never changes; names without a dot are krul's
///   bytes(geometry, rows)        encoded length, linear in rows
///   encode(geometry, rows, to)   rows [T, G, D], to [bytes(geometry, T)]
///   decode(geometry, from, rows) the inverse up to the codec's error; corrupt if the bytes cannot be its own
///   relative_error(type)         largest error of a value after encode and decode, relative to the largest magnitude
///                                in its token and head; 0 if exact
/// @throws PreconditionError from encode and decode if a span's length does not fit
template <class C>
concept RowCodec = requires(const C& codec, const Geometry& geometry, std::size_t rows, ElementType type,
                            std::span<const std::byte> from, std::span<std::byte> to) {
  { codec.name() } -> std::same_as<std::string_view>;
  { codec.bytes(geometry, rows) } -> std::same_as<std::size_t>;
  { codec.encode(geometry, from, to) } -> std::same_as<void>;
  { codec.decode(geometry, from, to) } -> std::same_as<Status>;
  { codec.relative_error(type) } -> std::same_as<double>;
};

}  // namespace krul
