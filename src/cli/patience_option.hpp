#pragma once

#include "krul/eval/patience.hpp"
#include "tool.hpp"

namespace krul::cli {

/// --patience
struct PatienceOption {
  double limit_s = 0;  ///< seconds; what it is before the options are read is the default

  /// @return --patience
  CLI::Option* add_to(CLI::App& verb);
  [[nodiscard]] eval::Patience<> begin() const { return eval::Patience(limit_s); }
};

/// Defaults, in seconds: a quiet machine runs all rounds within them.
inline constexpr double bench_patience_s = 300, demo_patience_s = 90, calibration_patience_s = 60;

}  // namespace krul::cli
