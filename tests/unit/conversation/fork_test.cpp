#include "krul/conversation/fork.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "krul/compress/exact_codec.hpp"
#include "krul/conversation/verify.hpp"
#include "krul/store/bounded_store.hpp"
#include "krul/store/counted_store.hpp"
#include "krul/store/faulty_store.hpp"
#include "krul/strategy/catalogue/load.hpp"
#include "support/toy_conversation.hpp"

namespace krul::forks {
namespace {

using test::run_through;
using test::toy_tokens;

using Talk = Conversation<toy::Backend, MemoryStore>;

constexpr std::size_t block = 16;

struct Family {
  toy::Backend model{ElementType::f32};
  MemoryStore store;
  std::vector<Token> tokens = toy_tokens(100);

  [[nodiscard]] static ConversationOptions options() {
    ConversationOptions how;
    how.strategy = strategy::load(ExactCodec{});
    how.block = block;
    return how;
  }
  /// Takes the conversation to the end of its tokens as if nobody had interrupted it.
  RestoreReport go_on(const std::string& id, const std::vector<Token>& to, bool and_save = true) {
    auto conversation = Talk::open(model, store, id, options()).value();
    std::vector<float> logits(model.geometry().vocabulary);
    RestoreReport report = conversation.advance(to, std::span(logits)).value();
    CHECK(logits == run_through(model, to).logits);
    if (and_save) REQUIRE(conversation.save());
    return report;
  }
  [[nodiscard]] std::string folder(const std::string& id) const { return conversation_folder(id).value(); }
  [[nodiscard]] std::uint64_t bytes() { return store.used(); }
  [[nodiscard]] bool is_sound(const std::string& id) {
    const auto report = verify_conversation(store, folder(id));
    return report && report->problems.empty() && report->unread.empty() && report->leftovers.empty();
  }
  /// Nothing at all is left in the store.
  [[nodiscard]] bool is_empty() { return store.list("").value().empty(); }
};

std::vector<Token> with_tail(std::vector<Token> tokens, std::size_t head, unsigned seed, std::size_t tail = 30) {
  tokens.resize(head);
  for (const Token token : toy_tokens(tail, seed)) tokens.push_back(token);
  return tokens;
}

}  // namespace

TEST_CASE("a fork begins with the rows of the other conversation, and takes no room for them") {
  for (const std::size_t at : {std::size_t{100}, std::size_t{50}, std::size_t{48}, std::size_t{7}, SIZE_MAX}) {
    Family family;
    family.go_on("first", family.tokens);
    const std::uint64_t before = family.bytes();
    const ForkReport fork = fork_saved(family.store, "first", {.to = "second", .tokens = at}).value();
    CHECK(fork.tokens == std::min<std::size_t>(at, 100));
    CHECK(fork.rows == (at >= 100 ? 100 : at / block * block));
    CHECK(family.bytes() - before < 20'000);  // two copies of a manifest
    CHECK(family.is_sound("first"));
    CHECK(family.is_sound("second"));
    const RestoreReport report = family.go_on("second", with_tail(family.tokens, fork.tokens, 2));
    CHECK(report.loaded_rows == fork.rows * family.model.geometry().layers);
    CHECK(report.reasons.empty());
    CHECK(family.is_sound("second"));
    // The other one is as it was.
    CHECK(family.go_on("first", with_tail(family.tokens, 100, 3), false).loaded_rows == 400);
  }
}

TEST_CASE("forks keep what they borrow when the other conversation is saved anew, or erased") {
  Family family;
  family.go_on("first", family.tokens);
  REQUIRE(fork_saved(family.store, "first", {.to = "second"}));
  REQUIRE(fork_saved(family.store, "second", {.to = "third", .tokens = 64}));
  family.go_on("first", with_tail(family.tokens, 10, 4));  // an edit near its beginning: nearly all is replaced
  CHECK(family.go_on("second", with_tail(family.tokens, 100, 5), false).loaded_rows == 400);
  const ErasedConversation erased = erase_saved(family.store, "first").value();
  CHECK(erased.status);
  CHECK(erased.is_lent);
  CHECK(erased.left.empty());
  CHECK(load_saved(family.store, "first").error().code == ErrorCode::not_found);
  CHECK(family.go_on("second", with_tail(family.tokens, 100, 6)).loaded_rows == 400);
  CHECK(family.is_sound("second"));
  REQUIRE(erase_saved(family.store, "second")->status);
  CHECK(family.go_on("third", with_tail(family.tokens, 64, 7)).loaded_rows == 256);
  REQUIRE(erase_saved(family.store, "third")->status);
  CHECK(family.is_empty());
}

TEST_CASE("what an erased lender kept is erased with the last fork, in any order") {
  std::vector<std::string> order{"a", "b", "c", "d"};
  do {
    Family family;
    family.go_on("a", family.tokens);
    REQUIRE(fork_saved(family.store, "a", {.to = "b"}));
    family.go_on("b", with_tail(family.tokens, 80, 8));
    REQUIRE(fork_saved(family.store, "b", {.to = "c"}));
    REQUIRE(fork_saved(family.store, "a", {.to = "d", .tokens = 20}));
    std::vector<std::string> left = order;
    for (const std::string& id : order) {
      REQUIRE(erase_saved(family.store, id)->status);
      std::erase(left, id);
      for (const std::string& other : left) CHECK(family.is_sound(other));
    }
    CHECK(family.is_empty());
  } while (std::ranges::next_permutation(order).found);
}

TEST_CASE("a fork that cannot be made leaves nothing") {
  Family family;
  CHECK(fork_saved(family.store, "first", {.to = "second"}).error().code == ErrorCode::not_found);
  family.go_on("first", family.tokens);
  family.go_on("other", family.tokens);
  CHECK(fork_saved(family.store, "first", {.to = "first"}).error().code == ErrorCode::invalid_argument);
  CHECK(fork_saved(family.store, "first", {.to = "other"}).error().code == ErrorCode::invalid_argument);
  CHECK(fork_saved(family.store, "first", {.to = ""}).error().code == ErrorCode::invalid_argument);
  {
    const auto lock = family.store.lock(family.folder("first"));
    CHECK(fork_saved(family.store, "first", {.to = "second"}).error().code == ErrorCode::busy);
    CHECK(fork_saved(family.store, "first", {.to = "second", .holds_lock = true}));
  }
  REQUIRE(erase_saved(family.store, "second")->status);
  const std::uint64_t before = family.bytes();
  for (std::uint64_t call = 0; call < 3; ++call) {
    FaultyStore faulty(family.store,
                       {{.operation = Fault::Operation::put, .first = call, .count = 1, .code = ErrorCode::no_space}});
    CHECK(fork_saved(faulty, "first", {.to = "second"}).error().code == ErrorCode::no_space);
    CHECK(family.bytes() == before);
    CHECK(family.is_sound("first"));
  }
  FaultyStore lost(family.store, {{.operation = Fault::Operation::put, .kind = Fault::Kind::drop, .keys = "*/fork-*"}});
  REQUIRE(fork_saved(lost, "first", {.to = "second"}));
}

TEST_CASE("a damaged loan keeps everything") {
  Family family;
  family.go_on("first", family.tokens);
  REQUIRE(fork_saved(family.store, "first", {.to = "second"}));
  const std::string folder = family.folder("first");
  const auto names = family.store.list(folder).value();
  const auto loan = std::ranges::find_if(names, [](const auto& name) { return !fork_of_loan(name).empty(); });
  REQUIRE(loan != names.end());
  test::flip_byte(family.store, folder + "/" + *loan, 3);
  CHECK(lent_segments(family.store, folder, names).error().code == ErrorCode::corrupt);
  const auto erased = erase_saved(family.store, "first").value();
  CHECK(!erased.status);
  CHECK(family.go_on("second", with_tail(family.tokens, 100, 9), false).loaded_rows == 400);
}

TEST_CASE("garbage of a folder: loans to forks that are no more, and what they kept") {
  Family family;
  family.go_on("first", family.tokens);
  REQUIRE(fork_saved(family.store, "first", {.to = "second"}));
  const std::string first = family.folder("first"), second = family.folder("second");
  CHECK(collect_folder(family.store, first)->objects() == 0);
  // As an erase of the fork leaves it that was cut off, and as one leaves it while somebody has the lender's lock.
  REQUIRE(erase_conversation(family.store, second));
  REQUIRE(erase_conversation(family.store, first));
  CHECK(!family.is_empty());
  {
    const auto lock = family.store.lock(first);
    CHECK(collect_folder(family.store, first).error().code == ErrorCode::busy);
  }
  const Garbage garbage = collect_folder(family.store, first).value();
  CHECK(garbage.loans == 1);
  CHECK(garbage.segments == 1);
  CHECK(family.is_empty());
}

TEST_CASE("a family makes room for others together, and nothing of it is left") {
  for (const bool first_is_erased : {false, true}) {
    Family family;
    family.go_on("first", family.tokens);
    REQUIRE(fork_saved(family.store, "first", {.to = "second"}));
    family.go_on("second", with_tail(family.tokens, 100, 5));
    REQUIRE(fork_saved(family.store, "second", {.to = "third", .tokens = 64}));
    if (first_is_erased) REQUIRE(erase_saved(family.store, "first")->status);
    const std::vector<std::byte> large(family.bytes() - 1000);  // but for the loans
    const std::string key = family.folder("other") + "/object";
    auto bounded = BoundedStore<MemoryStore>::open(family.store, {.bytes = family.bytes()}).value();
    {
      // What they lend stays while somebody has a fork, and then that is too little.
      const auto held = family.store.lock(family.folder("third"));
      CHECK(bounded.put(key, large).error().code == ErrorCode::no_space);
      CHECK(family.is_sound("second"));
    }
    REQUIRE(bounded.put(key, large));
    CHECK(bounded.used() == family.bytes());
    CHECK(family.store.list("").value() == std::vector{family.folder("other")});
  }
}

TEST_CASE("a fork that is evicted leaves a lender with nothing more to collect") {
  Family family;
  family.go_on("first", family.tokens);
  REQUIRE(fork_saved(family.store, "first", {.to = "second", .tokens = 32}));
  const std::string first = family.folder("first");
  REQUIRE(family.store.list(first)->size() == 4);
  const auto room = family.bytes();
  auto bounded = BoundedStore<MemoryStore, LeastRecentlyUsed>::open(family.store, {.bytes = room}).value();
  REQUIRE(load_saved(bounded, "first"));  // used last
  REQUIRE(bounded.put(family.folder("other") + "/object", std::vector<std::byte>(100)));
  CHECK(load_saved(bounded, "second").error().code == ErrorCode::not_found);
  CHECK(family.store.list(first)->size() == 3);
  CHECK(collect_folder(family.store, first)->objects() == 0);
  CHECK(family.is_sound("first"));
}

TEST_CASE("what a fork that was evicted beside its lender's writer kept is no loss of room") {
  for (const bool comes_back : {false, true}) {
    Family family;
    family.go_on("lender", family.tokens);
    REQUIRE(fork_saved(family.store, "lender", {.to = "fork"}));
    const std::uint64_t room = 4 * family.bytes();
    auto bounded = BoundedStore<MemoryStore>::open(family.store, {.bytes = room}).value();
    const std::string other = family.folder("other") + "/segment-1-00000000";
    {
      const auto writer = bounded.lock(family.folder("lender"));
      REQUIRE(bounded.put(other, std::vector<std::byte>(room - family.bytes() + 1)));
      REQUIRE(load_saved(family.store, "fork").error().code == ErrorCode::not_found);
      REQUIRE(load_saved(family.store, "lender"));
      REQUIRE(bounded.erase(other));
    }
    if (comes_back) family.go_on("fork", toy_tokens(20, 9));  // as one that borrows nothing
    REQUIRE(bounded.recount());
    CHECK(bounded.put(other, std::vector<std::byte>(room - 100)));
    CHECK(family.bytes() <= room);
  }
}

TEST_CASE("what an erased fork could not give back is not kept for it when the lender is erased") {
  Family family;
  family.go_on("first", family.tokens);
  REQUIRE(fork_saved(family.store, "first", {.to = "second"}));
  {
    const auto held = family.store.lock(family.folder("first"));
    REQUIRE(erase_saved(family.store, "second")->status);
  }
  const auto erased = erase_saved(family.store, "first").value();
  CHECK(erased.status);
  CHECK_FALSE(erased.is_lent);
  CHECK(family.is_empty());
}

TEST_CASE("a save that replaces nothing reads no loan") {
  Family family;
  family.go_on("first", family.tokens);
  for (const char* id : {"a", "b", "c"}) REQUIRE(fork_saved(family.store, "first", {.to = id, .tokens = 48}));
  std::size_t loans = 0;
  CountedStore<MemoryStore> counted(family.store, [&](const StoreEvent& event) {
    loans += event.key.size() > 33 && !fork_of_loan(event.key.substr(33)).empty();
  });
  auto conversation =
      Conversation<toy::Backend, CountedStore<MemoryStore>>::open(family.model, counted, "first", Family::options());
  REQUIRE(conversation);
  std::vector<float> logits(family.model.geometry().vocabulary);
  REQUIRE(conversation->advance(with_tail(family.tokens, 100, 3), std::span(logits)));
  REQUIRE(conversation->save());
  CHECK(loans == 0);
}

TEST_CASE("names of loans") {
  const std::string fork(32, 'a');
  const std::string name = loan_name(fork, loan_content(std::vector<std::string>{"segment-1-00000000"}));
  CHECK(is_object_name(name));
  CHECK(fork_of_loan(name) == fork);
  for (const char* other : {"fork-", "segment-1-00000000", "manifest-a"}) CHECK(fork_of_loan(other).empty());
  CHECK(fork_of_loan(name.substr(0, name.size() - 1)).empty());
  CHECK(fork_of_loan(name.substr(0, name.size() - 1) + "x").empty());
}

TEST_CASE("a fork comes back to the id of the conversation that it borrows from") {
  Family family;
  family.go_on("first", family.tokens);
  REQUIRE(fork_saved(family.store, "first", {.to = "second"}));
  REQUIRE(erase_saved(family.store, "first")->status);
  REQUIRE(fork_saved(family.store, "second", {.to = "first"}));
  CHECK(borrowed_segments(load_saved(family.store, "first")->manifest).empty());
  CHECK(family.go_on("first", with_tail(family.tokens, 90, 2)).loaded_rows == 360);
  CHECK(family.is_sound("first"));
  CHECK(family.is_sound("second"));
  REQUIRE(erase_saved(family.store, "first")->status);
  CHECK(family.go_on("second", with_tail(family.tokens, 100, 3), false).loaded_rows == 400);
  REQUIRE(erase_saved(family.store, "second")->status);
  CHECK(family.is_empty());
}

TEST_CASE("a save that fails erases nothing that is lent, though it would write the same") {
  for (const char* keys : {"*/segment-*", "*/manifest-a"}) {
    Family family;
    family.go_on("first", family.tokens);
    REQUIRE(fork_saved(family.store, "first", {.to = "second"}));
    REQUIRE(erase_saved(family.store, "first")->status);
    FaultyStore faulty(family.store, {{.operation = Fault::Operation::put, .keys = keys, .code = ErrorCode::no_space}});
    auto again = Conversation<toy::Backend, decltype(faulty)>::open(family.model, faulty, "first", Family::options());
    std::vector<float> logits(family.model.geometry().vocabulary);
    REQUIRE(again->advance(family.tokens, std::span(logits)));
    CHECK(again->save().error().code == ErrorCode::no_space);
    CHECK(family.go_on("second", with_tail(family.tokens, 100, 2), false).loaded_rows == 400);
  }
}

TEST_CASE("a fork that needs less keeps no more") {
  Family family;
  family.go_on("first", with_tail(family.tokens, 32, 1, 0));
  family.go_on("first", family.tokens);  // a segment of its own for what is behind
  REQUIRE(fork_saved(family.store, "first", {.to = "second"}));
  REQUIRE(erase_saved(family.store, "first")->status);
  family.go_on("second", with_tail(family.tokens, 20, 2));
  const auto segments = [&] {
    auto names = family.store.list(family.folder("first")).value();
    std::erase_if(names, [](const std::string& name) { return !is_segment_name(name); });
    return names;
  };
  CHECK(segments().size() == 2);
  {
    const auto writing = family.store.lock(family.folder("second"));
    CHECK(collect_folder(family.store, family.folder("first"))->objects() == 0);
  }
  const Garbage garbage = collect_folder(family.store, family.folder("first")).value();
  CHECK(garbage.loans == 1);
  CHECK(garbage.segments == 1);
  CHECK(segments().size() == 1);
  CHECK(family.is_sound("second"));
  CHECK(collect_folder(family.store, family.folder("first"))->objects() == 0);
  REQUIRE(erase_saved(family.store, "second")->status);
  CHECK(family.is_empty());
}

TEST_CASE("an erase that is cut off leaves the conversation, not an older save of it") {
  Family family;
  family.go_on("first", with_tail(family.tokens, 32, 1, 0));
  const auto old = load_saved(family.store, "first")->manifest;
  family.go_on("first", family.tokens);
  REQUIRE(family.store.put(family.folder("first") + "/manifest-b", serialize(old)));  // as a save that was cut off
  MemoryStore& store = family.store;
  struct OneErase {
    using Lock = MemoryStore::Lock;
    MemoryStore& store;
    int left = 1;
    Status put(const std::string& key, std::span<const std::byte> bytes) { return store.put(key, bytes); }
    Status get(const std::string& key, std::uint64_t at, std::span<std::byte> to) { return store.get(key, at, to); }
    Result<std::uint64_t> size(const std::string& key) { return store.size(key); }
    Status erase(const std::string& key) {
      return left-- > 0 ? store.erase(key) : Status(fail(ErrorCode::io, "the process was killed"));
    }
    Result<std::vector<std::string>> list(const std::string& folder) { return store.list(folder); }
    Result<Lock> lock(const std::string& folder) { return store.lock(folder); }
    StoreCapabilities capabilities() { return {}; }
  } one{store};
  CHECK(erase_saved(one, "first")->status.error().code == ErrorCode::io);
  CHECK(load_saved(store, "first")->manifest.tokens == family.tokens);
}

TEST_CASE("what cannot be told of the fork's id now is no conversation") {
  Family family;
  family.go_on("first", family.tokens);
  family.go_on("second", family.tokens);
  FaultyStore unread(family.store, {{.operation = Fault::Operation::get, .keys = family.folder("second") + "/*"}});
  CHECK(fork_saved(unread, "first", {.to = "second"}).error().code == ErrorCode::io);
  for (const char* copy : {"/manifest-a", "/manifest-b"})
    test::flip_byte(family.store, family.folder("second") + copy, 40);
  CHECK(fork_saved(family.store, "first", {.to = "second"}).error().code == ErrorCode::invalid_argument);
  // It borrows from a conversation that somebody writes.
  REQUIRE(fork_saved(family.store, "first", {.to = "third"}));
  const auto writing = family.store.lock(family.folder("first"));
  CHECK(fork_saved(family.store, "third", {.to = "fourth"}).error().code == ErrorCode::busy);
}

TEST_CASE("a fork of no tokens") {
  Family family;
  family.go_on("first", family.tokens);
  const ForkReport report = fork_saved(family.store, "first", {.to = "second", .tokens = 0}).value();
  CHECK(report.tokens == 0);
  CHECK(report.rows == 0);
  family.go_on("second", family.tokens);
}

TEST_CASE("a chunk that was lent and is gone is recomputed, and saved by the fork") {
  Family family;
  family.go_on("first", family.tokens);
  REQUIRE(fork_saved(family.store, "first", {.to = "second"}));
  const auto borrowed = borrowed_segments(load_saved(family.store, "second")->manifest);
  REQUIRE(borrowed.size() == 1);
  for (const std::string& segment : borrowed[0].segments)
    REQUIRE(family.store.erase(borrowed[0].folder + "/" + segment));
  const RestoreReport report = family.go_on("second", with_tail(family.tokens, 100, 2));
  CHECK(report.loaded_rows == 0);
  CHECK(family.is_sound("second"));
  CHECK(borrowed_segments(load_saved(family.store, "second")->manifest).empty());
  CHECK(collect_folder(family.store, family.folder("first"))->loans == 1);
}

}  // namespace krul::forks
