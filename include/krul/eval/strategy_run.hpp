#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "krul/backend/lends_workers.hpp"
#include "krul/conversation/conversation.hpp"
#include "krul/eval/save_history.hpp"
#include "krul/store/memory_store.hpp"

namespace krul::eval {

/// One conversation that goes idle and comes back under one strategy, in a store of its own: all that evaluation knows
/// of how a strategy saves and restores.
template <ModelBackend B>
class StrategyRun {
 public:
  /// How rows that were restored are saved when their turn ends: left as they are, or coded once more.
  enum class Rows : std::uint8_t { append, rewrite };

  StrategyRun(B& model, AnyStrategy strategy, std::optional<Costs> costs)
      : model_(&model), strategy_(std::move(strategy)), costs_(costs) {}

  /// Saves a history from its exact cache.
  /// @return and throws as save_history
  [[nodiscard]] Status save(const ExactHistory<B>& exact, std::span<const Token> history) {
    auto saved = save_history(*model_, store_, exact, history, {strategy_, "evaluated", costs_});
    if (!saved) return propagate(saved);
    names_ = std::move(saved->tokens);
    rows_ = history.size();
    return {};
  }

  /// Restores what is saved and runs the rest of `tokens`: next-token logits of the last `rows` tokens. What is saved
  /// stays as it is.
  [[nodiscard]] Result<std::vector<float>> resume(std::span<const Token> tokens, std::size_t rows) {
    std::vector<float> logits(rows * model_->geometry().vocabulary);
    const auto all = with_names(tokens);
    auto opened = open(all.size(), true);
    if (!opened) return propagate(opened);
    if (auto report = opened->advance(all, logits); !report) return propagate(report);
    return logits;
  }

  /// The same, and then as many tokens as `choose` wants.
  /// @param most    tokens of the text
  /// @param choose  (logits) -> the next token; none ends the text
  template <class Choose>
  [[nodiscard]] Result<std::vector<Token>> go_on(std::span<const Token> tokens, std::size_t most, Choose&& choose) {
    std::vector<float> logits(model_->geometry().vocabulary);
    const auto all = with_names(tokens);
    auto opened = open(all.size() + most, true);
    if (!opened) return propagate(opened);
    if (auto report = opened->advance(all, logits); !report) return propagate(report);
    std::vector<Token> text;
    for (std::optional<Token> next = choose(std::span(logits)); next; next = choose(std::span(logits))) {
      text.push_back(*next);
      if (text.size() == most) break;
      if (auto run = opened->append(*next, logits); !run) return propagate(run);
    }
    return text;
  }

  /// A turn: as resume, then all tokens are saved and the live state is dropped. Begins the conversation if nothing is
  /// saved.
  /// @return unsupported for strategies that keep no tokens to go on with
  [[nodiscard]] Result<std::vector<float>> take_turn(std::span<const Token> tokens, std::size_t rows, Rows how) {
    std::vector<float> logits(rows * model_->geometry().vocabulary);
    auto opened = open(tokens.size(), how == Rows::rewrite);
    if (!opened) return propagate(opened);
    if (auto report = opened->advance(tokens, logits); !report) return propagate(report);
    if (auto saved = how == Rows::append ? opened->save() : rewrite(*opened, tokens); !saved) return propagate(saved);
    rows_ = tokens.size();
    return logits;
  }

  /// What is saved, all of the conversation counted.
  [[nodiscard]] std::uint64_t stored_bytes() const { return store_.used(); }
  /// Tokens whose state is saved.
  [[nodiscard]] std::size_t stored_rows() const noexcept { return rows_; }

 private:
  using Talk = Conversation<B, MemoryStore>;

  [[nodiscard]] Result<SaveReport> rewrite(Talk& talk, std::span<const Token> tokens) {
    const auto plan = talk.plan();
    if (!plan) return propagate(plan);
    std::size_t threads = 1;
    if constexpr (LendsWorkers<B>) threads = model_->workers().threads();
    return save_as(*model_, store_, talk.cache(), tokens,
                   {.id = "evaluated", .plan = *plan, .statistics = talk.statistics(), .threads = threads});
  }

  /// A conversation's tokens, the history's by the names that it is restored under.
  [[nodiscard]] std::vector<Token> with_names(std::span<const Token> tokens) const {
    std::vector<Token> all = names_;
    all.insert(all.end(), tokens.begin() + static_cast<std::ptrdiff_t>(rows_), tokens.end());
    return all;
  }

  [[nodiscard]] Result<Talk> open(std::size_t capacity, bool read_only) {
    ConversationOptions options{.strategy = strategy_};
    options.capacity = capacity;
    options.costs = costs_;
    if constexpr (LendsWorkers<B>) options.threads = model_->workers().threads();
    options.read_only = read_only;
    return Talk::open(*model_, store_, "evaluated", options);
  }

  B* model_;
  AnyStrategy strategy_;
  std::optional<Costs> costs_;
  MemoryStore store_;
  std::vector<Token> names_;  ///< stand for the history when it is restored
  std::size_t rows_ = 0;
};

}  // namespace krul::eval
