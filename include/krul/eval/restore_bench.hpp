#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/eval/link_name.hpp"
#include "krul/eval/machine_costs.hpp"
#include "krul/eval/paired_rounds.hpp"
#include "krul/eval/restore_once.hpp"
#include "krul/store/throttled_store.hpp"

namespace krul::eval {

/// A way to what is saved.
struct BenchedLink {
  std::string name;
  AnyStore store;
  std::function<void(const Returning&)> before_read = {};  ///< called before each restore
};

/// A store behind a link.
/// @param link   a rate: the store behind a throttled link, whose bucket of 64 KiB is empty before each restore; what
///               arrives while the reader is away waits. Anything else: the store itself
/// @param cool   called before each restore if the link is the disk, so that reads come from there; may be empty
/// @throws       PreconditionError if the link is relative
[[nodiscard]] inline BenchedLink benched_link(const LinkName& link, AnyStore store,
                                              std::function<void(const Returning&)> cool = {}) {
  expects(link.kind != LinkName::Kind::relative, "benched_link: the relative link must be resolved first");
  if (link.kind != LinkName::Kind::rate)
    return {link.text, std::move(store), link.kind == LinkName::Kind::disk ? std::move(cool) : nullptr};
  ThrottledStore<AnyStore> throttled(std::move(store), {.bytes_per_s = static_cast<std::uint64_t>(link.bytes_per_s),
                                                        .latency = duration_of(link.latency_s)});
  return {link.text, throttled, [throttled](const Returning&) mutable { throttled.empty_bucket(); }};
}

/// An id of its own for each strategy, and for each link that it saves otherwise for.
[[nodiscard]] inline std::string saved_id(const std::string& prefix, const AnyStrategy& strategy,
                                          const LinkName& link) {
  return prefix + strategy.name() + (strategy.needs().costs ? "-" + link.text : "");
}

/// The strategy that others are compared with: the one of this name; for an empty one load-f16 if it is among them,
/// else the first.
/// @return not_found if none has this name
/// @throws PreconditionError if there is no strategy
[[nodiscard]] inline Result<std::size_t> baseline_among(std::span<const AnyStrategy> strategies,
                                                        const std::string& name) {
  expects(!strategies.empty(), "baseline_among: no strategies");
  const auto at = std::ranges::find(strategies, name.empty() ? "load-f16" : name, &AnyStrategy::name);
  if (at != strategies.end()) return static_cast<std::size_t>(at - strategies.begin());
  if (name.empty()) return 0;
  return fail(ErrorCode::not_found, name + " is not among the strategies");
}

/// A history that is saved under several strategies, to come back side by side.
template <ModelBackend B>
class SharedHistory {
 public:
  /// Runs the history, once for all strategies.
  /// @param model   kept by reference
  /// @param costs   of this machine
  /// @param tokens  the history, and what the user comes back with
  /// @throws        as prefill_exact
  SharedHistory(B& model, std::vector<AnyStrategy> strategies, MachineCosts costs, std::vector<Token> tokens,
                std::size_t history)
      : model_(model),
        strategies_(std::move(strategies)),
        costs_(std::move(costs)),
        tokens_(std::move(tokens)),
        history_(history),
        exact_(prefill_exact(model, std::span<const Token>(tokens_).first(history), 0, strategies_)) {}

  [[nodiscard]] const std::vector<AnyStrategy>& strategies() const noexcept { return strategies_; }
  [[nodiscard]] const MachineCosts& costs() const noexcept { return costs_; }

  /// Saves it under every strategy, with ids that are saved_id(prefix, strategy, link).
  /// @param saved_for  the link that saves are planned for
  /// @param link       the one that they come back over; neither is relative
  /// @param progress   (strategy): called before each save
  /// @return           [strategies], with what the user comes back with; the first error of a save
  template <class Progress>
  [[nodiscard]] Result<std::vector<Returning>> save(AnyStore& store, const std::string& prefix,
                                                    const LinkName& saved_for, const LinkName& link,
                                                    Progress&& progress) {
    std::vector<Returning> saved;
    for (const AnyStrategy& strategy : strategies_) {
      progress(strategy);
      const auto costs_over = [&](const LinkName& way) { return costs_.of(strategy, model_.geometry().layers, way); };
      auto returning = save_returning(model_, store, exact_, std::span<const Token>(tokens_).first(history_),
                                      {strategy, saved_id(prefix, strategy, link), costs_over(saved_for)});
      if (!returning) return propagate(returning);
      returning->costs = costs_over(link);
      returning->tokens.insert(returning->tokens.end(), tokens_.begin() + static_cast<std::ptrdiff_t>(history_),
                               tokens_.end());
      saved.push_back(std::move(*returning));
    }
    return saved;
  }

