#include "krul/conversation/background_save.hpp"
#include "krul/compress/exact_codec.hpp"

#include <doctest/doctest.h>

#include <future>
#include <memory>
#include <new>

#include "krul/conversation/verify.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/toy_conversation.hpp"

namespace krul {
namespace {

using test::run_through;
using test::toy_tokens;

/// A store whose writes wait until its gate is opened.
class GatedStore : public MemoryStore {
 public:
  Status put(const std::string& key, std::span<const std::byte> bytes) {
    open_.wait();
    return MemoryStore::put(key, bytes);
  }
  void open() { gate_->set_value(); }

 private:
  std::shared_ptr<std::promise<void>> gate_ = std::make_shared<std::promise<void>>();
  std::shared_future<void> open_ = gate_->get_future().share();
};

struct BackgroundFixture {
  toy::Backend model{ElementType::f32};
  ConversationOptions options = [] {
    ConversationOptions small;
    small.strategy = strategy::by_layer("exact", ExactCodec{});
    small.block = 16;
    return small;
  }();
  std::vector<float> logits = std::vector<float>(model.geometry().vocabulary);
  std::vector<Token> tokens = toy_tokens(120);
  std::string folder = conversation_folder("a talk").value();

  template <class Store>
  auto open(Store& store) {
    return open_conversation(model, store, "a talk", options).value();
  }
  template <class Talk>
  void run_to(Talk& talk, std::size_t count) {
    REQUIRE(talk.advance(std::span(tokens).first(count), logits));
  }
};

TEST_CASE("a talk goes on while it is saved, and what is saved is what was there when it began") {
  BackgroundFixture f;
  GatedStore store;
  auto talk = f.open(store);
  f.run_to(talk, 50);
  REQUIRE(talk.save_in_background());
  CHECK(talk.saving());
  for (std::size_t t = 50; t < 60; ++t) REQUIRE(talk.append(f.tokens[t], f.logits));
  CHECK(talk.saved_tokens().empty());
  store.open();
  const auto report = talk.finish_save();
  REQUIRE(report);
  CHECK(report->rows == 50);
  CHECK_FALSE(talk.saving());
  CHECK(load_manifest(store, f.folder)->manifest.tokens == std::vector<Token>(f.tokens.begin(), f.tokens.begin() + 50));

  // The next save appends to it.
  const auto next = talk.save();
  REQUIRE(next);
  CHECK(next->rows == 60);
  CHECK(next->new_rows == 60 - 48);
  talk.drop();
  f.run_to(talk, 120);
  CHECK(f.logits == run_through(f.model, f.tokens).logits);
}

TEST_CASE("an edit during a save is saved by the next one") {
  BackgroundFixture f;
  GatedStore store;
  auto talk = f.open(store);
  f.run_to(talk, 100);
  REQUIRE(talk.save_in_background());
  for (std::size_t t = 30; t < f.tokens.size(); ++t) f.tokens[t] = (f.tokens[t] + 1) % 64;
  f.run_to(talk, 90);
  store.open();
  REQUIRE(talk.finish_save());
  const auto next = talk.save();
  REQUIRE(next);
  CHECK(next->new_rows == 90 - 16);  // the first block is as it was
  talk.drop();
  f.run_to(talk, 110);
  CHECK(f.logits == run_through(f.model, std::vector<Token>(f.tokens.begin(), f.tokens.begin() + 110)).logits);
}

TEST_CASE("whoever needs the saved state waits for the save") {
  BackgroundFixture f;
  MemoryStore store;
  {
    auto talk = f.open(store);
    f.run_to(talk, 50);
    REQUIRE(talk.save_in_background());
    talk.drop();
    CHECK(talk.advance(std::span(f.tokens).first(70), f.logits)->matched == 50);
    REQUIRE(talk.save_in_background());
  }  // the destructor waits
  CHECK(load_manifest(store, f.folder)->manifest.rows == 70);
  CHECK(verify_conversation(store, f.folder)->problems.empty());
}

TEST_CASE("a save in the background that failed is reported, and made up for") {
  BackgroundFixture f;
  using Faulty = FaultyStore<MemoryStore>;
  const Fault once{
      .operation = Fault::Operation::put, .kind = Fault::Kind::fail, .count = 1, .code = ErrorCode::no_space};
  MemoryStore memory;
  Faulty store(memory, {once});
  auto talk = f.open(store);
  f.run_to(talk, 50);
  REQUIRE(talk.save_in_background());
  SUBCASE("by finish_save") {
    CHECK(talk.finish_save().error().code == ErrorCode::no_space);
  }
  SUBCASE("by the next save in the background, which goes ahead") {
    CHECK(talk.save_in_background().error().code == ErrorCode::no_space);
    CHECK(talk.finish_save()->rows == 50);
    return;
  }
  SUBCASE("by the next restore, which has to do without") {
    talk.drop();
    const auto report = talk.advance(std::span(f.tokens).first(60), f.logits);
    REQUIRE(report);
    CHECK(report->matched == 0);
    REQUIRE(report->reasons.size() == 1);
    CHECK(report->reasons.front().find("did not come to its end") != std::string::npos);
  }
  CHECK(talk.save()->generation == 1);
  CHECK(load_manifest(memory, f.folder)->manifest.rows == talk.cache().length());
}

/// A store that has no memory left to erase anything.
class NeverErasing : public MemoryStore {
 public:
  [[noreturn]] static Status erase(const std::string&) { throw std::bad_alloc(); }
};

TEST_CASE("a save in the background that threw once it had published is known to have saved") {
  BackgroundFixture f;
  NeverErasing store;
  auto talk = f.open(store);
  f.run_to(talk, 10);
  REQUIRE(talk.save_in_background());
  f.run_to(talk, 60);
  REQUIRE(talk.finish_save());
  REQUIRE(talk.save_in_background());  // replaces all
  CHECK_THROWS_AS((void)talk.finish_save(), std::bad_alloc);
  CHECK(talk.manifest() == load_manifest(store, f.folder)->manifest);
  CHECK(talk.saved_tokens().size() == 60);
}

TEST_CASE("more rows than may be copied are saved at once") {
  BackgroundFixture f;
  f.options.largest_copy = KvSnapshot::bytes(f.model.geometry(), 49);
  MemoryStore store;
  auto talk = f.open(store);
  f.run_to(talk, 50);
  REQUIRE(talk.save_in_background());
  CHECK_FALSE(talk.saving());
  CHECK(talk.saved_tokens().size() == 50);
  CHECK(talk.finish_save()->rows == 50);
}

TEST_CASE("a save in the background asks for what a save asks for") {
  BackgroundFixture f;
  MemoryStore store;
  auto talk = f.open(store);
  CHECK_THROWS_AS((void)talk.save_in_background(), PreconditionError);  // nothing to save
  f.run_to(talk, 20);
  SavePlan plan = SavePlan::separate(ExactCodec{});
  plan.left_out = {1};
  CHECK_THROWS_AS((void)talk.save_in_background(plan), PreconditionError);
  plan.left_out = {};
  plan.from_source.assign(f.model.geometry().layers, true);
  CHECK_THROWS_AS((void)talk.save_in_background(plan), PreconditionError);
  CHECK(talk.finish_save()->rows == 0);  // none was begun

  REQUIRE(talk.save());
  f.options.read_only = true;
  auto reader = f.open(store);
  f.run_to(reader, 20);
  CHECK_THROWS_AS((void)reader.save_in_background(), PreconditionError);
}

}  // namespace
}  // namespace krul
