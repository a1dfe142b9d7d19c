#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>

#include "krul/core/clock.hpp"
#include "krul/core/error.hpp"

namespace krul::eval {

/// How long several measurements may go on together, counted from when this was made. Each takes a share of what is
/// left; what it does not use is there for those after it.
template <Clock C = SteadyClock>
class Patience {
 public:
  /// @param limit_s  seconds; may be infinite
  /// @throws         PreconditionError if it is negative or NaN
  explicit Patience(double limit_s, C clock = {}) : clock_(std::move(clock)), start_(clock_.now()), limit_s_(limit_s) {
    expects(limit_s >= 0, "Patience: it cannot be negative");
  }

  /// An equal part of what is left.
  /// @param measurements  that are still to come
  /// @return              seconds, 0 once it has run out
  /// @throws              PreconditionError if nothing is to come
  [[nodiscard]] double share_s(std::size_t measurements = 1) const {
    expects(measurements > 0, "Patience: nothing is to come");
    return std::max(limit_s_ - seconds(clock_.now() - start_), 0.0) / static_cast<double>(measurements);
  }

 private:
  C clock_;
  TimePoint start_;
  double limit_s_;
};

}  // namespace krul::eval
