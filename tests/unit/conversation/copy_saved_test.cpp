#include "krul/conversation/copy_saved.hpp"

#include <doctest/doctest.h>

#include "krul/compress/exact_codec.hpp"
#include "krul/conversation/fork.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/toy_conversation.hpp"

namespace krul::copies {
namespace {

using test::run_through;
using test::toy_tokens;

struct Source {
  toy::Backend model{ElementType::f32};
  MemoryStore store;
  std::vector<Token> tokens = toy_tokens(100);
  std::string folder = conversation_folder("copied").value();

  explicit Source(std::size_t count = 60) { go_on(store, "copied", {tokens.begin(), tokens.begin() + count}); }

  RestoreReport go_on(MemoryStore& in, const std::string& id, const std::vector<Token>& to) {
    ConversationOptions how;
    how.strategy = strategy::load(ExactCodec{});
    how.block = 16;
    auto conversation = Conversation<toy::Backend, MemoryStore>::open(model, in, id, how).value();
    std::vector<float> logits(model.geometry().vocabulary);
    RestoreReport report = conversation.advance(to, std::span(logits)).value();
    CHECK(logits == run_through(model, to).logits);
    REQUIRE(conversation.save());
    return report;
  }
};

}  // namespace

/// A store that asks for many things at once, counts how often it is asked for sizes, and may make them up.
struct SizedStore : MemoryStore {
  int asked = 0;
  std::uint64_t made_up = 0;
  std::vector<Result<std::uint64_t>> sizes(std::span<const std::string> keys) {
    ++asked;
    if (made_up > 0) return std::vector<Result<std::uint64_t>>(keys.size(), made_up);
    std::vector<Result<std::uint64_t>> found;
    for (const std::string& key : keys) found.push_back(size(key));
    return found;
  }
};

TEST_CASE("sizes are asked for together, and one that there is no memory for is an error") {
  Source source;
  source.go_on(source.store, "copied", source.tokens);
  SizedStore from{source.store};
  MemoryStore to;
  REQUIRE(ConversationCopier(from, to).copy(source.folder));
  CHECK(from.asked == 1);
  from.made_up = std::uint64_t{1} << 63;
  MemoryStore other;
  const auto copied = ConversationCopier(from, other).copy(source.folder);
  CHECK(copied.error().code == ErrorCode::too_large);
}

TEST_CASE("a copy is the conversation, and is made once") {
  Source source;
  MemoryStore to;
  ConversationCopier copier(source.store, to);
  const CopyReport first = copier.copy(source.folder).value();
  CHECK(first.conversation == "copied");
  CHECK(first.objects == 1);
  CHECK(first.gone.empty());
  CHECK(to.used() == source.store.used());
  CHECK(copier.copy(source.folder)->is_newer_there);
  source.go_on(source.store, "copied", source.tokens);
  CHECK(copier.copy(source.folder)->objects > 0);
  CHECK(to.used() == source.store.used());
  CHECK(source.go_on(to, "copied", toy_tokens(110)).matched == 100);
  // What is newer there stays.
  CHECK(copier.copy(source.folder)->is_newer_there);
  CHECK(load_saved(to, "copied")->manifest.tokens.size() == 110);
}

TEST_CASE("a fork is copied with what it borrows") {
  Source source(100);
  REQUIRE(fork_saved(source.store, "copied", {.to = "fork", .tokens = 64}));
  MemoryStore to;
  ConversationCopier copier(source.store, to);
  REQUIRE(copier.copy(conversation_folder("fork").value()));
  auto tokens = source.tokens;
  tokens.resize(64);
  tokens.push_back(3);
  CHECK(source.go_on(to, "fork", tokens).loaded_rows == 64 * source.model.geometry().layers);
  REQUIRE(copier.copy(source.folder));
  CHECK(source.go_on(to, "copied", toy_tokens(101)).matched == 100);
  REQUIRE(erase_saved(to, "copied")->status);
  REQUIRE(erase_saved(to, "fork")->status);
  CHECK(to.used() == 0);
}

TEST_CASE("a copy that fails leaves what was there, and goes on where it was") {
  Source source;
  MemoryStore to;
  REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
  source.go_on(source.store, "copied", source.tokens);
  for (std::uint64_t call = 0; call < 3; ++call) {
    FaultyStore faulty(to, {{.operation = Fault::Operation::put, .first = call, .count = 1}});
    const auto failed = ConversationCopier(source.store, faulty).copy(source.folder);
    if (call < 2) REQUIRE(!failed);
    const auto loaded = load_saved(to, "copied").value();
    CHECK(loaded.manifest.tokens.size() == (call < 2 && !failed && loaded.manifest.generation == 1 ? 60 : 100));
  }
  CHECK(source.go_on(to, "copied", toy_tokens(110)).matched == 100);
  const auto lock = to.lock(source.folder);
  source.go_on(source.store, "copied", toy_tokens(120));
  CHECK(ConversationCopier(source.store, to).copy(source.folder).error().code == ErrorCode::busy);
  MemoryStore empty;
  CHECK(ConversationCopier(empty, to).copy(source.folder).error().code == ErrorCode::not_found);
}

TEST_CASE("what cannot be read there now may be newer, and is not replaced") {
  Source source;
  MemoryStore to;
  source.go_on(to, "copied", toy_tokens(20, 5));
  source.go_on(source.store, "copied", source.tokens);
  FaultyStore unread(to, {{.operation = Fault::Operation::get, .keys = "*/manifest-*", .code = ErrorCode::deadline}});
  CHECK(ConversationCopier(source.store, unread).copy(source.folder).error().code == ErrorCode::deadline);
  CHECK(load_saved(to, "copied")->manifest.tokens == toy_tokens(20, 5));
  // What nobody can read any more is.
  for (const char* copy : {"/manifest-a", "/manifest-b"}) test::flip_byte(to, source.folder + copy, 40);
  REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
  CHECK(load_saved(to, "copied")->manifest.tokens == source.tokens);
}

TEST_CASE("a lender that somebody writes there is waited for") {
  Source source(100);
  REQUIRE(fork_saved(source.store, "copied", {.to = "fork"}));
  MemoryStore to;
  const auto lock = to.lock(source.folder);
  CHECK(ConversationCopier(source.store, to).copy(conversation_folder("fork").value()).error().code == ErrorCode::busy);
  CHECK(to.used() == 0);
}

TEST_CASE("what is damaged is told, copied as far as it is of use, and recomputed") {
  Source source;
  const std::string segment = source.folder + "/" + load_saved(source.store, "copied")->manifest.objects[0];
  test::flip_byte(source.store, segment, 5);
  MemoryStore to;
  const CopyReport report = ConversationCopier(source.store, to).copy(source.folder).value();
  CHECK(report.gone == std::vector<std::string>{segment});
  CHECK(report.objects == 1);
  REQUIRE(source.store.erase(segment));
  MemoryStore other;
  CHECK(ConversationCopier(source.store, other).copy(source.folder)->gone == std::vector<std::string>{segment});
  CHECK(source.go_on(other, "copied", source.tokens).loaded_rows == 0);
  CHECK(source.go_on(to, "copied", source.tokens).repaired_rows > 0);
  FaultyStore unread(source.store, {{.operation = Fault::Operation::get, .keys = "*segment*"}});
  source.go_on(source.store, "copied", toy_tokens(90));
  MemoryStore third;
  CHECK(ConversationCopier(unread, third).copy(source.folder).error().code == ErrorCode::io);
}

}  // namespace krul::copies
