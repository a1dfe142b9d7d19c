// However a conversation is cut by saves and restores, its rows are the same.

#include <doctest/doctest.h>

#include <random>

#include "krul/compress/coded_copy.hpp"
#include "krul/compress/joint/profile.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/store/memory_store.hpp"
#include "support/coded_by.hpp"
#include "support/positioned_backend.hpp"
#include "support/profile_samples.hpp"
#include "support/toy_conversation.hpp"

namespace krul::cuts_test {

using test::PositionedBackend, test::Positions, test::toy_tokens;

namespace {

constexpr std::size_t block = 16;

std::shared_ptr<const Profile> profile_of(const PositionedBackend& model) {
  ProfileData data = testing::random_profile(model.geometry(), {1, 3}, 12, model.geometry().hidden, 7);
  data.model = model.identity().weights;
  return Profile::create(std::move(data), model.geometry()).value();
}

using Talk = Conversation<PositionedBackend, MemoryStore>;

/// A profile, and whether rows are coded by attention.
struct Coding {
  std::shared_ptr<const Profile> profile;
  bool attended = false;
};

Talk open(PositionedBackend& model, MemoryStore& store, const Coding& coding) {
  return open_conversation(model, store, "talk", test::coded_by(coding.profile, coding.attended), {.block = block})
      .value();
}

/// Runs the tokens and saves after each cut, and at the end.
void save_in_cuts(PositionedBackend& model, MemoryStore& store, const Coding& coding, std::span<const Token> tokens,
                  std::vector<std::size_t> cuts) {
  auto talk = open(model, store, coding);
  std::vector<float> logits(model.geometry().vocabulary);
  cuts.push_back(tokens.size());
  for (const std::size_t cut : cuts) {
    REQUIRE(talk.advance(tokens.first(cut), logits));
    REQUIRE(talk.save());
  }
}

/// Rows of the first tokens as a restore brings them back.
std::vector<OwnedKvRows> restored(PositionedBackend& model, MemoryStore& store, const Coding& coding,
                                  std::span<const Token> tokens) {
  auto talk = open(model, store, coding);
  std::vector<Token> more(tokens.begin(), tokens.end());
  more.push_back(1);
  std::vector<float> logits(model.geometry().vocabulary);
  const auto report = talk.advance(more, logits).value();
  REQUIRE(report.matched == tokens.size());
  REQUIRE(report.loaded_rows == tokens.size() * model.geometry().layers);
  std::vector<OwnedKvRows> rows;
  for (std::size_t layer = 0; layer < model.geometry().layers; ++layer)
    rows.push_back(read_kv_rows(talk.cache(), model.geometry(), layer, {0, tokens.size()}));
  return rows;
}

/// Whether rows begin with others.
bool begin_with(const std::vector<OwnedKvRows>& rows, const std::vector<OwnedKvRows>& others) {
  for (std::size_t layer = 0; layer < rows.size(); ++layer)
    for (const auto part : {&OwnedKvRows::keys, &OwnedKvRows::values})
      if (!std::equal((others[layer].*part).begin(), (others[layer].*part).end(), (rows[layer].*part).begin()))
        return false;
  return true;
}

}  // namespace

TEST_CASE("rows are the same however saves and restores cut a conversation, for every kind of backend") {
  const auto tokens = toy_tokens(133, 3);
  std::mt19937 random(1);
  for (const auto positions : {Positions::rotary, Positions::learned, Positions::none})
    for (const std::size_t kv_heads : {4, 2})
      for (const auto type : {ElementType::f32, ElementType::f16, ElementType::bf16})
        for (const bool by_profile : {true, false}) {
          CAPTURE(static_cast<int>(positions));
          CAPTURE(kv_heads);
          CAPTURE(name(type));
          CAPTURE(by_profile);
          PositionedBackend model(positions, kv_heads, type);
          const Coding profile{by_profile ? profile_of(model) : nullptr};
          MemoryStore at_once;
          save_in_cuts(model, at_once, profile, tokens, {});
          const auto rows = restored(model, at_once, profile, tokens);
          for (const std::vector<std::size_t>& cuts : {std::vector<std::size_t>{block, 2 * block, 4 * block},
                                                       {1, block - 1, block + 1, 90},
                                                       {1 + random() % 60, 61 + random() % 60}}) {
            MemoryStore store;
            save_in_cuts(model, store, profile, tokens, cuts);
            CHECK(restored(model, store, profile, tokens) == rows);
          }
          for (const std::size_t count : {std::size_t{1}, block, block + 1, std::size_t{100}})
            CHECK(begin_with(rows, restored(model, at_once, profile, std::span(tokens).first(count))));
        }
}

TEST_CASE("rows that come back twice are the same twice: a save in between changes no closed block") {
  const auto tokens = toy_tokens(200, 5);
  for (const auto positions : {Positions::rotary, Positions::learned})
    for (const bool attended : {false, true}) {
      CAPTURE(attended);
      PositionedBackend model(positions, 2, ElementType::f16);
      const Coding coding{profile_of(model), attended};
      MemoryStore store;
      const auto first = std::span(tokens).first(150);
      save_in_cuts(model, store, coding, first, {});
      const std::size_t closed = 80;  // the blocks behind it were coded as recent: they end in the last 64 rows
      const auto before = restored(model, store, coding, first.first(closed));
      save_in_cuts(model, store, coding, tokens, {});
      CHECK(begin_with(restored(model, store, coding, tokens), before));
    }
}

TEST_CASE("features are those of a token's own position, wherever the looking begins") {
  PositionedBackend model(Positions::learned, 4, ElementType::f32);
  const auto tokens = toy_tokens(50, 2);
  const TokenFeatures all(model, tokens), some(model, tokens, 30);
  CHECK(std::ranges::equal(all.of({30, 50}), some.of({30, 50})));
  CHECK(some.of({50, 50}).empty());
  CHECK_FALSE(std::ranges::equal(all.of({0, 20}), TokenFeatures(model, std::span(tokens).subspan(30)).of({0, 20})));
  CHECK_THROWS_AS((void)some.of({29, 31}), PreconditionError);
  CHECK_THROWS_AS((void)some.of({40, 51}), PreconditionError);
  CHECK_THROWS_AS(TokenFeatures(model, tokens, 51), PreconditionError);
}

/// A backend whose batches lend no hidden states.
struct MuteBatch {
  HostLayerBatch inner;
  void assign(std::span<const Position> positions) { inner.assign(positions); }
  [[nodiscard]] std::span<const Position> positions() const { return inner.positions(); }
  void keep(std::span<const RowRange> rows) { inner.keep(rows); }
};
struct Mute {
  using Cache = HostKvCache;
  using Batch = MuteBatch;
  PositionedBackend inner{Positions::learned, 2, ElementType::f16};
  [[nodiscard]] const Geometry& geometry() const { return inner.geometry(); }
  [[nodiscard]] const Identity& identity() const { return inner.identity(); }
  Cache make_cache(std::size_t capacity) { return inner.make_cache(capacity); }
  Batch make_batch() { return {inner.make_batch()}; }
  void embed(std::span<const Token> tokens, Batch& batch) { inner.embed(tokens, batch.inner); }
  void project(std::size_t layer, Batch& batch, Cache& cache, KvWrite write) {
    inner.project(layer, batch.inner, cache, write);
  }
  template <AttentionObserver O>
  void attend(std::size_t layer, Batch& batch, Cache& cache, O&& observer) {
    inner.attend(layer, batch.inner, cache, observer);
  }
  void finish(std::size_t layer, Batch& batch) { inner.finish(layer, batch.inner); }
  void logits(Batch& batch, RowRange rows, std::span<float> out) { inner.logits(batch.inner, rows, out); }
};
static_assert(ModelBackend<Mute> && !LendsHiddenStates<MuteBatch>);

TEST_CASE("a profile that wants features is refused for a backend that has none to give") {
  Mute model;
  std::vector<float> logits(model.geometry().vocabulary);
  const auto tokens = toy_tokens(40, 9);
  for (const bool wants_features : {true, false}) {
    MemoryStore store;
    ProfileData data = testing::random_profile(model.geometry(), {4}, 12, wants_features ? 32 : 0, 7);
    data.model = model.identity().weights;
    const auto profile = Profile::create(std::move(data), model.geometry()).value();
    auto talk = open_conversation(model, store, "talk", test::coded_by(profile)).value();
    REQUIRE(talk.advance(tokens, logits));
    const auto saved = talk.save();
    CHECK(saved.has_value() == !wants_features);
    if (!saved) CHECK(saved.error().code == ErrorCode::unsupported);
  }
}

TEST_CASE("a profile of other weights, or of none, is refused wherever rows are coded or decoded") {
  PositionedBackend model(Positions::rotary, 2, ElementType::f16), other(Positions::rotary, 2, ElementType::f16, "6");
  ProfileData nameless = profile_of(model)->data();
  nameless.model.clear();
  PositionedBackend wide(Positions::rotary, 4, ElementType::f16);
  const auto own = profile_of(model);
  const auto tokens = toy_tokens(40, 9);
  std::vector<float> logits(model.geometry().vocabulary);
  for (const auto& foreign :
       {profile_of(other), Profile::create(nameless, model.geometry()).value(), profile_of(wide)}) {
    MemoryStore store;
    const auto code = [](const auto& result) { return result ? ErrorCode::io : result.error().code; };
    CHECK(code(open_conversation(model, store, "talk", test::coded_by(foreign))) == ErrorCode::identity_mismatch);

    auto talk = open_conversation(model, store, "talk", test::coded_by(own), {.block = block}).value();
    REQUIRE(talk.advance(tokens, logits));
    CHECK(code(talk.save(SavePlan::joint(foreign, {}))) == ErrorCode::identity_mismatch);
    CHECK(code(talk.save_in_background(SavePlan::joint(foreign, {}))) == ErrorCode::identity_mismatch);
    CHECK(code(save_as(model, store, talk.cache(), tokens, {.id = "copy", .plan = SavePlan::joint(foreign, {})})) ==
          ErrorCode::identity_mismatch);
    CHECK(store.list("").value().empty());
    REQUIRE(talk.save());

    Workers workers(1);
    auto cache = model.make_cache(64);
    auto more = tokens;
    more.push_back(1);
    const auto plan = RestorationScheduler<FullLoad>{}.plan(restore_sizes(talk.manifest(), tokens.size(), 1), {});
    const RestoreJob<PositionedBackend, MemoryStore> job{.model = model,
                                                         .store = store,
                                                         .cache = cache,
                                                         .workers = workers,
                                                         .manifest = talk.manifest(),
                                                         .folder = talk.folder(),
                                                         .plan = plan,
                                                         .tokens = more,
                                                         .logits = logits,
                                                         .codings = CodingSet(foreign)};
    CHECK(code(restore(job)) == ErrorCode::identity_mismatch);
    CHECK(code(restore_by_tokens(job, {})) == ErrorCode::identity_mismatch);
    CHECK(cache.length() == 0);
    const TokenFeatures features(model, tokens);
    CHECK_THROWS_AS(
        (void)coded_copy(model, talk.cache(), {.count = 32, .capacity = 40}, {foreign, {}, features}, workers),
        PreconditionError);
  }
}

TEST_CASE("a manifest of another model is refused where it is restored, not only where it is opened") {
  PositionedBackend model(Positions::rotary, 2, ElementType::f16), other(Positions::rotary, 2, ElementType::f16, "6");
  const auto tokens = toy_tokens(40, 9);
  std::vector<float> logits(model.geometry().vocabulary);
  MemoryStore store;
  auto talk = open_conversation(model, store, "talk").value();
  REQUIRE(talk.advance(tokens, logits));
  REQUIRE(talk.save());
  Workers workers(1);
  auto cache = other.make_cache(64);
  auto more = tokens;
  more.push_back(1);
  const RestoreJob<PositionedBackend, MemoryStore> job{
      .model = other,
      .store = store,
      .cache = cache,
      .workers = workers,
      .manifest = talk.manifest(),
      .folder = talk.folder(),
      .plan = RestorationScheduler<FullLoad>{}.plan(restore_sizes(talk.manifest(), tokens.size(), 1), {}),
      .tokens = more,
      .logits = logits};
  const auto refused = restore(job);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::identity_mismatch);
  CHECK(refused.error().message.find("weights (saved 5, here 6)") != std::string::npos);
}

}  // namespace krul::cuts_test
