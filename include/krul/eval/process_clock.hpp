#pragma once

#include <ctime>

#include "krul/core/clock.hpp"
#include "krul/core/error.hpp"

namespace krul::eval {

/// Processor time of all threads of this process: what work takes of the cores, however long others make it wait.
struct ProcessClock {
  /// @throws PreconditionError if the system does not count it
  [[nodiscard]] TimePoint now() const {
    timespec now{};
    expects(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0, "ProcessClock: the system counts no processor time");
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  }
  /// Returns at once: a process that sleeps takes no processor time.
  void sleep_until(TimePoint) const noexcept {}
};
static_assert(Clock<ProcessClock>);

}  // namespace krul::eval
