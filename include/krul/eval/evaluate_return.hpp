#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/eval/contenders.hpp"
#include "krul/eval/quality.hpp"

namespace krul::eval {

/// A conversation that is cut where its user comes back.
struct CutText {
  std::string id, source;
  std::vector<Token> all;
  std::size_t history = 0;  ///< leading tokens that are saved and brought back
  [[nodiscard]] std::span<const Token> before() const { return std::span(all).first(history); }
  [[nodiscard]] std::span<const Token> fresh() const { return std::span(all).subspan(history); }
};

/// What became of one conversation under one contender.
struct ReturnQuality {
  std::vector<TokenQuality> tokens;  ///< of the new input but for its last token
  StoredSize stored;
};

/// The same, over conversations.
struct QualityOfReturns {
  QualityTotals quality;
  StoredSize stored;
  void add(const ReturnQuality& conversation) {
    quality.add(conversation.tokens);
    stored.add(conversation.stored);
  }
};

/// Saves a history under each contender, brings it back, and compares what the model says of the new input with what it
/// says if nothing was interrupted, and without any history.
/// @return [contenders]; the first error of a save or a restore
/// @throws PreconditionError if there are not two new tokens; NotFiniteError if the model's numbers are not finite
/// @complexity three passes, and a restore each
template <ModelBackend B>
[[nodiscard]] Result<std::vector<ReturnQuality>> evaluate_quality(const Contenders<B>& contenders,
                                                                  const CutText& text) {
  const auto fresh = text.fresh();
  expects(fresh.size() >= 2, "evaluate_quality: what the model says of each new token is judged by the next");
  auto exact = contenders.exact(text.before(), fresh.size(), fresh);
  const auto reference = logits_after(contenders.model(), exact.cache, fresh, fresh.size());
  exact.cache.truncate(text.history);
  const auto alone = logits_of(contenders.model(), fresh, fresh.size());
  std::vector<ReturnQuality> found;
  auto status = contenders.for_each([&](auto& run) -> Status {
    if (auto saved = run.save(exact, text.before()); !saved) return saved;
    const auto logits = run.resume(text.all, fresh.size());
    if (!logits) return propagate(logits);
    found.push_back({compare_rows(reference, *logits, fresh, alone), StoredSize::of(run)});
    return {};
  });
  if (!status) return propagate(status);
  return found;
}

/// How a greedy text goes on after a return.
struct GreedySettings {
  std::size_t prompt = 32;          ///< of the new tokens that it follows, at most
  std::size_t most = 64;            ///< tokens of the text
  std::function<bool(Token)> ends;  ///< whether a token ends it; empty: none does
};

/// How long one conversation's greedy text stays that of the exact state.
struct GreedyReturn {
  std::optional<std::size_t> difference;  ///< first token that differs; none: it never does
  std::size_t same = 0;                   ///< tokens before it; as many as were asked for, where it never does
  StoredSize stored = {};
};

/// The same, over conversations.
struct GreedyReturns {
  std::vector<double> same = {};  ///< [conversations] tokens
  std::size_t never = 0;          ///< conversations whose text never differs
  StoredSize stored = {};
  void add(const GreedyReturn& conversation) {
    same.push_back(static_cast<double>(conversation.same));
    never += conversation.difference ? 0 : 1;
    stored.add(conversation.stored);
  }
};

/// Saves a history under each contender, brings it back with a prompt, and lets the model go on. A text that never
/// differs counts as the most that was asked for, however soon both have ended.
/// @return and throws as evaluate_quality
template <ModelBackend B>
[[nodiscard]] Result<std::vector<GreedyReturn>> evaluate_greedy(const Contenders<B>& contenders, const CutText& text,
                                                                const GreedySettings& settings) {
  const auto prompt = text.fresh().first(std::min(text.fresh().size(), settings.prompt));
  const auto asked = std::span(text.all).first(text.history + prompt.size());
  auto exact = contenders.exact(text.before(), prompt.size() + settings.most, prompt);
  const auto reference =
      go_on_from(contenders.model(), exact.cache, prompt, settings.most, GreedyChoice(settings.ends));
  exact.cache.truncate(text.history);
  std::vector<GreedyReturn> found;
  auto status = contenders.for_each([&](auto& run) -> Status {
    if (auto saved = run.save(exact, text.before()); !saved) return saved;
    const auto went_on = run.go_on(asked, settings.most, GreedyChoice(settings.ends));
    if (!went_on) return propagate(went_on);
    const auto difference = first_difference(reference, *went_on);
    found.push_back({difference, difference.value_or(settings.most), StoredSize::of(run)});
    return {};
  });
  if (!status) return propagate(status);
  return found;
}

/// Runs a text turn by turn. After each turn every strategy saves all of it and drops its live state; the next turn
/// begins with a restore, and what the model says of its tokens is compared with a run that nothing interrupts.
/// @param turns  of the text from its beginning on, without gaps, of two tokens at least
/// @param how    what becomes of rows that were restored
/// @return [turns][strategies]; the first turn has no history. The first error of a save or a restore; unsupported for
///         strategies that keep no tokens to go on with
/// @throws PreconditionError if a turn has not two tokens or lies behind the text; NotFiniteError as evaluate_quality
template <ModelBackend B>
[[nodiscard]] Result<std::vector<std::vector<ReturnQuality>>> evaluate_turns(const Contenders<B>& contenders,
                                                                             std::span<const Token> text,
                                                                             std::span<const TokenRange> turns,
                                                                             typename StrategyRun<B>::Rows how) {
  auto exact = contenders.exact({}, text.size());
  auto runs = contenders.runs();
  std::vector<std::vector<ReturnQuality>> found;
  for (const TokenRange turn : turns) {
    expects(turn.size() >= 2 && turn.end <= text.size(), "evaluate_turns: turns of two tokens or more of the text");
    const auto fresh = text.subspan(turn.begin, turn.size());
    const auto reference = logits_after(contenders.model(), exact.cache, fresh, fresh.size());
    auto& of_turn = found.emplace_back();
    for (StrategyRun<B>& run : runs) {
      const auto logits = run.take_turn(text.first(turn.end), fresh.size(), how);
      if (!logits) return propagate(logits);
      of_turn.push_back({compare_rows(reference, *logits, fresh), StoredSize::of(run)});
    }
  }
  return found;
}

}  // namespace krul::eval
