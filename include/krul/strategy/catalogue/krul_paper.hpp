#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "krul/compress/float_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/restore/predict.hpp"
#include "krul/strategy/attention_similarity.hpp"
#include "krul/strategy/composed.hpp"
#include "krul/strategy/paper_allocation.hpp"

namespace krul::strategy {

/// The paper: L/4 pairs by attention merged, a pyramid of fronts left out and recomputed.
/// @source Krul, arXiv:2507.08045, sections 5 and 6; second-hand
[[nodiscard]] inline auto krul_paper() {
  return Composed<AttentionSimilarity, LayerPairCompressor<SlerpMerge, F16Codec>, BalancedPyramid>("krul-paper");
}

/// The same front in every layer that stores about as many bytes as the pyramid: deeper layers may have one block less.
struct UniformAsPyramid {
  /// @complexity O(L * blocks) predictions
  [[nodiscard]] std::vector<std::size_t> prefix(const RestoreSizes& sizes, const Costs& costs) const {
    const Predictor predictor(sizes, costs);
    const auto wanted = static_cast<double>(predictor(balanced_pyramid(sizes, costs)).bytes);
    std::vector<std::size_t> best;
    double best_gap = 0;
    for (std::size_t step = 0; step <= sizes.blocks() * sizes.layers.size(); ++step) {
      const std::size_t blocks = step / sizes.layers.size(), longer = step % sizes.layers.size();
      std::vector<std::size_t> prefix(sizes.layers.size());
      for (std::size_t layer = 0; layer < prefix.size(); ++layer)
        prefix[layer] = std::min((blocks + (layer < longer ? 1 : 0)) * sizes.block, sizes.history);
      const double gap = std::abs(static_cast<double>(predictor(prefix).bytes) - wanted);
      if (!best.empty() && gap >= best_gap) continue;
      best = std::move(prefix);
      best_gap = gap;
    }
    return best;
  }
};
static_assert(RestorePolicy<UniformAsPyramid>);

/// krul-paper with the same front in every layer, as many bytes as the pyramid stores: what the pyramid's form is
/// worth.
/// @source ours
[[nodiscard]] inline auto krul_paper_uniform() {
  return Composed<AttentionSimilarity, LayerPairCompressor<SlerpMerge, F16Codec>, UniformAsPyramid>(
      "krul-paper-uniform");
}

/// krul-paper's pyramid without merging: what merging is worth.
/// @source ours
[[nodiscard]] inline auto pyramid() {
  return Composed<NoSharing, LayerPairCompressor<Separate, F16Codec>, BalancedPyramid>("pyramid");
}

}  // namespace krul::strategy
