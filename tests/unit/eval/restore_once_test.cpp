#include "krul/eval/restore_once.hpp"
#include "krul/compress/exact_codec.hpp"

#include <doctest/doctest.h>

#include "krul/store/memory_store.hpp"
#include "krul/strategy/catalogue/all.hpp"
#include "support/ticking_clock.hpp"
#include "support/toy_conversation.hpp"

namespace krul {
namespace {

using test::toy_tokens;

TEST_CASE("a conversation that returns is timed, says what it would have said, and stays saved as it is") {
  toy::Backend model{ElementType::f32};
  AnyStore store = MemoryStore();
  const auto tokens = toy_tokens(120, 3);
  const auto history = std::span(tokens).first(100);
  auto exact = eval::prefill_exact(model, history, 20);
  auto returning = eval::save_returning(model, store, exact, history, {strategy::load(ExactCodec{}), "mine"});
  REQUIRE(returning);
  CHECK(returning->tokens == std::vector<Token>(history.begin(), history.end()));
  const std::string folder = conversation_folder("mine").value();
  CHECK(returning->stored_bytes == stored_bytes(store, folder).value());
  returning->tokens = tokens;
  const auto restored = eval::restore_once(model, store, *returning, 20, test::TickingClock{});
  REQUIRE(restored);
  CHECK(restored->figure.first_token_s > 0);
  CHECK(restored->figure.report.matched == 100);
  CHECK(restored->conversation.tokens().size() == 120);
  std::vector<float> logits(20 * model.geometry().vocabulary);
  auto batch = model.make_batch();
  prefill(model, exact.cache, batch, std::span(tokens).subspan(100), logits);
  CHECK(restored->logits == logits);
  CHECK(stored_bytes(store, folder).value() == returning->stored_bytes);
}

TEST_CASE("what is not saved is computed, and what cannot be saved is refused") {
  toy::Backend model{ElementType::f32};
  AnyStore store = MemoryStore(10);
  const auto tokens = toy_tokens(40, 3);
  const auto restored =
      eval::restore_once(model, store, {.strategy = strategy::krul(), .id = "nobody", .tokens = tokens});
  REQUIRE(restored);
  CHECK(restored->figure.report.bytes == 0);
  const auto exact = eval::prefill_exact(model, tokens, 0);
  const auto saved = eval::save_returning(model, store, exact, tokens, {strategy::load(ExactCodec{}), "mine"});
  REQUIRE_FALSE(saved);
  CHECK(saved.error().code == ErrorCode::no_space);
}

}  // namespace
}  // namespace krul
