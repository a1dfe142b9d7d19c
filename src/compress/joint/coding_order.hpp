#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "krul/compress/joint/step_classes.hpp"
#include "krul/core/error.hpp"

namespace krul::detail {

/// The rows of a block in the order in which their symbols lie: the finest first, so that rows which want like tables
/// and columns lie together.
struct CodingOrder {
  /// Rows whose symbols have the same tables: as many as a step of the entropy coder takes at once.
  struct Run {
    std::size_t first = 0, count = 0;
    int finest = 0;  ///< class, less the usual one, that its columns are for: columns_finer below its finest row's
    int usual = 0;   ///< the same of the mean of its rows, that its tables are for
  };
  std::vector<std::uint32_t> tokens;   ///< [T] which one comes at this place
  std::vector<float> steps, per_step;  ///< [T] of that one, over the profile's; and 1 / step
  std::vector<Run> runs;               ///< all of them, in order; at least one
  float bit = 0;                       ///< squared steps that a bit is worth to an encoder

  /// By how many indices a run's tables lie above those of the first run.
  [[nodiscard]] int table_shift(const Run& run) const noexcept {
    return StepClasses::tables_apart * (run.usual - runs.front().usual);
  }

  /// @param classes  [T], or empty: all rows are coded at the block's step, in one run
  CodingOrder(StepScale step, std::span<const std::uint8_t> classes, std::size_t count);
};

/// Appends the classes of a block's rows: a byte with the lowest one and how many bits each takes, then the bits.
void append_classes(std::span<const std::uint8_t> classes, std::vector<std::byte>& to);

/// Reads what append_classes wrote from the front of `from` and removes it there.
/// @return truncated or corrupt if these bytes are no classes of so many rows
[[nodiscard]] Result<std::vector<std::uint8_t>> read_classes(std::size_t rows, std::span<const std::byte>& from);

}  // namespace krul::detail
