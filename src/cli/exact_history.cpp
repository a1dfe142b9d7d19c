#include "exact_history.hpp"

#include <algorithm>

#include "krul/core/half.hpp"
#include "krul/eval/predictability.hpp"
#include "krul/select/measured_step.hpp"
#include "krul/similarity/observe.hpp"
#include "krul/similarity/tokenwise_similarity_estimator.hpp"

namespace krul::cli {
namespace {

/// Shows attention to both.
struct HistoryObserver {
  TokenwiseSimilarityEstimator<>& estimator;
  eval::KeyMasses* masses;
  void operator()(const AttentionBlock& observed) {
    estimator(observed);
    if (masses) (*masses)(observed);
  }
  void observe_from(Position position) { estimator.observe_from(position); }
  [[nodiscard]] std::size_t block_rows() const { return estimator.block_rows(); }
};

std::vector<double> unpredictability_of(const CpuModel::Cache& cache, const Geometry& geometry) {
  const std::size_t tokens = cache.length();
  std::vector<std::byte> bytes[2];
  for (auto& each : bytes) each.resize(tokens * geometry.kv_row_bytes());
  std::vector<std::vector<float>> keys(geometry.layers), values(geometry.layers);
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    cache.wait(cache.read_kv(layer, {0, tokens}, {bytes[0], bytes[1]}));
    keys[layer].resize(tokens * geometry.kv_values());
    values[layer].resize(keys[layer].size());
    to_float(geometry.cache_type, bytes[0], keys[layer]);
    to_float(geometry.cache_type, bytes[1], values[layer]);
  }
  return eval::unpredictability(geometry, keys, values);
}

/// What was learnt of a conversation's layers.
struct Evidence {
  const AttentionStatistics& statistics;
  std::span<const double> unpredictability;
};

/// What the strategy's codings make of a block, tried on the last tokens; nothing if its plan does not ask.
BlockBytes bytes_of_block(CpuModel& model, const CpuModel::Cache& cache, std::size_t tokens, const HistorySave& save) {
  constexpr std::size_t block_tokens = 64;
  BlockBytes bytes;
  if (!save.strategy.weighs_bytes()) return bytes;
  const SavePlan codings = unwrap(codings_of(save.strategy, save.profile));
  const std::size_t tried = std::min(block_tokens, tokens);
  if (!codings.profile || save.strategy.codes_for_link)
    bytes = measure_block_bytes(cache, model.geometry(), unwrap(codings_of(save.strategy)), tried);
  if (codings.profile) {
    const TokenFeatures features = features_for(model, codings, save.tokens, cache.length() - tried);
    BlockBytes joint = measure_group_bytes(cache, model.geometry(), codings, tried, features);
    bytes.groups = std::move(joint.groups);
    bytes.recent_groups = std::move(joint.recent_groups);
  }
  bytes.single = bytes.single * block_tokens / tried;
  bytes.pair = bytes.pair * block_tokens / tried;
  for (auto* groups : {&bytes.groups, &bytes.recent_groups})
    for (auto& each : *groups) each = each * block_tokens / tried;
  return bytes;
}

SaveSituation situation_of(CpuModel& model, const CpuModel::Cache& cache, std::size_t tokens, const HistorySave& save,
                           const Evidence& evidence) {
  return {.geometry = model.geometry(),
          .tokens = tokens,
          .block_bytes = bytes_of_block(model, cache, tokens, save),
          .statistics = evidence.statistics,
          .unpredictability = evidence.unpredictability,
          .profile = save.profile,
          .costs = save.costs};
}

SavePlan plan_with(CpuModel& model, const CpuModel::Cache& cache, std::size_t tokens, const HistorySave& save,
                   const Evidence& evidence) {
  const auto step = step_of(model, cache, save);
  Strategy strategy = save.strategy;
  if (step) strategy.step = step;
  const HistorySave chosen{strategy, save.costs, save.id, save.profile, save.tokens, step};
  SavePlan plan = unwrap(plan_save(strategy, situation_of(model, cache, tokens, chosen, evidence)));
  if (step) plan.settings = step_setting(*step);
  return plan;
}

}  // namespace