 private:
  B& model_;
  std::vector<AnyStrategy> strategies_;
  MachineCosts costs_;
  std::vector<Token> tokens_;
  std::size_t history_;
  ExactHistory<B> exact_;
};

/// Restores conversations over a link, one after the other in each round.
/// @param after  (index, Restored&): called behind each restore, which it is no part of
/// @return       [conversations] figures under their strategies' names; the first error of a restore
/// @throws       PreconditionError if there is nothing to restore
template <ModelBackend B, Clock C, LoadProbe P, class After>
[[nodiscard]] Result<RoundsReport<RestoreFigure>> bench_restores(B& model, BenchedLink& link,
                                                                 std::span<const Returning> conversations,
                                                                 PairedRounds<C, P>& rounds, After&& after) {
  std::vector<Alternative<RestoreFigure>> alternatives;
  for (std::size_t i = 0; i < conversations.size(); ++i)
    alternatives.push_back({conversations[i].strategy.name(), [&, i] {
                              if (link.before_read) link.before_read(conversations[i]);
                              auto restored =
                                  or_throw(restore_once(model, link.store, conversations[i], 1, rounds.clock()));
                              after(i, restored);
                              return std::move(restored.figure);
                            }});
  return rounds.template try_run<RestoreFigure>(alternatives);
}

/// How the restores of one conversation did: times are medians over the rounds, in seconds.
struct RestoreRow {
  std::string strategy;
  double first_token_s = 0;  ///< from opening what is saved, unless it stays open, to the prompt's logits
  double opening_s = 0;      ///< of it, until reading and computing began
  double restore_s = 0;      ///< of it, the rest
  double predicted_s = 0;    ///< the same as it was predicted; 0 where nobody plans
  double bound_s = 0;        ///< see RestoreReport
  double bubble_s = 0;       ///< likewise
  RestoreReport last;        ///< of the last round: what was read and recomputed is the same in all
  PairedRatio ratio;         ///< of the time to the first token to the baseline's
};

/// @param baseline  the conversation that the others are compared with
/// @return          [conversations]
/// @throws          PreconditionError if there is no such baseline
[[nodiscard]] inline std::vector<RestoreRow> restore_rows(const RoundsReport<RestoreFigure>& report,
                                                          std::size_t baseline = 0) {
  std::vector<RestoreRow> rows;
  for (std::size_t i = 0; i < report.names.size(); ++i) {
    const auto typical = [&](auto figure) {
      return median(report.values(i, [&](const RestoreFigure& each) { return figure(each.report); }));
    };
    const auto comparison = report.compare(i, baseline, &RestoreFigure::first_token_s);
    rows.push_back({.strategy = report.names[i],
                    .first_token_s = comparison.median,
                    .opening_s = typical([](const RestoreReport& each) { return each.opening_s; }),
                    .restore_s = typical([](const RestoreReport& each) { return each.first_token_s; }),
                    .predicted_s = typical([](const RestoreReport& each) { return each.predicted.total_s(); }),
                    .bound_s = typical([](const RestoreReport& each) { return each.bound_s(); }),
                    .bubble_s = typical([](const RestoreReport& each) { return each.bubble_s(); }),
                    .last = report.rounds.back().passes[i].back().report,
                    .ratio = comparison.ratio});
  }
  return rows;
}

/// How well some restores were predicted, and their bubbles: see RestoreReport.
struct RestoreSummary {
  std::vector<double> prediction_errors;  ///< |predicted / measured - 1| of those that were planned
  std::vector<double> bubbles_s;          ///< seconds
  std::vector<double> bubble_shares;      ///< of the time to the first token

  void add(const RestoreRow& row) {
    if (row.predicted_s > 0) prediction_errors.push_back(std::abs(row.predicted_s / row.first_token_s - 1));
    bubbles_s.push_back(row.bubble_s);
    bubble_shares.push_back(row.bubble_s / row.first_token_s);
  }
};

}  // namespace krul::eval
