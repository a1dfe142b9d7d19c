#include "krul/eval/history_coder.hpp"

#include <doctest/doctest.h>

#include "krul/backend/host_kv_cache.hpp"
#include "support/history_samples.hpp"

namespace krul::eval {
namespace {

TEST_CASE("a cache's rows come back as they were") {
  const Geometry geometry = testing::history_geometry();
  const HistoryRows rows = testing::history_rows(geometry, 7, 1);
  HostKvCache cache(geometry, 9);
  write_history(cache, geometry, rows);
  CHECK(cache.length() == 7);
  CHECK(read_history(cache, geometry, 7) == rows);
  CHECK(read_history(cache, geometry, 3).keys[1] ==
        std::vector<float>(rows.keys[1].begin(), rows.keys[1].begin() + 3 * 40));
}

TEST_CASE("rows of another shape are the caller's mistake") {
  const Geometry geometry = testing::history_geometry();
  HistoryRows rows(geometry, 3);
  CHECK_NOTHROW(expects_history(geometry, rows));
  rows.values[1].pop_back();
  CHECK_THROWS_AS(expects_history(geometry, rows), PreconditionError);
  rows.values.pop_back();
  CHECK_THROWS_AS(expects_history(geometry, rows), PreconditionError);
}

}  // namespace
}  // namespace krul::eval
