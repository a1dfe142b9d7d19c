#pragma once

#include <string>
#include <utility>

#include "krul/compress/direct_reuse.hpp"
#include "krul/compress/float_codec.hpp"
#include "krul/compress/layer_pair_compressor.hpp"
#include "krul/compress/slerp_merge.hpp"
#include "krul/strategy/attention_similarity.hpp"
#include "krul/strategy/composed.hpp"
#include "krul/strategy/fixed_pairs.hpp"

namespace krul::strategy {

// Parts of krul-paper by themselves: pairs merged, everything read. All of them are ours.

/// Pairs of a policy's choice, merged or shared as a policy says, everything read.
template <SelectionPolicy Selection, SharingPolicy Sharing = SlerpMerge>
[[nodiscard]] auto merged(std::string name, Selection selection = Selection(), Sharing sharing = Sharing()) {
  return Composed<Selection, LayerPairCompressor<Sharing, F16Codec>>(
      std::move(name),
      {.selection = std::move(selection), .coding = LayerPairCompressor(std::move(sharing), F16Codec{})});
}

/// krul-paper's pairs.
[[nodiscard]] inline auto merge_attention() {
  return merged("merge-attention", AttentionSimilarity{});
}
/// As many random pairs.
[[nodiscard]] inline auto merge_random() {
  return merged("merge-random", RandomPairs{});
}
/// As many pairs, those whose rows predict each other best.
[[nodiscard]] inline auto merge_predictable() {
  return merged("merge-predictable", PredictablePairs{});
}
/// krul-paper's pairs, only V merged.
[[nodiscard]] inline auto merge_values() {
  return merged("merge-values", AttentionSimilarity{}, SlerpMerge({.merge_keys = false}));
}
/// krul-paper's pairs, only K merged.
[[nodiscard]] inline auto merge_keys() {
  return merged("merge-keys", AttentionSimilarity{}, SlerpMerge({.merge_values = false}));
}
/// krul-paper's pairs, the shallower layer's rows used for both.
[[nodiscard]] inline auto reuse() {
  return merged("reuse", AttentionSimilarity{}, DirectReuse{});
}

}  // namespace krul::strategy
