#include "krul/store/counted_store.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "krul/store/faulty_store.hpp"
#include "krul/store/throttled_store.hpp"
#include "store_makers.hpp"
#include "store_test_support.hpp"

namespace krul {
namespace {

using namespace std::chrono_literals;

TEST_CASE("a store that is counted is still one") {
  CHECK(test::broken_promises([](auto store) { return CountedStore(std::move(store)); }) == "");
}

TEST_CASE("calls, bytes, errors and time are counted by operation, and copies share them") {
  const ManualClock clock;
  // 1 us a byte.
  CountedStore store(
      ThrottledStore<MemoryStore, ManualClock>(MemoryStore(), {.bytes_per_s = 1'000'000, .burst = 0}, clock),
      StoreEventSink(), clock);
  CountedStore copy = store;
  const std::string key = test::folder_a + "/object", none = test::folder_a + "/none";
  REQUIRE(store.put(key, test::some_bytes(1000, 1)));
  std::vector<std::byte> to(400);
  CHECK(copy.get(key, 0, to));
  CHECK(store.get(key, 600, to));
  CHECK_FALSE(store.get(none, 0, to));
  CHECK_FALSE(store.get(key, 800, to));
  CHECK(store.size(key) == 1000);
  CHECK(store.sizes(std::vector{key, none}).size() == 2);
  CHECK(store.load(key, 1000));
  CHECK_FALSE(store.load(key, 999));
  CHECK(store.list(""));
  CHECK(store.lock(test::folder_a));
  CHECK(store.erase(key));

  const StoreCounts counts = copy.counts();
  const OperationCounts& gets = counts.of(StoreOperation::get);
  CHECK(gets.calls == 4);
  CHECK(gets.bytes == 800);
  CHECK(gets.time == 800us);
  CHECK(gets.failed() == 2);
  CHECK(gets.errors[static_cast<std::size_t>(ErrorCode::not_found)] == 1);
  CHECK(gets.errors[static_cast<std::size_t>(ErrorCode::truncated)] == 1);
  CHECK(gets.bins[0] == 2);  // the two that failed
  CHECK(gets.bins[1] == 2);  // 400 us each
  CHECK(counts.of(StoreOperation::put).bytes == 1000);
  CHECK(counts.of(StoreOperation::size).calls == 3);
  CHECK(counts.of(StoreOperation::size).failed() == 1);
  CHECK(counts.of(StoreOperation::load).calls == 2);
  CHECK(counts.of(StoreOperation::load).bytes == 1000);
  for (const auto operation : {StoreOperation::list, StoreOperation::lock, StoreOperation::erase})
    CHECK(counts.of(operation).calls == 1);
}

TEST_CASE("each read of several is an event, with the time until it was there") {
  const ManualClock clock;
  struct Seen {
    std::string key;
    std::uint64_t bytes;
    Duration duration;
    bool failed;
  };
  std::vector<Seen> seen;
  CountedStore store(
      ThrottledStore<MemoryStore, ManualClock>(MemoryStore(), {.bytes_per_s = 1'000'000, .burst = 0}, clock),
      [&](const StoreEvent& event) {
        if (event.operation == StoreOperation::get)
          seen.push_back({std::string(event.key), event.bytes, event.duration, event.error != nullptr});
      },
      clock);
  const std::string key = test::folder_a + "/object", none = test::folder_a + "/none";
  REQUIRE(store.put(key, test::some_bytes(1000, 1)));
  std::vector<std::byte> one(100), two(200), three(300);
  const std::vector<RangedRead> reads = {{key, 0, one}, {none, 0, two}, {key, 0, three}};
  std::size_t ends = 0;
  store.get_together(reads, {}, [&](std::size_t, const Status&) { ++ends; });
  CHECK(ends == 3);
  REQUIRE(seen.size() == 3);
  CHECK((seen[0].key == key && seen[0].bytes == 100 && seen[0].duration == 100us && !seen[0].failed));
  CHECK((seen[1].key == none && seen[1].bytes == 0 && seen[1].failed));
  CHECK((seen[2].bytes == 300 && seen[2].duration == 400us));
}

TEST_CASE("the text for Prometheus has a help, a type and every operation") {
  StoreCounts counts;
  const Error error{ErrorCode::io, "no"};
  counts.add({StoreOperation::put, "key", 10, 300ms, nullptr});
  counts.add({StoreOperation::put, "key", 20, 10s, nullptr});
  counts.add({StoreOperation::lock, "key", 0, 0ms, &error});
  const std::string text = prometheus_text(counts, {"my", {{"store", "a\\\"b\nc"}}});
  const auto has = [&](const std::string& line) {
    CAPTURE(line);
    CHECK(("\n" + text).find("\n" + line + "\n") != std::string::npos);
  };
  const std::string put = "{store=\"a\\\\\\\"b\\nc\",operation=\"put\"";
  has("# HELP my_calls_total Calls that ended, well or not.");
  has("# TYPE my_calls_total counter");
  has("my_calls_total" + put + "} 2");
  has("my_bytes_total" + put + "} 30");
  has("my_errors_total{store=\"a\\\\\\\"b\\nc\",operation=\"lock\",code=\"io\"} 1");
  has("# TYPE my_seconds histogram");
  has("my_seconds_bucket" + put + ",le=\"0.2\"} 0");
  has("my_seconds_bucket" + put + ",le=\"1\"} 1");
  has("my_seconds_bucket" + put + ",le=\"+Inf\"} 2");
  has("my_seconds_sum" + put + "} 10.3");
  has("my_seconds_count" + put + "} 2");
  CHECK(text.back() == '\n');
  CHECK(prometheus_text({}).find("krul_store_errors_total{") == std::string::npos);
  CHECK(prometheus_text({}).find("krul_store_calls_total{operation=\"erase\"} 0\n") != std::string::npos);
}

}  // namespace
}  // namespace krul
