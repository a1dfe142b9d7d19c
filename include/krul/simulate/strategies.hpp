#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "krul/restore/predict.hpp"
#include "krul/restore/restoration_scheduler.hpp"
#include "krul/simulate/scene.hpp"
#include "krul/strategy/hidden_state_split.hpp"

namespace krul::simulate {

/// What a strategy makes of a scene.
struct Outcome {
  Prediction predicted;
  double stored_bytes = 0;      ///< kept while the conversation is idle
  double recomputed_share = 0;  ///< of the rows of all layers
};

/// One of the planner's policies, predicted; what it recomputes is not stored.
template <RestorePolicy Policy>
[[nodiscard]] Outcome planned(const RestoreSizes& sizes, const Costs& costs, Policy policy) {
  const RestorePlan plan = RestorationScheduler<Policy>(std::move(policy)).plan(sizes, costs);
  Outcome outcome{.predicted = predict(plan, sizes, costs)};
  outcome.stored_bytes = static_cast<double>(outcome.predicted.bytes);
  const auto rows = static_cast<double>(plan.history * plan.prefix.size());
  if (rows > 0) outcome.recomputed_share = std::accumulate(plan.prefix.begin(), plan.prefix.end(), 0.0) / rows;
  return outcome;
}

/// Rows at two bytes a value.
template <RestorePolicy Policy>
[[nodiscard]] Outcome two_byte_rows(const Scene& scene, Policy policy) {
  return planned(scene_sizes(scene, row_bytes(scene.shape)), scene.costs, std::move(policy));
}

/// The same with merged pairs.
template <RestorePolicy Policy>
[[nodiscard]] Outcome merged_rows(const Scene& scene, std::span<const LayerPair> pairs, Policy policy) {
  return planned(scene_sizes(scene, row_bytes(scene.shape), pairs), merging_costs(scene, pairs), std::move(policy));
}

/// krul's own: every row stored in a coding, the planner free to recompute some all the same.
[[nodiscard]] inline Outcome coded_rows(const Scene& scene, const CodedRows& coding) {
  Costs costs = scene.costs;
  costs.layer.decode_row_s = coding.decode_row_s;
  const double own = static_cast<double>(scene.shape.row_bytes()) / coding.strength;
  Outcome outcome = planned(scene_sizes(scene, {own, own}), costs, DefaultPolicy{});
  outcome.stored_bytes = own * static_cast<double>(scene.shape.layers * scene.history);
  return outcome;
}

/// An outcome whose history is restored by two lanes that start together; the prompt's pass comes after both.
[[nodiscard]] inline Outcome then_prompt(const Scene& scene, double link_s, double cores_s, double bytes) {
  const double prompt_s = pass_cores_s(scene, scene.history, scene.prompt) + scene.costs.pass_s;
  return {.predicted = {.first_token_s = std::max(link_s, cores_s) + prompt_s,
                        .busy = {{link_s, cores_s + prompt_s}},
                        .bytes = static_cast<std::uint64_t>(bytes)},
          .stored_bytes = bytes};
}

/// Partial recompute without a pipeline: the same front in every layer, and nothing waits layer by layer.
[[nodiscard]] inline Outcome unpipelined_split(const Scene& scene) {
  const auto token_bytes = static_cast<double>(scene.shape.token_bytes());
  Outcome best;
  for (std::size_t front = 0;; front = std::min(front + scene.block, scene.history)) {
    const double bytes = static_cast<double>(scene.history - front) * token_bytes;
    const double link_s = bytes > 0 ? bytes / scene.costs.link.bytes_per_s + scene.costs.link.latency_s : 0;
    Outcome outcome = then_prompt(scene, link_s, pass_cores_s(scene, 0, front), bytes);
    if (scene.history > 0) outcome.recomputed_share = static_cast<double>(front) / static_cast<double>(scene.history);
    if (front == 0 || outcome.predicted.first_token_s < best.predicted.first_token_s) best = outcome;
    if (front == scene.history) return best;
  }
}

/// Two pointers: the cores prefill chunks of 512 tokens from the front, the link fetches chunks of 128 from the back,
/// each as soon as it is free, until they meet. Needs no plan, and everything stored.
/// @source Cake, arXiv:2410.03065; second-hand
[[nodiscard]] inline Outcome two_pointers(const Scene& scene) {
  const auto token_bytes = static_cast<double>(scene.shape.token_bytes());
  double cores_s = 0, link_s = 0, bytes = 0;
  std::size_t front = 0, back = scene.history;
  while (front < back) {
    if (cores_s <= link_s) {
      const std::size_t rows = std::min<std::size_t>(512, back - front);
      cores_s += pass_cores_s(scene, front, rows);
      front += rows;
    } else {
      const std::size_t rows = std::min<std::size_t>(128, back - front);
      const double chunk = static_cast<double>(rows) * token_bytes;
      link_s += scene.costs.link.latency_s + chunk / scene.costs.link.bytes_per_s;
      bytes += chunk;
      back -= rows;
    }
  }
  Outcome outcome = then_prompt(scene, link_s, cores_s, bytes);
  outcome.stored_bytes = static_cast<double>(scene.history) * token_bytes;
  if (scene.history > 0) outcome.recomputed_share = static_cast<double>(front) / static_cast<double>(scene.history);
  return outcome;
}

/// HCache: input states of layers in place of K and V; the lanes' sums, no waiting by layer.
[[nodiscard]] inline Outcome hidden_states(const Scene& scene) {
  const auto history = static_cast<double>(scene.history), layers = static_cast<double>(scene.shape.layers);
  const double state_bytes = history * 2 * static_cast<double>(scene.shape.hidden);
  const double kv_bytes = history * static_cast<double>(scene.shape.row_bytes());
  const auto read_s = [&](double bytes) {
    return bytes / scene.costs.link.bytes_per_s + (bytes > 0 ? scene.costs.link.latency_s : 0);
  };
  const double kv_share = 2 * static_cast<double>(scene.shape.kv_heads) /
                          static_cast<double>(scene.shape.query_heads + 2 * scene.shape.kv_heads);
  const HiddenStateSplit split =
      best_hidden_state_split({.read_hidden_s = read_s(state_bytes),
                               .read_kv_s = read_s(kv_bytes),
                               .project_hidden_s = kv_share * history * scene.costs.layer.project_row_s,
                               .recompute_s = pass_cores_s(scene, 0, scene.history) / layers},
                              scene.shape.layers);
  const auto states = static_cast<double>(split.hidden), others = layers - states;
  Outcome outcome = then_prompt(scene, split.link_s, split.cores_s,
                                states * state_bytes + (split.others_recompute ? 0 : others * kv_bytes));
  outcome.recomputed_share = split.others_recompute ? others / layers : 0;
  return outcome;
}

/// A name for a way to bring a conversation back.
struct SimulatedStrategy {
  std::string_view name;
  std::string_view meaning;
  Outcome (*simulate)(const Scene&);
};

/// Every strategy that can be simulated.
[[nodiscard]] inline std::span<const SimulatedStrategy> simulated_strategies() {
  static const std::vector<SimulatedStrategy> all = {
      {"recompute", "the whole history runs through the model again",
       [](const Scene& scene) { return two_byte_rows(scene, FullRecompute{}); }},
      {"load-f16", "two bytes a value, all of them read, layer by layer under the prompt's pass",
       [](const Scene& scene) { return two_byte_rows(scene, FullLoad{}); }},
      {"minicache", "L/4 pairs of neighbours in the deep half merged, all loaded",
       [](const Scene& scene) { return merged_rows(scene, adjacent_pairs(scene.shape.layers), FullLoad{}); }},
      {"partial", "the same front recomputed in every layer, its best share, pipelined by layer",
       [](const Scene& scene) { return two_byte_rows(scene, UniformSplit{}); }},
      {"partial-unpipelined", "the same; the prompt's pass waits for all of both", unpipelined_split},
      {"cake", "chunks of 512 prefilled from the front, of 128 loaded from the back, until they meet", two_pointers},
      {"hcache", "hidden states in place of K and V, and recompute or load for the other layers", hidden_states},
      {"pyramid", "the recomputed share falls linearly with depth, nothing merged",
       [](const Scene& scene) { return two_byte_rows(scene, Pyramid{}); }},
      {"krul-paper", "the pairs of minicache, and a pyramid whose two parts take equally long (Eq. 1)",
       [](const Scene& scene) { return merged_rows(scene, adjacent_pairs(scene.shape.layers), BalancedPyramid{1}); }},
      {"krul-paper-distant", "the same with as many pairs (l, l + 3L/8)",
       [](const Scene& scene) { return merged_rows(scene, distant_pairs(scene.shape.layers), BalancedPyramid{1}); }},
      {"krul-2x", "ours: int8, the planner's best schedule",
       [](const Scene& scene) { return coded_rows(scene, scene.int8); }},
      {"krul-8x", "ours: joint coding at 8 times, the planner's best schedule",
       [](const Scene& scene) { return coded_rows(scene, scene.strong); }},
      {"krul-12x", "ours: joint coding at 12 times, the planner's best schedule",
       [](const Scene& scene) { return coded_rows(scene, scene.strongest); }},
      {"krul-best", "ours: the soonest of these three",
       [](const Scene& scene) {
         const Outcome outcomes[] = {coded_rows(scene, scene.int8), coded_rows(scene, scene.strong),
                                     coded_rows(scene, scene.strongest)};
         return *std::min_element(std::begin(outcomes), std::end(outcomes), [](const Outcome& a, const Outcome& b) {
           return a.predicted.first_token_s < b.predicted.first_token_s;
         });
       }},
  };
  return all;
}

/// @return null if there is no such strategy
[[nodiscard]] inline const SimulatedStrategy* simulated_strategy(std::string_view name) {
  for (const SimulatedStrategy& strategy : simulated_strategies())
    if (strategy.name == name) return &strategy;
  return nullptr;
}

}  // namespace krul::simulate
