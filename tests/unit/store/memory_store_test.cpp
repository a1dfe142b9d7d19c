#include "krul/store/memory_store.hpp"

#include <doctest/doctest.h>

#include "store_test_support.hpp"

using namespace krul;
using test::folder_a;
using test::some_bytes;

TEST_CASE("the memory store never holds more than its cap") {
  MemoryStore store(1000);
  const auto put = [&](const char* object, std::size_t bytes) {
    return store.put(folder_a + "/" + object, some_bytes(bytes, 1));
  };
  CHECK(put("a", 1001).error().code == ErrorCode::no_space);
  CHECK(store.used() == 0);
  CHECK(put("a", 400));
  CHECK(put("b", 300));
  CHECK(store.used() == 700);
  CHECK(put("c", 301).error().code == ErrorCode::no_space);
  CHECK(!store.size(folder_a + "/c"));

  // Replacing needs room for both: the old one stays if there is none.
  CHECK(put("a", 301).error().code == ErrorCode::no_space);
  CHECK(store.size(folder_a + "/a").value() == 400);
  CHECK(put("a", 300));
  CHECK(store.used() == 600);
  CHECK(put("c", 400));
  CHECK(store.used() == 1000);
  CHECK(put("d", 0));
  REQUIRE(store.erase(folder_a + "/a"));
  CHECK(store.used() == 700);
}

TEST_CASE("copies of a memory store share content and locks, and a lock outlives its store") {
  auto store = std::make_unique<MemoryStore>();
  MemoryStore copy = *store;
  REQUIRE(store->put(folder_a + "/a", some_bytes(10, 1)));
  CHECK(copy.size(folder_a + "/a").value() == 10);
  auto lock = store->lock(folder_a);
  REQUIRE(lock);
  store.reset();
  CHECK(!copy.lock(folder_a));
  { const auto gone = std::move(*lock); }
  CHECK(copy.lock(folder_a));
}
