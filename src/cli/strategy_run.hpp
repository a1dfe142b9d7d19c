#pragma once

#include <span>
#include <string>
#include <vector>

#include "exact_history.hpp"
#include "krul/model/sampling.hpp"
#include "krul/select/measured_step.hpp"
#include "krul/similarity/tokenwise_similarity_estimator.hpp"
#include "krul/store/memory_store.hpp"
#include "tool.hpp"

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

/// The most likely token again and again, the one that ends a turn included, after which there is none.
/// @param logits  [vocabulary] of the first; then of the next ones
/// @param append  (token, logits): runs one more
template <class Append>
[[nodiscard]] std::vector<Token> greedy_text(const Tokenizer& tokenizer, std::span<float> logits, std::size_t most,
                                             Append&& append) {
  std::vector<Token> text;
  while (true) {
    text.push_back(greedy(logits));
    if (text.size() == most || tokenizer.ends_turn(text.back())) return text;
    append(text.back(), logits);
  }
}

/// The greedy text of at most so many tokens after a cache and a prompt.
[[nodiscard]] inline std::vector<Token> go_on_from(CpuModel& model, CpuModel::Cache& cache,
                                                   std::span<const Token> prompt, std::size_t most,
                                                   const Tokenizer& tokenizer) {
  auto batch = model.make_batch();
  std::vector<float> logits(model.geometry().vocabulary);
  prefill(model, cache, batch, prompt, logits);
  return greedy_text(tokenizer, logits, most, [&](Token token, std::span<float> next) {
    forward(model, cache, batch, std::span(&token, 1), next);
  });
}

/// One conversation that goes idle and comes back under one strategy, in a store of its own.
///
/// All that evaluation knows of how a strategy saves and restores is here.
class StrategyRun {
 public:
  /// How rows that were restored are saved when their turn ends: left as they are, or coded once more.
  enum class Rows : std::uint8_t { append, rewrite };

  StrategyRun(CpuModel& model, const Strategy& strategy, const Costs& costs,
              std::shared_ptr<const Profile> profile = {})
      : model_(&model), strategy_(strategy), costs_(costs), profile_(std::move(profile)) {}

  /// Saves a history from its exact cache.
  void save(const ExactHistory& exact, std::span<const Token> history) {
    names_ = save_history(*model_, store_, exact, history, {strategy_, costs_, "evaluated", profile_, history});
    rows_ = history.size();
  }

  /// Restores what is saved and runs the rest of `tokens`: next-token logits of the last `rows` tokens. What is saved
  /// stays as it is.
  [[nodiscard]] std::vector<float> resume(std::span<const Token> tokens, std::size_t rows) {
    std::vector<float> logits(rows * model_->geometry().vocabulary);
    const auto all = with_names(tokens);
    unwrap(open(all.size(), true).advance(all, logits));
    return logits;
  }

  /// The same, and then at most so many tokens of the most likely text.
  [[nodiscard]] std::vector<Token> go_on(std::span<const Token> tokens, std::size_t most, const Tokenizer& tokenizer) {
    std::vector<float> logits(model_->geometry().vocabulary);
    const auto all = with_names(tokens);
    auto talk = open(all.size() + most, true);
    unwrap(talk.advance(all, logits));
    return greedy_text(tokenizer, logits, most,
                       [&](Token token, std::span<float> next) { unwrap(talk.append(token, next)); });
  }

  /// A turn: as resume, then all tokens are saved and the live state is dropped. Begins the conversation if nothing is
  /// saved. Ends the program for strategies that keep no tokens to go on with.
  [[nodiscard]] std::vector<float> take_turn(std::span<const Token> tokens, std::size_t rows, Rows how) {
    if (strategy_.stored_as != StoredAs::keys_and_values)
      throw Failure({ErrorCode::unsupported, "strategy " + std::string(strategy_.name) +
                                                 " is for one return only; leave it out of runs of several turns"});
    std::vector<float> logits(rows * model_->geometry().vocabulary);
    TokenwiseSimilarityEstimator<> estimator(model_->geometry());
    auto talk = open(tokens.size(), how == Rows::rewrite);
    if (strategy_.observes_attention()) {
      unwrap(talk.advance(tokens, logits, estimator));
    } else {
      unwrap(talk.advance(tokens, logits));
    }
    const AttentionStatistics statistics = estimator.statistics();
    const auto plan = plan_of(*model_, talk.cache(), statistics, tokens.size(),
                              {strategy_,
                               costs_,
                               {},
                               profile_,
                               tokens,
                               remembered_step(talk.manifest().plans, strategy_.step.value_or(StepScale{}))});
    if (how == Rows::append) {
      unwrap(talk.save(plan, strategy_.observes_attention() ? &statistics : nullptr));
    } else {
      unwrap(save_as(*model_, store_, talk.cache(), tokens,
                     {.id = "evaluated",
                      .plan = plan,
                      .statistics = strategy_.observes_attention() ? &statistics : nullptr,
                      .threads = model_->workers().threads()}));
    }
    rows_ = tokens.size();
    return logits;
  }

  /// What is saved, all of the conversation counted.
  [[nodiscard]] std::uint64_t stored_bytes() const { return store_.used(); }
  /// Tokens whose state is saved.
  [[nodiscard]] std::size_t stored_rows() const noexcept { return rows_; }

 private:
  using Talk = Conversation<CpuModel, MemoryStore, AnyPolicy>;

  /// A conversation's tokens, the history's by the names that it is restored under.
  [[nodiscard]] std::vector<Token> with_names(std::span<const Token> tokens) const {
    std::vector<Token> all = names_;
    all.insert(all.end(), tokens.begin() + static_cast<std::ptrdiff_t>(rows_), tokens.end());
    return all;
  }

  [[nodiscard]] Talk open(std::size_t capacity, bool read_only) {
    ConversationOptions options;
    options.capacity = capacity;
    options.costs = costs_;
    options.threads = model_->workers().threads();
    options.read_only = read_only;
    options.profile = profile_;
    return unwrap(Talk::open(*model_, store_, "evaluated", options, strategy_.policy));
  }

  CpuModel* model_;
  Strategy strategy_;
  Costs costs_;
  std::shared_ptr<const Profile> profile_;
  MemoryStore store_;
  std::vector<Token> names_;  ///< stand for the history when it is restored
  std::size_t rows_ = 0;
};

}  // namespace krul::cli
