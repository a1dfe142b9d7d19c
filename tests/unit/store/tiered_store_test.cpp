#include "krul/store/tiered_store.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "krul/store/any_store.hpp"
#include "krul/store/counted_store.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/store/throttled_store.hpp"
#include "store_makers.hpp"
#include "store_test_support.hpp"

namespace krul {
namespace {

using namespace std::chrono_literals;
using Far = CountedStore<FaultyStore<MemoryStore>>;
using Tiers = TieredStore<MemoryStore, Far>;

const std::string segment = test::folder_a + "/segment-1-00112233";
const std::string manifest = test::folder_a + "/manifest-a";

struct TieredFixture {
  explicit TieredFixture(TierOptions options = {}, std::uint64_t room = 0)
      : near(room), faults(memory), far(faults), store(near, far, options) {}
  [[nodiscard]] std::uint64_t reads() const {
    const StoreCounts counts = far.counts();
    return counts.of(StoreOperation::get).calls + counts.of(StoreOperation::load).calls;
  }
  void cut_off(ErrorCode code = ErrorCode::io) { faults.set_faults({{.keys = "*", .code = code}}); }
  MemoryStore near, memory;
  FaultyStore<MemoryStore> faults;
  Far far;
  Tiers store;
};

template <class S>
bool reads(S& store, const std::string& key, const std::vector<std::byte>& bytes) {
  std::vector<std::byte> to(bytes.size());
  return store.get(key, 0, to) && to == bytes;
}

}  // namespace

TEST_CASE("a store of two tiers is still one, and so are three, small near ones, and what is written back") {
  CHECK(test::broken_promises([](auto far) { return TieredStore(MemoryStore(), std::move(far)); }) == "");
  CHECK(test::broken_promises([](auto far) { return TieredStore(MemoryStore(50'000), std::move(far)); }) == "");
  CHECK(test::broken_promises([](auto far) {
          return TieredStore(MemoryStore(), TieredStore(MemoryStore(), std::move(far)), {.keep_reads = false});
        }) == "");
  CHECK(test::broken_promises([](auto far) {
          return TieredStore(MemoryStore(100'000), std::move(far), {.writes = WriteMode::back});
        }) == "");
}

TEST_CASE("two processes with near stores of their own see each other's writes") {
  struct Make {
    MemoryStore far;
    TieredStore<MemoryStore, MemoryStore> fresh() {
      far = MemoryStore();
      return again();
    }
    TieredStore<MemoryStore, MemoryStore> again() { return {MemoryStore(), far}; }
  } make;
  const auto report = check_store(make, {.largest = 300'000, .rounds = 10});
  for (const ConformanceCheck& check : report.checks()) {
    CAPTURE(check.name);
    CAPTURE(check.detail);
    CHECK(check.passed);
  }
}

TEST_CASE("what is written goes far and near, and segments are read near") {
  TieredFixture f;
  const auto bytes = test::some_bytes(1000, 1);
  REQUIRE(f.store.put(segment, bytes));
  REQUIRE(f.store.put(manifest, bytes));
  CHECK(f.memory.used() == 2000);
  CHECK(f.near.used() == 2000);
  CHECK(reads(f.store, segment, bytes));
  CHECK(f.store.load(segment, 1000) == bytes);
  CHECK(f.store.load(segment, 999).error().code == ErrorCode::too_large);
  CHECK(f.reads() == 0);
  CHECK(reads(f.store, manifest, bytes));
  CHECK(f.reads() == 1);
  // Another process writes a newer manifest.
  const auto newer = test::some_bytes(900, 2);
  REQUIRE(f.memory.put(manifest, newer));
  CHECK(f.store.load(manifest, 1000) == newer);
  CHECK(f.store.size(manifest) == 900);
  // A far store that fails fails the put, and nothing is near that is not far.
  f.faults.set_faults({{.operation = Fault::Operation::put}});
  CHECK(f.store.put(test::folder_b + "/segment-1-00112233", bytes).error().code == ErrorCode::io);
  CHECK(f.near.list(test::folder_b).value().empty());
}

TEST_CASE("a segment that is not near is copied there when it is read by itself") {
  const auto bytes = test::some_bytes(1000, 1);
  std::vector<std::byte> to(10);
  SUBCASE("whole") {
    TieredFixture f;
    REQUIRE(f.memory.put(segment, bytes));
    REQUIRE(f.store.get(segment, 500, to));
    CHECK(std::equal(to.begin(), to.end(), bytes.begin() + 500));
    CHECK(f.reads() == 1);
    CHECK(reads(f.store, segment, bytes));
    CHECK(f.reads() == 1);
    CHECK(f.near.used() == 1000);
    CHECK(f.store.get(segment, 995, to).error().code == ErrorCode::truncated);
  }
  SUBCASE("not if it is larger than is kept, or nothing is to be kept") {
    for (const TierOptions options : {TierOptions{.largest_kept = 999}, TierOptions{.keep_reads = false}}) {
      TieredFixture f(options);
      REQUIRE(f.memory.put(segment, bytes));
      CHECK(reads(f.store, segment, bytes));
      CHECK(f.store.load(segment, 1000) == bytes);
      CHECK(f.near.used() == 0);
    }
  }
  SUBCASE("by bring_near, which reads together do not do") {
    TieredFixture f;
    REQUIRE(f.memory.put(segment, bytes));
    REQUIRE(f.memory.put(manifest, bytes));
    const std::vector<RangedRead> wants = {{segment, 0, to}};
    bool good = false;
    f.store.get_together(wants, {}, [&](std::size_t, const Status& status) { good = status.has_value(); });
    CHECK(good);
    CHECK(f.near.used() == 0);
    CHECK(f.store.bring_near(test::folder_a) == 1000);
    CHECK(f.store.bring_near(test::folder_a) == 0);
    f.cut_off();
    f.store.get_together(wants, {}, [&](std::size_t, const Status& status) { good = status.has_value(); });
    CHECK(good);
  }
}

TEST_CASE("a near store that is full or fails is not missed") {
  const auto bytes = test::some_bytes(1000, 1), newer = test::some_bytes(3000, 2);
  SUBCASE("full") {
    TieredFixture f({}, 2000);
    REQUIRE(f.store.put(segment, bytes));
    REQUIRE(f.store.put(manifest, bytes));
    REQUIRE(f.store.put(manifest, newer));
    CHECK(f.near.list(test::folder_a).value() == std::vector<std::string>{"segment-1-00112233"});
    CHECK(f.store.load(manifest, 3000) == newer);
    REQUIRE(f.memory.put(test::folder_b + "/segment-1-00112233", newer));
    CHECK(reads(f.store, test::folder_b + "/segment-1-00112233", newer));
    CHECK(f.store.bring_near(test::folder_b) == 0);
  }
  SUBCASE("failing in all it does, or cut short") {
    FaultyStore<MemoryStore> near{MemoryStore()};
    MemoryStore far;
    TieredStore store(near, far);
    REQUIRE(store.put(segment, bytes));
    for (const Fault::Kind kind : {Fault::Kind::fail, Fault::Kind::truncate, Fault::Kind::drop}) {
      near.set_faults({{.operation = Fault::Operation::get, .kind = kind},
                       {.operation = Fault::Operation::put, .kind = Fault::Kind::fail}});
      CHECK(reads(store, segment, bytes));
      CHECK(store.load(segment, 1000) == bytes);
      CHECK(store.put(manifest, bytes));
      CHECK(reads(store, manifest, bytes));
    }
  }
  SUBCASE("its lock held by somebody else") {
    TieredFixture f;
    const auto held = f.near.lock(test::folder_a);
    CHECK(f.store.lock(test::folder_a));
  }
}

TEST_CASE("while the far store cannot be asked, near copies stand in") {
  TieredFixture f;
  const auto bytes = test::some_bytes(1000, 1);
  REQUIRE(f.store.put(segment, bytes));
  REQUIRE(f.store.put(manifest, bytes));
  for (const ErrorCode code : {ErrorCode::io, ErrorCode::deadline}) {
    f.cut_off(code);
    CHECK(reads(f.store, segment, bytes));
    CHECK(reads(f.store, manifest, bytes));
    CHECK(f.store.load(manifest, 1000) == bytes);
  }
  f.cut_off();
  std::vector<std::byte> one(10), two(10), three(10);
  const std::vector<RangedRead> wants = {{manifest, 0, one}, {segment, 0, two}, {manifest + "-none", 0, three}};
  std::vector<bool> good(3);
  f.store.get_together(wants, {}, [&](std::size_t i, const Status& status) { good[i] = status.has_value(); });
  CHECK(good == std::vector{true, true, false});
  // An answer is one, even if it is no.
  f.cut_off(ErrorCode::not_found);
  CHECK_FALSE(reads(f.store, manifest, bytes));

  // Neither lists nor tells sizes once it is cut off.
  struct Unreachable : MemoryStore {
    explicit Unreachable(MemoryStore store) : MemoryStore(std::move(store)) {}
    Result<std::vector<std::string>> list(const std::string& folder) {
      return *is_there ? MemoryStore::list(folder) : fail(ErrorCode::io, "gone");
    }
    Result<std::uint64_t> size(const std::string& key) {
      return *is_there ? MemoryStore::size(key) : fail(ErrorCode::io, "gone");
    }
    std::shared_ptr<bool> is_there = std::make_shared<bool>(false);
  };
  const Unreachable far(f.memory);
  TieredStore alone(f.near, far);
  CHECK(alone.list(test::folder_a) == f.near.list(test::folder_a));
  CHECK(alone.list("") == std::vector{test::folder_a});
  CHECK(alone.size(segment) == 1000);
  CHECK(alone.sizes(std::vector{manifest, manifest + "-none"})[0] == 1000);
  CHECK_FALSE(alone.size(manifest + "-none"));
  CHECK(alone.lock(test::folder_a).error().code == ErrorCode::io);  // whether it is far as well cannot be told
  f.faults.set_faults({});
  {
    *far.is_there = true;
    const auto lock = alone.lock(test::folder_a);
    REQUIRE(lock);
    *far.is_there = false;  // who writes has to know what is so
    CHECK(alone.list(test::folder_a).error().code == ErrorCode::io);
    CHECK(alone.size(manifest).error().code == ErrorCode::io);
    CHECK(alone.size(segment) == 1000);
  }
  {
    const auto other = f.store.lock(test::folder_a);
    REQUIRE(other);
    f.cut_off();
    CHECK_FALSE(reads(f.store, manifest, bytes));
    CHECK(f.store.load(manifest, 1000).error().code == ErrorCode::io);
    CHECK(reads(f.store, segment, bytes));
  }
  CHECK(reads(f.store, manifest, bytes));
  CHECK(alone.size(manifest) == 1000);
}

TEST_CASE("a slow far store keeps to the limits, and what is near is there before them") {
  const ManualClock clock;
  MemoryStore near, memory;
  using Link = ThrottledStore<MemoryStore, ManualClock>;
  TieredStore<MemoryStore, Link, ManualClock> store(
      near, Link(memory, {.bytes_per_s = 1'000'000, .latency = 10ms, .burst = 0}, clock), {}, clock);
  CHECK(store.capabilities().distant);
  const auto bytes = test::some_bytes(50'000, 1);
  REQUIRE(memory.put(segment, bytes));
  REQUIRE(store.put(test::folder_b + "/segment-1-00112233", bytes));
  std::vector<std::vector<std::byte>> rooms(5, std::vector<std::byte>(10'000));
  std::vector<RangedRead> wants;
  for (std::size_t i = 0; i < rooms.size(); ++i)
    wants.push_back({i == 4 ? test::folder_b + "/segment-1-00112233" : segment, 10'000 * (i % 4), rooms[i]});
  std::vector<std::optional<bool>> good(5);
  store.get_together(wants, {.deadline = clock.now() + 25ms}, [&](std::size_t i, const Status& status) {
    CHECK_FALSE(good[i].has_value());
    good[i] = status.has_value();
  });
  CHECK(good[4] == true);
  CHECK(good[0] == true);
  CHECK(good[3] == false);
}

TEST_CASE("what others erased goes from the near store when the folder is locked") {
  TieredFixture f;
  const auto bytes = test::some_bytes(1000, 1);
  REQUIRE(f.store.put(segment, bytes));
  REQUIRE(f.store.put(manifest, bytes));
  REQUIRE(f.memory.erase(segment));
  CHECK(f.store.list(test::folder_a).value() == std::vector<std::string>{"manifest-a"});
  CHECK(f.store.lock(test::folder_a));
  CHECK(f.near.used() == 1000);
  REQUIRE(f.store.erase(manifest));
  CHECK(f.near.used() == 0);
  CHECK(f.memory.used() == 0);
}

TEST_CASE("a conversation that is near alone is neither erased nor written, unless that is wanted") {
  const auto bytes = test::some_bytes(1000, 1);
  const auto empty = [&](MemoryStore& store) {
    for (const std::string& key : {segment, manifest}) REQUIRE(store.erase(key));
  };
  SUBCASE("refused, with both ways on, until one is taken") {
    for (const bool copies : {false, true}) {
      TieredFixture f({.writes = copies ? WriteMode::through : WriteMode::back});
      REQUIRE(f.store.put(segment, bytes));
      REQUIRE(f.store.put(manifest, bytes));
      REQUIRE(f.store.flush(test::folder_a));
      empty(f.memory);
      REQUIRE(f.memory.put(segment, bytes));  // what an erase left that was cut off
      const auto refused = f.store.lock(test::folder_a);
      REQUIRE_FALSE(refused);
      CHECK(refused.error().code == ErrorCode::invalid_argument);
      CHECK(refused.error().message.find("krul copy NEAR FAR") != std::string::npos);
      CHECK(refused.error().message.find("krul erase --store NEAR") != std::string::npos);
      CHECK(f.near.used() == 2000);
      CHECK(f.memory.used() == 1000);
      CHECK(f.memory.lock(test::folder_a));  // nothing is held
      CHECK(f.near.lock(test::folder_a));
      CHECK(f.store.lock(test::folder_b));
      if (copies)
        REQUIRE(f.memory.put(manifest, bytes));
      else
        empty(f.near);
      CHECK(f.store.lock(test::folder_a));
    }
  }
  SUBCASE("forgotten") {
    TieredFixture f({.near_alone = NearAlone::forget});
    REQUIRE(f.store.put(segment, bytes));
    REQUIRE(f.store.put(manifest, bytes));
    empty(f.memory);
    CHECK(f.store.lock(test::folder_a));
    CHECK(f.near.used() == 0);
  }
  SUBCASE("without a manifest it is no conversation") {
    TieredFixture f;
    REQUIRE(f.near.put(segment, bytes));
    CHECK(f.store.lock(test::folder_a));
    CHECK(f.near.used() == 0);
  }
  SUBCASE("not yet flushed by this store: it goes on; by another one: that cannot be told") {
    TieredFixture f({.writes = WriteMode::back});
    REQUIRE(f.store.put(manifest, bytes));
    Tiers later(f.near, f.far, {.writes = WriteMode::back});
    CHECK(later.lock(test::folder_a).error().code == ErrorCode::invalid_argument);
    CHECK(f.near.used() == 1000);
    CHECK(f.store.lock(test::folder_a));
    CHECK(f.memory.used() == 1000);  // flushed when the lock died
    CHECK(later.lock(test::folder_a));
  }
}

TEST_CASE("written back: near until it is flushed, the manifests last, or the lock dies") {
  TieredFixture f({.writes = WriteMode::back});
  const auto bytes = test::some_bytes(1000, 1);
  CHECK_FALSE(f.store.capabilities().durable);
  {
    const auto lock = f.store.lock(test::folder_a);
    REQUIRE(lock);
    REQUIRE(f.store.put(manifest, bytes));
    REQUIRE(f.store.put(segment, bytes));
    CHECK(f.memory.used() == 0);
    CHECK(f.store.waiting() == std::vector{manifest, segment});
    CHECK(f.store.size(manifest) == 1000);
    CHECK(reads(f.store, manifest, bytes));
    CHECK(f.store.list(test::folder_a).value() == std::vector<std::string>{"manifest-a", "segment-1-00112233"});
    CHECK(f.store.list("").value() == std::vector{test::folder_a});
    // The segment fails: the manifest that names it must not be there.
    f.faults.set_faults({{.operation = Fault::Operation::put, .count = 1}});
    CHECK(f.store.flush(test::folder_a).error().code == ErrorCode::io);
    CHECK(f.memory.used() == 0);
    CHECK(f.store.waiting().size() == 2);
    REQUIRE(f.store.flush(test::folder_a));
    CHECK(f.memory.used() == 2000);
    CHECK(f.store.waiting().empty());
    REQUIRE(f.store.put(test::folder_a + "/manifest-b", bytes));
    CHECK(f.memory.used() == 2000);
  }
  CHECK(f.memory.used() == 3000);
  CHECK(f.store.waiting().empty());
  // What is erased does not come back.
  REQUIRE(f.store.put(manifest, test::some_bytes(10, 2)));
  REQUIRE(f.store.erase(manifest));
  REQUIRE(f.store.flush(test::folder_a));
  CHECK(f.store.size(manifest).error().code == ErrorCode::not_found);
  CHECK_THROWS_AS((void)f.store.flush("x"), PreconditionError);
}

TEST_CASE("written back: what has no room near goes far at once") {
  TieredFixture f({.writes = WriteMode::back}, 1500);
  const auto bytes = test::some_bytes(1000, 1), newer = test::some_bytes(1200, 2);
  REQUIRE(f.store.put(manifest, bytes));
  REQUIRE(f.store.put(manifest, newer));
  CHECK(f.store.waiting().empty());
  CHECK(f.near.used() == 0);
  CHECK(reads(f.store, manifest, newer));
  CHECK(f.memory.used() == 1200);
}

}  // namespace krul
