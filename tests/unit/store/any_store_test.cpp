#include "krul/store/any_store.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <type_traits>

#include "krul/store/memory_store.hpp"
#include "store_test_support.hpp"

namespace krul {
namespace {

static_assert(std::is_copy_constructible_v<AnyStore> && !std::is_copy_constructible_v<AnyStore::Lock>);

TEST_CASE("a store behind AnyStore is the store itself, and so are its copies") {
  MemoryStore memory(1000);
  AnyStore any = memory;
  AnyStore copy = any;
  REQUIRE(any.put(test::folder_a + "/object", test::some_bytes(100, 1)));
  CHECK(memory.used() == 100);
  CHECK(copy.size(test::folder_a + "/object") == 100);
  REQUIRE(copy.erase(test::folder_a + "/object"));
  CHECK(memory.used() == 0);
  const Status refused = any.put(test::folder_a + "/object", test::some_bytes(2000, 1));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::no_space);
}

TEST_CASE("a store that is borrowed need not be one that can be copied") {
  struct Pinned : MemoryStore {
    Pinned() = default;
    Pinned(const Pinned&) = delete;
    Pinned& operator=(const Pinned&) = delete;
  };
  Pinned pinned;
  AnyStore any = AnyStore::borrowed(pinned);
  REQUIRE(any.put(test::folder_a + "/object", test::some_bytes(100, 1)));
  CHECK(pinned.used() == 100);
  CHECK(any.lock(test::folder_a));
}

TEST_CASE("a lock through AnyStore is held until it dies, and outlives the store") {
  MemoryStore memory;
  std::optional<AnyStore> any = memory;
  {
    const auto lock = any->lock(test::folder_a);
    REQUIRE(lock);
    any.reset();
    const auto second = memory.lock(test::folder_a);
    REQUIRE_FALSE(second);
    CHECK(second.error().code == ErrorCode::busy);
  }
  CHECK(memory.lock(test::folder_a));
}

}  // namespace
}  // namespace krul