ExactHistory prefill_exact(CpuModel& model, std::span<const Token> history, std::size_t more,
                           std::span<const Strategy> strategies) {
  const Geometry& geometry = model.geometry();
  ExactHistory exact{.cache = model.make_cache(history.size() + more)};
  if (history.empty()) return exact;
  const auto any = [&](auto&& wants) { return std::any_of(strategies.begin(), strategies.end(), wants); };
  const bool wants_masses = any([](const Strategy& s) { return s.stored_as == StoredAs::heavy_hitters; });
  auto batch = model.make_batch();
  if (wants_masses || any([](const Strategy& s) { return s.observes_attention(); })) {
    TokenwiseSimilarityEstimator<> estimator(geometry);
    if (wants_masses) exact.masses.emplace(geometry);
    HistoryObserver observer{estimator, exact.masses ? &*exact.masses : nullptr};
    observed_prefill(model, exact.cache, batch, history, {}, observer);
    exact.statistics = estimator.statistics();
  } else {
    prefill(model, exact.cache, batch, history, {});
  }
  if (any([](const Strategy& s) { return s.stored_as == StoredAs::hidden_states; })) {
    exact.hidden.emplace(geometry);
    auto again = model.make_cache(history.size());
    forward_keeping_hidden(model, again, batch, history, *exact.hidden);
  }
  if (any([](const Strategy& s) { return s.pairs == PairChoice::predictable; }))
    exact.unpredictability = unpredictability_of(exact.cache, geometry);
  return exact;
}

std::optional<StepScale> step_of(CpuModel& model, const CpuModel::Cache& cache, const HistorySave& save) {
  if (!save.profile || save.strategy.kl <= 0) return std::nullopt;
  if (save.step) return save.step;
  const CodedConversation<CpuModel::Cache> talk{cache, save.tokens, save.profile, model.workers()};
  return measured_step(model, talk,
                       {.kl = save.strategy.kl, .finest = save.strategy.finest, .coarsest = save.strategy.coarsest});
}

SavePlan plan_of(CpuModel& model, const ExactHistory& exact, std::size_t tokens, const HistorySave& save) {
  return plan_with(model, exact.cache, tokens, save,
                   {.statistics = exact.statistics, .unpredictability = exact.unpredictability});
}

SavePlan plan_of(CpuModel& model, const CpuModel::Cache& cache, const AttentionStatistics& statistics,
                 std::size_t tokens, const HistorySave& save) {
  return plan_with(model, cache, tokens, save, {.statistics = statistics, .unpredictability = {}});
}

CpuModel::Cache forget_light_tokens(CpuModel& model, const ExactHistory& exact, std::size_t history,
                                    const std::optional<Costs>& costs) {
  const Geometry& geometry = model.geometry();
  const Strategy paper = unwrap(strategy_named("krul-paper"));
  const SaveSituation situation = situation_of(model, exact.cache, history, {paper, costs, {}}, {exact.statistics, {}});
  const auto bytes = static_cast<double>(planned_bytes(unwrap(plan_save(paper, situation)), situation));
  const auto keep = std::clamp<std::size_t>(
      static_cast<std::size_t>(bytes / static_cast<double>(geometry.f16_token_bytes())), 1, history);

  CpuModel::Cache kept = model.make_cache(keep);
  const std::size_t row_bytes = geometry.kv_row_bytes();
  std::vector<std::byte> keys(history * row_bytes), values(keys.size()), left_keys(keep * row_bytes),
      left_values(left_keys.size());
  for (std::size_t layer = 0; layer < geometry.layers; ++layer) {
    exact.cache.wait(exact.cache.read_kv(layer, {0, history}, {keys, values}));
    std::vector<std::vector<std::size_t>> heads;
    for (std::size_t head = 0; head < geometry.kv_heads; ++head) heads.push_back(exact.masses->kept(layer, head, keep));
    eval::keep_heavy_hitters(geometry, {keys, values}, heads, {left_keys, left_values});
    kept.wait(kept.write_kv(layer, {0, keep}, {left_keys, left_values}));
  }
  kept.commit(keep);
  return kept;
}

}  // namespace krul::cli
