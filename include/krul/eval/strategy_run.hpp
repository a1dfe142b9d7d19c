#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "krul/backend/lends_workers.hpp"
#include "krul/eval/continuation.hpp"
#include "krul/eval/restore_once.hpp"
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
    auto saved = save_history(*model_, store_, exact, history, {strategy_, id, costs_});
    if (!saved) return propagate(saved);
    names_ = std::move(saved->tokens);
    rows_ = history.size();
    return {};
  }

  /// Restores what is saved and runs the rest of `tokens`: next-token logits of the last `rows` tokens. What is saved
  /// stays as it is.
  [[nodiscard]] Result<std::vector<float>> resume(std::span<const Token> tokens, std::size_t rows) {
    auto restored = restore(tokens, 0, rows);
    if (!restored) return propagate(restored);
    return std::move(restored->logits);
  }

  /// The same, and then as many tokens as `choose` wants.
  /// @param most    tokens of the text
  /// @param choose  (logits) -> the next token; none ends the text
  template <class Choose>
  [[nodiscard]] Result<std::vector<Token>> go_on(std::span<const Token> tokens, std::size_t most, Choose&& choose) {
    auto restored = restore(tokens, most, 1);
    if (!restored) return propagate(restored);
    const std::span<float> logits(restored->logits);
    return chosen_text(logits, most, std::forward<Choose>(choose),
                       [&](Token token) { return restored->conversation.append(token, logits); });
  }

  /// A turn: as resume, then all tokens are saved and the live state is dropped. Begins the conversation if nothing is
  /// saved.
  /// @return unsupported for strategies that keep no tokens to go on with
  [[nodiscard]] Result<std::vector<float>> take_turn(std::span<const Token> tokens, std::size_t rows, Rows how) {
    std::vector<float> logits(rows * model_->geometry().vocabulary);
    ConversationOptions options{.strategy = strategy_};
    options.capacity = tokens.size();
    options.costs = costs_;
    options.threads = threads();
    options.read_only = how == Rows::rewrite;
    auto opened = Opened::open(*model_, store_, id, options);
    if (!opened) return propagate(opened);
    if (auto report = opened->advance(tokens, logits); !report) return propagate(report);
    if (auto saved = how == Rows::append ? opened->save() : rewrite(*opened, tokens); !saved) return propagate(saved);
    rows_ = tokens.size();
    return logits;
  }

  /// What is saved, all of the conversation counted.
  [[nodiscard]] std::uint64_t stored_bytes() const { return memory_.used(); }
  /// Tokens whose state is saved.
  [[nodiscard]] std::size_t stored_rows() const noexcept { return rows_; }

 private:
  using Opened = Conversation<B, AnyStore>;
  static constexpr const char* id = "evaluated";

  [[nodiscard]] Result<SaveReport> rewrite(Opened& conversation, std::span<const Token> tokens) {
    const auto plan = conversation.plan();
    if (!plan) return propagate(plan);
    return save_as(*model_, store_, conversation.cache(), tokens,
                   {.id = id, .plan = *plan, .statistics = conversation.statistics(), .threads = threads()});
  }

  /// What is saved with the rest of a conversation's tokens behind it, and room for some more.
  [[nodiscard]] Result<Restored<B>> restore(std::span<const Token> tokens, std::size_t more, std::size_t rows) {
    Returning returning{.strategy = strategy_, .id = id, .tokens = names_, .costs = costs_};
    returning.tokens.insert(returning.tokens.end(), tokens.begin() + static_cast<std::ptrdiff_t>(rows_), tokens.end());
    returning.capacity = returning.tokens.size() + more;
    return restore_once(*model_, store_, returning, rows);
  }

  [[nodiscard]] std::size_t threads() const { return TeamFor<B>(*model_).workers().threads(); }

  B* model_;
  AnyStrategy strategy_;
  std::optional<Costs> costs_;
  MemoryStore memory_;
  AnyStore store_ = memory_;
  std::vector<Token> names_;  ///< stand for the history when it is restored
  std::size_t rows_ = 0;
};

}  // namespace krul::eval
