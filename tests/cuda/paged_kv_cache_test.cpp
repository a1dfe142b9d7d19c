#include "krul/cuda/paged_kv_cache.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <optional>

#include "cuda/engine_pages.hpp"
#include "cuda/ordered_device.hpp"
#include "cuda/restoring.hpp"
#include "cuda/small_rows.hpp"
#include "krul/backend/conformance/cache.hpp"

using namespace krul;
using cuda::PageOrder;
using cuda::test::AddOne, cuda::test::OrderedDevice, cuda::test::Saved, cuda::test::small_ring, cuda::test::Unordered;

namespace {

using PagedCache = cuda::PagedKvCache<OrderedDevice>;
using Pool = cuda::PagedPool<OrderedDevice>;
using Ring = cuda::StagingRing<OrderedDevice>;
using Engine = cuda::test::EnginePages<OrderedDevice>;
static_assert(KvCache<PagedCache> && cuda::DeviceCache<PagedCache, OrderedDevice>);
static_assert(cuda::DeviceCache<cuda::DeviceKvCache<OrderedDevice>, OrderedDevice>);
static_assert(std::is_nothrow_move_constructible_v<PagedCache> && std::is_move_assignable_v<PagedCache>);

constexpr PageOrder orders[] = {PageOrder::nhd, PageOrder::hnd};
constexpr ElementType all_types[] = {ElementType::f32, ElementType::f16, ElementType::bf16};

Geometry paged_geometry(ElementType type = ElementType::f16) {
  return {.layers = 2, .kv_heads = 2, .head_dim = 5, .cache_type = type};
}

/// An engine adds one to all bytes of a conversation's pages.
void compute(OrderedDevice& device, const PagedCache& cache, OrderedDevice::Stream& model, std::size_t page_bytes) {
  for (std::size_t layer = 0; layer < cache.layers(); ++layer)
    for (std::byte* const first : {cache.keys(layer), cache.values(layer)})
      for (const std::int32_t page : cache.pages())
        or_throw(device.launch(
            model, AddOne{first + static_cast<std::size_t>(page) * page_bytes, static_cast<std::uint32_t>(page_bytes)},
            {1, 32}));
}

/// A conversation's life, as far as rows go: they come, a model changes them, they are read, its pages become another
/// one's, and all that again.
/// @return the rows that were read
std::vector<std::vector<std::byte>> live_in_pages(OrderedDevice& device, PageOrder order) {
  Geometry geometry = paged_geometry();
  geometry.layers = 1;
  constexpr std::size_t tokens = 5;
  const std::size_t bytes = tokens * geometry.kv_row_bytes();
  const Engine engine(device, geometry, {.page_tokens = 3, .pages = 3, .order = order});
  auto model = device.make_stream().value();
  const auto pool = std::make_shared<Pool>(device, geometry, engine.layout, small_ring(device), 6 * 20);
  std::optional<PagedCache> cache;
  std::vector<std::vector<std::byte>> found;
  for (int turn = 0; turn < 3; ++turn) {
    if (turn != 1) {
      PagedCache next(pool, 2);
      if (cache) {  // its pages are handed over
        cache->begin(PagedCache::Rows::computed, model);
        next.end(PagedCache::Rows::computed, model);
      }
      for (const std::int32_t page : {2 - turn / 2, 1 - turn / 2}) next.append_pages(std::span(&page, 1));
      cache.emplace(std::move(next));
    }
    {
      OwnedKvRows rows(geometry, tokens);  // gone when the call returns
      for (std::size_t i = 0; i < bytes; ++i) {
        rows.keys[i] = static_cast<std::byte>(i + static_cast<std::size_t>(turn));
        rows.values[i] = static_cast<std::byte>(3 * i);
      }
      cache->wait(cache->write_kv(0, {0, tokens}, rows.view()));
    }
    cache->begin(PagedCache::Rows::computed, model);
    compute(device, *cache, model, engine.layout.page_stride);
    cache->end(PagedCache::Rows::computed, model);
    // The model goes on while they are on their way.
    OwnedKvRows rows(geometry, tokens);
    const Ticket ticket = cache->read_kv(0, {0, tokens}, rows.view());
    cache->begin(PagedCache::Rows::computed, model);
    compute(device, *cache, model, engine.layout.page_stride);
    cache->end(PagedCache::Rows::computed, model);
    cache->wait(ticket);
    found.push_back(rows.keys);
    found.push_back(rows.values);
  }
  device.finish();
  return found;
}

/// A restore into every other page.
bool restores_into_pages(OrderedDevice& device, const Saved& saved, const Engine::Shape& shape) {
  const Engine engine(device, saved.geometry, shape);
  cuda::test::Restoring<OrderedDevice, PagedCache> restoring(
      device, saved, [&](const std::shared_ptr<Ring>& ring) { return engine.cache(device, saved.geometry, ring, 20); });
  return cuda::test::restores_all(restoring, saved);
}

}  // namespace

