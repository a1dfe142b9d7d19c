#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "krul/core/costs.hpp"
#include "krul/restore/predict.hpp"
#include "krul/restore/pyramid.hpp"
#include "krul/strategy/layer_pair.hpp"

namespace krul {

/// Bytes of one block of tokens, coded.
struct BlockBytes {
  std::uint64_t single = 0;                       ///< of one layer
  std::uint64_t pair = 0;                         ///< of two layers together
  std::vector<std::uint64_t> groups = {};         ///< of each of a profile's groups
  std::vector<std::uint64_t> recent_groups = {};  ///< the same of recent rows, which are coded more finely
};

/// The sizes of a conversation that is not saved yet, if everything were stored: what a plan is weighed with.
///
/// A pair's chunk counts for the shallower layer; the deeper one counts as a single layer for blocks that the shallower
/// one recomputes, as it will be stored then. A short last block counts in proportion.
/// @param history  N tokens
/// @throws PreconditionError if pairs share a layer or block is 0
/// @source Krul, arXiv:2507.08045: what is stored where only one layer of a pair keeps a row is ours
[[nodiscard]] inline RestoreSizes sizes_if_stored(std::size_t history, std::size_t block, std::size_t layers,
                                                  std::span<const LayerPair> pairs, const BlockBytes& bytes) {
  expects(block > 0, "sizes_if_stored: a block has at least one token");
  expects_disjoint(pairs, layers);
  RestoreSizes sizes{.history = history, .prompt = 1, .block = block, .layers = {}};
  const auto filled = [&](std::uint64_t whole) {
    std::vector<std::uint64_t> each(sizes.blocks(), whole);
    if (history % block != 0) each.back() = whole * (history % block) / block;
    return each;
  };
  sizes.layers.assign(
      layers, {.block_bytes = filled(bytes.single), .block_object = std::vector<std::uint32_t>(sizes.blocks(), 0)});
  for (const LayerPair& pair : pairs) {
    sizes.layers[pair.shallow].block_bytes = filled(bytes.pair);
    sizes.layers[pair.deep].shared_with.assign(sizes.blocks(), static_cast<std::int32_t>(pair.shallow));
  }
  return sizes;
}

/// The paper's split of a conversation: the pyramid whose recomputed part takes as long as its loaded part,
/// r_c = argmin_r | T_C(r) - T_L(r) |, under measured costs.
/// @param sizes  as if everything were stored, with the pairs that were chosen
/// @return       [L] leading tokens of each layer to recompute, and hence not to store; whole blocks
/// @throws PreconditionError if a cost or a size is not valid
/// @complexity   O(L * blocks^2)
/// @source Krul, arXiv:2507.08045, section 6.1, Eq. 1; second-hand. T_C and T_L of the whole pyramid with its pairs,
///         and the rounding to blocks, are ours
[[nodiscard]] inline std::vector<std::size_t> balanced_pyramid(const RestoreSizes& sizes, const Costs& costs) {
  const Predictor predictor(sizes, costs);
  std::vector<std::size_t> best;
  double best_gap_s = 0;
  const std::size_t steps = 2 * sizes.blocks();
  for (std::size_t i = 0; i <= steps; ++i) {
    const double ratio = steps == 0 ? 0 : static_cast<double>(i) / static_cast<double>(steps);
    auto prefix = admissible(sizes, Pyramid(ratio).prefix(sizes, costs));
    const Prediction predicted = predictor(prefix);
    ResourceTimes loading = predicted.busy;
    loading[costs.on.compute] = 0;
    const double gap_s = std::abs(predicted.busy[costs.on.compute] - loading.largest());
    if (!best.empty() && gap_s >= best_gap_s) continue;
    best = std::move(prefix);
    best_gap_s = gap_s;
  }
  return best;
}

/// The same as a policy: of a restore, or of what a save leaves out.
struct BalancedPyramid {
  std::optional<std::size_t> prompt = {};  ///< new tokens to balance for; none: those of the sizes

  [[nodiscard]] std::vector<std::size_t> prefix(RestoreSizes sizes, const Costs& costs) const {
    sizes.prompt = prompt.value_or(sizes.prompt);
    return balanced_pyramid(sizes, costs);
  }
};
static_assert(RestorePolicy<BalancedPyramid>);

}  // namespace krul
