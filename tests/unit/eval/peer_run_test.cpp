#include "krul/eval/peer_run.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "krul/eval/peer_coder.hpp"
#include "krul/model/sampling.hpp"
#include "support/toy_conversation.hpp"

namespace krul {
namespace {

TEST_CASE("a conversation comes back under a published coder, as often as it is asked for") {
  toy::Backend model{ElementType::f32};
  const auto tokens = test::toy_tokens(90, 3);
  const auto history = std::span(tokens).first(64);
  const auto no_basis = [] { return std::shared_ptr<const eval::KvtcBasis>(); };
  const auto coder = eval::PeerCoder::named("q4_0", no_basis);
  REQUIRE(coder);
  auto exact = eval::prefill_exact(model, history, 40);
  eval::PeerRun run(model, *coder);
  REQUIRE(run.save(exact, history));
  CHECK(run.stored_rows() == 64);
  CHECK(run.stored_bytes() > 0);
  CHECK(run.stored_bytes() < 64 * model.geometry().f16_token_bytes());
  const auto logits = run.resume(tokens, 26);
  REQUIRE(logits);
  CHECK(logits->size() == 26 * model.geometry().vocabulary);
  CHECK(run.resume(tokens, 26).value() == *logits);
  const auto reference = eval::logits_after(model, exact.cache, std::span(tokens).subspan(64), 26);
  CHECK(reference != *logits);  // four bits a value are not exact

  const auto best = [](std::span<const float> row) { return std::optional(greedy(row)); };
  const auto text = run.go_on(tokens, 5, best);
  REQUIRE(text);
  REQUIRE(text->size() == 5);
  const std::span<const float> last = std::span(*logits).last(model.geometry().vocabulary);
  CHECK(text->front() == greedy(last));
}

TEST_CASE("a text ends where its chooser wants no more") {
  toy::Backend model{ElementType::f32};
  const auto tokens = test::toy_tokens(10);
  auto cache = model.make_cache(30);
  int left = 3;
  const auto choose = [&](std::span<const float> row) {
    return left-- > 0 ? std::optional(greedy(row)) : std::nullopt;
  };
  CHECK(eval::go_on_from(model, cache, tokens, 20, choose).size() == 3);
  CHECK(cache.length() == 13);
}

}  // namespace
}  // namespace krul
