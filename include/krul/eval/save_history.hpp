#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "krul/backend/lends_workers.hpp"
#include "krul/conversation/save.hpp"
#include "krul/eval/exact_history.hpp"
#include "krul/strategy/catalogue/h2o.hpp"
#include "krul/strategy/gather.hpp"

namespace krul::eval {

/// How a history is saved.
struct HistorySave {
  AnyStrategy strategy;
  std::string id;
  std::optional<Costs> costs = {};     ///< of the restore that is planned for
  std::optional<StepScale> step = {};  ///< as it was measured for this conversation before
  std::uint32_t block = 64;            ///< tokens of a stored block
};

/// What a save of a history came to.
struct SavedHistory {
  SaveReport report;
  std::vector<Token> tokens;           ///< that stand for it when it is restored: the history itself, but for a
                                       ///< strategy that forgets tokens
  std::optional<StepScale> step = {};  ///< that was measured for it: the same whatever restore is planned for
};

/// What a strategy plans from, of a history that was run from its beginning.
/// @param tokens  of the cache's rows that are saved
/// @throws PreconditionError and NotFiniteError as gather_evidence
template <ModelBackend B>
[[nodiscard]] Evidence evidence_of(B& model, const ExactHistory<B>& exact, std::span<const Token> tokens,
                                   const HistorySave& save, Workers& workers) {
  Evidence evidence = gather_evidence(model, save.strategy.needs(),
                                      LiveConversation<typename B::Cache>{.cache = exact.cache,
                                                                          .tokens = tokens,
                                                                          .workers = workers,
                                                                          .statistics = &exact.statistics,
                                                                          .row_attention = &exact.row_attention,
                                                                          .step = save.step,
                                                                          .costs = save.costs,
                                                                          .block = save.block});
  evidence.unpredictability = exact.unpredictability;
  if (save.strategy.needs().coming_attention) evidence.row_attention = exact.coming_attention;
  return evidence;
}

/// A cache that holds only the tokens that matter most in each layer and head.
/// @param keep  how many of the first `history` ones
template <ModelBackend B>
[[nodiscard]] typename B::Cache forget_light_tokens(B& model, const ExactHistory<B>& exact, std::size_t history,
                                                    std::size_t keep) {
  const Geometry& geometry = model.geometry();
  typename B::Cache kept = model.make_cache(keep);
  const std::size_t row_bytes = geometry.kv_row_bytes();
  std::vector<std::byte> keys(history * row_bytes), values(keys.size()), left_keys(keep * row_bytes),
      left_values(left_keys.size());
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    exact.cache.wait(exact.cache.read_kv(layer, {0, history}, {keys, values}));
    std::vector<std::vector<std::size_t>> heads;
    for (std::size_t head = 0; head < geometry.kv_heads; ++head) heads.push_back(exact.masses->kept(layer, head, keep));
    keep_heavy_hitters(geometry, {keys, values}, heads, {left_keys, left_values});
    kept.wait(kept.write_kv(layer, {0, keep}, {left_keys, left_values}));
  }
  kept.commit(keep);
  return kept;
}

/// Saves a history under a strategy, in place of what was saved under that id.
/// @param exact  gathered for this strategy
/// @return as save_as; what the strategy says if it cannot plan
/// @throws PreconditionError and NotFiniteError as gather_evidence and save_as
template <ModelBackend B, ConversationStore S>
[[nodiscard]] Result<SavedHistory> save_history(B& model, S& store, const ExactHistory<B>& exact,
                                                std::span<const Token> history, const HistorySave& save) {
  const TeamFor<B> team(model);
  Workers& workers = team.workers();
  const Evidence evidence = evidence_of(model, exact, history, save, workers);
  auto plan = save.strategy.plan(evidence);
  if (!plan) return propagate(plan);
  SaveAs as{.id = save.id,
            .plan = std::move(*plan),
            .source = exact.hidden ? &*exact.hidden : nullptr,
            .block = save.block,
            .threads = workers.threads()};
  SavedHistory saved{.report = {}, .tokens = {history.begin(), history.end()}, .step = as.plan.measured_step};
  Result<SaveReport> report;
  if (save.strategy.needs().key_masses) {
    const auto keep = strategy::H2o::kept_tokens(evidence, save.strategy.needs().kept_one_of);
    if (!keep) return propagate(keep);
    // Each layer and head has kept other tokens, so any will do as names of the rows.
    saved.tokens.resize(*keep);
    report = save_as(model, store, forget_light_tokens(model, exact, history.size(), *keep), saved.tokens, as);
  } else {
    if (!as.plan.from_source.empty() && as.source == nullptr)
      return fail(ErrorCode::unsupported, "strategy " + save.strategy.name() +
                                              " stores hidden states, which this backend's batches do not lend");
    report = save_as(model, store, exact.cache, history, as);
  }
  if (!report) return propagate(report);
  saved.report = std::move(*report);
  return saved;
}

}  // namespace krul::eval
