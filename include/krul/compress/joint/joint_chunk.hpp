#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/compress/joint/profile.hpp"
#include "krul/core/error.hpp"
#include "krul/core/geometry.hpp"
#include "krul/core/tokens.hpp"

namespace krul {

/// A chunk of a group of layers, read but not decoded: for whoever decodes on something else than this processor.
struct JointChunk {
  /// Rows that share tables and columns, of K or of V.
  struct Run {
    std::size_t first = 0, count = 0;          ///< places of its rows
    std::size_t columns = 0, wide = 0;         ///< leading columns that count, and how many of them are wide
    std::vector<std::int32_t> symbol_of = {};  ///< [columns] which column of symbols is this one's; -1: only predicted
    std::vector<std::uint8_t> tables = {};     ///< [coded columns] indices into the profile's tables
  };

  std::size_t rows = 0;                  ///< T: without the row at position 0, which is kept apart
  bool has_first_row = false;            ///< whether there is one
  std::vector<std::byte> first_row;      ///< [layers, K and V, G * D] of the cache's type, if there is one
  std::vector<std::uint32_t> tokens;     ///< [T] which of the chunk's rows, that one counted, is at each place
  std::vector<float> steps;              ///< [T] of each place, over the profile's
  std::array<std::vector<Run>, 2> runs;  ///< of K and of V: the same rows in both
  std::size_t streams = 0;               ///< of the symbols: those of K run after run, then those of V
  std::span<const std::byte> symbols;    ///< of the chunk: SymbolBlock says how they lie

  /// @param rows  positions of its rows
  /// @return as JointTransform::decode, but for what the symbols say
  /// @throws PreconditionError if there is no such group, or no rows
  [[nodiscard]] static Result<JointChunk> read(const Profile& profile, std::size_t group, const Geometry& geometry,
                                               std::span<const std::byte> chunk, TokenRange rows);
};

}  // namespace krul