TEST_CASE("rows go to pages and come from them, and nothing else is touched") {
  std::mt19937_64 random(41);
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  int units[17] = {};
  for (std::uint64_t round = 0; round < 200; ++round) {
    CAPTURE(round);
    Geometry geometry = paged_geometry(all_types[round % 3]);
    geometry.layers = 1;
    geometry.kv_heads = 1 + below(3);
    geometry.head_dim = round % 2 == 0 ? 8 * (1 + below(4)) : 1 + below(20);
    constexpr std::size_t lengths[] = {16, 64, 1, 7};
    const std::size_t page = lengths[below(4)], pages = 1 + below(9), total = pages + below(4);
    const std::size_t begin = below(page * pages), rows = 1 + below(std::min<std::size_t>(page * pages - begin, 90));
    const std::size_t row = geometry.kv_row_bytes(), value = size_of(geometry.cache_type);
    cuda::PagedLayout layout{.page_tokens = page, .pages = total, .order = orders[below(2)]};
    // Other things of the engine may lie between pages.
    const std::size_t between = below(3) == 0 ? value * below(9) : 0;
    layout.page_stride = 2 * page * row + between;
    const auto bytes = [&](std::size_t count) {
      std::vector<std::byte> all(count);
      for (std::byte& each : all) each = static_cast<std::byte>(random());
      return all;
    };
    const std::size_t all_bytes = total * layout.page_stride;
    OrderedDevice device(round);
    const auto pool = device.allocate(all_bytes).value(), packed = device.allocate(2 * rows * row).value();
    layout.keys = {pool.data()};
    layout.values = {pool.data() + page * row};
    layout.check(geometry);
    std::vector<std::int32_t> table(total);
    for (std::size_t i = 0; i < total; ++i) table[i] = static_cast<std::int32_t>(i);
    std::shuffle(table.begin(), table.end(), random);
    const auto before = bytes(all_bytes), given = bytes(2 * rows * row);
    std::memcpy(pool.data(), before.data(), all_bytes);
    std::memcpy(packed.data(), given.data(), given.size());

    // [page, K and V, ...] by its definition.
    auto expected = before;
    const auto at = [&](std::size_t side, std::size_t token, std::size_t head, std::size_t dim) {
      const std::size_t in_page = token % page;
      const std::size_t index =
          layout.order == PageOrder::nhd ? in_page * geometry.kv_heads + head : head * page + in_page;
      return static_cast<std::size_t>(table[token / page]) * layout.page_stride + side * page * row +
             (index * geometry.head_dim + dim) * value;
    };
    std::size_t next = 0;
    for (std::size_t side = 0; side < 2; ++side)
      for (std::size_t token = begin; token < begin + rows; ++token)
        for (std::size_t head = 0; head < geometry.kv_heads; ++head)
          for (std::size_t dim = 0; dim < geometry.head_dim; ++dim, next += value)
            std::memcpy(&expected[at(side, token, head, dim)], &given[next], value);

    const cuda::PagedRows paged{layout.places(geometry, table.data()).from(begin),
                                layout.keys[0],
                                layout.values[0],
                                packed.data(),
                                static_cast<std::uint32_t>(rows),
                                static_cast<std::uint32_t>(row)};
    ++units[paged.unit()];
    const auto blocks = static_cast<unsigned>(1 + below(3));
    cuda::test::run_grid(cuda::ScatterRows{paged}, {blocks, 64}, round);
    CHECK(std::memcmp(pool.data(), expected.data(), all_bytes) == 0);
    CHECK(std::memcmp(packed.data(), given.data(), given.size()) == 0);
    std::memset(packed.data(), 0, given.size());
    cuda::test::run_grid(cuda::GatherRows{paged}, {blocks, 64}, round);
    CHECK(std::memcmp(packed.data(), given.data(), given.size()) == 0);
    CHECK(std::memcmp(pool.data(), expected.data(), all_bytes) == 0);
  }
  for (const int unit : {2, 4, 16}) CHECK(units[unit] > 10);
}

