#include "krul/restore/schedule.hpp"

#include <doctest/doctest.h>

#include <random>
#include <vector>

using namespace krul;

TEST_CASE("work starts when its resource is free and what it waits for is done") {
  Schedule schedule;
  const auto read = schedule.add({Resource::link, 3});
  CHECK(read.begin_s == 0);
  CHECK(read.end_s == 3);
  const auto first = schedule.add({Resource::cores, 1});
  CHECK(first.end_s == 1);
  const auto decoded = schedule.add({Resource::cores, 2}, read);
  CHECK(decoded.begin_s == 3);
  CHECK(decoded.end_s == 5);
  CHECK(schedule.add({Resource::cores, 1}).begin_s == 5);
  CHECK(schedule.add({Resource::device, 1}, both(read, decoded)).begin_s == 5);
  CHECK(schedule.busy() == ResourceTimes{{3, 4, 0, 1}});
  CHECK(schedule.free() == ResourceTimes{{3, 6, 0, 6}});
}

TEST_CASE("parts go on as soon as the same part of what they wait for is done") {
  Schedule schedule;
  const auto read = schedule.add({Resource::link, 4, 2});  // parts end at 2 and 4
  CHECK(read.first_s == 2);
  const auto decoded = schedule.add({Resource::cores, 2, 2}, read);  // [2, 3] and [4, 5]
  CHECK(decoded.first_s == 3);
  CHECK(decoded.end_s == 5);
  const auto copied = schedule.add({Resource::copy, 4, 2}, decoded);  // [3, 5] and [5, 7]
  CHECK(copied.first_s == 5);
  CHECK(copied.end_s == 7);
  CHECK(schedule.add({Resource::device, 1}, copied).end_s == 8);
}

TEST_CASE("a chain in parts ends when its parts do, one at a time") {
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    Schedule schedule;
    ResourceTimes free;
    for (int chain = 0; chain < 3; ++chain) {
      const std::size_t parts = 1 + random() % 5;
      std::vector<double> before(parts, 0);
      WorkTimes times;
      for (const Resource resource : all_resources) {
        const Work work{resource, static_cast<double>(random() % 64 * parts), static_cast<double>(parts)};
        times = schedule.add(work, times);
        for (double& part : before) part = free[resource] = std::max(free[resource], part) + work.seconds / work.parts;
        // Whole numbers, but for the share of a part.
        REQUIRE(times.end_s == doctest::Approx(before.back()).epsilon(1e-12));
        REQUIRE(times.first_s == doctest::Approx(before.front()).epsilon(1e-12));
      }
    }
  }
}
