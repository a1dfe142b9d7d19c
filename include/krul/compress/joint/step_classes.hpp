#pragma once

#include <cstddef>
#include <cstdint>

#include "krul/compress/joint/profile.hpp"

namespace krul {

/// How much more finely or coarsely than its block's step a row is coded: a small number for each row.
///
/// Neighbouring classes are as many codes apart as lie between a symbol table and the next one of its shape, so that
/// the table which suits a column in one class says which one suits it in every other.
/// @source ours
struct StepClasses {
  static constexpr std::uint8_t count = 16, usual = 8;
  static constexpr int codes_apart = 6;    ///< 2^(3/8) of a step
  static constexpr int tables_apart = -2;  ///< a coarser class has smaller symbols
  /// Rows with classes code the columns of so many classes more: what is left out makes all rows smaller alike, and
  /// columns of zeros cost little.
  static constexpr int columns_finer = 2;

  /// The step of a class, where that of the usual one is `step`.
  [[nodiscard]] static constexpr StepScale step(StepScale step, std::uint8_t of) noexcept {
    return {static_cast<std::int8_t>(step.code + codes_apart * (int{of} - int{usual}))};
  }
};
static_assert(finest_step.code - StepClasses::codes_apart * StepClasses::usual >= INT8_MIN);
static_assert(coarsest_step.code + StepClasses::codes_apart * (StepClasses::count - 1 - StepClasses::usual) <=
              INT8_MAX);

}  // namespace krul
