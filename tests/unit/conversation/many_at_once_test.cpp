// Many conversations at once, from the threads of one pool, on one store and one link.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "krul/conversation/fork.hpp"
#include "krul/store/throttled_store.hpp"
#include "support/toy_conversation.hpp"

namespace krul::many {
namespace {

using test::run_through;
using test::toy_tokens;

constexpr std::size_t conversations = 12, turns = 3, threads = 4;

std::vector<Token> tokens_of(std::size_t conversation, std::size_t turn) {
  return toy_tokens(30 * (turn + 1), static_cast<unsigned>(conversation + 1));
}

/// Calls task(i) for each i below count, from `threads` threads.
template <class Task>
void in_pool(std::size_t count, Task&& task) {
  std::atomic<std::size_t> next = 0;
  std::vector<std::jthread> pool;
  for (std::size_t i = 0; i < threads; ++i)
    pool.emplace_back([&] {
      for (std::size_t at = next++; at < count; at = next++) task(at);
    });
}

/// What went wrong, counted: doctest's checks are for one thread.
struct Wrong {
  std::atomic<int> logits = 0, busy = 0, failed = 0;
};

/// A turn of a conversation: opened, restored, run, saved.
template <class S>
void take_turn(S& store, const std::string& id, const std::vector<Token>& tokens, Wrong& wrong) {
  toy::Backend model{ElementType::f32};
  auto conversation = Conversation<toy::Backend, S>::open(model, store, id, {.block = 16});
  if (!conversation) {
    ++(conversation.error().code == ErrorCode::busy ? wrong.busy : wrong.failed);
    return;
  }
  std::vector<float> logits(model.geometry().vocabulary);
  const auto report = conversation->advance(tokens, std::span(logits));
  if (!report || !conversation->save()) ++wrong.failed;
  // Rows are coded in a byte a value: what is told apart here are conversations and turns, not codings.
  const auto expected = run_through(model, tokens).logits;
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    error += (logits[i] - expected[i]) * (logits[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  if (!(error <= 0.01 * norm)) ++wrong.logits;
}

}  // namespace

TEST_CASE("many conversations take turns on one store and one link, and none gets another one's rows") {
  ThrottledStore<MemoryStore> store(MemoryStore(),
                                    {.bytes_per_s = 200'000'000, .latency = std::chrono::microseconds(50)});
  Wrong wrong;
  for (std::size_t turn = 0; turn < turns; ++turn)
    in_pool(conversations,
            [&](std::size_t i) { take_turn(store, "talk " + std::to_string(i), tokens_of(i, turn), wrong); });
  CHECK(wrong.logits == 0);
  CHECK(wrong.busy == 0);
  CHECK(wrong.failed == 0);
  CHECK(saved_conversations(store)->size() == conversations);
}

TEST_CASE("of those who write one conversation at once, one does and the others hear busy") {
  MemoryStore store;
  Wrong wrong;
  in_pool(40, [&](std::size_t i) { take_turn(store, "one", tokens_of(7, i % turns), wrong); });
  CHECK(wrong.logits == 0);
  CHECK(wrong.failed == 0);
  CHECK(wrong.busy < 40);
  CHECK(verify_conversation(store, conversation_folder("one").value())->problems.empty());
}

TEST_CASE("forks are made, used and erased while others are") {
  MemoryStore store;
  Wrong wrong;
  take_turn(store, "root", tokens_of(0, 1), wrong);
  in_pool(conversations, [&](std::size_t i) {
    const std::string id = "fork " + std::to_string(i);
    for (int attempt = 0; attempt < 1000; ++attempt) {
      const auto made = fork_saved(store, "root", {.to = id});
      if (made) break;
      if (made.error().code != ErrorCode::busy) ++wrong.failed;
      std::this_thread::yield();
    }
    auto tokens = tokens_of(0, 1);
    tokens.push_back(static_cast<Token>(i));
    take_turn(store, id, tokens, wrong);
    if (i % 2 == 0 && !erase_saved(store, id)) ++wrong.failed;
  });
  CHECK(wrong.logits == 0);
  CHECK(wrong.failed == 0);
  for (std::size_t i = 1; i < conversations; i += 2)
    CHECK(verify_conversation(store, conversation_folder("fork " + std::to_string(i)).value())->problems.empty());
  for (std::size_t i = 1; i < conversations; i += 2) REQUIRE(erase_saved(store, "fork " + std::to_string(i))->status);
  REQUIRE(erase_saved(store, "root")->status);
  const auto left = store.list("").value();
  for (const std::string& folder : left) CHECK(collect_folder(store, folder));
  CHECK(store.used() == 0);
}

}  // namespace krul::many
