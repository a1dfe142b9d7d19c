#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/conversation/conversation.hpp"
#include "krul/eval/continuation.hpp"
#include "krul/eval/quality.hpp"
#include "krul/eval/restore_once.hpp"
#include "krul/eval/result_table.hpp"
#include "krul/eval/statistics.hpp"
#include "krul/store/manifest_store.hpp"
#include "krul/strategy/coding_costs.hpp"

namespace krul::eval {

/// A conversation that goes idle behind its history and comes back with new tokens.
struct ComparedText {
  std::vector<Token> history;
  std::vector<Token> fresh;  ///< at least two: what the model says of each is judged by the next
};

/// What a comparison does, beside the texts and the strategies.
struct ComparisonSettings {
  std::optional<Costs> costs = {};  ///< of the restores that are planned for, but for decoding; none: nobody plans
  DecodingTimes decoding = {};      ///< see with_decoding
  std::size_t prompt = 32;          ///< of the new tokens that the first token waits for, at most
  std::size_t rounds = 3;           ///< restores of each text under each strategy, in turns
  std::uint32_t block = 64;         ///< tokens of a stored block
};

/// What one strategy came to, over all texts.
struct ComparedStrategy {
  std::string name;
  QualitySummary quality;
  double bytes_per_token = 0;  ///< stored, all of the conversation counted
  double ratio_to_f16 = 0;     ///< two bytes a value, over that
  double first_token_s = 0;    ///< median over texts and rounds: from opening the conversation to the prompt's logits
  double predicted_s = 0;      ///< the same as it was predicted; 0 where nobody plans
  std::size_t recomputed_tokens = 0;      ///< most leading tokens of a text that a layer recomputed by plan
  std::vector<std::string> reasons = {};  ///< why something was not used as it was saved, each once
};

/// As a table for people. The loss (NLL) of the new tokens may by chance be lower after a restore than without an
/// interruption: dNLL is negative then, and the benefit above 1. "-" stands where there is nothing to tell: no
/// prediction, as nobody plans without costs or as rows are restored token by token, or no benefit, as the history does
/// not help.
[[nodiscard]] inline std::string table_of(std::span<const ComparedStrategy> strategies) {
  ResultTable table({{"strategy", "", ResultTable::Align::left},
                     {"bytes", "a token"},
                     {"ratio", "to f16"},
                     {"KL", "nats"},
                     {"KL worst", "conversation"},
                     {"dNLL", "nats"},
                     {"benefit", "kept"},
                     {"first token", "ms"},
                     {"predicted", "ms"}});
  const auto if_any = [](double value) { return value > 0 ? value : std::nan(""); };
  for (const ComparedStrategy& each : strategies)
    table.add({each.name, cell(each.bytes_per_token, 0), cell(each.ratio_to_f16, 2), cell(each.quality.kl, 5),
               cell(each.quality.kl_worst, 5), cell(each.quality.delta_nll, 4),
               cell(each.quality.history_benefit.value_or(std::nan("")), 3), cell(1e3 * each.first_token_s, 2),
               cell(if_any(1e3 * each.predicted_s), 2)});
  return table.text();
}

namespace detail {

/// What strategies come to, gathered text by text.
template <ModelBackend B, Clock C>
class Comparison {
 public:
  Comparison(B& model, AnyStore store, std::span<const AnyStrategy> strategies, const ComparisonSettings& settings,
             C clock)
      : model_(model), store_(std::move(store)), settings_(settings), clock_(std::move(clock)) {
    for (const AnyStrategy& strategy : strategies) runs_.push_back({.strategy = strategy, .costs = settings.costs});
    for (Run& run : runs_)
      if (run.costs)
        run.costs->layer =
            with_decoding(run.costs->layer, settings.decoding, run.strategy.needs(), model.geometry().layers);
  }

  [[nodiscard]] Status add(const ComparedText& text) {
    std::vector<AnyStrategy> strategies;
    for (const Run& run : runs_) strategies.push_back(run.strategy);
    auto exact = prefill_exact(model_, text.history, text.fresh.size(), strategies);
    const auto reference = logits_after(model_, exact.cache, text.fresh, text.fresh.size());
    exact.cache.truncate(text.history.size());
    const auto alone = logits_of(model_, std::span<const Token>(text.fresh), text.fresh.size());
    for (Run& run : runs_) {
      auto saved = save_returning(model_, store_, exact, text.history,
                                  {run.strategy, id_of(run), run.costs, {}, settings_.block});
      if (!saved) return propagate(saved);
      run.bytes += static_cast<double>(saved->stored_bytes);
      run.saved = std::move(*saved);
      run.history += static_cast<double>(text.history.size());
    }
    const auto prompt = std::span(text.fresh).first(std::min(settings_.prompt, text.fresh.size()));
    for (std::size_t round = 0; round < settings_.rounds; ++round)
      for (Run& run : runs_)
        if (auto timed = restore(run, prompt, 1); !timed) return propagate(timed);
    for (Run& run : runs_) {
      const auto logits = restore(run, text.fresh, text.fresh.size());
      if (!logits) return propagate(logits);
      run.quality.add(compare_rows(reference, *logits, text.fresh, alone));
    }
    return erase();
  }

