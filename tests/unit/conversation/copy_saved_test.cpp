#include "krul/conversation/copy_saved.hpp"

#include <doctest/doctest.h>

#include <map>

#include "krul/compress/exact_codec.hpp"
#include "krul/conversation/fork.hpp"
#include "krul/store/encrypted_store.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/encryption_key.hpp"
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

/// As many tokens of `base` and some that follow it nowhere else.
std::vector<Token> branch(std::vector<Token> base, std::size_t count, unsigned seed) {
  for (const Token token : toy_tokens(count, seed)) base.push_back(token);
  return base;
}

/// All that a store has, by its keys.
std::map<std::string, std::vector<std::byte>> contents(MemoryStore store) {
  std::map<std::string, std::vector<std::byte>> found;
  const auto folders = store.list("").value();
  for (const std::string& folder : folders) {
    const auto names = store.list(folder).value();
    for (const std::string& name : names)
      found[folder + "/" + name] = load_object(store, folder + "/" + name, 1 << 30).value();
  }
  return found;
}

std::string first_segment(MemoryStore& store, const std::string& id) {
  return object_key(conversation_folder(id).value(), load_saved(store, id)->manifest.objects[0]);
}

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

TEST_CASE("sizes are asked for together, and bound no memory: the manifest does") {
  Source source;
  source.go_on(source.store, "copied", source.tokens);
  SizedStore from{source.store};
  MemoryStore to;
  REQUIRE(ConversationCopier(from, to).copy(source.folder));
  CHECK(from.asked == 1);
  const auto copied = contents(to);
  from.made_up = std::uint64_t{1} << 63;
  MemoryStore other;
  CHECK(ConversationCopier(from, other).copy(source.folder)->gone.empty());
  CHECK(contents(other) == copied);
  // Zeros that were appended are not copied.
  const std::string segment = first_segment(source.store, "copied");
  auto padded = load_object(source.store, segment, 1 << 30).value();
  padded.resize(padded.size() + (1 << 20));
  REQUIRE(source.store.put(segment, padded));
  MemoryStore third;
  CHECK(ConversationCopier(source.store, third).copy(source.folder)->gone.empty());
  CHECK(contents(third) == copied);
  // What is there is not to become shorter, and there is no memory for so much.
  test::flip_byte(other, segment, 0);
  SizedStore there{other};
  there.made_up = from.made_up;
  const auto failed = ConversationCopier(from, there, {.check = true}).copy(source.folder);
  REQUIRE(!failed);
  CHECK(failed.error().code == ErrorCode::too_large);
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

TEST_CASE("what is there and cannot be read is not replaced, whatever is asked for") {
  Source source;
  MemoryStore to;
  REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
  source.go_on(to, "copied", source.tokens);
  source.go_on(source.store, "copied", toy_tokens(80));
  source.go_on(source.store, "copied", toy_tokens(90));
  const auto before = contents(to);
  for (const ErrorCode code : {ErrorCode::corrupt, ErrorCode::truncated, ErrorCode::too_large, ErrorCode::medium,
                               ErrorCode::unsupported_version, ErrorCode::deadline, ErrorCode::io}) {
    const bool may_pass = code == ErrorCode::deadline || code == ErrorCode::io;
    FaultyStore unread(to, {{.operation = Fault::Operation::get, .keys = "*/manifest-*", .code = code}});
    const auto failed = ConversationCopier(source.store, unread, {.replace = true, .check = true}).copy(source.folder);
    CAPTURE(name(code));
    REQUIRE(!failed);
    CHECK((failed.error().message.find("give its key, or erase it there first") == std::string::npos) == may_pass);
    CHECK(contents(to) == before);
  }
  // One copy of the manifest that may be newer than the other.
  FaultyStore unread(to, {{.operation = Fault::Operation::get, .keys = "*/manifest-a", .code = ErrorCode::deadline}});
  CHECK(ConversationCopier(source.store, unread).copy(source.folder).error().code == ErrorCode::io);
  CHECK(contents(to) == before);
  for (const char* copy : {"/manifest-a", "/manifest-b"}) test::flip_byte(to, source.folder + copy, 40);
  const auto damaged = contents(to);
  CHECK(ConversationCopier(source.store, to).copy(source.folder).error().code == ErrorCode::corrupt);
  CHECK(contents(to) == damaged);
}

TEST_CASE("what is encrypted with another key is not replaced, neither a conversation nor what a fork would borrow") {
  Source source(100);
  MemoryStore behind;
  auto to = EncryptedStore<MemoryStore>::make(behind, {test::key_of_all(1)});
  if (!to) {
    MESSAGE("skipped: " << to.error().message);
    return;
  }
  REQUIRE(ConversationCopier(source.store, *to).copy(source.folder));
  source.go_on(source.store, "copied", toy_tokens(120));
  REQUIRE(fork_saved(source.store, "copied", {.to = "fork"}));
  const auto before = contents(behind);
  auto other = EncryptedStore<MemoryStore>::make(behind, {test::key_of_all(2)}).value();
  for (const std::string& folder : {source.folder, conversation_folder("fork").value()}) {
    CHECK(ConversationCopier(source.store, other).copy(folder).error().code == ErrorCode::corrupt);
    CHECK(ConversationCopier(source.store, behind).copy(folder).error().code == ErrorCode::corrupt);
    CHECK(contents(behind) == before);
  }
  CHECK(ConversationCopier(source.store, *to).copy(source.folder)->objects > 0);
}

TEST_CASE("only an earlier state of the same conversation gives way, unless more is asked for") {
  Source source;
  MemoryStore to;
  const auto base = toy_tokens(60), left = branch(base, 10, 7), right = branch(base, 20, 8);
  SUBCASE("both went on, the source further") {
    REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
    source.go_on(to, "copied", left);
    source.go_on(source.store, "copied", right);
    source.go_on(source.store, "copied", branch(right, 10, 9));
  }
  SUBCASE("both went on, the target further") {
    REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
    source.go_on(to, "copied", left);
    source.go_on(to, "copied", branch(left, 10, 9));
    source.go_on(source.store, "copied", right);
  }
  SUBCASE("both went on equally far") {
    REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
    source.go_on(to, "copied", left);
    source.go_on(source.store, "copied", right);
  }
  SUBCASE("two conversations of one id") {
    source.go_on(to, "copied", toy_tokens(30, 5));
  }
  SUBCASE("two that are equal but for their rows") {
    REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
    Manifest other = load_saved(to, "copied")->manifest;
    other.chunks[0].hash[0] ^= 1;
    REQUIRE(publish_manifest(to, source.folder, other));
  }
  SUBCASE("the source was edited") {
    REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
    source.go_on(source.store, "copied", branch(toy_tokens(50), 20, 9));
  }
  SUBCASE("the source became shorter") {
    REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
    Manifest shorter = load_saved(source.store, "copied")->manifest;
    shorter = forked_manifest(shorter, source.folder, {.to = "copied", .tokens = 50});
    shorter.generation = 2;
    REQUIRE(publish_manifest(source.store, source.folder, shorter));
  }
  const auto before = contents(to);
  const auto conflict = ConversationCopier(source.store, to, {.check = true}).copy(source.folder);
  REQUIRE(!conflict);
  CHECK(conflict.error().code == ErrorCode::invalid_argument);
  CHECK(conflict.error().message.find("--replace") != std::string::npos);
  CHECK(contents(to) == before);

  const CopyReport replaced = ConversationCopier(source.store, to, {.replace = true}).copy(source.folder).value();
  CHECK_FALSE(replaced.is_newer_there);
  CHECK(load_saved(to, "copied")->manifest == load_saved(source.store, "copied")->manifest);
  CHECK(ConversationCopier(source.store, to).copy(source.folder)->is_newer_there);
  const Manifest manifest = load_saved(to, "copied")->manifest;
  CHECK(source.go_on(to, "copied", branch(manifest.tokens, 5, 3)).matched == manifest.rows);
}

TEST_CASE("who wrote it, when and with how many threads makes no other state") {
  Source source;
  MemoryStore to;
  REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
  Manifest manifest = load_saved(to, "copied")->manifest;
  manifest.writer = "another krul";
  ++manifest.saved_unix_s;
  manifest.identity.threads = "many";
  REQUIRE(publish_manifest(to, source.folder, manifest));
  CHECK(ConversationCopier(source.store, to).copy(source.folder)->is_newer_there);
  CHECK(load_saved(to, "copied")->manifest == manifest);
}

TEST_CASE("a newer state gives way if that is asked for, and a cut leaves the old one or the new one") {
  for (const char* cut : {"*/manifest-a", "*/manifest-b", ""}) {
    Source source;
    MemoryStore to;
    REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
    source.go_on(to, "copied", source.tokens);
    CHECK(ConversationCopier(source.store, to).copy(source.folder)->is_newer_there);
    const auto operation = *cut == 0 ? Fault::Operation::erase : Fault::Operation::put;
    FaultyStore faulty(to, {{.operation = operation, .keys = *cut == 0 ? "*" : cut}});
    CHECK_FALSE(ConversationCopier(source.store, faulty, {.replace = true}).copy(source.folder));
    const auto both = load_manifest(to, source.folder).value();
    const auto first = load_manifest(to, source.folder, ManifestCopies::first_valid).value();
    CHECK(both.manifest == first.manifest);
    CHECK(both.manifest.tokens.size() == (std::string(cut) == "*/manifest-b" ? 60 : 100));
    REQUIRE(ConversationCopier(source.store, to, {.replace = true}).copy(source.folder));
    CHECK(load_saved(to, "copied")->manifest == load_saved(source.store, "copied")->manifest);
    CHECK(source.go_on(to, "copied", toy_tokens(110)).matched == 60);
  }
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

TEST_CASE("of what cannot be read in one piece the chunks are copied that can") {
  Source source;
  using Operation = Fault::Operation;
  const Fault whole{.operation = Operation::get, .keys = "*segment*", .count = 1, .code = ErrorCode::corrupt};
  MemoryStore to, other, third;
  FaultyStore once(source.store, {whole});
  CHECK(ConversationCopier(once, to).copy(source.folder)->gone.empty());
  CHECK(contents(to) == contents(source.store));
  Fault twice = whole;
  twice.count = 2;
  FaultyStore again(source.store, {twice});
  const CopyReport report = ConversationCopier(again, other).copy(source.folder).value();
  CHECK(report.objects == 1);
  CHECK(report.gone == std::vector<std::string>{first_segment(source.store, "copied")});
  FaultyStore failing(source.store, {whole, {.operation = Operation::get, .keys = "*segment*", .first = 1}});
  CHECK(ConversationCopier(failing, third).copy(source.folder).error().code == ErrorCode::io);
}

TEST_CASE("what is lost or damaged there is copied again, with check if sizes do not tell") {
  Source source;
  source.go_on(source.store, "copied", source.tokens);
  MemoryStore to;
  REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
  const auto right = contents(to);
  const std::string segment = first_segment(source.store, "copied");
  ConversationCopier copier(source.store, to), checker(source.store, to, {.check = true});
  CHECK(checker.copy(source.folder)->objects == 0);

  REQUIRE(to.erase(segment));
  CHECK(copier.copy(source.folder)->objects == 1);
  CHECK(contents(to) == right);
  test::flip_byte(to, segment, 5);
  CHECK(copier.copy(source.folder)->objects == 0);
  const CopyReport mended = checker.copy(source.folder).value();
  CHECK(mended.is_newer_there);
  CHECK(mended.objects == 1);
  CHECK(mended.gone.empty());
  CHECK(contents(to) == right);

  test::flip_byte(to, source.folder + "/manifest-a", 40);
  CHECK(checker.copy(source.folder)->is_newer_there);
  CHECK(contents(to) == right);

  FaultyStore unread(to, {{.operation = Fault::Operation::get, .keys = "*segment*"}});
  CHECK(ConversationCopier(source.store, unread, {.check = true}).copy(source.folder).error().code == ErrorCode::io);
}

TEST_CASE("a check takes what is whole in either store, and makes nothing worse") {
  Source source;
  MemoryStore to;
  REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
  const auto right = contents(to);
  const std::string segment = first_segment(source.store, "copied");
  const std::uint64_t last = to.size(segment).value() - 1;
  ConversationCopier checker(source.store, to, {.check = true});
  test::flip_byte(source.store, segment, 0);
  CHECK(checker.copy(source.folder)->gone.empty());
  CHECK(contents(to) == right);
  test::flip_byte(to, segment, last);
  CHECK(checker.copy(source.folder)->gone.empty());
  CHECK(contents(to) == right);
  test::flip_byte(to, segment, 0);
  CHECK(checker.copy(source.folder)->gone == std::vector<std::string>{segment});
  REQUIRE(source.store.erase(segment));
  CHECK(checker.copy(source.folder)->gone == std::vector<std::string>{segment});
}

TEST_CASE("a check mends what is newer there, and cuts off nothing that a fork needs") {
  Source source;
  MemoryStore to;
  REQUIRE(fork_saved(source.store, "copied", {.to = "fork"}));
  const std::string segment = first_segment(source.store, "copied"), fork = conversation_folder("fork").value();
  REQUIRE(ConversationCopier(source.store, to).copy(source.folder));
  REQUIRE(ConversationCopier(source.store, to).copy(fork));
  const std::uint64_t size = to.size(segment).value();
  source.go_on(to, "copied", source.tokens);  // the short last block is written anew, and named by the fork alone
  test::flip_byte(to, segment, 0);
  CHECK(ConversationCopier(source.store, to, {.check = true}).copy(source.folder)->objects == 1);
  CHECK(to.size(segment).value() == size);
  CHECK(source.go_on(to, "fork", branch(toy_tokens(60), 5, 3)).reasons.empty());
  CHECK(source.go_on(to, "copied", toy_tokens(110)).reasons.empty());
}

}  // namespace krul::copies
