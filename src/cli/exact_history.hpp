#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "krul/conversation/conversation.hpp"
#include "krul/conversation/plan_save.hpp"
#include "krul/eval/heavy_hitters.hpp"
#include "krul/model/load.hpp"
#include "machine_costs.hpp"

namespace krul::cli {

/// A conversation that nothing ever interrupted, with all that some strategy wants to know when it is saved.
struct ExactHistory {
  CpuModel::Cache cache;
  AttentionStatistics statistics = {};
  std::optional<eval::KeyMasses> masses = {};
  std::optional<HiddenStates> hidden = {};
  std::vector<double> unpredictability = {};  ///< [L, L]
};

/// Runs a history through the model, with room for `more` tokens behind it, and gathers what the strategies ask for.
///
/// The only place where the history that is saved passes through the model.
[[nodiscard]] ExactHistory prefill_exact(CpuModel& model, std::span<const Token> history, std::size_t more,
                                         std::span<const Strategy> strategies = {});

/// How a history is saved.
struct HistorySave {
  const Strategy& strategy;
  std::optional<Costs> costs;  ///< of the restore that is planned for
  std::string id;
  std::shared_ptr<const Profile> profile = {};  ///< of the model; may be none
  std::span<const Token> tokens = {};           ///< of the history, where a profile is used
  std::optional<StepScale> step = {};           ///< as it was measured for this conversation before
};

/// The step of this conversation, where the strategy wants it measured and there is enough of it. It is the same
/// whatever restore is planned for.
[[nodiscard]] std::optional<StepScale> step_of(CpuModel& model, const CpuModel::Cache& cache, const HistorySave& save);

/// Saves a history under a strategy, in place of what was saved under that id.
/// @return the tokens that stand for it when it is restored: the history itself, but for a strategy that forgets tokens
template <ConversationStore S>
std::vector<Token> save_history(CpuModel& model, S& store, const ExactHistory& exact, std::span<const Token> history,
                                const HistorySave& save);

/// The plan of such a save.
[[nodiscard]] SavePlan plan_of(CpuModel& model, const ExactHistory& exact, std::size_t tokens, const HistorySave& save);
/// The same where only attention was looked at.
[[nodiscard]] SavePlan plan_of(CpuModel& model, const CpuModel::Cache& cache, const AttentionStatistics& statistics,
                               std::size_t tokens, const HistorySave& save);

/// A cache that holds only the tokens that matter most, as many bytes of them as krul-paper would store.
[[nodiscard]] CpuModel::Cache forget_light_tokens(CpuModel& model, const ExactHistory& exact, std::size_t history,
                                                  const std::optional<Costs>& costs);

template <ConversationStore S>
std::vector<Token> save_history(CpuModel& model, S& store, const ExactHistory& exact, std::span<const Token> history,
                                const HistorySave& save) {
  SaveAs as{.id = save.id,
            .plan = plan_of(model, exact, history.size(), save),
            .hidden = exact.hidden ? &*exact.hidden : nullptr,
            .threads = model.workers().threads()};
  if (save.strategy.stored_as != StoredAs::heavy_hitters) {
    unwrap(save_as(model, store, exact.cache, history, as));
    return {history.begin(), history.end()};
  }
  const CpuModel::Cache kept = forget_light_tokens(model, exact, history.size(), save.costs);
  // Each layer and head has kept other tokens, so any will do as names of the rows.
  const auto names = history.first(kept.length());
  unwrap(save_as(model, store, kept, names, as));
  return {names.begin(), names.end()};
}

}  // namespace krul::cli
