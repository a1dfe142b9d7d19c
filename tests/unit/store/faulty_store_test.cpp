#include "krul/store/faulty_store.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <vector>

#include "krul/store/memory_store.hpp"
#include "store_test_support.hpp"

using namespace krul;
using namespace std::chrono_literals;
using test::folder_a;
using test::some_bytes;

namespace {

const std::string faulty_key = folder_a + "/segment-1-00112233";

std::size_t different_bits(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  std::size_t bits = 0;
  for (std::size_t i = 0; i < a.size(); ++i) bits += std::popcount(std::to_integer<unsigned>(a[i] ^ b[i]));
  return bits;
}

}  // namespace

TEST_CASE("patterns") {
  CHECK(matches("*", ""));
  CHECK(matches("*", "abc"));
  CHECK(matches("a*c", "abcbc"));
  CHECK(matches("*/segment-*", "aa/segment-1"));
  CHECK(matches("**b*", "abc"));
  CHECK_FALSE(matches("", "a"));
  CHECK_FALSE(matches("a*c", "abcb"));
  CHECK_FALSE(matches("*/manifest-a", "aa/manifest-b"));
}

TEST_CASE("each kind of fault, on get and on put") {
  const ManualClock clock;
  FaultyStore<MemoryStore, ManualClock> store(MemoryStore(), {}, clock);
  const auto bytes = some_bytes(1000, 1);
  REQUIRE(store.put(faulty_key, bytes));
  std::vector<std::byte> read(bytes.size());
  const auto get = [&] { return store.get(faulty_key, 0, read); };

  SUBCASE("get: drop") {
    store.set_faults({{.kind = Fault::Kind::drop}});
    CHECK(get().error().code == ErrorCode::not_found);
  }
  SUBCASE("get: fail") {
    store.set_faults({{.code = ErrorCode::deadline}});
    CHECK(get().error().code == ErrorCode::deadline);
  }
  SUBCASE("get: truncate") {
    store.set_faults({{.kind = Fault::Kind::truncate}});
    CHECK(get().error().code == ErrorCode::truncated);
  }
  SUBCASE("get: corrupt flips one bit of one byte") {
    store.set_faults({{.kind = Fault::Kind::corrupt}});
    REQUIRE(get());
    CHECK(different_bits(read, bytes) == 1);
  }
  SUBCASE("get: delay") {
    store.set_faults({{.kind = Fault::Kind::delay, .delay = 3ms}});
    REQUIRE(get());
    CHECK(read == bytes);
    CHECK(clock.now() == 3ms);
  }
  SUBCASE("put: drop") {
    store.set_faults({{.operation = Fault::Operation::put, .kind = Fault::Kind::drop}});
    CHECK(store.put(folder_a + "/b", bytes));
    CHECK(!store.size(folder_a + "/b"));
  }
  SUBCASE("put: fail keeps the old object") {
    store.set_faults({{.operation = Fault::Operation::put, .code = ErrorCode::no_space}});
    CHECK(store.put(faulty_key, some_bytes(5, 2)).error().code == ErrorCode::no_space);
    REQUIRE(get());
    CHECK(read == bytes);
  }
  SUBCASE("put: truncate") {
    store.set_faults({{.operation = Fault::Operation::put, .kind = Fault::Kind::truncate}});
    CHECK(store.put(faulty_key, bytes));
    CHECK(store.size(faulty_key).value() == 500);
  }
  SUBCASE("put: corrupt") {
    store.set_faults({{.operation = Fault::Operation::put, .kind = Fault::Kind::corrupt, .seed = 5}});
    CHECK(store.put(faulty_key, bytes));
    REQUIRE(get());
    CHECK(different_bits(read, bytes) == 1);
  }
  CHECK(store.hits() == 1);
  CHECK(store.puts() >= 1);
}

TEST_CASE("sizes, erasures, lists and locks fail as told, and do nothing then") {
  using Operation = Fault::Operation;
  const std::string key = test::folder_a + "/object";
  for (const Operation operation : {Operation::size, Operation::erase, Operation::list, Operation::lock}) {
    FaultyStore store(MemoryStore(), {{.operation = operation, .first = 1, .count = 1, .code = ErrorCode::busy}});
    REQUIRE(store.put(key, test::some_bytes(5, 1)));
    const auto call = [&]() -> Status {
      const auto outcome = [](const auto& result) { return result ? Status{} : Status(propagate(result)); };
      if (operation == Operation::size) return outcome(store.size(key));
      if (operation == Operation::erase) return store.erase(test::folder_a + "/other");
      if (operation == Operation::list) return outcome(store.list(test::folder_a));
      return outcome(store.lock(test::folder_a));
    };
    CHECK(call());
    const Status refused = call();
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::busy);
    CHECK(call());
    CHECK(store.calls(operation) == 3);
    CHECK(store.hits() == 1);
    CHECK(store.puts() == 1);
    store.set_faults({{.operation = Operation::erase}});
    CHECK_FALSE(store.erase(key));
    CHECK(store.size(key) == 5);
  }
}

TEST_CASE("faults hit by key, by index and by rate") {
  FaultyStore<MemoryStore> store{MemoryStore()};
  REQUIRE(store.put(folder_a + "/manifest-a", some_bytes(10, 1)));
  REQUIRE(store.put(faulty_key, some_bytes(10, 1)));
  std::vector<std::byte> read(10);

  store.set_faults({{.kind = Fault::Kind::drop, .keys = "*/segment-*", .first = 2, .count = 3}});
  std::string pattern;
  for (int i = 0; i < 8; ++i) {
    CHECK(store.get(folder_a + "/manifest-a", 0, read));
    pattern += store.get(faulty_key, 0, read) ? '.' : 'x';
  }
  CHECK(pattern == "..xxx...");
  CHECK(store.gets() == 16);
  CHECK(store.hits() == 3);

  const auto failures = [&](std::uint64_t seed) {
    store.set_faults({{.rate = 0.25, .seed = seed}});
    std::string made;
    for (int i = 0; i < 400; ++i) made += store.get(faulty_key, 0, read) ? '.' : 'x';
    return made;
  };
  const std::string once = failures(1);
  CHECK(failures(1) == once);
  CHECK(failures(2) != once);
  // Binomial with mean 100 and standard deviation 8.7: five of them to either side.
  const auto count = std::count(once.begin(), once.end(), 'x');
  CHECK(count > 56);
  CHECK(count < 144);
}

TEST_CASE("several faults: delays add up, the first of the others counts") {
  const ManualClock clock;
  FaultyStore<MemoryStore, ManualClock> store(MemoryStore(),
                                              {{.kind = Fault::Kind::delay, .delay = 1ms},
                                               {.code = ErrorCode::deadline},
                                               {.kind = Fault::Kind::delay, .delay = 2ms},
                                               {.code = ErrorCode::io}},
                                              clock);
  std::vector<std::byte> read(1);
  CHECK(store.get(faulty_key, 0, read).error().code == ErrorCode::deadline);
  CHECK(clock.now() == 3ms);
  CHECK(store.hits() == 1);
}
