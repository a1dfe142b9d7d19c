#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "krul/compress/joint/profile.hpp"

namespace krul {

/// How much more finely a conversation's newest rows are coded, as long as they are the newest.
///
/// What comes next attends most to what came last: of all the divergence that coding 1,024 tokens causes, two fifths
/// come from the last 64. A finer step for these few costs less than it lets the others save.
/// @source ours, measured; KIVI (arXiv:2402.02750) and KVTC (arXiv:2511.01815) keep a recent window exact, second-hand
struct RecentRows {
  std::size_t count = 64;  ///< a block that ends before so many last rows is not recent; 0: none is
  /// By how many codes. The step is close to a third, and rounding to a third of a step and then to the whole one is
  /// the same as rounding to the whole one: blocks lose nothing when they are coded again because newer ones came.
  int finer = 25;

  /// Whether a block that ends there is recent among so many rows.
  [[nodiscard]] bool include(std::size_t block_end, std::size_t rows) const noexcept {
    return rows < block_end + count;
  }
  /// The step of a recent block where that of the others is `step`: never a coarser one.
  [[nodiscard]] StepScale step(StepScale step) const noexcept {
    const int code = std::max<int>(step.code - finer, finest_step.code);
    return {static_cast<std::int8_t>(std::min<int>(code, step.code))};
  }
  friend bool operator==(const RecentRows&, const RecentRows&) = default;
};

}  // namespace krul
