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

/// The text of at most so many tokens after a cache and a prompt: what `choose` chooses.
/// @param choose  (logits) -> the next token; none ends the text
/// @throws        as logits_after
template <ModelBackend B, class Choose>
[[nodiscard]] std::vector<Token> go_on_from(B& model, typename B::Cache& cache, std::span<const Token> prompt,
                                            std::size_t most, Choose&& choose) {
  std::vector<Token> text;
  if (most == 0) return text;
  auto batch = model.make_batch();
  std::vector<float> logits = logits_after(model, cache, prompt, 1);
  for (std::optional<Token> next = choose(std::span<const float>(logits)); next;
       next = choose(std::span<const float>(logits))) {
    text.push_back(*next);
    if (text.size() == most) break;
    forward(model, cache, batch, std::span(&*next, 1), logits);
  }
  return text;
}

}  // namespace krul::eval
