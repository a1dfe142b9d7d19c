#include "krul/store/bounded_store.hpp"

#include <doctest/doctest.h>

#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "krul/store/faulty_store.hpp"
#include "krul/store/throttled_store.hpp"
#include "store_makers.hpp"
#include "store_test_support.hpp"

namespace krul {
namespace {

using namespace std::chrono_literals;
using test::folder_of;
using Bounded = BoundedStore<MemoryStore, RecomputePerByte, ManualClock>;

constexpr std::uint64_t now_unix_s = 1'800'000'000;

// A conversation of some tokens with one segment of some bytes, the manifest twice. Its bytes, or why it failed.
template <class S>
Result<std::uint64_t> save(S& store, const std::string& folder, std::size_t tokens, std::size_t bytes,
                           std::uint64_t unix_s = now_unix_s) {
  const auto segment = test::some_bytes(bytes, static_cast<std::uint32_t>(tokens));
  if (const Status status = store.put(folder + "/" + segment_name(1, segment), segment); !status)
    return propagate(status);
  Manifest manifest;
  manifest.conversation = folder;
  manifest.identity = {"toy", "w", "t", "g", "", "", "", ""};
  manifest.tokens.assign(tokens, 1);
  manifest.layers = 2;
  manifest.saved_unix_s = unix_s;
  const auto written = publish_manifest(store, folder, manifest);
  if (!written) return written;
  return *written + bytes;
}

template <class S>
bool is_there(S& store, const std::string& folder) {
  return load_manifest(store, folder).has_value();
}

struct BoundedFixture {
  explicit BoundedFixture(std::uint64_t bytes, std::uint64_t conversation = 0)
      : behind(bytes), store(open(bytes, conversation)) {}
  Bounded open(std::uint64_t bytes, std::uint64_t conversation = 0) const {
    return Bounded::open(behind, {bytes, conversation, now_unix_s}, {}, clock).value();
  }
  ManualClock clock;
  MemoryStore behind;  // refuses what is above the cap itself: no put reaches it that is
  Bounded store;
};

}  // namespace

TEST_CASE("a store that is bounded is still one") {
  CHECK(test::broken_promises([]<class S>(S store) {
          return BoundedStore<S>::open(std::move(store), {.bytes = 1 << 30}).value();
        }) == "");
}

TEST_CASE("no bytes at all are no bound") {
  CHECK_THROWS_AS((void)BoundedStore<MemoryStore>::open(MemoryStore(), {}), PreconditionError);
}

TEST_CASE("what costs most to compute again for its bytes stays; ties go by age") {
  const RecomputePerByte policy;
  const StoredConversation one{1000, 1000, 0s};
  CHECK(policy.worth(one) > policy.worth({500, 1000, 0s}));
  CHECK(policy.worth(one) > policy.worth({1000, 2000, 0s}));
  CHECK(policy.worth(one) == doctest::Approx(2 * policy.worth({1000, 1000, 6h})));
  // Attention makes twice the tokens worth more than twice as much.
  CHECK(policy.worth({32'768, 2000, 0s}) > policy.worth({16'384, 1000, 0s}));
  CHECK(policy.worth({0, 1000, 0s}) == 0);
  CHECK(LeastRecentlyUsed().worth({10, 1, 1s}) > LeastRecentlyUsed().worth({10, 1, 2s}));
}

TEST_CASE("bytes are counted to the last one, over replacements, erasures and a restart") {
  BoundedFixture f(10'000);
  const auto first = save(f.store, test::folder_a, 10, 1000).value();
  CHECK(f.store.used() == first);
  const auto second = save(f.store, test::folder_b, 20, 2000).value();
  CHECK(f.store.used() == first + second);
  REQUIRE(f.store.put(test::folder_a + "/manifest-a", test::some_bytes(7, 1)));
  REQUIRE(f.store.erase(test::folder_a + "/manifest-b"));
  REQUIRE(f.store.erase(test::folder_a + "/none"));
  CHECK(f.store.used() == f.behind.used());
  CHECK(f.open(10'000).used() == f.behind.used());
  // Others' writes count from the moment that the folder is locked, or all is counted.
  REQUIRE(f.behind.put(test::folder_b + "/leftover", test::some_bytes(50, 1)));
  CHECK(f.store.used() == f.behind.used() - 50);
  CHECK(f.store.lock(test::folder_b));
  CHECK(f.store.used() == f.behind.used());
  REQUIRE(f.behind.put(folder_of(9) + "/leftover", test::some_bytes(50, 1)));
  CHECK(f.store.recount());
  CHECK(f.store.used() == f.behind.used());
}

TEST_CASE("room is made by the conversations of least worth, and by no more than it takes") {
  BoundedFixture f(20'000);
  REQUIRE(save(f.store, folder_of(1), 100, 4000));  // few tokens for their bytes
  REQUIRE(save(f.store, folder_of(2), 900, 4000));
  REQUIRE(save(f.store, folder_of(3), 300, 4000));
  REQUIRE(f.store.put(folder_of(4) + "/segment-1-00112233", test::some_bytes(300, 1)));  // a save that was cut off
  // Takes the leftover and the first.
  REQUIRE(f.store.put(folder_of(5) + "/segment-1-00112233", test::some_bytes(6000, 1)));
  CHECK_FALSE(is_there(f.store, folder_of(1)));
  CHECK(is_there(f.store, folder_of(2)));
  CHECK(f.store.list(folder_of(4)).value().empty());
  CHECK(f.store.evicted() <= 3);
  CHECK(f.store.used() == f.behind.used());
}

TEST_CASE("who was away longest goes first: by use through this store, or by the manifest's time") {
  BoundedFixture f(12'000);
  REQUIRE(save(f.behind, folder_of(1), 100, 2500, now_unix_s - 1'000'000));
  REQUIRE(save(f.behind, folder_of(2), 100, 2500, now_unix_s));
  REQUIRE(save(f.behind, folder_of(3), 100, 2500, now_unix_s - 2'000'000));
  Bounded store = f.open(12'000);
  std::vector<std::byte> to(1);
  REQUIRE(store.get(folder_of(3) + "/manifest-a", 0, to));
  REQUIRE(store.put(folder_of(4) + "/segment-1-00112233", test::some_bytes(4'000, 1)));
  CHECK_FALSE(is_there(store, folder_of(1)));
  CHECK(is_there(store, folder_of(2)));
  CHECK(is_there(store, folder_of(3)));
  f.clock.advance(100h);
  CHECK(store.lock(folder_of(3)));
  REQUIRE(store.put(folder_of(5) + "/segment-1-00112233", test::some_bytes(2'000, 1)));
  CHECK(is_there(store, folder_of(3)));
}

TEST_CASE("what is locked or written is not erased; too little room leaves all as it was") {
  BoundedFixture f(12'000);
  REQUIRE(save(f.store, folder_of(1), 100, 3000));
  REQUIRE(save(f.store, folder_of(2), 100, 3000));
  const auto before = f.behind.used();
  const auto bytes = test::some_bytes(9000, 1);
  const std::string key = folder_of(3) + "/segment-1-00112233";
  {
    const auto held = f.store.lock(folder_of(1));
    REQUIRE(held);
    // One of them would not be enough.
    const Status refused = f.store.put(key, bytes);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::no_space);
    CHECK(f.behind.used() == before);
    CHECK(is_there(f.store, folder_of(2)));
  }
  // Its own conversation is not erased for a put, and one that is too large erases nothing.
  CHECK(f.store.put(folder_of(1) + "/segment-2-00112233", test::some_bytes(12'000, 1)).error().code ==
        ErrorCode::no_space);
  CHECK(is_there(f.store, folder_of(1)));
  CHECK(is_there(f.store, folder_of(2)));
  REQUIRE(f.store.put(key, bytes));
  CHECK(f.store.evicted() > 0);
}

TEST_CASE("a conversation may be bounded by itself") {
  BoundedFixture f(100'000, 5'000);
  REQUIRE(save(f.store, folder_of(1), 100, 3000));
  CHECK(f.store.put(folder_of(1) + "/more", test::some_bytes(3'000, 1)).error().code == ErrorCode::no_space);
  CHECK(f.store.put(folder_of(2) + "/more", test::some_bytes(3'000, 1)));
}

TEST_CASE("segments that are lent stay, and count; a conversation that cannot be read now stays") {
  FaultyStore<MemoryStore> behind{MemoryStore()};
  const auto lent = test::some_bytes(3000, 100);
  const std::string segment = segment_name(1, lent);
  REQUIRE(save(behind, folder_of(1), 100, 3000));
  REQUIRE(behind.size(folder_of(1) + "/" + segment));
  const std::vector<std::string> names = {segment};
  const auto loan = loan_content(names);
  REQUIRE(behind.put(folder_of(1) + "/" + loan_name(folder_of(2), loan), loan));
  const auto maker = behind.lock(folder_of(2));  // of the fork, whose manifest is to come
  REQUIRE(save(behind, folder_of(3), 100, 3000));
  behind.set_faults({{.keys = folder_of(3) + "/manifest*", .code = ErrorCode::io}});
  auto store = BoundedStore<FaultyStore<MemoryStore>>::open(behind, {.bytes = 9'000}).value();
  CHECK(store.put(folder_of(4) + "/object", test::some_bytes(4'000, 1)).error().code == ErrorCode::no_space);
  behind.set_faults({});
  CHECK(is_there(store, folder_of(3)));
  CHECK(store.put(folder_of(4) + "/object", test::some_bytes(4'000, 1)));
  CHECK(store.size(folder_of(1) + "/" + segment) == 3000);
  CHECK_FALSE(is_there(store, folder_of(3)));
}

TEST_CASE("room that others made is seen before a put fails") {
  BoundedFixture f(5'000);
  REQUIRE(f.store.put(folder_of(1) + "/foreign", test::some_bytes(4'000, 1)));
  CHECK(f.store.put(folder_of(2) + "/object", test::some_bytes(4'000, 1)).error().code == ErrorCode::no_space);
  REQUIRE(f.behind.erase(folder_of(1) + "/foreign"));
  CHECK(f.store.put(folder_of(2) + "/object", test::some_bytes(4'000, 1)));
}

TEST_CASE("a store behind that fails leaves the count right") {
  MemoryStore memory;
  FaultyStore<MemoryStore> behind{memory};
  auto store = BoundedStore<FaultyStore<MemoryStore>>::open(behind, {.bytes = 10'000}).value();
  const std::string key = folder_of(1) + "/object";
  REQUIRE(store.put(key, test::some_bytes(1000, 1)));
  behind.set_faults({{.operation = Fault::Operation::put, .kind = Fault::Kind::fail, .count = 1}});
  CHECK(store.put(key, test::some_bytes(2000, 1)).error().code == ErrorCode::io);
  CHECK(store.used() == memory.used());
  REQUIRE(store.put(key, test::some_bytes(3000, 1)));
  CHECK(store.used() == memory.used());
}

TEST_CASE("what of a folder cannot be counted keeps nobody from the others, and counts once it can be") {
  FaultyStore<MemoryStore> behind{MemoryStore()};
  using Faulty = BoundedStore<FaultyStore<MemoryStore>>;
  for (std::size_t i = 1; i <= 3; ++i) REQUIRE(behind.put(folder_of(i) + "/object", test::some_bytes(1'000, 1)));
  const std::vector<Fault> faults[] = {
      {{.operation = Fault::Operation::size, .keys = folder_of(2) + "/*", .code = ErrorCode::corrupt}},
      {{.operation = Fault::Operation::size, .keys = folder_of(2) + "/*", .code = ErrorCode::io}},
      {{.operation = Fault::Operation::list, .keys = folder_of(2), .code = ErrorCode::io}},
      {{.operation = Fault::Operation::list, .keys = folder_of(2), .code = ErrorCode::corrupt}},
  };
  for (const auto& each : faults) {
    behind.set_faults(each);
    auto store = Faulty::open(behind, {.bytes = 4'500}).value();
    CHECK(store.used() == 2'000);
    CHECK(store.put(folder_of(3) + "/object", test::some_bytes(1'500, 1)));
    CHECK(store.lock(folder_of(2)));
    const bool is_damaged = each[0].code == ErrorCode::corrupt && each[0].operation == Fault::Operation::size;
    behind.set_faults({});
    // Where it is damage nobody looks again before the folder is locked.
    const std::uint64_t counted = is_damaged ? 0 : 1'000;
    REQUIRE(store.put(folder_of(3) + "/object", test::some_bytes(1'000, 1)));
    CHECK(store.used() == 2'000 + counted);
    CHECK(store.lock(folder_of(2)));
    CHECK(store.used() == 3'000);
    // What was counted stays so.
    behind.set_faults(each);
    CHECK(store.lock(folder_of(2)));
    CHECK(store.used() == 3'000);
    CHECK(store.recount().has_value() == is_damaged);
    CHECK(store.used() == 3'000);
    CHECK(store.erase(folder_of(2) + "/object"));
    CHECK(store.used() == 2'000);
    behind.set_faults({});
    REQUIRE(behind.put(folder_of(2) + "/object", test::some_bytes(1'000, 1)));
  }
  behind.set_faults({{.operation = Fault::Operation::list, .keys = ""}});
  CHECK(Faulty::open(behind, {.bytes = 4'500}).error().code == ErrorCode::io);
}

TEST_CASE("a distant store that goes away while it is counted is not opened") {
  FaultyStore<MemoryStore> behind{MemoryStore()};
  REQUIRE(behind.put(folder_of(1) + "/object", test::some_bytes(1'000, 1)));
  using Link = ThrottledStore<FaultyStore<MemoryStore>, ManualClock>;
  using Distant = BoundedStore<Link>;
  const Link distant(behind, {.bytes_per_s = 1'000'000'000, .latency = 1ms}, ManualClock());
  behind.set_faults({{.operation = Fault::Operation::size, .code = ErrorCode::deadline}});
  CHECK(Distant::open(distant, {.bytes = 4'500}).error().code == ErrorCode::deadline);
  behind.set_faults({{.operation = Fault::Operation::size, .code = ErrorCode::corrupt}});
  CHECK(Distant::open(distant, {.bytes = 4'500}));
}

TEST_CASE("random saves, erasures and restarts: never above the bound, and never miscounted") {
  std::uint32_t state = 7;
  const auto random = [&state](std::size_t below) {
    state = state * 1664525U + 1013904223U;
    return static_cast<std::size_t>(state >> 8) % below;
  };
  BoundedFixture f(60'000);
  Bounded store = f.store;
  std::optional<Bounded::Lock> held;
  std::string held_folder;
  std::size_t saved = 0, refused = 0;
  for (int step = 0; step < 600; ++step) {
    const std::string folder = folder_of(random(24));
    f.clock.advance(std::chrono::minutes(random(300)));
    switch (random(8)) {
      case 0: {
        held.reset();
        auto lock = store.lock(folder);
        REQUIRE(lock);
        held.emplace(std::move(*lock));
        held_folder = is_there(store, folder) ? folder : std::string();
        break;
      }
      case 1:
        if (held_folder != folder) REQUIRE(erase_conversation(store, folder));
        break;
      case 2:
        store = f.open(60'000);
        break;
      default: {
        const auto done = save(store, folder, 1 + random(2000), random(12'000));
        if (!done) CHECK(done.error().code == ErrorCode::no_space);
        ++(done ? saved : refused);
      }
    }
    REQUIRE(store.used() == f.behind.used());
    REQUIRE(store.used() <= 60'000);
    if (!held_folder.empty()) REQUIRE(is_there(store, held_folder));
  }
  CHECK(saved > 200);
  CHECK(refused < saved / 10);
}

TEST_CASE("threads that save at once stay below the bound") {
  BoundedFixture f(50'000);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < 4; ++i)
      threads.emplace_back([&, i] {
        for (std::size_t round = 0; round < 30; ++round) {
          const std::string folder = folder_of(16 * i + round % 7);
          const auto lock = f.store.lock(folder);
          // The store behind says so if ever there is more.
          if (lock) static_cast<void>(save(f.store, folder, 100 * round + 1, 500 * round));
        }
      });
  }
  CHECK(f.store.used() == f.behind.used());
  CHECK(f.store.evicted() > 0);
}

}  // namespace krul
