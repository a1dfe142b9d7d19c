#include "krul/core/resource.hpp"

#include <doctest/doctest.h>

using namespace krul;

TEST_CASE("every resource has a name and a time of its own") {
  ResourceTimes times;
  double next = 1;
  for (const Resource resource : all_resources) times[resource] = next++;
  CHECK(times.seconds == std::array{1.0, 2.0, 3.0, 4.0});
  CHECK(name(Resource::link) == "link");
  CHECK(name(Resource::cores) == "cores");
  CHECK(name(Resource::copy) == "copy");
  CHECK(name(Resource::device) == "device");
}

TEST_CASE("the busiest resource is the first of equals") {
  ResourceTimes times{{1, 3, 3, 2}};
  CHECK(times.busiest() == Resource::cores);
  CHECK(times.largest() == 3);
  times[Resource::device] = 4;
  CHECK(times.busiest() == Resource::device);
  CHECK(ResourceTimes{}.busiest() == Resource::link);
  CHECK(ResourceTimes{}.largest() == 0);
}
