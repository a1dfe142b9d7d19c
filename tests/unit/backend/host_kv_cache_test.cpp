// What every cache promises is checked by tests/conformance; here is what HostKvCache adds.
#include <doctest/doctest.h>

#include <krul/backend/host_kv_cache.hpp>

using krul::HostKvCache;
using krul::PreconditionError;
using krul::TokenRange;

namespace {

const krul::Geometry geometry{.layers = 2, .kv_heads = 1, .head_dim = 2};  // 4 bytes a row
std::vector<std::byte> filled(std::size_t rows, int value) {
  return std::vector<std::byte>(rows * geometry.kv_row_bytes(), static_cast<std::byte>(value));
}

}  // namespace

TEST_CASE("the view shows what was written and takes what is marked present") {
  HostKvCache cache(geometry, 4);
  const auto keys = filled(2, 1), values = filled(2, 2);
  cache.write_kv(1, {1, 3}, {keys, values});
  const auto view = cache.view(1);
  CHECK(view.keys.size() == 4 * geometry.kv_row_bytes());
  CHECK(view.values.size() == 4 * geometry.kv_row_bytes());
  CHECK(std::ranges::equal(view.keys.subspan(4, 8), keys));
  CHECK(std::ranges::equal(view.values.subspan(4, 8), values));

  std::ranges::fill(view.keys.first(4), std::byte{7});
  std::ranges::fill(view.values.first(4), std::byte{8});
  CHECK_FALSE(cache.present(1).contains({0, 1}));
  cache.mark_present(1, {0, 1});
  auto key = filled(1, 0), value = filled(1, 0);
  cache.read_kv(1, {0, 1}, {key, value});
  CHECK(key == filled(1, 7));
  CHECK(value == filled(1, 8));
  const HostKvCache& constant = cache;
  CHECK(constant.view(1).keys.data() == view.keys.data());
}

TEST_CASE("calls outside of the cache are refused") {
  HostKvCache cache(geometry, 4);
  const auto two = filled(2, 1), one = filled(1, 1);
  auto target = filled(2, 0);
  const krul::MutableKvRows to{target, target};
  CHECK_THROWS_AS(cache.write_kv(0, {3, 5}, {two, two}), PreconditionError);
  CHECK_THROWS_AS(cache.write_kv(0, {3, 1}, {two, two}), PreconditionError);
  CHECK_THROWS_AS(cache.write_kv(2, {0, 2}, {two, two}), PreconditionError);
  CHECK_THROWS_AS(cache.write_kv(0, {0, 2}, {two, one}), PreconditionError);
  CHECK_THROWS_AS(cache.write_kv(0, {0, 2}, {one, two}), PreconditionError);
  CHECK_THROWS_AS(cache.read_kv(0, {0, 2}, to), PreconditionError);
  CHECK_THROWS_AS(cache.read_kv(0, {3, 5}, to), PreconditionError);
  CHECK_THROWS_AS(cache.read_kv(2, {0, 2}, to), PreconditionError);
  CHECK_THROWS_AS(cache.commit(1), PreconditionError);
  CHECK_THROWS_AS(cache.mark_present(0, {4, 5}), PreconditionError);
  CHECK(cache.present(0).ranges().empty());
}

TEST_CASE("a cache without room holds nothing and can still be asked") {
  HostKvCache cache(geometry, 0);
  cache.write_kv(0, {0, 0}, {});
  cache.commit(0);
  cache.truncate(0);
  CHECK(cache.capacity() == 0);
  CHECK(cache.view(0).keys.empty());
}

TEST_CASE("a cache takes over the memory of the last one that is gone, and none of its rows") {
  const auto memory = std::make_shared<krul::HostKvMemory>();
  const std::byte* first = nullptr;
  {
    HostKvCache cache(geometry, 8, memory);
    first = cache.view(0).keys.data();
    cache.mark_present(0, {0, 8});
    HostKvCache moved = std::move(cache);
    CHECK(moved.view(0).keys.data() == first);
  }
  HostKvCache next(geometry, 8, memory), beside(geometry, 8, memory);
  CHECK(next.view(0).keys.data() == first);
  CHECK_FALSE(next.present(0).contains({0, 1}));
  CHECK(beside.view(0).keys.data() != first);
  CHECK(memory->take(1).data() != nullptr);  // another size: fresh memory
}

TEST_CASE("memory that is not as large as what was asked for last is not kept") {
  const auto memory = std::make_shared<krul::HostKvMemory>();
  const std::byte* larger = nullptr;
  {
    const HostKvCache before(geometry, 8, memory);
    HostKvCache grown(geometry, 4096, memory);
    larger = grown.view(0).keys.data();
    HostKvCache(geometry, 4096, memory);  // given back, and kept until something else is asked for
  }
  HostKvCache same(geometry, 4096, memory);
  CHECK(same.view(0).keys.data() == larger);
}
