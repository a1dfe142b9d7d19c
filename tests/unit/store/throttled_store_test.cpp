#include "krul/store/throttled_store.hpp"

#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "krul/store/memory_store.hpp"
#include "store_test_support.hpp"

using namespace krul;
using namespace std::chrono_literals;
using test::folder_a;
using test::some_bytes;

namespace {

struct ThrottledFixture {
  explicit ThrottledFixture(LinkSpeed speed) : store(MemoryStore(), speed, clock) {
    REQUIRE(store.put(folder_a + "/a", some_bytes(1'000'000, 1)));
  }
  // Reads `bytes` and tells how long it took.
  Duration get(std::size_t bytes) {
    std::vector<std::byte> to(bytes);
    const TimePoint begin = clock.now();
    REQUIRE(store.get(folder_a + "/a", 0, to));
    return clock.now() - begin;
  }
  ManualClock clock;
  ThrottledStore<MemoryStore, ManualClock> store;
};

}  // namespace

// All speeds below are such that every piece of 64 KiB takes a whole number of nanoseconds: 1 us a byte.
TEST_CASE("the bucket is empty at the start: a sequence of gets takes exactly bytes / speed") {
  ThrottledFixture fixture({.bytes_per_s = 1'000'000});
  CHECK(fixture.get(1) == 1us);
  CHECK(fixture.get(1000) == 1000us);
  CHECK(fixture.get(0) == 0us);
  CHECK(fixture.get(200'000) == 200'000us);
  CHECK(fixture.clock.now() == 201'001us);
}

TEST_CASE("a pause saves up to the burst and not more") {
  ThrottledFixture fixture({.bytes_per_s = 1'000'000, .burst = 10'000});
  fixture.clock.advance(4ms);
  CHECK(fixture.get(5'000) == 1ms);  // 4,000 bytes are there, 1,000 have to come
  fixture.clock.advance(1s);
  CHECK(fixture.get(4'000) == 0ms);
  CHECK(fixture.get(6'000) == 0ms);
  CHECK(fixture.get(1'000) == 1ms);
  fixture.clock.advance(1s);
  fixture.store.empty_bucket();
  CHECK(fixture.get(5'000) == 5ms);

  ThrottledFixture none({.bytes_per_s = 1'000'000, .burst = 0});
  none.clock.advance(1s);
  CHECK(none.get(5'000) == 5ms);
}

TEST_CASE("latency is paid by each request, and fills the bucket like any pause") {
  ThrottledFixture fixture({.bytes_per_s = 1'000'000, .latency = 30ms, .burst = 10'000});
  CHECK(fixture.get(100'000) == 30ms + 90ms);
  CHECK(fixture.get(100'000) == 30ms + 90ms);
  CHECK(fixture.get(0) == 30ms);
  std::vector<std::byte> to(10);
  const TimePoint begin = fixture.clock.now();
  CHECK(fixture.store.get(folder_a + "/b", 0, to).error().code == ErrorCode::not_found);
  CHECK(fixture.clock.now() - begin == 30ms);
}

TEST_CASE("times are rounded up to a nanosecond a piece") {
  ThrottledFixture fixture({.bytes_per_s = 3'000'000'000});
  CHECK(fixture.get(1) == 1ns);
  CHECK(fixture.get(3) == 1ns);
  CHECK(fixture.get(4) == 2ns);
}

TEST_CASE("a late wake-up costs no throughput") {
  LinkSchedule link({.bytes_per_s = 1'000'000, .burst = 0}, 0ns);
  // The pieces of one request follow each other, whenever their reader looks.
  TimePoint arrival = link.send(1000, 0ns);
  CHECK(arrival == 1ms);
  arrival = link.send(1000, arrival);
  CHECK(arrival == 2ms);
  // Another reader's piece takes its turn.
  CHECK(link.send(500, 0ns) == 2500us);
  CHECK(link.send(1000, arrival) == 3500us);
}

TEST_CASE("readers share one link") {
  ThrottledFixture fixture({.bytes_per_s = 1'000'000'000, .burst = 0});
  auto other = fixture.store;  // a copy is the same link
  {
    const auto read = [](auto& store) {
      std::vector<std::byte> to(1'000'000);
      CHECK(store.get(folder_a + "/a", 0, to));
    };
    std::jthread one([&] { read(fixture.store); });
    std::jthread two([&] { read(other); });
  }
  // Whoever comes first: the link is never idle, and 2 MB cross it.
  CHECK(fixture.clock.now() == 2'000'000ns);
}

TEST_CASE("impossible links are a caller's mistake") {
  CHECK_THROWS_AS(LinkSchedule({.bytes_per_s = 0}, 0ns), PreconditionError);
  CHECK_THROWS_AS(LinkSchedule({.bytes_per_s = 1, .latency = -1ns}, 0ns), PreconditionError);
  CHECK_THROWS_AS(LinkSchedule({.bytes_per_s = 1, .burst = 65'537}, 0ns), PreconditionError);
}
