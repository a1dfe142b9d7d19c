#include "krul/conversation/conversation.hpp"
#include "krul/compress/exact_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>

#include "krul/conversation/verify.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/foreign_parts.hpp"
#include "support/toy_conversation.hpp"

namespace krul {
namespace {

using test::DifferingBits;
using test::flip_byte;
using test::InvertedCodec;
using test::run_through;
using test::toy_tokens;
using Talk = Conversation<toy::Backend, MemoryStore>;

struct ConversationFixture {
  toy::Backend model{ElementType::f32};
  MemoryStore store;
  ConversationOptions options = [] {
    ConversationOptions small;
    small.strategy = strategy::by_layer("exact", ExactCodec{});
    small.block = 16;
    small.threads = 2;
    return small;
  }();
  std::vector<float> logits = std::vector<float>(model.geometry().vocabulary);

  Talk open(AnyPolicy policy = FullLoad{}) {
    options.strategy = strategy::by_layer("exact", ExactCodec{}, std::move(policy));
    return Talk::open(model, store, "a talk", options).value();
  }
  /// Runs and saves the first `count` tokens in a conversation object of its own.
  SaveReport turn(const std::vector<Token>& tokens, std::size_t count) {
    auto talk = open();
    REQUIRE(talk.advance(std::span(tokens).first(count), logits));
    return talk.save().value();
  }
  std::string folder() const { return conversation_folder("a talk").value(); }
};

TEST_CASE("a saved conversation goes on where it was") {
  ConversationFixture f;
  const auto tokens = toy_tokens(120);
  CHECK(f.turn(tokens, 100).new_rows == 100);
  auto talk = f.open();
  CHECK(talk.saved_tokens() == std::vector<Token>(tokens.begin(), tokens.begin() + 100));
  const auto report = talk.advance(tokens, f.logits).value();
  CHECK(report.asked == 120);
  CHECK(report.matched == 100);
  CHECK(report.loaded_rows == 400);
  CHECK(f.logits == run_through(f.model, tokens).logits);
}

TEST_CASE("a codec and a sharing policy from outside reach saves and restores") {
  ConversationFixture f;
  const auto tokens = toy_tokens(120);
  const std::span<const Token> history = std::span(tokens).first(100);
  SavePlan plan = SavePlan::separate(InvertedCodec{}, "mine");
  plan.pair_coding = LayerPairCompressor(DifferingBits{}, InvertedCodec{});
  plan.pairs = {{1, 3}};
  {
    auto talk = f.open();
    REQUIRE(talk.advance(history, f.logits));
    REQUIRE(talk.save(plan));
    CHECK(talk.manifest().plans.front().coders ==
          std::vector<std::string>{"acme.inverted.1", "acme.differing-bits.1+acme.inverted.1"});
  }
  SUBCASE("with them all is loaded, and a later turn keeps them") {
    f.options.codings = CodingSet(nullptr, {plan.coding, plan.pair_coding});
    for (const std::size_t count : {110, 120}) {
      auto talk = f.open();
      const auto report = talk.advance(std::span(tokens).first(count), f.logits).value();
      CHECK(report.loaded_rows == 4 * report.matched);
      CHECK(report.reasons.empty());
      REQUIRE(talk.save(plan));
      CHECK(talk.manifest().plans.size() == 1);
    }
    CHECK(f.logits == run_through(f.model, tokens).logits);
  }
  SUBCASE("without one of them its rows are recomputed, and the report names it") {
    f.options.codings = CodingSet(nullptr, {plan.coding});
    auto talk = f.open();
    const auto report = talk.advance(tokens, f.logits).value();
    CHECK(report.loaded_rows == 0);
    REQUIRE(report.reasons.size() == 1);
    CHECK(report.reasons.front().find("acme.differing-bits.1+acme.inverted.1, which is not at hand") !=
          std::string::npos);
    CHECK(report.reasons.front().find("coder in ConversationOptions::codings") != std::string::npos);
    CHECK(report.damaged_blocks.empty());
    CHECK(f.logits == run_through(f.model, tokens).logits);
  }
}

TEST_CASE("a turn appends: closed blocks are never written again") {
  ConversationFixture f;
  const auto tokens = toy_tokens(200);
  f.turn(tokens, 100);
  const Manifest before = load_manifest(f.store, f.folder())->manifest;
  const SaveReport second = f.turn(tokens, 150);
  CHECK(second.generation == 2);
  CHECK(second.new_rows == 150 - 96);  // the open tail block of four tokens, and fifty more
  const Manifest after = load_manifest(f.store, f.folder())->manifest;
  for (std::size_t layer = 0; layer < 4; ++layer)
    for (std::size_t block = 0; block < 6; ++block) CHECK(after.chunk(layer, block) == before.chunk(layer, block));
  f.turn(tokens, 200);
  auto talk = f.open();
  REQUIRE(talk.advance(tokens, f.logits));
  CHECK(f.logits == run_through(f.model, tokens).logits);
}

TEST_CASE("saving the same again writes nothing") {
  ConversationFixture f;
  const auto tokens = toy_tokens(50);
  auto talk = f.open();
  REQUIRE(talk.advance(tokens, f.logits));
  CHECK(talk.save()->generation == 1);
  CHECK(talk.save()->bytes == 0);
  CHECK(talk.save()->generation == 1);
}

TEST_CASE("pending tokens are kept and run with the next prompt") {
  ConversationFixture f;
  const auto tokens = toy_tokens(60);
  {
    auto talk = f.open();
    REQUIRE(talk.advance(std::span(tokens).first(50), f.logits));
    talk.append_pending(tokens[50]);
    CHECK_THROWS_AS((void)talk.append(tokens[51], f.logits), PreconditionError);
    REQUIRE(talk.save());
  }
  auto talk = f.open();
  CHECK(talk.saved_tokens().size() == 51);
  CHECK(talk.advance(tokens, f.logits)->matched == 50);
  CHECK(f.logits == run_through(f.model, tokens).logits);
}

TEST_CASE("an edited history keeps what is the same") {
  ConversationFixture f;
  auto tokens = toy_tokens(110);
  f.turn(tokens, 100);
  for (std::size_t t = 70; t < tokens.size(); ++t) tokens[t] = (tokens[t] + 1) % 64;
  {
    auto talk = f.open();
    const auto report = talk.advance(tokens, f.logits).value();
    CHECK(report.matched == 70);
    CHECK(report.reasons.size() == 1);
    CHECK(f.logits == run_through(f.model, tokens).logits);
    REQUIRE(talk.save());
  }
  auto talk = f.open();
  CHECK(talk.saved_tokens() == tokens);
  tokens.push_back(3);
  CHECK(talk.advance(tokens, f.logits)->matched == 110);
  CHECK(f.logits == run_through(f.model, tokens).logits);
}

TEST_CASE("a live cache goes on without the store, also after an edit") {
  ConversationFixture f;
  auto tokens = toy_tokens(80);
  auto talk = f.open();
  REQUIRE(talk.advance(std::span(tokens).first(60), f.logits));
  REQUIRE(talk.save());
  auto report = talk.advance(tokens, f.logits).value();
  CHECK(report.matched == 60);
  CHECK(report.bytes == 0);
  tokens.resize(40);
  tokens.push_back(5);
  report = talk.advance(tokens, f.logits).value();
  CHECK(report.matched == 40);
  CHECK(f.logits == run_through(f.model, tokens).logits);
  REQUIRE(talk.save());
  CHECK(load_manifest(f.store, f.folder())->manifest.tokens == tokens);
}

TEST_CASE("a pass that an exception cuts off leaves no pieces of an edit in the live cache") {
  ConversationFixture f;
  auto tokens = toy_tokens(300), edited = toy_tokens(300, 2);
  std::copy_n(tokens.begin(), 20, edited.begin());
  edited.back() = 64;  // no token of the model's: the last piece throws
  auto talk = f.open();
  REQUIRE(talk.advance(tokens, f.logits));
  TokenwiseSimilarityEstimator<> wants_pieces(f.model.geometry());
  CHECK_THROWS_AS((void)talk.advance(edited, f.logits, wants_pieces), PreconditionError);
  CHECK(talk.tokens() == tokens);
  CHECK(talk.cache().length() == 20);
  tokens.push_back(5);
  REQUIRE(talk.advance(tokens, f.logits));
  CHECK(f.logits == run_through(f.model, tokens).logits);
}

TEST_CASE("decode after a restore continues as if nothing had happened") {
  ConversationFixture f;
  const auto tokens = toy_tokens(90);
  f.turn(tokens, 64);
  auto talk = f.open();
  REQUIRE(talk.advance(std::span(tokens).first(70), f.logits));
  for (std::size_t t = 70; t < tokens.size(); ++t) REQUIRE(talk.append(tokens[t], f.logits));
  CHECK(talk.tokens() == tokens);
  CHECK(f.logits == run_through(f.model, tokens).logits);
}

TEST_CASE("state of another model is refused with the fields that differ") {
  ConversationFixture f;
  f.turn(toy_tokens(40), 40);
  toy::Backend other(ElementType::f16);
  const auto opened = Talk::open(other, f.store, "a talk", f.options);
  REQUIRE_FALSE(opened);
  CHECK(opened.error().code == ErrorCode::identity_mismatch);
  CHECK(opened.error().message.find("geometry") != std::string::npos);
  CHECK(opened.error().message.find("cache=f16") != std::string::npos);
  CHECK(load_manifest(f.store, f.folder()));  // still there
}

TEST_CASE("only one writer at a time, any number of readers") {
  ConversationFixture f;
  f.turn(toy_tokens(40), 40);
  const auto writer = f.open();
  const Error refused = Talk::open(f.model, f.store, "a talk", f.options).error();
  CHECK(refused.code == ErrorCode::busy);
  CHECK(refused.message.starts_with("conversation \"a talk\": another writer"));
  f.options.read_only = true;
  auto reader = Talk::open(f.model, f.store, "a talk", f.options);
  REQUIRE(reader);
  REQUIRE(reader->advance(toy_tokens(45), f.logits));
  CHECK_THROWS_AS((void)reader->save(), PreconditionError);
}

TEST_CASE("a prompt that does not fit changes nothing") {
  ConversationFixture f;
  f.options.capacity = 64;
  auto talk = f.open();
  REQUIRE(talk.advance(toy_tokens(60), f.logits));
  CHECK(talk.advance(toy_tokens(65), f.logits).error().code == ErrorCode::too_large);
  CHECK(talk.cache().length() == 60);
  for (int i = 0; i < 4; ++i) REQUIRE(talk.append(1, f.logits));
  CHECK(talk.append(1, f.logits).error().code == ErrorCode::too_large);
  CHECK(talk.cache().length() == 64);
}

TEST_CASE("a store that fails while saving leaves what was saved") {
  ConversationFixture f;
  const auto tokens = toy_tokens(100);
  f.turn(tokens, 60);
  for (std::uint64_t call = 0; call < 3; ++call) {  // the object, the first and the second copy of the manifest
    using Faulty = FaultyStore<MemoryStore>;
    Faulty faulty(f.store);
    auto talk = Conversation<toy::Backend, Faulty>::open(f.model, faulty, "a talk", f.options).value();
    REQUIRE(talk.advance(tokens, f.logits));
    faulty.set_faults({{.operation = Fault::Operation::put, .kind = Fault::Kind::fail, .first = call, .count = 1}});
    const auto saved = talk.save();
    const auto manifest = load_manifest(f.store, f.folder());
    REQUIRE(manifest);
    CHECK((manifest->manifest.tokens.size() == 60 || manifest->manifest.tokens.size() == 100));
    if (call < 2) CHECK_FALSE(saved);
    CHECK(verify_conversation(f.store, f.folder()));
  }
}

TEST_CASE("a save whose leftovers cannot be erased is a save") {
  ConversationFixture f;
  FaultyStore store(MemoryStore(), {{.operation = Fault::Operation::list}});
  const auto tokens = toy_tokens(60);
  auto talk = Conversation<toy::Backend, FaultyStore<MemoryStore>>::open(f.model, store, "a talk", f.options).value();
  REQUIRE(talk.advance(std::span(tokens).first(40), f.logits));
  CHECK(talk.save()->generation == 1);
  REQUIRE(talk.advance(tokens, f.logits));
  CHECK(talk.save()->generation == 2);
  CHECK(load_manifest(store, f.folder())->manifest.rows == 60);
}

TEST_CASE("whichever byte of a saved conversation is damaged, the answer is right and the report says what was done") {
  ConversationFixture f;
  const auto tokens = toy_tokens(45);
  f.turn(tokens, 20);
  f.turn(tokens, 40);
  const auto expected = run_through(f.model, tokens).logits;
  const auto objects = f.store.list(f.folder()).value();
  for (const auto& object : objects) {
    const std::string key = f.folder() + "/" + object;
    std::vector<std::byte> good(f.store.size(key).value());
    REQUIRE(f.store.get(key, 0, good));
    for (std::uint64_t offset = 0; offset < good.size(); offset += 37) {
      flip_byte(f.store, key, offset);
      const auto problems = verify_conversation(f.store, f.folder()).value().problems;
      auto talk = f.open();
      CHECK(talk.saved_tokens().size() == 40);
      const auto report = talk.advance(tokens, f.logits).value();
      REQUIRE(f.logits == expected);
      // Bytes that no chunk uses any more (a replaced tail block) may be damaged unnoticed.
      REQUIRE(report.reasons.empty() == problems.empty());
      REQUIRE(f.store.put(key, good));
    }
  }
}

TEST_CASE("two conversations in one folder are told apart") {
  ConversationFixture f;
  f.turn(toy_tokens(40), 40);
  Manifest manifest = load_manifest(f.store, f.folder())->manifest;
  manifest.conversation = "another talk";
  REQUIRE(publish_manifest(f.store, f.folder(), manifest));
  CHECK(Talk::open(f.model, f.store, "a talk", f.options).error().code == ErrorCode::corrupt);
}

TEST_CASE("wrong calls are refused") {
  ConversationFixture f;
  auto talk = f.open();
  CHECK_THROWS_AS((void)talk.cache(), PreconditionError);
  CHECK_THROWS_AS((void)talk.advance({}, f.logits), PreconditionError);
  CHECK_THROWS_AS((void)talk.advance(toy_tokens(3), std::span(f.logits).first(5)), PreconditionError);
  std::vector<float> two_rows(2 * f.logits.size());
  CHECK_THROWS_AS((void)talk.advance(toy_tokens(1), two_rows), PreconditionError);
  CHECK_THROWS_AS((void)talk.save(), PreconditionError);
  CHECK(Talk::open(f.model, f.store, "", f.options).error().code == ErrorCode::invalid_argument);
  for (const Token none : {-1, 64}) CHECK_THROWS_AS(talk.append_pending(none), PreconditionError);
  for (const std::size_t none : {std::size_t{0}, std::size_t{1} << 32}) {
    f.options.block = none;
    CHECK_THROWS_AS((void)Talk::open(f.model, f.store, "b", f.options), PreconditionError);
  }
}

}  // namespace
}  // namespace krul
