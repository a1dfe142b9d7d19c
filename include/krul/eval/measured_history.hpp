#pragma once

#include <algorithm>
#include <cstddef>

namespace krul::eval {

/// A history that a machine can be measured with.
struct MeasuredHistory {
  std::size_t longest = 0;  ///< tokens; 0: none can be measured
  std::size_t prompt = 0;   ///< tokens of a usual prompt behind it; four times as many fit behind a quarter of it

  /// One that the model's context allows.
  /// @param most  tokens of it
  [[nodiscard]] static constexpr MeasuredHistory for_context(std::size_t context, std::size_t most = 4096) {
    return context < 64 ? MeasuredHistory{} : of(std::min(context / 2, most), context);
  }

  /// This one or a shorter one, that is also measured in time: all measurements once take half of what is left, so that
  /// those that count can be repeated.
  /// @param row_s   seconds that the model takes for a token
  /// @param left_s  seconds
  [[nodiscard]] constexpr MeasuredHistory for_time(double row_s, double left_s, std::size_t context) const {
    // The rows that all restores from memory and from the store recompute, and the history itself: calibration_shapes.
    constexpr double rows_a_token = 6;
    MeasuredHistory found = *this;
    while (found.longest >= 64 && 2 * rows_a_token * static_cast<double>(found.longest) * row_s > left_s)
      found = of(found.longest / 2, context);
    return 2 * rows_a_token * static_cast<double>(found.longest) * row_s > left_s ? MeasuredHistory{} : found;
  }

 private:
  [[nodiscard]] static constexpr MeasuredHistory of(std::size_t longest, std::size_t context) {
    return {longest, std::max<std::size_t>(1, std::min({std::size_t{32}, context / 8, longest / 8}))};
  }
};

}  // namespace krul::eval
