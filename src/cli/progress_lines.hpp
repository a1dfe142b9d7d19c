#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>

#include "krul/core/clock.hpp"

namespace krul::cli {

/// What of a verb's progress becomes lines of a log: at most one in ten seconds. What takes less leaves no line.
template <Clock C = SteadyClock>
class ProgressLines {
 public:
  static constexpr Duration apart = std::chrono::seconds(10);

  explicit ProgressLines(C clock = {}) : clock_(std::move(clock)), last_(clock_.now()) {}

  /// @return the state, as the line to write now, if the last line or the beginning is ten seconds ago; else it is held
  ///         back until a newer one takes its place
  [[nodiscard]] std::optional<std::string> report(std::string state) {
    held_ = std::move(state);
    if (clock_.now() - last_ < apart) return std::nullopt;
    last_ = clock_.now();
    begun_ = true;
    return std::exchange(held_, std::nullopt);
  }

  /// @return the last state, if lines were written before it and it was held back: a log must not end with an old one
  [[nodiscard]] std::optional<std::string> finish() {
    auto last = std::exchange(held_, std::nullopt);
    return begun_ ? last : std::nullopt;
  }

 private:
  C clock_;
  TimePoint last_;
  bool begun_ = false;  // a line was written
  std::optional<std::string> held_;
};

}  // namespace krul::cli
