// Conversations kept far away: how many round trips a restore makes, and when it gives up.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <stdexcept>

#include "krul/compress/exact_codec.hpp"
#include "krul/conversation/fork.hpp"
#include "krul/conversation/prefetch.hpp"
#include "krul/restore/token_split.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/store/throttled_store.hpp"
#include "krul/store/tiered_store.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/toy_conversation.hpp"

namespace krul::distant {
namespace {

using namespace std::chrono_literals;
using test::run_through;
using test::toy_tokens;

/// A distant store that counts its round trips; copies share the count.
struct CountingStore {
  using Lock = MemoryStore::Lock;
  MemoryStore store;
  std::shared_ptr<std::atomic<int>> trips = std::make_shared<std::atomic<int>>(0);
  enum class Fault { none, silent, throwing } fault = Fault::none;
  std::shared_ptr<std::latch> reads_before_sizes = {};  // if set: sizes are not told before rows are asked for

  Status put(const std::string& key, std::span<const std::byte> bytes) { return counted().put(key, bytes); }
  Status get(const std::string& key, std::uint64_t offset, std::span<std::byte> to) {
    return counted().get(key, offset, to);
  }
  Result<std::uint64_t> size(const std::string& key) { return counted().size(key); }
  Status erase(const std::string& key) { return counted().erase(key); }
  Result<std::vector<std::string>> list(const std::string& folder) { return counted().list(folder); }
  Result<Lock> lock(const std::string& folder) { return counted().lock(folder); }
  StoreCapabilities capabilities() const { return {.distant = true}; }
  void get_together(std::span<const RangedRead> reads, const RequestLimits& limits, const ReadEnd& ended) {
    ++*trips;
    if (reads_before_sizes && !reads_before_sizes->try_wait()) reads_before_sizes->count_down();
    if (fault == Fault::none) return krul::get_together(store, reads, limits, ended);
    const auto half = reads.first(reads.size() / 2);
    krul::get_together(store, half, limits, ended);
    krul::get_together(store, half, limits, ended);  // told twice, of which the second counts nothing
    if (fault == Fault::throwing) throw std::runtime_error("the line is cut");
  }
  std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys) {
    if (reads_before_sizes) reads_before_sizes->wait();
    return object_sizes(counted(), keys);
  }
  Result<std::vector<std::byte>> load(const std::string& key, std::uint64_t most) {
    return load_object(counted(), key, most);
  }

 private:
  MemoryStore& counted() {
    ++*trips;
    return store;
  }
};
static_assert(ReadsTogether<CountingStore> && SizesTogether<CountingStore> && LoadsWhole<CountingStore>);

/// A saved conversation, and what its next turn must give.
struct Far {
  explicit Far(std::size_t history, ConversationOptions how = {}) : options(std::move(how)) {
    options.block = 16;
    tokens = toy_tokens(history + 5);
    whole.emplace(run_through(model, tokens));
    auto conversation = Conversation<toy::Backend, MemoryStore>::open(model, memory, "far", options).value();
    std::vector<float> logits(model.geometry().vocabulary);
    REQUIRE(conversation.advance(std::span(tokens).first(history), std::span(logits)));
    REQUIRE(conversation.save());
  }

  /// Adds tokens to what is saved, in a segment of their own.
  void save_more(std::size_t count) {
    auto conversation = Conversation<toy::Backend, MemoryStore>::open(model, memory, "far", options).value();
    std::vector<float> logits(model.geometry().vocabulary);
    tokens = toy_tokens(tokens.size() + count);
    REQUIRE(conversation.advance(std::span(tokens).first(tokens.size() - 5), std::span(logits)));
    REQUIRE(conversation.save());
    whole.emplace(run_through(model, tokens));
  }

  template <class S, class C = SteadyClock>
  Result<RestoreReport> restored(S& store, C clock = {}) {
    ConversationOptions reading = options;
    reading.read_only = true;
    auto conversation = Conversation<toy::Backend, S, C>::open(model, store, "far", reading, clock);
    REQUIRE(conversation);
    std::vector<float> logits(model.geometry().vocabulary);
    auto report = conversation->advance(tokens, std::span(logits));
    if (report) CHECK(logits == whole->logits);
    if (!report) CHECK_THROWS_AS(static_cast<void>(conversation->cache()), PreconditionError);
    return report;
  }

