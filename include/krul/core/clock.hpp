#pragma once

#include <atomic>
#include <chrono>
#include <concepts>
#include <memory>
#include <thread>

namespace krul {

/// Time since some fixed moment. Monotonic.
using TimePoint = std::chrono::nanoseconds;
using Duration = std::chrono::nanoseconds;

[[nodiscard]] constexpr double seconds(Duration duration) noexcept {
  return std::chrono::duration<double>(duration).count();
}
[[nodiscard]] constexpr Duration duration_of(double seconds) noexcept {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

/// What tells time and can wait. Injected wherever deadlines, throttling or timing exist; copies share one time.
template <class C>
concept Clock = std::copyable<C> && requires(const C& clock, TimePoint moment) {
  { clock.now() } -> std::same_as<TimePoint>;
  { clock.sleep_until(moment) } -> std::same_as<void>;
};

/// The machine's monotonic clock.
struct SteadyClock {
  [[nodiscard]] TimePoint now() const { return std::chrono::steady_clock::now().time_since_epoch(); }
  void sleep_until(TimePoint moment) const {
    std::this_thread::sleep_until(
        std::chrono::steady_clock::time_point(std::chrono::duration_cast<std::chrono::steady_clock::duration>(moment)));
  }
};
static_assert(Clock<SteadyClock>);

/// A clock that only moves when told to, or when somebody sleeps on it: tests never wait.
class ManualClock {
 public:
  [[nodiscard]] TimePoint now() const { return TimePoint(now_->load()); }
  void advance(Duration duration) const { now_->fetch_add(duration.count()); }
  void sleep_until(TimePoint moment) const {
    auto current = now_->load();
    while (current < moment.count() && !now_->compare_exchange_weak(current, moment.count())) {
    }
  }

 private:
  std::shared_ptr<std::atomic<TimePoint::rep>> now_ = std::make_shared<std::atomic<TimePoint::rep>>(0);
};
static_assert(Clock<ManualClock>);

}  // namespace krul
