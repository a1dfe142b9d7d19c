#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "krul/model/load.hpp"
#include "krul/model/sampling.hpp"
#include "krul/model/tokenizer.hpp"

namespace krul::cli {

/// Next-token logits of the last `rows` of the tokens that follow a cache, [rows, vocabulary].
/// @post the cache holds the tokens
[[nodiscard]] inline std::vector<float> logits_after(CpuModel& model, CpuModel::Cache& cache,
                                                     std::span<const Token> tokens, std::size_t rows) {
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

/// The greedy text of at most so many tokens after a cache and a prompt: what `choose` chooses.
[[nodiscard]] inline std::vector<Token> go_on_from(CpuModel& model, CpuModel::Cache& cache,
                                                   std::span<const Token> prompt, std::size_t most,
                                                   GreedyChoice choose) {
  auto batch = model.make_batch();
  std::vector<float> logits = logits_after(model, cache, prompt, 1);
  std::vector<Token> text;
  for (auto next = choose(logits); next; next = choose(logits)) {
    text.push_back(*next);
    if (text.size() == most) break;
    forward(model, cache, batch, std::span(&*next, 1), logits);
  }
  return text;
}

}  // namespace krul::cli
