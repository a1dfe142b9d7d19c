#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "coding_order.hpp"
#include "krul/compress/joint/profile.hpp"
#include "krul/core/error.hpp"
#include "krul/core/geometry.hpp"

namespace krul::detail {

/// How the row at position 0 is stored, and whether the classes of the others' steps follow.
enum FirstRow : std::uint8_t { absent, stored, of_profile, with_classes = 4 };

/// The id of the profile, the step, and a FirstRow.
inline constexpr std::size_t chunk_header_bytes = 8 + 1 + 1;

/// What a chunk says before its symbols.
struct ChunkHeader {
  StepScale step;
  std::vector<std::byte> first_row = {};   ///< [layers, K and V, G * D]; empty: no row is kept apart
  std::vector<std::uint8_t> classes = {};  ///< [T]; empty: all rows alike
  std::span<const std::byte> tables = {}, symbols = {};
};

/// Rows of a chunk that lie at position 0, and the others.
struct ChunkRows {
  std::size_t apart = 0, others = 0;
};

/// @return truncated, unsupported (coded by another profile) or corrupt
[[nodiscard]] Result<ChunkHeader> read_chunk_header(const Profile& profile, std::size_t group, const Geometry& geometry,
                                                    std::span<const std::byte> chunk, const ChunkRows& rows);

/// The profile's row 0 of one layer's K (0) or V (1), [G, D] in the cache's element type.
[[nodiscard]] std::vector<std::byte> first_row_of(const Profile& profile, const Geometry& geometry, std::size_t layer,
                                                  std::size_t tensor);

}  // namespace krul::detail
