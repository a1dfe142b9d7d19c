#include <krul/core/clock.hpp>

using krul::TimePoint;

namespace {

struct ClockArchetype {
  ClockArchetype() = delete;
  [[nodiscard]] TimePoint now() const;
  void sleep_until(TimePoint) const;
};
struct NoNow : ClockArchetype {
  void now() const = delete;
};
struct TellsMilliseconds : ClockArchetype {
  [[nodiscard]] std::chrono::milliseconds now() const;
};
struct SleepsOnlyWhenMutable : ClockArchetype {
  void sleep_until(TimePoint);
};
struct SleepSaysWhether : ClockArchetype {
  bool sleep_until(TimePoint) const;
};
struct CannotBeCopied : ClockArchetype {
  CannotBeCopied(const CannotBeCopied&) = delete;
};
static_assert(krul::Clock<ClockArchetype> && krul::Clock<krul::SteadyClock> && krul::Clock<krul::ManualClock>);
static_assert(!krul::Clock<std::chrono::steady_clock>);
static_assert(!krul::Clock<NoNow>);
static_assert(!krul::Clock<TellsMilliseconds>);
static_assert(!krul::Clock<SleepsOnlyWhenMutable>);
static_assert(!krul::Clock<SleepSaysWhether>);
static_assert(!krul::Clock<CannotBeCopied>);

}  // namespace