  ConversationOptions options;
  toy::Backend model{ElementType::f32};
  MemoryStore memory;
  std::vector<Token> tokens;
  std::optional<test::Uninterrupted> whole;
};

ConversationOptions loading() {
  ConversationOptions options;
  options.strategy = strategy::load(ExactCodec{});
  return options;
}

/// A front of one block whatever anything costs: how far the cores come does not depend on time.
struct GivenFront {
  static constexpr bool looks_at_costs = false;
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs&) const {
    return admissible(sizes, std::vector<std::size_t>(sizes.layers.size(), sizes.block));
  }
  [[nodiscard]] std::optional<TokenSplit> split(const RestoreSizes& sizes, const Costs&) const {
    return TokenSplit{.front = sizes.block, .chunk = 4};
  }
};
static_assert(RestorePolicy<GivenFront> && TokenOrderPolicy<GivenFront>);

/// Two orders of restoring: by layers, and by tokens with a given front.
std::vector<ConversationOptions> both_orders() {
  std::vector<ConversationOptions> orders{loading(), loading()};
  orders[1].strategy = strategy::by_layer("far", ExactCodec{}, GivenFront{}, SegmentOrder::by_block);
  return orders;
}

}  // namespace

TEST_CASE("a restore makes as many round trips for a long history as for a short one") {
  std::vector<int> trips;
  for (const std::size_t history : {20, 100, 200}) {
    Far far(history, loading());
    CountingStore store{far.memory};
    const RestoreReport report = far.restored(store).value();
    CHECK(report.reasons.empty());
    trips.push_back(*store.trips);
  }
  // The manifest, the sizes, the rows; the last two are asked for at the same time.
  for (const int each : trips) CHECK(each == 3);
}

TEST_CASE("rows are asked for before a distant store has said what it has") {
  for (const ConversationOptions& options : both_orders()) {
    Far far(100, options);
    CountingStore store{far.memory};
    store.reads_before_sizes = std::make_shared<std::latch>(1);
    CHECK(far.restored(store).value().reasons.empty());
  }
}

TEST_CASE("a restore that began as if all were there begins again without what is gone") {
  for (ConversationOptions options : both_orders()) {
    Far far(100, options);
    // A second save's segment goes: what it held is recomputed, and what the first one held is loaded.
    far.save_more(40);
    const Manifest manifest = load_saved(far.memory, "far")->manifest;
    REQUIRE(manifest.objects.size() == 2);
    REQUIRE(far.memory.erase(conversation_folder("far").value() + "/" + manifest.objects[1]));
    CountingStore store{far.memory};
    store.reads_before_sizes = std::make_shared<std::latch>(1);
    const RestoreReport report = far.restored(store).value();
    CHECK(!report.recomputed_all);
    CHECK(report.recomputed_rows + report.repaired_rows > 0);
    CHECK(!report.damaged_blocks.empty());
    REQUIRE(report.reasons.size() == 1);
    CHECK(report.reasons[0].find("not stored whole") != std::string::npos);
  }
}

