#include "krul/backend/owned_kv_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "krul/backend/host_kv_cache.hpp"

using namespace krul;

TEST_CASE("a copy of rows stays when the cache changes") {
  const Geometry geometry{.layers = 2, .query_heads = 2, .kv_heads = 1, .head_dim = 4, .hidden = 8, .vocabulary = 16};
  HostKvCache cache(geometry, 3);
  OwnedKvRows rows(geometry, 3);
  std::ranges::fill(rows.keys, std::byte{1});
  std::ranges::fill(rows.values, std::byte{2});
  cache.wait(cache.write_kv(1, {0, 3}, rows.view()));
  const OwnedKvRows copy = read_kv_rows(cache, geometry, 1, {0, 3});
  CHECK(copy == rows);
  std::ranges::fill(rows.keys, std::byte{3});
  cache.wait(cache.write_kv(1, {0, 3}, rows.view()));
  CHECK(copy.keys.front() == std::byte{1});
  const std::vector<OwnedKvRows> layers{copy, rows};
  const auto views = views_of(layers);
  REQUIRE(views.size() == 2);
  CHECK(views[0].keys.front() == std::byte{1});
  CHECK(views[1].keys.front() == std::byte{3});
  CHECK(views[1].values.size() == 3 * geometry.kv_row_bytes());
  CHECK_THROWS_AS((void)read_kv_rows(cache, geometry, 2, {0, 1}), PreconditionError);
}