TEST_CASE("a cache of pages is a cache") {
  for (const PageOrder order : orders)
    for (const std::size_t page : {16, 64, 3})
      for (const ElementType type : all_types) {
        if (page == 3 && type != ElementType::f16) continue;
        CAPTURE(page);
        const Geometry geometry = paged_geometry(type);
        OrderedDevice device(3);
        const Engine engine(device, geometry,
                            {.page_tokens = page, .pages = 10, .order = order, .combined = type != ElementType::f32});
        const auto ring = small_ring(device);
        const auto report =
            check_kv_cache([&](std::size_t) { return engine.cache(device, geometry, ring, 8); }, geometry);
        for (const auto& check : report.checks()) CHECK_MESSAGE(check.passed, check.name << ": " << check.detail);
      }
}

TEST_CASE("rows in pages are those of the host in every order of streams") {
  for (const PageOrder order : orders) {
    OrderedDevice first(0);
    const auto expected = live_in_pages(first, order);
    for (std::size_t i = 0; i < expected.front().size(); ++i)
      CHECK(expected.front()[i] == static_cast<std::byte>(i + 1));
    for (std::uint64_t seed = 1; seed <= 500; ++seed) {
      OrderedDevice device(seed);
      CHECK(live_in_pages(device, order) == expected);
    }
  }
}

TEST_CASE("no wait of a cache of pages can be left out") {
  OrderedDevice counted(1);
  static_cast<void>(live_in_pages(counted, PageOrder::hnd));
  REQUIRE(counted.waits() > 10);
  for (std::size_t left_out = 0; left_out < counted.waits(); ++left_out) {
    CAPTURE(left_out);
    OrderedDevice device(1, left_out);
    CHECK_THROWS_AS(static_cast<void>(live_in_pages(device, PageOrder::hnd)), Unordered);
  }
}

TEST_CASE("a restore into pages gives the bits of the processor") {
  for (const ElementType type : all_types) {
    const Saved saved(type);
    for (const PageOrder order : orders)
      for (const std::size_t page : {16, 64}) {
        OrderedDevice device(page);
        CHECK(restores_into_pages(device, saved,
                                  {.page_tokens = page, .pages = 8, .order = order, .combined = page == 16}));
      }
  }
}

TEST_CASE("a wait of a restore into pages that is left out is missed, or others say the same") {
  const Saved saved;
  const Engine::Shape shape{.page_tokens = 16, .pages = 8, .order = PageOrder::hnd};
  OrderedDevice counted(1);
  REQUIRE(restores_into_pages(counted, saved, shape));
  std::size_t missed = 0;
  for (std::size_t left_out = 0; left_out < counted.waits(); ++left_out) {
    CAPTURE(left_out);
    OrderedDevice device(1, left_out);
    try {
      const bool same = restores_into_pages(device, saved, shape);
      CHECK(same);
    } catch (const Unordered&) {
      ++missed;
    }
  }
  CHECK(missed + 12 >= counted.waits());
}