  /// What is saved, whether or not all of it was compared.
  [[nodiscard]] Status erase() {
    Status erased;
    for (const Run& run : runs_)
      if (auto gone = erase_conversation(store_, folder_of(run)); !gone && gone.error().code != ErrorCode::not_found)
        erased = gone;
    return erased;
  }

  [[nodiscard]] std::vector<ComparedStrategy> strategies() const {
    std::vector<ComparedStrategy> found;
    for (const Run& run : runs_) {
      const auto f16 = static_cast<double>(model_.geometry().f16_token_bytes());
      found.push_back({.name = run.strategy.name(),
                       .quality = run.quality.summary(),
                       .bytes_per_token = run.bytes / run.history,
                       .ratio_to_f16 = f16 * run.history / run.bytes,
                       .first_token_s = median(run.first_token_s),
                       .predicted_s = median(run.predicted_s),
                       .recomputed_tokens = run.recomputed_tokens,
                       .reasons = run.reasons});
    }
    return found;
  }

 private:
  struct Run {
    AnyStrategy strategy;
    std::optional<Costs> costs;
    std::optional<Returning> saved = {};  ///< of the text at hand
    QualityTotals quality = {};
    double bytes = 0, history = 0;
    std::vector<double> first_token_s = {}, predicted_s = {};
    std::size_t recomputed_tokens = 0;
    std::vector<std::string> reasons = {};
  };

  [[nodiscard]] static std::string id_of(const Run& run) { return "compared " + run.strategy.name(); }
  [[nodiscard]] static std::string folder_of(const Run& run) { return conversation_folder(id_of(run)).value(); }

  /// Opens the saved conversation and runs new tokens: logits of the last `rows`. Only restores of one row are timed.
  [[nodiscard]] Result<std::vector<float>> restore(Run& run, std::span<const Token> fresh, std::size_t rows) {
    Returning returning = *run.saved;
    returning.tokens.insert(returning.tokens.end(), fresh.begin(), fresh.end());
    auto restored = restore_once(model_, store_, returning, rows, clock_);
    if (!restored) return propagate(restored);
    const RestoreReport& report = restored->figure.report;
    if (rows == 1) {
      run.first_token_s.push_back(restored->figure.first_token_s);
      run.predicted_s.push_back(report.predicted.total_s());
    }
    run.recomputed_tokens = std::max(run.recomputed_tokens, report.recomputed_tokens());
    for (const std::string& reason : report.reasons)
      if (std::ranges::find(run.reasons, reason) == run.reasons.end()) run.reasons.push_back(reason);
    return std::move(restored->logits);
  }

  B& model_;
  AnyStore store_;
  const ComparisonSettings& settings_;
  C clock_;
  std::vector<Run> runs_;
};

}  // namespace detail

/// Saves conversations under every strategy, brings them back, and compares what the model says then with what it says
/// if nothing was ever interrupted: bytes, divergence, benefit of the history, time to the first token beside what was
/// predicted. Strategies take turns within a text, so that a slow minute of the machine meets all alike.
/// @param store  for what is saved; all of it is erased again, under ids that begin with "compared "
/// @return in the order of the strategies; the first error of a save or a restore
/// @throws PreconditionError if there is no text or strategy, or a text has no history or fewer than two new tokens;
///         NotFiniteError if the model's numbers are not finite
/// @complexity for each text three passes of it, and rounds + 1 restores a strategy
template <ModelBackend B, ConversationStore S, Clock C = SteadyClock>
[[nodiscard]] Result<std::vector<ComparedStrategy>> compare(B& model, std::span<const ComparedText> texts, S& store,
                                                            const std::vector<AnyStrategy>& strategies,
                                                            const ComparisonSettings& settings = {}) {
  expects(!texts.empty() && !strategies.empty() && settings.rounds > 0,
          "compare: at least one text, one strategy and one round");
  detail::Comparison<B, C> comparison(model, AnyStore::borrowed(store), strategies, settings, C{});
  for (const ComparedText& text : texts) {
    expects(!text.history.empty() && text.fresh.size() >= 2, "compare: a text has a history and two new tokens");
    if (auto added = comparison.add(text); !added) {
      static_cast<void>(comparison.erase());
      return propagate(added);
    }
  }
  return comparison.strategies();
}

}  // namespace krul::eval
