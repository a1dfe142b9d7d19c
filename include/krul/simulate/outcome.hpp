#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>

#include "krul/restore/predict.hpp"
#include "krul/restore/restoration_scheduler.hpp"
#include "krul/restore/token_split.hpp"
#include "krul/simulate/scene.hpp"

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

/// krul's own: every row stored in a coding, the planner free to recompute some all the same.
[[nodiscard]] inline Outcome coded_rows(const Scene& scene, const CodedRows& coding) {
  Costs costs = scene.costs;
  costs.layer.decode_row_s = coding.decode_row_s;
  const double own = static_cast<double>(scene.shape.row_bytes()) / coding.strength;
  Outcome outcome = planned(scene_sizes(scene, {own, own}), costs, DefaultPolicy{});
  outcome.stored_bytes = own * static_cast<double>(scene.shape.layers * scene.history);
  return outcome;
}

/// Seconds of the link for bytes that are asked for at once.
[[nodiscard]] constexpr double read_s(const LinkCosts& link, double bytes) noexcept {
  return bytes > 0 ? bytes / link.bytes_per_s + link.latency_s : 0;
}

/// A restore of rows at two bytes a value that takes the tokens in order: what restore_by_tokens does. A front that is
/// given runs as one prefill; without one the cores prefill chunks from the front and the link reads blocks from the
/// back, each as soon as it is free, until they meet. The prompt's pass comes after both.
/// @throws PreconditionError if the split has neither a front nor a chunk
/// @post stored_bytes counts every row
/// @source Cake, arXiv:2410.03065, for the two pointers; second-hand
[[nodiscard]] inline Outcome split_by_tokens(const Scene& scene, const TokenSplit& split) {
  expects(split.front || split.chunk > 0, "split_by_tokens: at least one token at a time");
  const auto token_bytes = static_cast<double>(scene.shape.token_bytes());
  double cores_s = 0, link_s = 0, bytes = 0;
  std::size_t front = 0, back = scene.history;
  if (split.front) {
    front = back = std::min(*split.front, scene.history);
    bytes = static_cast<double>(scene.history - front) * token_bytes;
    cores_s = pass_cores_s(scene, 0, front);
    link_s = read_s(scene.costs.link, bytes);
  }
  while (front < back) {
    if (cores_s <= link_s) {
      const std::size_t rows = std::min(split.chunk, back - front);
      cores_s += pass_cores_s(scene, front, rows);
      front += rows;
    } else {
      const std::size_t rows = std::min(scene.block, back - front);
      const double block_bytes = static_cast<double>(rows) * token_bytes;
      link_s += read_s(scene.costs.link, block_bytes);
      bytes += block_bytes;
      back -= rows;
    }
  }
  const double prompt_s = pass_cores_s(scene, scene.history, scene.prompt) + scene.costs.pass_s;
  Outcome outcome{.predicted = {.first_token_s = std::max(link_s, cores_s) + prompt_s,
                                .busy = {{link_s, cores_s + prompt_s}},
                                .bytes = static_cast<std::uint64_t>(bytes)},
                  .stored_bytes = static_cast<double>(scene.history) * token_bytes};
  if (scene.history > 0) outcome.recomputed_share = static_cast<double>(front) / static_cast<double>(scene.history);
  return outcome;
}

/// Partial recompute without a pipeline, by its best share: the same front in every layer, and nothing waits layer by
/// layer. What is recomputed is not stored.
[[nodiscard]] inline Outcome unpipelined_split(const Scene& scene) {
  Outcome best;
  for (std::size_t front = 0;; front = std::min(front + scene.block, scene.history)) {
    Outcome outcome = split_by_tokens(scene, {.front = front});
    outcome.stored_bytes = static_cast<double>(outcome.predicted.bytes);
    if (front == 0 || outcome.predicted.first_token_s < best.predicted.first_token_s) best = outcome;
    if (front == scene.history) return best;
  }
}

}  // namespace krul::simulate
