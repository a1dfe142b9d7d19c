// What other weights saved: refused, with a way on.

#include <doctest/doctest.h>

#include <functional>

#include "krul/compress/exact_codec.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/positioned_backend.hpp"
#include "support/toy_conversation.hpp"

namespace krul::recompute_test {

using test::PositionedBackend, test::Positions, test::toy_tokens;

namespace {

PositionedBackend model_named(std::string weights, std::size_t kv_heads = 2) {
  return {Positions::rotary, kv_heads, ElementType::f16, std::move(weights)};
}

/// The new weights, with another tokenizer.
class OtherTokenizer : public PositionedBackend {
 public:
  OtherTokenizer() : PositionedBackend(Positions::rotary, 2, ElementType::f16, "new") {
    identity_ = PositionedBackend::identity();
    identity_.tokenizer = "1";
  }
  [[nodiscard]] const Identity& identity() const { return identity_; }

 private:
  Identity identity_;
};

void save(PositionedBackend& model, MemoryStore& store, std::span<const Token> tokens) {
  std::vector<float> logits(model.geometry().vocabulary);
  auto talk = open_conversation(model, store, "talk").value();
  REQUIRE(talk.advance(tokens, logits));
  REQUIRE(talk.save());
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("tokens of other weights are recomputed if that is asked for, and the old state stays until the next save") {
  auto old = model_named("old");
  for (auto present : {model_named("new"), model_named("new", 4)}) {
    MemoryStore store;
    auto tokens = toy_tokens(100);
    save(old, store, std::span(tokens).first(90));
    const auto refused = open_conversation(present, store, "talk");
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == ErrorCode::identity_mismatch);
    CHECK(contains(refused.error().message, "weights (saved old, here new)"));
    CHECK(contains(refused.error().message, "its 90 tokens recomputed"));
    CHECK(contains(refused.error().message, "--recompute"));

    std::vector<float> logits(present.geometry().vocabulary), expected(logits.size());
    {
      auto talk = open_conversation(present, store, "talk", {.recompute = true}).value();
      CHECK(std::ranges::equal(talk.saved_tokens(), std::span(tokens).first(90)));
      const auto report = talk.advance(tokens, logits).value();
      CHECK(report.matched == 0);
      CHECK(report.loaded_rows == 0);
      REQUIRE(report.reasons.size() == 1);
      CHECK(contains(report.reasons[0], "recomputed"));
    }
    auto cache = present.make_cache(100);
    auto batch = present.make_batch();
    forward(present, cache, batch, tokens, expected);
    CHECK(logits == expected);
    {  // nothing was saved: the old model still has its state
      auto talk = open_conversation(old, store, "talk", {.read_only = true}).value();
      CHECK(talk.advance(tokens, logits).value().matched == 90);
    }
    {
      auto talk = open_conversation(present, store, "talk", {.recompute = true}).value();
      REQUIRE(talk.advance(tokens, logits));
      CHECK(talk.save().value().generation == 2);
    }
    auto talk = open_conversation(present, store, "talk").value();
    tokens.push_back(1);
    const auto report = talk.advance(tokens, logits).value();
    CHECK(report.matched == 100);
    CHECK(report.reasons.empty());
    CHECK_FALSE(open_conversation(old, store, "talk", {.read_only = true}));
    // What the old model had saved is gone with it.
    CHECK(store.list(talk.folder()).value().size() == 3);
  }
}

TEST_CASE("a save of recomputed tokens that fails leaves the old state, and the conversation goes on") {
  auto old = model_named("old"), present = model_named("new", 4);
  MemoryStore inner;
  const auto tokens = toy_tokens(100);
  save(old, inner, tokens);
  FaultyStore store(inner, {{.operation = Fault::Operation::put, .keys = "*manifest*", .code = ErrorCode::no_space}});
  std::vector<float> logits(present.geometry().vocabulary);
  auto talk = open_conversation(present, store, "talk", {.recompute = true}).value();
  REQUIRE(talk.advance(tokens, logits));
  CHECK(talk.save().error().code == ErrorCode::no_space);
  CHECK(talk.manifest().identity.weights == "new");
  {
    auto before = open_conversation(old, inner, "talk", {.read_only = true}).value();
    CHECK(before.saved_tokens() == tokens);
  }
  store.set_faults({});
  REQUIRE(talk.save());
}

TEST_CASE("tokens that mean another text here are never taken over") {
  auto old = model_named("old");
  MemoryStore store;
  save(old, store, toy_tokens(20));
  OtherTokenizer present;
  const auto refused = open_conversation(present, store, "talk", {.recompute = true});
  REQUIRE_FALSE(refused);
  CHECK(refused.error().code == ErrorCode::identity_mismatch);
  CHECK(contains(refused.error().message, "tokenizer (saved 0, here 1)"));
  CHECK(contains(refused.error().message, "mean another text"));
}

TEST_CASE(
    "tokens of another tokenizer are taken over where they are known to mean the same, and else it is said why not") {
  const auto meaning = [](const std::string& name) {
    return [name](std::span<const Token> tokens) { return name + std::to_string(tokens.size()); };
  };
  auto old = model_named("old");
  OtherTokenizer present;
  MemoryStore store;
  const auto tokens = toy_tokens(40);
  std::vector<float> logits(old.geometry().vocabulary);
  const auto save_as_meant = [&](bool in_background, std::function<std::string(std::span<const Token>)> texts_hash) {
    auto talk = open_conversation(old, store, "talk", {.texts_hash = std::move(texts_hash)}).value();
    REQUIRE(talk.advance(std::span(tokens).first(talk.saved_tokens().size() + 10), logits));
    if (in_background) REQUIRE(talk.save_in_background());
    REQUIRE((in_background ? talk.finish_save() : talk.save()));
  };
  const auto open = [&](bool recompute, std::function<std::string(std::span<const Token>)> texts_hash) {
    return open_conversation(present, store, "talk",
                             {.read_only = true, .recompute = recompute, .texts_hash = std::move(texts_hash)});
  };
  for (const bool in_background : {false, true}) {
    save_as_meant(in_background, meaning("same"));
    CHECK(contains(open(true, meaning("other")).error().message, "; its tokens mean another text here"));
    CHECK(contains(open(true, {}).error().message, "cannot be told"));
    CHECK(contains(open(false, meaning("same")).error().message, "--recompute"));
    const auto taken = open(true, meaning("same"));
    REQUIRE(taken);
    CHECK(std::ranges::equal(taken->saved_tokens(), std::span(tokens).first(taken->saved_tokens().size())));
  }
  save_as_meant(false, {});
  CHECK(contains(open(true, meaning("same")).error().message, "cannot be told"));
}

TEST_CASE("weights by their former name are the same weights, and are saved by their present one") {
  class Renamed : public PositionedBackend {
   public:
    Renamed() : PositionedBackend(Positions::rotary, 2, ElementType::f16, "new") {
      identity_ = PositionedBackend::identity();
      identity_.former_weights = "old";
    }
    [[nodiscard]] const Identity& identity() const { return identity_; }

   private:
    Identity identity_;
  };
  auto old = model_named("old"), third = model_named("third");
  MemoryStore store;
  auto tokens = toy_tokens(80);
  save(old, store, std::span(tokens).first(70));
  Renamed present;
  std::vector<float> logits(present.geometry().vocabulary);
  {
    auto talk = open_conversation(present, store, "talk").value();
    CHECK(talk.advance(tokens, logits).value().matched == 70);
    REQUIRE(talk.save());
  }
  auto by_present_name = model_named("new");
  CHECK(open_conversation(by_present_name, store, "talk", {.read_only = true}).has_value());
  CHECK_FALSE(open_conversation(third, store, "talk", {.read_only = true}));
}

TEST_CASE("a cache grows with what it holds, whatever context a model declares") {
  class Wide : public toy::Backend {
   public:
    Wide() : toy::Backend(geometry_of()) {}
    std::size_t largest = 0;
    Cache make_cache(std::size_t capacity) {
      largest = std::max(largest, capacity);
      return toy::Backend::make_cache(capacity);
    }

   private:
    static Geometry geometry_of() {
      Geometry geometry = toy::Backend().geometry();
      geometry.context = 1'010'000;
      return geometry;
    }
  };
  Wide model;
  MemoryStore store;
  std::vector<float> logits(model.geometry().vocabulary);
  auto tokens = toy_tokens(1100);
  {
    auto talk = open_conversation(model, store, "talk").value();
    REQUIRE(talk.advance(std::span(tokens).first(1000), logits));
    const std::size_t first = talk.cache().capacity();
    CHECK(first < 4096);
    REQUIRE(talk.save());
  }
  auto talk = open_conversation(model, store, "talk", strategy::load(ExactCodec{})).value();
  REQUIRE(talk.advance(tokens, logits));
  // What the next token is computed over has grown meanwhile, and is the same.
  const std::size_t room = talk.cache().capacity();
  tokens.resize(room, 7);
  REQUIRE(talk.advance(tokens, logits));
  CHECK(talk.cache().capacity() >= room);
  const OwnedKvRows before = read_kv_rows(talk.cache(), model.geometry(), 3, {0, room});
  REQUIRE(talk.append(9, logits));
  tokens.push_back(9);
  CHECK(talk.cache().capacity() > room);
  const OwnedKvRows after = read_kv_rows(talk.cache(), model.geometry(), 3, {0, room});
  CHECK(before == after);
  CHECK(talk.tokens() == tokens);
  CHECK(talk.cache().length() == tokens.size());
  CHECK(talk.cache().capacity() < 2 * tokens.size());
  CHECK(model.largest < 2 * tokens.size());
  CHECK(talk.save().has_value());

  auto small = open_conversation(model, store, "small", {.capacity = 64}).value();
  REQUIRE(small.advance(std::span(tokens).first(60), logits));
  CHECK(small.cache().capacity() == 64);
  for (int i = 0; i < 4; ++i) REQUIRE(small.append(1, logits));
  CHECK(small.append(1, logits).error().code == ErrorCode::too_large);
}

}  // namespace krul::recompute_test
