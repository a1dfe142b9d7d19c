#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "krul/core/tokens.hpp"

namespace krul {

/// Makes chunks of something else than the rows of a cache.
class ChunkSource {
 public:
  virtual ~ChunkSource() = default;
  /// The number of the coding: projected_coding, the only one of coding_numbers.hpp that restores take from a source.
  [[nodiscard]] virtual std::uint8_t coding() const noexcept = 0;
  /// Tokens, from the first one on, whose chunks it can make.
  [[nodiscard]] virtual std::size_t rows() const noexcept = 0;
  /// The chunk of one layer and these tokens, which is not empty. Called from several threads at once.
  /// @throws NotFiniteError if they cannot be written as finite numbers
  [[nodiscard]] virtual std::vector<std::byte> encode(std::size_t layer, TokenRange tokens) const = 0;
};

}  // namespace krul