TEST_CASE("pages come and go") {
  const Geometry geometry = paged_geometry();
  OrderedDevice device(1);
  const Engine engine(device, geometry, {.page_tokens = 2, .pages = 5});
  const auto pool = std::make_shared<Pool>(device, geometry, engine.layout, small_ring(device));
  PagedCache cache(pool, 3);
  CHECK(cache.capacity() == 0);
  OwnedKvRows rows(geometry, 2);
  const auto write = [&](std::size_t begin, int salt) {
    for (std::size_t i = 0; i < rows.keys.size(); ++i) rows.keys[i] = rows.values[i] = static_cast<std::byte>(i + salt);
    for (std::size_t layer = 0; layer < 2; ++layer) cache.write_kv(layer, {begin, begin + 2}, rows.view());
  };
  const auto read = [&](std::size_t begin) {
    OwnedKvRows found(geometry, 2);
    cache.wait(cache.read_kv(1, {begin, begin + 2}, found.view()));
    return found.keys;
  };
  CHECK_THROWS_AS(write(0, 0), PreconditionError);
  cache.append_pages(std::vector<std::int32_t>{4, 0});
  CHECK(cache.capacity() == 4);
  write(0, 1);
  write(2, 2);
  cache.commit(4);
  PagedCache moved = std::move(cache);
  cache = std::move(moved);
  cache.append_pages(std::vector<std::int32_t>{2});
  CHECK(cache.length() == 4);
  write(4, 3);
  CHECK(read(4) == rows.keys);
  CHECK(cache.length() == 4);
  // What is in a page that another conversation has now is nobody's here.
  cache.keep_pages(1);
  CHECK(cache.length() == 2);
  CHECK(cache.capacity() == 2);
  CHECK_THROWS_AS(static_cast<void>(read(2)), PreconditionError);
  cache.append_pages(std::vector<std::int32_t>{3});
  CHECK_FALSE(cache.present(0).contains({2, 3}));
  write(2, 7);
  CHECK(read(2) == rows.keys);
  write(0, 1);
  CHECK(read(0) == rows.keys);
  CHECK(std::ranges::equal(cache.pages(), std::vector<std::int32_t>{4, 3}));
}

TEST_CASE("what a cache of pages cannot do it says") {
  const Geometry geometry = paged_geometry();
  OrderedDevice device(1);
  const Engine engine(device, geometry, {.page_tokens = 2, .pages = 5});
  const auto ring = small_ring(device);
  PagedCache cache(std::make_shared<Pool>(device, geometry, engine.layout, ring), 2);
  for (const std::int32_t page : {-1, 5})
    CHECK_THROWS_AS(cache.append_pages(std::vector<std::int32_t>{page}), PreconditionError);
  CHECK_THROWS_AS(cache.append_pages(std::vector<std::int32_t>{0, 1, 2}), PreconditionError);
  CHECK_THROWS_AS(cache.commit(1), PreconditionError);
  CHECK_THROWS_AS(cache.mark_present(0, {0, 1}), PreconditionError);
  CHECK_THROWS_AS(Pool(device, geometry, engine.layout, ring, geometry.kv_row_bytes()), PreconditionError);

  const auto refused = [&](auto&& change) {
    cuda::PagedLayout layout = engine.layout;
    change(layout);
    CHECK_THROWS_AS(Pool(device, geometry, layout, ring), PreconditionError);
  };
  refused([](auto& layout) { layout.page_tokens = 0; });
  refused([](auto& layout) { layout.pages = 0; });
  refused([](auto& layout) { layout.page_stride -= 2; });
  refused([](auto& layout) { layout.page_stride += 1; });
  refused([](auto& layout) { layout.keys.pop_back(); });
  refused([](auto& layout) { layout.values[0] += 1; });
}