TEST_CASE("over a link with latency a restore waits for a few round trips, and else as long as without") {
  const auto taken = [](Duration latency) {
    Far far(200, loading());
    const ManualClock clock;
    ThrottledStore<MemoryStore, ManualClock> store(far.memory, {100'000, latency, 0}, clock);
    const TimePoint start = clock.now();
    REQUIRE(far.restored(store, clock));
    return clock.now() - start;
  };
  const Duration near = taken(0ms), far = taken(20ms);
  CHECK(near > 1s);
  CHECK(far >= near + 20ms);
  CHECK(far <= near + 4 * 20ms);
}

TEST_CASE("what is not read in time is recomputed") {
  for (ConversationOptions options : both_orders()) {
    options.restoring.read_within = 300ms;
    Far far(100, options);
    const ManualClock clock;
    ThrottledStore<MemoryStore, ManualClock> store(far.memory, {100'000, 1ms, 0}, clock);
    const RestoreReport report = far.restored(store, clock).value();
    CHECK(report.repaired_rows > 0);
    REQUIRE(!report.reasons.empty());
    CHECK(report.reasons.front().find("not read in time") != std::string::npos);
    CHECK(report.damaged_blocks.empty());
  }
}

TEST_CASE("a restore that is stopped ends with cancelled, and can be done again") {
  for (ConversationOptions options : both_orders()) {
    std::stop_source stop;
    options.restoring.stop = stop.get_token();
    double last = 0;
    options.restoring.progress = [&](double share) {
      CHECK(share >= last);
      last = share;
      if (share < 1) stop.request_stop();
    };
    Far far(100, options);
    CountingStore store{far.memory};
    const auto report = far.restored(store);
    REQUIRE(!report);
    CHECK(report.error().code == ErrorCode::cancelled);
    CHECK(last < 1);
    far.options.restoring = {};
    CHECK(far.restored(store));
  }
}

TEST_CASE("progress ends at 1") {
  for (ConversationOptions options : both_orders()) {
    std::vector<double> shares;
    options.restoring.progress = [&](double share) { shares.push_back(share); };
    Far far(100, options);
    shares.clear();
    REQUIRE(far.restored(far.memory));
    CHECK(shares.size() > 2);
    CHECK(std::ranges::is_sorted(shares));
    CHECK(shares.back() == 1);
  }
}

TEST_CASE("a restore that has to recompute everything can be stopped before, and tells when it is done") {
  for (const bool stops : {false, true}) {
    Far far(100, loading());
    const std::string object = load_saved(far.memory, "far")->manifest.objects[0];
    std::stop_source stop;
    std::vector<double> shares;
    far.options.restoring.stop = stop.get_token();
    far.options.restoring.progress = [&](double share) { shares.push_back(share); };
    // The object is as long as it should be, and everything in it is damaged.
    const std::string key = conversation_folder("far").value() + "/" + object;
    REQUIRE(far.memory.put(key, std::vector<std::byte>(far.memory.size(key).value())));
    if (stops) stop.request_stop();
    const auto report = far.restored(far.memory);
    if (stops) {
      CHECK(report.error().code == ErrorCode::cancelled);
    } else {
      CHECK(report->recomputed_all);
      CHECK(shares.back() == 1);
    }
  }
}

TEST_CASE("a prefetch brings near what a fork borrows") {
  Far far(100, loading());
  REQUIRE(fork_saved(far.memory, "far", {.to = "near"}));
  const MemoryStore tier;
  TieredStore store(tier, far.memory, {.keep_reads = false});
  const PrefetchReport report = prefetch_saved(store, "near").value();
  CHECK(report.objects == 1);
  CHECK(report.bytes > 0);
  CHECK(tier.used() == report.bytes);
  std::stop_source stop;
  stop.request_stop();
  CHECK(prefetch_saved(store, "near", {.stop = stop.get_token()}).error().code == ErrorCode::cancelled);
}

TEST_CASE("a store that does not tell how a read ended, or throws, costs a recompute") {
  for (const auto fault : {CountingStore::Fault::silent, CountingStore::Fault::throwing}) {
    for (const ConversationOptions& options : both_orders()) {
      Far far(100, options);
      CountingStore store{far.memory};
      store.fault = fault;
      const RestoreReport report = far.restored(store).value();
      CHECK(report.repaired_rows > 0);
      CHECK(report.damaged_blocks.empty());
    }
  }
}

TEST_CASE("a prefetch reads all that is saved, in few round trips") {
  Far far(200, loading());
  CountingStore store{far.memory};
  const PrefetchReport report = prefetch_saved(store, "far").value();
  CHECK(report.objects == 1);
  CHECK(report.bytes ==
        far.memory.size(conversation_folder("far").value() + "/" + load_saved(far.memory, "far")->manifest.objects[0])
            .value());
  CHECK(*store.trips == 4);  // both copies of the manifest, the sizes, the segment
  CHECK(prefetch_saved(store, "near").error().code == ErrorCode::not_found);
  std::stop_source stop;
  stop.request_stop();
  CHECK(prefetch_saved(store, "far", {.stop = stop.get_token()}).error().code == ErrorCode::cancelled);
  const ManualClock clock;
  clock.advance(1s);
  CHECK(prefetch_saved(far.memory, "far", {.deadline = 1s}, clock).error().code == ErrorCode::deadline);
  FaultyStore<MemoryStore> failing(far.memory, {{.keys = "*/segment-*"}});
  CHECK(prefetch_saved(failing, "far").error().code == ErrorCode::io);
  failing.set_faults({{.operation = Fault::Operation::list}});
  TieredStore tiers(MemoryStore(), failing);
  CHECK(prefetch_saved(tiers, "far").error().code == ErrorCode::io);
  REQUIRE(
      far.memory.erase(conversation_folder("far").value() + "/" + load_saved(far.memory, "far")->manifest.objects[0]));
  CHECK(prefetch_saved(store, "far").error().code == ErrorCode::not_found);
}

}  // namespace krul::distant
