#include "krul/backend/either_backend.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <memory>

#include "krul/compress/exact_codec.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/toy_conversation.hpp"
#include "support/toy_device.hpp"

namespace krul {
namespace {

/// Rows that are written in place, by whoever asks for them, or not at all.
struct LentCache : HostKvCache {
  explicit LentCache(HostKvCache cache) : HostKvCache(std::move(cache)) {}
  Ticket write_kv(std::size_t, TokenRange, KvRows) { throw PreconditionError("LentCache: rows are written in place"); }
};

/// The toy model over such a cache.
struct Host {
  using Cache = LentCache;
  using Batch = toy::Backend::Batch;

  toy::Backend inner{ElementType::f32};

  [[nodiscard]] const Geometry& geometry() const { return inner.geometry(); }
  [[nodiscard]] const Identity& identity() const { return inner.identity(); }
  Cache make_cache(std::size_t capacity) { return Cache(inner.make_cache(capacity)); }
  Batch make_batch() { return inner.make_batch(); }
  void embed(std::span<const Token> tokens, Batch& batch) { inner.embed(tokens, batch); }
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write) {
    inner.project(layer, batch, cache, write);
  }
  template <AttentionObserver O>
  void attend(std::size_t layer, Batch& batch, Cache& cache, O&& observer) {
    inner.attend(layer, batch, cache, observer);
  }
  void finish(std::size_t layer, Batch& batch) { inner.finish(layer, batch); }
  void logits(Batch& batch, RowRange rows, std::span<float> out) { inner.logits(batch, rows, out); }
};

/// A device that is lost when it is told to.
struct FragileDevice : test::ToyDevice {
  bool* lost = nullptr;
  void finish(std::size_t layer, Batch& batch) {
    if (*lost) throw ResultError(Error{ErrorCode::backend, "the device is lost"});
    test::ToyDevice::finish(layer, batch);
  }
};

/// A device that is asked to decode every chunk, counts them, and decodes none.
struct AskedDevice : test::ToyDevice {
  struct Decoder {
    int* asked;
    int* finished;
    [[nodiscard]] bool takes(std::uint8_t) const { return true; }
    [[nodiscard]] Status decode(const StoredChunk&, Cache&) {
      ++*asked;
      return fail(ErrorCode::corrupt, "no chunk");
    }
    void finish() { ++*finished; }
  };
  int* asked = nullptr;
  int* finished = nullptr;
  [[nodiscard]] Decoder make_decoder(const std::shared_ptr<const Profile>&) { return {asked, finished}; }
};
static_assert(DecodesChunks<AskedDevice> && !DecodesChunks<Host>);

using Model = EitherBackend<Host, test::ToyDevice>;
static_assert(ModelBackend<Model> && BatchesCaches<Model> && LendsWorkers<Model>);
static_assert(HostViewableCache<Model::Cache> && LendsHiddenStates<Model::Batch>);

TEST_CASE("it says of itself what the backend says that it holds") {
  Model host(Host{}, 2), device(test::ToyDevice{}, 3);
  CHECK(computes_on(host) == Resource::cores);
  CHECK(computes_on(device) == Resource::device);
  CHECK(computes_on(Host{}) == Resource::cores);
  CHECK(computes_on(test::ToyDevice{}) == Resource::device);
  auto here = host.make_cache(8), there = device.make_cache(8);
  CHECK(lends_rows(here));
  CHECK_FALSE(lends_rows(there));
  CHECK(lends_rows(HostKvCache(host.geometry(), 8)));
  CHECK_THROWS_AS(static_cast<void>(there.view(0)), PreconditionError);
  CHECK_THROWS_AS(there.mark_present(0, {0, 1}), PreconditionError);
  CHECK(host.workers().threads() == 2);
  CHECK(device.workers().threads() == 3);
  CHECK(TeamFor<Model>(device).workers().threads() == 3);
  CHECK(host.get_if<Host>());
  CHECK_FALSE(host.get_if<test::ToyDevice>());
  CHECK(&host.identity() == &host.get_if<Host>()->identity());
  // Neither of them runs several caches in one pass.
  CHECK_FALSE(batches_caches(host));
  auto batch = host.make_batch();
  Model::Cache* const caches[] = {&here};
  CHECK_THROWS_AS(host.project(0, batch, caches, KvWrite::all), PreconditionError);
}

TEST_CASE("what is one backend's is no other's") {
  Model host(Host{}), device(test::ToyDevice{});
  auto cache = host.make_cache(8);
  auto batch = device.make_batch();
  const Position first = 0;
  const Token token = 1;
  batch.assign(std::span(&first, 1));
  CHECK_THROWS_AS(host.embed(std::span(&token, 1), batch), PreconditionError);
  device.embed(std::span(&token, 1), batch);
  CHECK_THROWS_AS(device.project(0, batch, cache, KvWrite::all), PreconditionError);
}

TEST_CASE("several conversations run in one pass, or one after the other") {
  for (const bool on_device : {false, true}) {
    CAPTURE(on_device);
    Model model = on_device ? Model(test::ToyDevice{}) : Model(Host{});
    const auto tokens = test::toy_tokens(12);
    auto one = model.make_cache(16), other = model.make_cache(16);
    auto batch = model.make_batch();
    const std::size_t vocabulary = model.geometry().vocabulary;
    std::vector<float> both(2 * vocabulary), alone(vocabulary);
    const Continuation<Model::Cache> parts[] = {{&one, std::span(tokens).first(5)}, {&other, tokens}};
    forward_each<Model>(model, batch, parts, both);
    auto again = model.make_cache(16);
    forward(model, again, batch, tokens, alone);
    CHECK(std::ranges::equal(std::span(both).subspan(vocabulary), alone));
    CHECK((one.length() == 5 && other.length() == 12));
  }
}

TEST_CASE("a conversation comes back as on the backend alone, without a copy where the cache is the host's") {
  const auto tokens = test::toy_tokens(100);
  toy::Backend alone(ElementType::f32);
  const auto whole = test::run_through(alone, tokens);
  for (const bool on_device : {false, true}) {
    CAPTURE(on_device);
    Model model = on_device ? Model(test::ToyDevice{}) : Model(Host{});
    MemoryStore store;
    ConversationOptions options{.strategy = strategy::load(ExactCodec{})};
    options.block = 16;
    std::vector<float> logits(model.geometry().vocabulary);
    {
      auto first = open_conversation(model, store, "a talk", options).value();
      REQUIRE(first.advance(std::span(tokens).first(90), logits));
      REQUIRE(first.save());
    }
    auto second = open_conversation(model, store, "a talk", options).value();
    const auto report = second.advance(tokens, logits).value();
    CHECK(report.matched == 90);
    CHECK(report.reasons.empty());
    CHECK(report.repaired_rows == 0);  // LentCache refuses copies
    CHECK(logits == whole.logits);
    const auto copies = std::ranges::count_if(report.timeline.events(),
                                              [](const Event& event) { return event.resource == Resource::copy; });
    CHECK((copies > 0) == on_device);
  }
}

TEST_CASE("chunks are decoded by the backend that decodes them itself, if that is the one") {
  using Either = EitherBackend<Host, AskedDevice>;
  static_assert(DecodesChunks<Either>);
  const auto tokens = test::toy_tokens(100);
  for (const bool on_device : {false, true}) {
    CAPTURE(on_device);
    int asked = 0, finished = 0;
    Either model = on_device ? Either(AskedDevice{{}, &asked, &finished}) : Either(Host{});
    MemoryStore store;
    ConversationOptions options{.strategy = strategy::load(ExactCodec{})};
    options.block = 16;
    std::vector<float> logits(model.geometry().vocabulary);
    {
      auto first = open_conversation(model, store, "a talk", options).value();
      REQUIRE(first.advance(std::span(tokens).first(96), logits));
      REQUIRE(first.save());
    }
    auto second = open_conversation(model, store, "a talk", options).value();
    CHECK(second.advance(tokens, logits)->repaired_rows == 0);  // what it does not decode, the cores do
    CHECK(asked == (on_device ? 6 * 4 : 0));                    // blocks and layers
    CHECK((finished > 0) == on_device);

    asked = 0;
    options.read_only = true;
    options.costs = Costs{.link = {}, .layer = {}, .on = {.compute = computes_on(model), .decode = Resource::cores}};
    auto third = open_conversation(model, store, "a talk", options).value();
    CHECK(third.advance(tokens, logits)->loaded_rows > 0);
    CHECK(asked == 0);

    auto cache = model.make_cache(8);
    auto decoder = model.make_decoder(std::shared_ptr<const Profile>());
    CHECK(decoder.takes(0) == on_device);
    CHECK_FALSE(decoder.decode(StoredChunk{}, cache));
    auto other = Either(Host{}).make_cache(8);
    if (on_device) CHECK_THROWS_AS(static_cast<void>(decoder.decode(StoredChunk{}, other)), PreconditionError);
  }
}

TEST_CASE("a device that is lost ends a turn with its error, and what is saved stays") {
  using Fragile = EitherBackend<toy::Backend, FragileDevice>;
  bool lost = false;
  Fragile model(FragileDevice{{}, &lost});
  const auto tokens = test::toy_tokens(100);
  MemoryStore store;
  ConversationOptions options{.strategy = strategy::load(ExactCodec{})};
  options.block = 16;
  std::vector<float> logits(model.geometry().vocabulary);
  {
    auto talk = open_conversation(model, store, "a talk", options).value();
    REQUIRE(talk.advance(std::span(tokens).first(90), logits));
    REQUIRE(talk.save_in_background());
    lost = true;
    CHECK(talk.append(tokens[90], logits).error().message == "the device is lost");
    CHECK(talk.advance(tokens, logits).error().code == ErrorCode::backend);
  }
  {
    auto talk = open_conversation(model, store, "a talk", options).value();
    CHECK(talk.saved_tokens().size() == 90);
    CHECK(talk.advance(tokens, logits).error().message == "the device is lost");
  }
  lost = false;
  auto talk = open_conversation(model, store, "a talk", options).value();
  CHECK(talk.advance(tokens, logits)->matched == 90);
}

}  // namespace
}  // namespace krul
