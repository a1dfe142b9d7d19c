#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "krul/backend/forward.hpp"
#include "krul/core/error.hpp"
#include "krul/model/sampling.hpp"
#include "krul/model/tokenizer.hpp"

namespace krul::eval {

/// Next-token logits of the last `rows` of the tokens that follow a cache, [rows, vocabulary].
/// @post   the cache holds the tokens
/// @throws as prefill
template <ModelBackend B>
[[nodiscard]] std::vector<float> logits_after(B& model, typename B::Cache& cache, std::span<const Token> tokens,
                                              std::size_t rows) {
  auto batch = model.make_batch();
  std::vector<float> logits(rows * model.geometry().vocabulary);
  prefill(model, cache, batch, tokens, logits);
  return logits;
}

/// Chooses the most likely token again and again, the one that ends a turn included, after which there is none.
class GreedyChoice {
 public:
  explicit GreedyChoice(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
  /// @param logits  [vocabulary]
  std::optional<Token> operator()(std::span<const float> logits) {
    if (ended_) return std::nullopt;
    const Token token = greedy(logits);
    ended_ = tokenizer_->ends_turn(token);
    return token;
  }

 private:
  const Tokenizer* tokenizer_;
  bool ended_ = false;
};

/// The text after a cache and a prompt that `choose` chooses.
/// @param most    tokens of it
/// @param choose  (logits) -> the next token; none ends the text
template <ModelBackend B, class Choose>
[[nodiscard]] std::vector<Token> go_on_from(B& model, typename B::Cache& cache, std::span<const Token> prompt,
                                            std::size_t most, Choose&& choose) {
  std::vector<float> logits = logits_after(model, cache, prompt, 1);
  auto batch = model.make_batch();
  std::vector<Token> text;
  for (std::optional<Token> next = choose(std::span(logits)); next; next = choose(std::span(logits))) {
    text.push_back(*next);
    if (text.size() == most) break;
    forward(model, cache, batch, std::span<const Token>(&*next, 1), logits);
  }
  return text;
}

}  // namespace krul::eval
