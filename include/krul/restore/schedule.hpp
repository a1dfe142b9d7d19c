#pragma once

#include <algorithm>

#include "krul/core/resource.hpp"

namespace krul {

/// What one resource has to do, in one go or in equal parts, one after the other.
struct Work {
  Resource resource = Resource::cores;
  double seconds = 0;  ///< of all parts together
  double parts = 1;    ///< a whole number
};

/// When a piece of work is done. It is drawn as if it were done without a pause, up to its end.
struct WorkTimes {
  double begin_s = 0;
  double first_s = 0;  ///< its first part is done
  double end_s = 0;    ///< all of it is

  /// What waits for two pieces of work waits for both.
  [[nodiscard]] friend WorkTimes both(const WorkTimes& a, const WorkTimes& b) noexcept {
    return {std::max(a.begin_s, b.begin_s), std::max(a.first_s, b.first_s), std::max(a.end_s, b.end_s)};
  }
};

/// When work is done that resources take up in the order in which it is added, each piece as soon as its resource is
/// free and what it waits for is done. A piece in parts that waits for one in as many parts does each as soon as the
/// part before it and the same part of the other are done.
///
/// The ends of parts are exact along a chain: they grow by no less from part to part, so that the last one is late
/// either because the first was or because the last of what it waits for was.
class Schedule {
 public:
  /// @param after  what it waits for: of one part, or of as many as the work
  /// @complexity   O(1)
  WorkTimes add(const Work& work, const WorkTimes& after = {}) noexcept {
    double& free_s = free_[work.resource];
    busy_[work.resource] += work.seconds;
    WorkTimes times{.begin_s = std::max(free_s, after.end_s)};
    if (work.parts > 1) {
      times.first_s = std::max(free_s, after.first_s) + work.seconds / work.parts;
      times.begin_s = std::max({free_s, after.first_s, after.end_s - work.seconds * (1 - 1 / work.parts)});
    }
    free_s = times.end_s = times.begin_s + work.seconds;
    if (work.parts <= 1) times.first_s = times.end_s;
    return times;
  }
  /// When each resource has done all that was added so far.
  [[nodiscard]] const ResourceTimes& free() const noexcept { return free_; }
  /// How long each resource works on it.
  [[nodiscard]] const ResourceTimes& busy() const noexcept { return busy_; }

 private:
  ResourceTimes free_, busy_;
};

}  // namespace krul
