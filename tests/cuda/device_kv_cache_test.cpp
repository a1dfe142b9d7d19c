#include "krul/cuda/device_kv_cache.hpp"

#include <doctest/doctest.h>

#include "cuda/ordered_device.hpp"
#include "cuda/small_rows.hpp"
#include "krul/backend/conformance/cache.hpp"
#include "krul/backend/host_kv_cache.hpp"
#include "krul/backend/owned_kv_rows.hpp"

using namespace krul;
using cuda::test::AddOne, cuda::test::OrderedDevice, cuda::test::small_ring, cuda::test::Unordered;

namespace {

using Cache = cuda::DeviceKvCache<OrderedDevice>;
using Ring = cuda::StagingRing<OrderedDevice>;
static_assert(KvCache<Cache>);

Geometry small_geometry() {
  return {.layers = 3, .kv_heads = 2, .head_dim = 5, .cache_type = ElementType::f16};
}

/// A conversation's life, as far as rows go: they come, a model changes them, they are read, and all that again.
/// @return the rows that were read
std::vector<std::vector<std::byte>> live(OrderedDevice& device) {
  const Geometry geometry = small_geometry();
  constexpr std::size_t tokens = 7;
  const std::size_t bytes = tokens * geometry.kv_row_bytes();
  auto model = device.make_stream().value();
  Cache cache(device, geometry, tokens, small_ring(device));
  std::vector<std::vector<std::byte>> found;
  for (int turn = 0; turn < 3; ++turn) {
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      // Gone when the call returns.
      OwnedKvRows rows(geometry, tokens);
      for (std::size_t i = 0; i < bytes; ++i) {
        rows.keys[i] = static_cast<std::byte>(i + layer + static_cast<std::size_t>(turn));
        rows.values[i] = static_cast<std::byte>(3 * i);
      }
      cache.wait(cache.write_kv(layer, {0, tokens}, rows.view()));
    }
    cache.begin(Cache::Rows::computed, model);
    for (std::size_t layer = 0; layer < geometry.layers; ++layer)
      for (std::byte* const rows : {cache.keys(layer), cache.values(layer)})
        or_throw(device.launch(model, AddOne{rows, static_cast<std::uint32_t>(bytes)}, {2, 32}));
    cache.end(Cache::Rows::computed, model);
    for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
      OwnedKvRows rows(geometry, tokens);
      cache.wait(cache.read_kv(layer, {0, tokens}, rows.view()));
      found.push_back(rows.keys);
      found.push_back(rows.values);
    }
  }
  device.finish();
  return found;
}

}  // namespace

TEST_CASE("a device's cache is a cache") {
  const Geometry geometry = small_geometry();
  OrderedDevice device(3);
  const auto ring = small_ring(device);
  const auto report =
      check_kv_cache([&](std::size_t capacity) { return Cache(device, geometry, capacity, ring); }, geometry);
  for (const auto& check : report.checks()) CHECK_MESSAGE(check.passed, check.name << ": " << check.detail);
}

TEST_CASE("rows are those of the host in every order of streams") {
  OrderedDevice first(0);
  const auto expected = live(first);
  for (std::size_t i = 0; i < expected.front().size(); ++i) CHECK(expected.front()[i] == static_cast<std::byte>(i + 1));
  for (std::uint64_t seed = 1; seed < 200; ++seed) {
    OrderedDevice device(seed);
    CHECK(live(device) == expected);
  }
}

TEST_CASE("no wait can be left out") {
  OrderedDevice counted(1);
  static_cast<void>(live(counted));
  REQUIRE(counted.waits() > 10);
  for (std::size_t left_out = 0; left_out < counted.waits(); ++left_out) {
    CAPTURE(left_out);
    OrderedDevice device(1, left_out);
    CHECK_THROWS_AS(static_cast<void>(live(device)), Unordered);
  }
}

TEST_CASE("what a cache cannot do it says") {
  OrderedDevice device(1);
  Cache cache(device, small_geometry(), 4, small_ring(device));
  OwnedKvRows rows(small_geometry(), 2);
  CHECK_THROWS_AS(cache.write_kv(3, {0, 2}, rows.view()), PreconditionError);
  CHECK_THROWS_AS(cache.write_kv(0, {3, 5}, rows.view()), PreconditionError);
  CHECK_THROWS_AS(cache.write_kv(0, {0, 1}, rows.view()), PreconditionError);
  CHECK_THROWS_AS(cache.read_kv(0, {0, 2}, rows.view()), PreconditionError);
  CHECK_THROWS_AS(cache.commit(1), PreconditionError);
  CHECK_THROWS_AS(cache.mark_present(0, {0, 5}), PreconditionError);
  CHECK_THROWS_AS(Ring(device, device.make_stream().value(), Ring::Size{.slots = 0}), PreconditionError);
}
