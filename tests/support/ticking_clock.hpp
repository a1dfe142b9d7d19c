#pragma once

#include <atomic>
#include <memory>

#include "krul/core/clock.hpp"

namespace krul::test {

/// Every look at it takes a microsecond: whatever is timed takes some time, without any waiting.
class TickingClock {
 public:
  [[nodiscard]] TimePoint now() const { return std::chrono::microseconds(now_->fetch_add(1)); }
  void sleep_until(TimePoint) const {}

 private:
  std::shared_ptr<std::atomic<std::int64_t>> now_ = std::make_shared<std::atomic<std::int64_t>>(0);
};
static_assert(Clock<TickingClock>);

}  // namespace krul::test
