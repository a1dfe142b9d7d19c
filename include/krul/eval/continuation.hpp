#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/core/error.hpp"
#include "krul/model/sampling.hpp"

namespace krul::eval {

/// Next-token logits of the last `rows` of the tokens that follow a cache, [rows, vocabulary].
/// @post   the cache holds the tokens
/// @throws PreconditionError and NotFiniteError as prefill
template <ModelBackend B>
[[nodiscard]] std::vector<float> logits_after(B& model, typename B::Cache& cache, std::span<const Token> tokens,
                                              std::size_t rows) {
  auto batch = model.make_batch();
  std::vector<float> logits(rows * model.geometry().vocabulary);
  prefill(model, cache, batch, tokens, logits);
  return logits;
}

/// The same of tokens that nothing stands before.
/// @throws PreconditionError and NotFiniteError as prefill
template <ModelBackend B>
[[nodiscard]] std::vector<float> logits_of(B& model, std::span<const Token> tokens, std::size_t rows) {
  auto cache = model.make_cache(tokens.size());
  return logits_after(model, cache, tokens, rows);
}

/// Chooses the most likely token again and again, the one that ends a text included, after which there is none.
class GreedyChoice {
 public:
  /// @param ends  whether a token ends the text; empty: none does
  explicit GreedyChoice(std::function<bool(Token)> ends) : ends_(std::move(ends)) {}
  /// @param logits  [vocabulary]
  [[nodiscard]] std::optional<Token> operator()(std::span<const float> logits) {
    if (ended_) return std::nullopt;
    const Token token = greedy(logits);
    ended_ = ends_ && ends_(token);
    return token;
  }

 private:
  std::function<bool(Token)> ends_;
  bool ended_ = false;
};

/// A text of at most so many tokens: what `choose` chooses. Each but the last is run.
/// @param logits  [vocabulary] that the first is chosen from, and after each run the next
/// @param choose  (logits) -> the next token; none ends the text
/// @param run     (token) -> Status
/// @return        the first error of a run
template <class Choose, class Run>
[[nodiscard]] Result<std::vector<Token>> chosen_text(std::span<const float> logits, std::size_t most, Choose&& choose,
                                                     Run&& run) {
  std::vector<Token> text;
  while (text.size() < most) {
    const std::optional<Token> next = choose(logits);
    if (!next) break;
    text.push_back(*next);
    if (text.size() == most) break;
    if (auto status = run(*next); !status) return propagate(status);
  }
  return text;
}

/// chosen_text after a cache and a prompt.
/// @throws as logits_after
template <ModelBackend B, class Choose>
[[nodiscard]] std::vector<Token> go_on_from(B& model, typename B::Cache& cache, std::span<const Token> prompt,
                                            std::size_t most, Choose&& choose) {
  auto batch = model.make_batch();
  std::vector<float> logits = logits_after(model, cache, prompt, 1);
  const auto run = [&](const Token& token) -> Status {
    forward(model, cache, batch, std::span(&token, 1), logits);
    return {};
  };
  return chosen_text(logits, most, std::forward<Choose>(choose), run).value();
}

}  // namespace krul::eval
