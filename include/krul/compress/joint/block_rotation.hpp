#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "krul/core/geometry.hpp"
#include "krul/core/tokens.hpp"

namespace krul::detail {

/// The rotary embedding of the tokens of a block, and its inverse. The angles and what they do have the same bits on
/// every processor.
class BlockRotation {
 public:
  BlockRotation(const Rotary& rotary, Position first, std::size_t tokens);

  /// Turns the heads of one token, [G, D] in place.
  void turn(std::size_t token, std::span<float> heads, std::size_t head_dim) const;
  void turn_back(std::size_t token, std::span<float> heads, std::size_t head_dim) const;

  /// [T, dimensions / 2], for whoever turns them on something else.
  [[nodiscard]] std::span<const float> cosines() const noexcept { return cosines_; }
  [[nodiscard]] std::span<const float> sines() const noexcept { return sines_; }

 private:
  void apply(std::size_t token, std::span<float> heads, std::size_t head_dim, bool back) const;

  Rotary rotary_;
  std::size_t half_;
  std::vector<float> cosines_, sines_;  // [T, dimensions / 2]
};

}  // namespace krul::detail
