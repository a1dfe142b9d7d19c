#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "krul/core/tokens.hpp"

namespace krul {

/// What a coding may know of a block beside its rows: where it lies and which tokens it holds.
struct BlockContext {
  Position first = 0;                          ///< position of the first row
  std::span<const float> features;             ///< [T, F] of its tokens, see TokenFeatures; empty where nobody has them
  std::span<const std::uint8_t> classes = {};  ///< [T] for an encoder: how finely each row is wanted, see StepClasses;
                                               ///< empty: all alike
};

}  // namespace krul
